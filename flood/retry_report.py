"""Tells what flood-retry has done, or would do, to a person or a program."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from humanize import naturalsize, naturaltime

from flood import departures, queries
from flood.departures import REMOVED, RETRIED, How
from flood.destination import Destination
from flood.phrases import files
from flood.retry import GONE, Fate, Retried
from flood.retry_choice import Stray
from flood.states import EXIT_FAILED, EXIT_OK, EXIT_TRY_AGAIN, FAILED, PROCESSING
from flood.stored import utc_moment

_WORDS: Final[dict[Fate, str]] = {
    "outdated": "a newer version of them goes back",
    "superseded": "a newer version of them is under way or completed",
    "unordered": "another version of them may be newer, as a record was lost",
    "occupied": "another version of them is in processing",
    "gone": "nothing of them lies in failed any more",
    "overtaken": "their files are gone, but a newer version of them is not",
    "error": "they cannot be moved",
}

#: Fates of versions that who names a key does not ask for: its newest one goes back, or need not.
_OLD: Final[tuple[Fate, ...]] = ("outdated", "overtaken")

#: Fates that another run may change.
_PASSING: Final[tuple[Fate, ...]] = ("occupied", "error")

#: How many records of one fate are told of one by one.
SHOWN: Final = 10


@dataclass
class Report:
    """What has become of the records that were asked for, those of `ids` by their numbers; `each`
    keeps all of them where somebody wants to read them, else the first ones that stay."""

    keep: bool
    ids: Collection[int] = ()
    counts: Counter[Fate] = field(default_factory=Counter)
    size: int = 0
    each: list[Retried] = field(default_factory=list)
    #: How many of `ids` are old versions: who names a key has it back all the same.
    refused: int = 0

    def add(self, one: Retried) -> None:
        """Count one record."""
        self.counts[one.fate] += 1
        self.refused += one.fate in _OLD and one.chosen.row.id in self.ids
        if one.fate == "retried":
            self.size += one.chosen.row.identity.size
        elif self.counts[one.fate] <= SHOWN and not self.keep:
            self.each.append(one)
        if self.keep:
            self.each.append(one)

    @property
    def news(self) -> bool:
        """Whether anything was put back, or may be another time."""
        return any(self.counts[fate] for fate in ("retried", *_PASSING))

    def status(self, unmet: Collection[object], named: Collection[object]) -> int:
        """The exit status, where `unmet` are those of `named` that fit nothing."""
        left = self.counts["error"] + self.refused
        if named:
            left += sum(self.counts[fate] for fate in ("superseded", "unordered", "gone"))
        if unmet or left:
            return EXIT_FAILED
        return EXIT_TRY_AGAIN if self.counts["occupied"] else EXIT_OK

    def lines(self, now: datetime, *, named: bool) -> Iterator[str]:
        """Every record in a line of its own, but those that are gone, unless they were named."""
        for one in self.each:
            if named or one.fate not in ("gone", "overtaken"):
                yield line(one, now)

    def problems(self, *, named: bool) -> Iterator[str]:
        """Which records stay, with why, some of each fate; where none were `named`, only what may
        be different another time."""
        told = _WORDS if named else _PASSING
        for one in self.each:
            if one.fate in told:
                yield f"record {one.chosen.row.id}, {uri(one)}: {one.reason}"
        for fate in told:
            if self.counts[fate] > SHOWN and not self.keep:
                yield f"{self.counts[fate] - SHOWN} more: {_WORDS[fate]}"


def unmet(
    named: Collection[int | Destination],
    *,
    waiting: bool,
    stray: Callable[[int | Destination], Stray | None],
    repair: str,
) -> Iterator[str]:
    """Why records or files that were named are not retried. `stray` finds a file in failed of one
    that no record has there, `repair` is the command that mends that."""
    wanted = "wait for a retry" if waiting else "lie in failed"
    ids = sorted(each for each in named if isinstance(each, int))
    found = queries.outcomes(ids)
    for record_id in ids:
        if record_id not in found:
            yield f"there is no record {record_id}"
            continue
        gone = None if waiting else departures.left(record_id)
        if gone is not None:
            yield f"record {record_id}: {_departed(*gone)}"
            continue
        coming = None if waiting else stray(record_id)
        if coming is not None:  # which names the record itself
            yield _astray(coming, repair)
            continue
        state = found[record_id][0]
        if state == FAILED and not waiting:
            yield f"record {record_id} does not fit the other options"
            continue
        other = ", or does not fit the other options" if state in (FAILED, PROCESSING) else ""
        yield f"record {record_id} is in {state}, and does not {wanted}{other}"
    for each in named:
        if isinstance(each, Destination):
            lost = None if waiting else stray(each)
            why = f"no files that {wanted} fit this"
            if lost is not None:
                why = _astray(lost, repair)
            yield f"{each.uri()}: {why}"


def _astray(lost: Stray, repair: str) -> str:
    if lost.coming is None:
        return f"no record knows {lost.path}: move it to incoming, or have one made of it: {repair}"
    return (
        f"record {lost.coming} is about to say that {lost.path} has failed, at the latest with the "
        f"next sweep of a consumer or of flood-drain; try again then; at once: {repair}"
    )


def _departed(how: How, successor: int | None) -> str:
    if how == RETRIED:
        later = f", as record {successor}" if successor is not None else ""
        return f"its file was put back already{later}"
    if how == REMOVED:
        return "its file was deleted, as --keep-completed or --keep-failed wants it"
    return f"its file was in failed, but {GONE}"


def uri(one: Retried) -> str:
    """The record's file as a user writes it."""
    row = one.chosen.row
    return f"s3://{row.profile}/{row.bucket}/{row.key}"


