"""The locks that commands look at, of a spool that may be another user's."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from flood import owners, read_only, stall, status_workers, syscalls, users
from flood.config import Settings, command
from flood.errors import FloodError, SpoolError
from flood.locks import CONSUMERS_LOCK, PUT_LOCK, STARTING_LOCK, WATCH_LOCK, held, opened
from flood.put_plan import Stopped
from flood.spool import Spool

_LOOK: Final = 0.05


@contextmanager
def put_lock(
    spool: Spool, pause: Callable[[float], None], stopping: Callable[[], bool]
) -> Iterator[None]:
    """Hold the put lock beside other flood-puts, once no purge holds it alone.

    Raises Stopped, or SpoolError if this user may not even read it.
    """
    path = spool.absolute(PUT_LOCK)
    if not os.path.lexists(path):
        try:
            os.close(opened(path))  # which makes it so that its owner can lock it, too
        except OSError as error:
            raise _refused(path, error) from error
    while (descriptor := _shared(path)) is None:
        pause(_LOOK)
        if stopping():
            raise Stopped
    try:
        yield
    finally:
        os.close(descriptor)


def watching(spool: Spool) -> bool:
    """Whether flood-watch runs on this spool. Call it seldom: a flood-watch that starts in the very
    instant of the look finds its lock taken."""
    path = spool.absolute(WATCH_LOCK)
    try:
        descriptor = _shared(path)
    except SpoolError:
        return os.path.exists(path)  # nobody can tell
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def watch_stopped(spool: Spool) -> int | None:
    """The process of the flood-watch on this spool, if somebody has stopped it, as with SIGSTOP;
    None if none is, or nobody can tell."""
    return syscalls.stopped_holder(spool.absolute(WATCH_LOCK))


def consuming(spool: Spool) -> bool:
    """Whether any consumer runs on this spool, so that somebody takes tasks; where this user may
    not look, it is taken for granted. A repair that replaces the database counts as one."""
    try:
        return held(spool.absolute(CONSUMERS_LOCK))
    except OSError:
        return True


def starting(spool: Spool) -> bool:
    """Whether a consumer is at its start, where a database that is held, or a full disk, may keep
    it for long; False where this user may not look."""
    try:
        return held(spool.absolute(STARTING_LOCK))
    except OSError:
        return False


def starters(spool: Spool) -> list[int]:
    """The processes of the consumers that are at their start, as far as they can be seen."""
    return syscalls.lock_sharers(spool.absolute(STARTING_LOCK))


def start_stopped(spool: Spool) -> list[int]:
    """Those processes, if somebody has stopped all of them, as with SIGSTOP."""
    return stall.all_stopped([], starters(spool))


def start_consumers(settings: Settings) -> str:
    """What starts consumers, where flood-watch runs without: its end is a command."""
    started = command(settings, "huey_consumer", "flood.tasks.huey")
    return f"flood-watch again with --consumers 2, or: {started}"


def untaken(spool: Spool, settings: Settings) -> str | None:
    """Why nobody takes in what lies in incoming, in words; None if flood-watch does."""
    if not watching(spool):
        others = _whose(spool)
        if others is not None:
            return f"flood-watch is not running: the files wait until {others} starts it"
        started = consuming(spool) or starting(spool)
        start = command(settings, "flood-watch", *(() if started else ("--consumers", "2")))
        return f"flood-watch is not running: the files wait until it is started: {start}"
    stopped = watch_stopped(spool)
    if stopped is not None:
        again = stall.go_on([stopped])
        return f"flood-watch is stopped: what it has not taken waits; to let it go on: {again}"
    return None


def idle(spool: Spool, settings: Settings) -> str | None:
    """Why files that are put into this spool are uploaded by nobody for now, in words; None if
    somebody takes them in, somebody uploads them."""
    why = untaken(spool, settings)
    if why is not None:
        return why
    if halted := stall.all_stopped(status_workers.living(spool), starters(spool)):
        again = stall.go_on(halted)
        return f"all consumers are stopped: the files wait; to let them go on: {again}"
    runs = consuming(spool)
    started = runs or starting(spool)
    if started and not runs:
        return f"no consumer takes files yet: {stall.STARTING}"
    if not runs:
        others = _whose(spool)
        if others is not None:
            return f"no consumer is running: the files wait until {others} starts one"
        start = start_consumers(settings)
        return f"no consumer is running: the files wait until one is started: {start}"
    return None


def _whose(spool: Spool) -> str | None:
    """The user that the spool belongs to, if that is another one: whoever puts files into it may
    have made-up keys, and starts nothing."""
    owner = owners.user_of(spool.root)
    return None if owner is None or owner == os.geteuid() else users.name(owner)


def _shared(path: str) -> int | None:
    """A descriptor with the shared lock; None while somebody has it alone."""
    try:
        # flock needs no more than reading, which is all that other users may do.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EWOULDBLOCK:
            return None
        raise SpoolError(f"cannot lock {path}: {error.strerror}") from error
    return descriptor


def _refused(path: str, error: OSError) -> FloodError:
    if read_only.refused(error, path):
        return read_only.told(f"cannot open {path}")
    advice = "; give this user write access to it" if isinstance(error, PermissionError) else ""
    return SpoolError(f"cannot use {path}: {error.strerror}{advice}")
