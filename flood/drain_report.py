"""Tells what became of the files that were worked off."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from humanize import naturalsize, naturaltime

from flood.phrases import files
from flood.tally import Cause, Failures, Tally

#: A file that has been sent for this part of a run's time has had its chance.
MOST: Final = 0.8

#: So many of them are named.
NAMED: Final = 10


def failures(tally: Tally) -> Iterator[str]:
    """What failed for good, by its cause, in lines for a person; nothing if nothing did."""
    for cause, each in tally.failures.items():
        yield from _failure(cause, each)
    if tally.failed:
        yield f"{done(tally)}{_put_back(tally)}"
    if tally.broken:
        times = "once" if tally.broken == 1 else f"{tally.broken} times"
        yield f"work broke off {times}, see above: the next run goes on with its files"


def too_long(tally: Tally, max_time: float) -> Iterator[str]:
    """Which files were not delivered although they had most of the time, in seconds: no later run
    will do better, unless the store does."""
    long = [one for one in tally.stopped if one.seconds >= MOST * max_time]
    for one in long[:NAMED]:
        yield (
            f"s3://{one.profile}/{one.bucket}/{one.key}, record {one.record}, was broken off "
            f"after {one.seconds:.0f} s, and begins anew next time: with what went beside it, "
            "it needs more time than --max-time gives, or the store does not answer"
        )
    if len(long) > NAMED:
        yield f"likewise {files(len(long) - NAMED)} more"


def done(tally: Tally) -> str:
    """How many files were uploaded, and failed, in one line."""
    parts = [f"{files(tally.failed)} failed"] if tally.failed else []
    parts.append(f"{files(tally.files)} uploaded ({naturalsize(tally.size, binary=True)})")
    return ", ".join(parts)


def later(count: int, first: datetime | None, now: datetime) -> str | None:
    """How many files wait for their next try; `first` is when the first of them is due."""
    if first is None:
        return None
    verb = "waits for its" if count == 1 else "wait for their"
    return f"{files(count)} {verb} next try, the first {naturaltime(first, when=now)}"


def without_profile(profile: str, credentials: str) -> str:
    """That due files wait for a profile which the credentials file does not have."""
    return (
        f"files wait for the profile {profile!r}, which {credentials} does not have: add it there"
    )


def _failure(cause: Cause, each: Failures) -> Iterator[str]:
    where = f"s3://{cause.profile}/{cause.bucket}"
    yield f"{files(each.files)} failed for {where}: {each.reason} ({cause.code})"
    for key, record in each.examples:
        yield f"  {key}, record {record}"
    if each.files > len(each.examples):
        yield f"  ... {each.files - len(each.examples)} more"


def _put_back(tally: Tally) -> str:
    """What flood-retry can do for those that have failed."""
    there = tally.retriable
    if not there:
        return ""
    if there == tally.failed:
        return "; once the causes are mended, flood-retry puts the files back"
    return f"; once the causes are mended, flood-retry puts back {files(there)} of them"
