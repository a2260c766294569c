"""Looks who is at work on a spool."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from humanize import naturaldelta

from flood import due_queries, put_locks, queries, stall, status_workers
from flood.check_findings import ERROR, OK, WARNING, WORK, Finding
from flood.config import Settings, command
from flood.spool import Spool
from flood.status_workers import Worker

#: Sweeps come every minute; one that has to wait for long uploads comes later.
_SWEPT: Final = timedelta(minutes=5)


def look(spool: Spool, settings: Settings, now: datetime, *, readable: bool) -> Iterator[Finding]:
    """Whether flood-watch and consumers run; `readable` says that records can be asked for, of the
    database that `settings` name."""
    halted = put_locks.watch_stopped(spool)
    if halted is not None:
        yield Finding(
            WORK,
            "flood-watch",
            WARNING,
            "it is stopped",
            "what is put into incoming stays there until it goes on",
            stall.go_on([halted]),
        )
    elif put_locks.watching(spool):
        yield Finding(WORK, "flood-watch", OK, "it is running")
    else:
        yield Finding(
            WORK,
            "flood-watch",
            WARNING,
            "it is not running",
            "what is put into incoming stays there until it is started",
            command(settings, "flood-watch"),
        )
    workers = status_workers.living(spool)
    starters = put_locks.starters(spool)
    stopped = stall.stopped(workers, starters)
    if stall.none_left(workers, starters, stopped):
        meaning = "nothing is uploaded until they go on"
        yield Finding(WORK, "consumers", ERROR, "all are stopped", meaning, stall.go_on(stopped))
        return
    if stopped:
        yield _some_stopped(stopped)
    due = due_queries.anything(now) if readable else False
    stalled = stall.look(spool, now) if readable else []
    if stalled:
        yield Finding(
            WORK,
            "consumers",
            ERROR,
            f"files are due, yet {stall.WHY}",
            "nobody uploads them",
            stall.remedy(stalled),
        )
    elif put_locks.consuming(spool):
        running = Finding(WORK, "consumers", OK, "at least one is running")
        yield _swept(workers, now) if readable else running
    elif put_locks.starting(spool):
        yield Finding(
            WORK,
            "consumers",
            WARNING,
            "none takes files yet, as they are at their start",
            "files wait in processing until one has started",
            "where the database or the disk keeps one waiting, its log says 'cannot start yet', "
            "and why",
        )
    elif due:
        yield Finding(
            WORK,
            "consumers",
            ERROR,
            "none is running, and files are due",
            "nobody uploads them",
            put_locks.start_consumers(settings),
        )
    else:
        yield Finding(
            WORK,
            "consumers",
            WARNING,
            "none is running",
            "files wait in processing until one is started",
            put_locks.start_consumers(settings),
        )


def _some_stopped(processes: Sequence[int]) -> Finding:
    one = len(processes) == 1
    return Finding(
        WORK,
        "consumers",
        WARNING,
        "1 of them is stopped" if one else f"{len(processes)} of them are stopped",
        f"what {'it has' if one else 'they have'} begun waits; the others go on",
        stall.go_on(processes),
    )


def _swept(workers: Sequence[Worker], now: datetime) -> Finding:
    if not workers:
        # As flood-drain does where nothing is due, which does not sweep then.
        return Finding(WORK, "consumers", OK, "one is starting, or about to end")
    last = queries.last_sweep()
    if last is None:
        return Finding(WORK, "consumers", OK, "at least one is running, its first sweep is to come")
    age = now - last
    if age <= _SWEPT:
        ago = naturaldelta(max(age, timedelta()))
        return Finding(WORK, "consumers", OK, f"at least one is running, it swept {ago} ago")
    return Finding(
        WORK,
        "consumers",
        WARNING,
        f"at least one is running, yet none has swept for {naturaldelta(age)}",
        "all their workers are busy or stopped, or they were started with -n: what a dead worker "
        "left is taken up by nobody",
        "restart the consumers without -n, with more workers (-w)",
    )