def line(one: Retried, now: datetime) -> str:
    """One record in a list."""
    chosen = one.chosen
    facts = [
        f"record {chosen.row.id}",
        uri(one),
        naturalsize(chosen.row.identity.size, binary=True),
        chosen.error_code or "no error",
        f"since {_ago(chosen.since, now)}",
    ]
    stays = f"; stays: {one.reason}" if one.reason else ""
    return ", ".join(facts) + stays


def _ago(since: str, now: datetime) -> str:
    try:
        return str(naturaltime(now - utc_moment(since)))
    except (ValueError, OverflowError):
        return since  # what somebody else has written there


def end(report: Report, *, waiting: bool, dry: bool) -> Iterator[str]:
    """The counts; nothing where there is nothing to tell."""
    done = report.counts["retried"]
    if done:
        what = ("due now", "would be due now") if waiting else ("put back", "would be put back")
        yield f"{files(done)} {what[dry]}, {naturalsize(report.size, binary=True)}"
    due = report.counts["due"]
    if due:
        kept = "" if dry else ", and kept by no store's pause any longer"
        yield f"{files(due)} due already{kept}"
    outdated = report.counts["outdated"]
    if outdated:
        yield f"{files(outdated)} left in failed: a newer version goes back"
    left = report.counts["superseded"]
    if left:
        yield (
            f"{files(left)} left in failed: a newer version is under way or completed "
            "(--overwrite-newer puts the old one over it)"
        )
    unknown = report.counts["unordered"]
    if unknown:
        yield (
            f"{files(unknown)} left in failed: another version may be newer, which nobody knows "
            "since a record was lost (look at both; --overwrite-newer puts this one over it)"
        )
    occupied = report.counts["occupied"]
    if occupied:
        yield f"{files(occupied)} left in failed: what lies in processing is in the way"
    refused = report.counts["error"]
    if refused:
        yield f"{files(refused)} left in failed: the move is refused"


def as_json(report: Report, status: int, *, dry: bool) -> str:
    """One JSON object; docs/commands.md explains its keys."""
    return json.dumps(
        {
            "exit_status": status,
            "dry_run": dry,
            "size": report.size,
            "counts": dict(report.counts),
            "records": [_object(one) for one in report.each],
        },
        indent=1,
    )


def _object(one: Retried) -> dict[str, Any]:
    row = one.chosen.row
    return {
        "record": row.id,
        "successor": one.successor,
        "profile": row.profile,
        "bucket": row.bucket,
        "key": row.key,
        "path": row.path,
        "size": row.identity.size,
        "error_code": one.chosen.error_code,
        "since": one.chosen.since,
        "fate": one.fate,
        "reason": one.reason,
    }
