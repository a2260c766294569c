"""Notices consumers that run, yet take nothing."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from flood import due_queries, queries, status_workers, syscalls
from flood.spool import Spool
from flood.status_workers import Worker

#: For how long no worker has said a word, nobody has swept, and files have been due. A worker that
#: uploads says so every second, an idle consumer sweeps every minute.
QUIET: Final = timedelta(seconds=90)


def look(spool: Spool, at: datetime) -> list[int]:
    """The processes of the consumers, if all of them take nothing at the moment `at` (aware) though
    files are due; empty if one may. Raises what the database raises."""
    return among(status_workers.living(spool), queries.last_sweep(), at)


def among(workers: Sequence[Worker], swept: datetime | None, at: datetime) -> list[int]:
    """As `look`, of the workers that live, the last sweep having begun at `swept`.

    What is due only for profiles that no consumer has does not count, since they sweep all the
    same; nor does an upload that takes long, as its worker speaks.
    """
    before = at - QUIET
    said = [worker.doing for worker in workers]
    silent = [doing.pid for doing in said if doing is not None and doing.at <= before]
    if not silent or len(silent) < len(said) or (swept is not None and swept > before):
        return []
    return sorted(set(silent)) if due_queries.anything(before) else []


def stopped(workers: Sequence[Worker], starters: Sequence[int]) -> list[int]:
    """The processes of these workers, and of consumers at their start, that the kernel knows to be
    stopped, as by SIGSTOP."""
    said = {worker.doing.pid for worker in workers if worker.doing is not None}
    return sorted(pid for pid in said.union(starters) if syscalls.is_stopped(pid))


def none_left(workers: Sequence[Worker], starters: Sequence[int], halted: Sequence[int]) -> bool:
    """Whether all of these, of which there are some, belong to the processes `halted`."""
    processes = {one.doing.pid if one.doing else None for one in workers}.union(starters)
    return bool(processes) and processes.issubset(halted)


def all_stopped(workers: Sequence[Worker], starters: Sequence[int]) -> list[int]:
    """The processes of these, if all are stopped; empty if one goes on, or there are none."""
    halted = stopped(workers, starters)
    return halted if none_left(workers, starters, halted) else []


#: What that means, in words.
WHY: Final = "the consumers take nothing: they are stopped, or hang"


#: What is true of consumers at their start, however long that takes.
STARTING: Final = (
    "consumers have been started; where the database or the disk keeps one waiting, its log says "
    "'cannot start yet', and why"
)


def remedy(processes: Sequence[int]) -> str:
    """What to do about these, in words whose end is a command."""
    return f"start again what hangs, let go on what is stopped: {go_on(processes)}"


def go_on(processes: Sequence[int]) -> str:
    """The command that lets stopped processes go on."""
    return f"kill -CONT {' '.join(map(str, processes))}"
