"""Tells what flood-check found, to a person or a program."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Final

from flood.check_findings import ERROR, OK, SETTINGS, WARNING, Finding
from flood.lines import Line

#: Settings that are shown although nobody has set them.
_ALWAYS: Final = ("server-directory", "database", "credentials")

_STYLES: Final = {OK: "", WARNING: "yellow", ERROR: "bold red"}


@dataclass(frozen=True)
class Report:
    """The settings, each with its value and origin, and what was found."""

    settings: Sequence[tuple[str, str, str]]
    findings: Sequence[Finding]

    def count(self, status: str) -> int:
        """How many findings have this status."""
        return sum(each.status == status for each in self.findings)


def as_json(report: Report, status: int) -> str:
    """The report as one JSON object; docs/commands.md explains its keys."""
    return json.dumps(
        {
            "exit_status": status,
            "errors": report.count(ERROR),
            "warnings": report.count(WARNING),
            "settings": [
                {"name": name, "value": value, "origin": origin}
                for name, value, origin in report.settings
            ],
            "findings": [asdict(each) for each in report.findings],
        },
        indent=1,
    )


def lines(report: Report, *, everything: bool) -> Iterator[Line]:
    """The report for a person; `everything` shows the settings that have their defaults, too."""
    yield Line(SETTINGS, "bold")
    yield from _settings(report, everything)
    for title, group in groupby(report.findings, key=_title):
        if title != SETTINGS:
            yield Line("")
            yield Line(title, "bold")
        for finding in group:
            yield from _told(finding)
    yield Line("")
    yield _end(report)


def _settings(report: Report, everything: bool) -> Iterator[Line]:
    shown = [
        (name, value, origin)
        for name, value, origin in report.settings
        if everything or origin != "default" or name in _ALWAYS
    ]
    width = max((len(name) for name, _, _ in shown), default=0)
    for name, value, origin in shown:
        yield Line(f"{name:<{width}}  {value}  ({origin})", indent=1)
    hidden = len(report.settings) - len(shown)
    if hidden:
        yield Line(f"{hidden} more have their defaults, which --all shows", "dim", indent=1)


def _title(finding: Finding) -> str:
    return f"{finding.topic}, profile {finding.profile}" if _is_store(finding) else finding.topic


def _is_store(finding: Finding) -> bool:
    return finding.topic == "store"


def _told(finding: Finding) -> Iterator[Line]:
    text = f"{finding.about}: {finding.found}"
    yield Line(text, _STYLES[finding.status], indent=1, lead=f"{finding.status:<9}")
    if finding.status != OK:
        yield Line(finding.meaning, indent=3, lead="means: ")
        yield Line(f"mends: {finding.remedy}", indent=3, whole=True)


def _end(report: Report) -> Line:
    errors, warnings = report.count(ERROR), report.count(WARNING)
    if not errors and not warnings:
        return Line("all is well", "bold green")
    parts = [_counted(errors, "error")] if errors else []
    parts += [_counted(warnings, "warning")] if warnings else []
    return Line(", ".join(parts), "bold red" if errors else "bold yellow")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
