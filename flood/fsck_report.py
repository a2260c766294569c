"""Tells what flood-fsck found, to a person or a program."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from flood import fsck_kinds as kinds
from flood.fsck_kinds import KINDS, Finding, Kind
from flood.lines import Line
from flood.states import STATES

#: How many of one kind are shown.
SHOWN: Final = 10


@dataclass
class Report:
    """What one run found, what it mended, what is left."""

    server_directory: str
    database: str
    #: Which of flood's programs were at work meanwhile, in words.
    at_work: Sequence[str] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    records: int = 0
    #: Whether files were compared with records.
    compared: bool = False
    found: list[Finding] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)
    #: Why a finding that could have been mended was not.
    reasons: dict[Finding, str] = field(default_factory=dict)
    #: Where files of a database are that was replaced.
    kept: list[str] = field(default_factory=list)
    seconds: float = 0.0
    #: The command that repairs, as it has to be given here.
    repair: str = " ".join(kinds.REPAIR_COMMAND)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong (any more)."""
        return not any(finding.kind.counts for finding in self.found)

    @property
    def complete(self) -> bool:
        """Whether everything that there is could be looked at."""
        return not any(finding.kind == kinds.UNREADABLE for finding in self.found)


def as_json(report: Report, status: int) -> str:
    """The report as one JSON object; docs/commands.md explains its keys."""
    every = [*report.found, *report.mended]
    return json.dumps(
        {
            "server_directory": report.server_directory,
            "database": report.database,
            "at_work": list(report.at_work),
            "exit_status": status,
            "clean": report.clean,
            "compared": report.compared,
            "files": dict(report.files),
            "records": report.records,
            "seconds": round(report.seconds, 3),
            "kinds": {kind.name: _explained(kind, report) for kind, _ in _by_kind(every)},
            "found": [_object(each, report.reasons.get(each)) for each in report.found],
            "mended": [_object(each) for each in report.mended],
            "kept_aside": report.kept,
        },
        indent=1,
    )


def _explained(kind: Kind, report: Report) -> dict[str, Any]:
    return {
        "title": kind.title,
        "state": kind.state,
        "who": kind.who,
        "meaning": kind.meaning,
        "remedy": kind.mended_by(report.repair),
    }


def _object(finding: Finding, reason: str | None = None) -> dict[str, Any]:
    return {
        "kind": finding.kind.name,
        "state": finding.kind.state,
        "record": finding.record,
        "profile": finding.profile,
        "bucket": finding.bucket,
        "key": finding.key,
        "path": finding.path,
        "detail": finding.detail,
        "not_mended": reason,
    }


def lines(report: Report, *, everything: bool) -> Iterator[Line]:
    """The report for a person; `everything` shows each finding, else some of each kind."""
    yield from _head(report)
    if report.mended:
        yield Line("")
        yield Line("Mended", "bold green")
        for kind, group in _by_kind(report.mended):
            yield Line(_name(kind), indent=1, lead=_count(group))
            yield from _items(group, report, everything)
    for path in report.kept:
        yield Line(path, indent=1, lead="kept aside: ")
    wrong = [each for each in report.found if each.kind.counts]
    notes = [each for each in report.found if not each.kind.counts]
    for kind, group in _by_kind(wrong):
        yield Line("")
        yield Line(_name(kind), "bold yellow", lead=_count(group))
        yield from _told(kind, report)
        yield from _items(group, report, everything)
    if notes:
        yield Line("")
        yield Line("Harmless", "bold")
        for kind, group in _by_kind(notes):
            yield Line(f"{_name(kind)}: {kind.meaning}", indent=1, lead=_count(group))
            if everything:
                yield from _items(group, report, everything)
    yield Line("")
    yield _end(report, len(wrong))


def _head(report: Report) -> Iterator[Line]:
    yield Line(report.server_directory, lead="spool     ")
    yield Line(report.database, lead="database  ")
    yield Line(", ".join(report.at_work) or "nobody", lead="at work   ")
    if report.compared:
        held = ", ".join(f"{report.files[state]} in {state}" for state in STATES)
        yield Line(held, lead="files     ")
        yield Line(f"{report.records}, compared in {report.seconds:.1f} s", lead="records   ")


def _end(report: Report, wrong: int) -> Line:
    if wrong:
        by_hand = sum(x.kind.who == kinds.PERSON or x in report.reasons for x in report.found)
        left = " left" if report.mended else ""
        rest = "" if report.compared else "; files and records were not compared"
        hint = f", {by_hand} of them for a person" if by_hand else ""
        return Line(f"{_things(wrong)}{left}{hint}{rest}", "bold red")
    return Line("in order again" if report.mended else "in order", "bold green")


def _told(kind: Kind, report: Report) -> Iterator[Line]:
    yield Line(kind.meaning, indent=1, lead="means: ")
    remedy = kind.mended_by(report.repair)
    words = remedy.removesuffix(report.repair)
    yield Line(words, indent=1, lead="mends: ")
    if words != remedy:
        yield Line(report.repair, indent=4, lead=" ", whole=True)


def _items(group: Sequence[Finding], report: Report, everything: bool) -> Iterator[Line]:
    shown = group if everything else group[:SHOWN]
    for finding in shown:
        text = _item(finding)
        if finding in report.reasons:
            text = f"{text} - not mended: {report.reasons[finding]}"
        if text:
            yield Line(text, indent=2, lead="- ")
    if len(shown) < len(group):
        yield Line(f"{len(group) - len(shown)} more, which --all shows", indent=2, lead="- ")


def _item(finding: Finding) -> str:
    parts = [finding.path] if finding.path else []
    if finding.record is not None:
        parts.append(f"record {finding.record}")
    if not finding.path and finding.profile is not None:
        parts.append("/".join(x for x in (finding.profile, finding.bucket, finding.key) if x))
    if finding.detail:
        parts.append(finding.detail)
    return ", ".join(parts)


def _by_kind(findings: Iterable[Finding]) -> Iterator[tuple[Kind, list[Finding]]]:
    order = {kind: place for place, kind in enumerate(KINDS)}
    ordered = sorted(findings, key=lambda each: order[each.kind])
    for kind, group in groupby(ordered, key=lambda each: each.kind):
        yield kind, list(group)


def _name(kind: Kind) -> str:
    return f"{kind.title} ({kind.state})" if kind.state else kind.title


def _count(group: Sequence[Finding]) -> str:
    return f"{len(group):>5}  "


def _things(count: int) -> str:
    return "1 discrepancy" if count == 1 else f"{count} discrepancies"
