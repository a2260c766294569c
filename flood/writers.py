"""The queues in which writers wait for a database, each of which then has it for a moment."""

import fcntl
import os
import threading
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from flood import owners, syscalls

#: How long a writer waits for its turn, in seconds, or once this process is to stop.
PATIENCE: Final = 60.0
BRIEF: Final = 3.0

_LOOK: Final = 0.1

#: Who writes without a turn is looked at so often: others may write for a moment.
_LOOKS: Final = 4

# The byte of what SQLite has beside a database that whoever writes has locked: WAL_WRITE_LOCK in
# its wal.c, counted from UNIX_SHM_BASE in its os_unix.c.
_WRITING: Final = 120

#: What the files beside a database end in on which writers queue: first the workers among
#: themselves, then the first of them with all others.
QUEUES: Final = ("-workers", "-writers")

# Whether this process is one of workers.
_behind = False


class Locked(Exception):
    """The turn did not come in time."""


class Waiting:
    """How long somebody has waited; less is borne once `stopping` says so."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._since = time.monotonic()

    def over(self) -> bool:
        """Whether it has been long enough."""
        return time.monotonic() - self._since >= (BRIEF if self._stopping() else PATIENCE)


class _Place(threading.local):
    """This thread's places in the queues of one database; of this process alone, as a descriptor
    that came through a fork shares its lock with the parent."""

    descriptors: tuple[int, ...] = ()
    of = (0, "")


_place = _Place()


def stand_behind() -> None:
    """This process is one of workers, which have the database nearly all of the time, each with
    hundreds of files in hand: only the first of them is in the way of others."""
    global _behind
    _behind = True


@contextmanager
def turn(path: str, waiting: Waiting) -> Iterator[None]:
    """Wait for this thread's turn at the database; raises Locked, or the OSError of a lock file.

    SQLite's writers poll with growing pauses, so that a busy process starves the others. A kernel
    lock, flock(2), lets them in one after the other; who is woken when it is free is a matter of
    luck, though, so that one of many has to wait for most of them now and then.
    """
    if _place.of != (os.getpid(), path) or not all(map(_is_there, _place.descriptors)):
        leave()
        for suffix in QUEUES:
            _place.descriptors += (owners.beside(path, suffix),)
        _place.of = (os.getpid(), path)
    with ExitStack() as stack:
        for descriptor in _place.descriptors[0 if _behind else 1 :]:
            stack.callback(_unlock, descriptor)  # beforehand: an interrupt may come at any time
            _queue(descriptor, waiting)
        yield


def _is_there(descriptor: int) -> bool:
    return os.fstat(descriptor).st_nlink > 0


def _queue(descriptor: int, waiting: Waiting) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _wait(_Waiter(descriptor), descriptor, waiting)


def _unlock(descriptor: int) -> None:
    if descriptor in _place.descriptors:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def stopped(path: str) -> int | None:
    """The process that has its turn at the database, if somebody has stopped it, as with SIGSTOP;
    None if none has, or nobody can tell."""
    return syscalls.stopped_holder(f"{path}-writers")


def first_stopped(path: str) -> int | None:
    """As `stopped`, of the process that is the first of all workers, too, which keeps but them."""
    holders = (syscalls.stopped_holder(f"{path}{queue}") for queue in reversed(QUEUES))
    return next((holder for holder in holders if holder is not None), None)


def foreign(path: str) -> int | None:
    """The process that writes to the database without a turn, as none of flood's does: a shell of
    SQLite's within a transaction, or a backup that hangs. None if nobody does, or can tell."""
    holder = syscalls.lock_holder(f"{os.path.realpath(path)}-shm", _WRITING)
    return None if holder == syscalls.lock_holder(f"{path}-writers") else holder


def staying(path: str, sleep: Callable[[float], None]) -> int | None:
    """As `foreign`, of a process that goes on writing for as long as one looks."""
    holder = foreign(path)
    for _ in range(_LOOKS - 1):
        if holder is None:
            break
        sleep(_LOOK)
        holder = holder if foreign(path) == holder else None
    return holder


def remedy(path: str) -> str | None:
    """What has the process let go that keeps all others from writing, in words; None if nobody
    knows of one."""
    return _remedy(first_stopped(path), foreign(path))


def kept(path: str, sleep: Callable[[float], None]) -> str | None:
    """As `remedy`, where nobody has been refused anything: of a process that stays."""
    return _remedy(stopped(path), staying(path, sleep))


def _remedy(halted: int | None, alien: int | None) -> str | None:
    if halted is not None:
        return f"process {halted} holds it, which is stopped: kill -CONT {halted}"
    if alien is not None:
        return f"process {alien} holds it, none of flood's, and has to let go: ps -fp {alien}"
    return None


def leave() -> None:
    """Give this thread's descriptors back."""
    for descriptor in _place.descriptors:
        os.close(descriptor)
    _place.descriptors, _place.of = (), (0, "")


def _wait(waiter: "_Waiter", descriptor: int, waiting: Waiting) -> None:
    try:
        waiter.start()
        while not waiter.came(_LOOK):
            if waiting.over() and waiter.abandon():
                raise Locked
    except BaseException:  # an interrupt, too: nobody must hold a turn that he does not take
        if waiter.abandon():
            kept = tuple(each for each in _place.descriptors if each != descriptor)
            _place.descriptors, _place.of = kept, (0, "")
        raise


class _Waiter:
    """Waits in the kernel's queue, which knows no time-out, on a thread of its own; no signal gets
    anybody out of it.

    With bare locks: an interrupt in the midst of what Thread or Event do with theirs breaks these
    (RuntimeError: release unlocked lock), and is lost.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._turn = allocate_lock()
        self._turn.acquire()
        self._lock = allocate_lock()
        self._came = False
        self._abandoned = False

    def start(self) -> None:
        """Begin to wait; raises RuntimeError if there can be no other thread."""
        try:
            start_new_thread(self._run, ())
        except RuntimeError:
            os.close(self._descriptor)
            raise

    def came(self, seconds: float) -> bool:
        """Whether the turn comes within so many seconds."""
        return self._turn.acquire(timeout=seconds)

    def abandon(self) -> bool:
        """Leave the descriptor to the waiter, which closes it in its time; False if the turn has
        come after all."""
        with self._lock:
            self._abandoned = not self._came
            return self._abandoned

    def _run(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        with self._lock:
            self._came = not self._abandoned
        if self._came:
            self._turn.release()
        else:
            os.close(self._descriptor)
