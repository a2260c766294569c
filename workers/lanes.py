"""A few threads that carry transfers side by side."""

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Generic, TypeVar

from workers.transfer import Interrupted

Ticket = TypeVar("Ticket")
Result = TypeVar("Result")

# How long close() waits in all for threads that are in the middle of something.
_PATIENCE: Final = 1.0
_TICK: Final = 0.1

# Of these huey makes a KeyboardInterrupt in a worker process.
_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM)


class Lanes(Generic[Ticket, Result]):
    """Runs calls in at most `count` threads; their results come back in the order they finish.

    Threads are daemons, unlike those of concurrent.futures: one that waits for a dead network
    holds up neither close() nor the end of the process, and ends with its socket's time-out.
    Only the thread that made it uses it.
    """

    def __init__(self, count: int, name: str) -> None:
        self.count = count
        self.busy = 0
        self._name = name
        self._threads: list[threading.Thread] = []
        self._calls: queue.SimpleQueue[tuple[Ticket, Callable[[], Result]] | None]
        self._calls = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Ticket, Result | BaseException]]
        self._results = queue.SimpleQueue()

    def start(self, ticket: Ticket, call: Callable[[], Result]) -> None:
        """Have `call` run; its result will be announced with `ticket`."""
        self.busy += 1
        self._calls.put((ticket, call))
        if len(self._threads) < min(self.busy, self.count):
            thread = threading.Thread(
                target=_carry,
                args=(self._calls, self._results),
                name=f"{self._name}-{len(self._threads)}",
                daemon=True,
            )
            self._threads.append(thread)
            with _undisturbed():
                thread.start()

    def next(self, seconds: float) -> tuple[Ticket, Result | BaseException] | None:
        """Return a ticket with its result or exception, or None if none comes in time."""
        try:
            finished = self._results.get(timeout=seconds)
        except queue.Empty:
            return None
        self.busy -= 1
        return finished

    def close(self) -> None:
        """Let the threads go; those that are busy end with what they are doing."""
        while not self._calls.empty():  # what has not begun never does
            try:
                self._calls.get_nowait()
            except queue.Empty:
                break  # a thread was quicker
        for _ in self._threads:
            self._calls.put(None)
        deadline = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> "Lanes[Ticket, Result]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def carried(call: Callable[[], Result], given_up: Callable[[], bool]) -> Result:
    """What the call answers or raises, asked for in a thread of its own.

    Raises Interrupted as soon as `given_up` says so, and leaves the call to its own time-outs: a
    store that does not answer must not hold up a stop.
    """
    with Lanes[None, Result](1, "flood-call") as lanes:
        lanes.start(None, call)
        while (finished := lanes.next(_TICK)) is None:
            if given_up():
                raise Interrupted
    result = finished[1]
    if isinstance(result, BaseException):
        raise result
    return result


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put off what interrupts a worker process: raised while a thread starts, it breaks the locks
    that threading has for that, and is lost, or ends the thread with a KeyError."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)  # raises what has come by now
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _carry(
    calls: "queue.SimpleQueue[tuple[Ticket, Callable[[], Result]] | None]",
    results: "queue.SimpleQueue[tuple[Ticket, Result | BaseException]]",
) -> None:
    while (task := calls.get()) is not None:
        ticket, call = task
        try:
            results.put((ticket, call()))
        except BaseException as error:  # noqa: BLE001  the calling thread decides about it
            results.put((ticket, error))
        del task, ticket, call  # an idle thread keeps no upload alive
