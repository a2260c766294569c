"""Counts what leaves over boto3's connections."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from flood.syscalls import unsent


class Outflow:
    """The requests with a body that one thread sends, one after another; any thread may ask."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._sent = 0

    def begin(self, connection: Any) -> None:
        """A body is sent over this connection now, perhaps once more."""
        self._connection = connection
        self._sent = 0

    def add(self, connection: Any, count: int) -> None:
        """So many bytes more are on their way over it."""
        if connection is self._connection:
            self._sent += count

    def taken(self) -> int:
        """Return how many bytes the other end has taken, what goes before the body included."""
        sock = getattr(self._connection, "sock", None)
        left = 0 if sock is None else unsent(sock.fileno())
        return max(0, self._sent - left)


_OWN: ContextVar[Outflow | None] = ContextVar("outflow", default=None)


@contextmanager
def counted(outflow: Outflow) -> Iterator[None]:
    """Have this thread's requests count there."""
    token = _OWN.set(outflow)
    try:
        yield
    finally:
        _OWN.reset(token)


def outflow() -> Outflow | None:
    """Where this thread's requests count, if anywhere."""
    return _OWN.get()
