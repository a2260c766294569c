"""Looks at what the tables say by themselves, without the directories."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from flood import fsck_kinds as kinds
from flood import fsck_queries as asking
from flood import models, schema
from flood.fsck_kinds import Finding, Kind
from flood.locks import WorkerLocks
from flood.record_values import Row

#: While consumers run, sweeps come every minute: what is younger than this is in motion.
GRACE: Final = timedelta(minutes=3)

#: Between the tasks of two rings, for an instant, there is none.
_LOOKS: Final = 5
_PAUSE: Final = 0.1


def look(
    now: datetime, *, consumers: bool, locks: WorkerLocks, sleep: Callable[[float], None]
) -> list[Finding]:
    """What is wrong; `consumers` tells whether any run."""
    before = now - GRACE if consumers else now
    findings = [Finding(kinds.INDEX_MISSING, detail=name) for name in schema.missing_indices()]
    findings += [_of(row, kinds.CONTRADICTION, wrong) for row, wrong in asking.contradictions()]
    findings += [
        Finding(kinds.ATTEMPTS, record=record, detail=wrong)
        for record, wrong in asking.odd_attempts()
    ]
    findings += [
        _of(row, kinds.MULTIPART_LEFT, f"upload {upload}")
        for row, upload in asking.left_multiparts(before)
    ]
    findings += [Finding(kinds.RECEIPT_MISSING, record=one) for one in asking.without_receipt()]
    findings += [Finding(kinds.LOCK_LEFT, detail=name) for name in locks.ended()]
    return [*findings, *_queue(now, before, consumers, sleep)]


def _queue(
    now: datetime, before: datetime, consumers: bool, sleep: Callable[[float], None]
) -> list[Finding]:
    try:
        waiting = asking.tasks(now)
    except models.DatabaseError as error:
        return [Finding(kinds.QUEUE_TABLES, detail=str(error)), *_silent(asking.due(before))]
    findings = []
    if waiting.foreign:
        findings.append(Finding(kinds.FOREIGN_TASKS, detail=f"{waiting.foreign} of them"))
    silent = _without(asking.due(before), waiting)
    for _ in range(_LOOKS if silent and consumers else 0):
        sleep(_PAUSE)
        again = _without(asking.due(before), asking.tasks(now))
        silent = {place: count for place, count in again.items() if place in silent}
    return [*findings, *_silent(silent)]


def _without(due: dict[tuple[str, str], int], waiting: asking.Tasks) -> dict[tuple[str, str], int]:
    return {place: count for place, count in due.items() if place not in waiting.rings}


def _silent(due: dict[tuple[str, str], int]) -> list[Finding]:
    return [
        Finding(kinds.UNRUNG, profile=profile, bucket=bucket, detail=f"{count} due")
        for (profile, bucket), count in sorted(due.items())
    ]


def _of(row: Row, kind: Kind, detail: str) -> Finding:
    return Finding(kind, None, row.id, row.profile, row.bucket, row.key, detail)
