"""Asks through libcurl whether a bucket is there."""

from collections.abc import Callable
from threading import Lock
from typing import Final

from workers.addresses import is_plain
from workers.curl_connections import Connections
from workers.curl_store import Store

_TICK: Final = 0.1


class Buckets:
    """Remembers for `seconds` which buckets of a profile are in the list that the store gives.

    Any thread may ask; `clock` gives seconds that never go back.
    """

    def __init__(self, store: Store, seconds: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._seconds = seconds
        self._clock = clock
        self._until: dict[str, float] = {}
        self._lock = Lock()

    def knows(self, bucket: str) -> bool:
        """Whether the bucket was there not long ago."""
        with self._lock:
            return self._clock() < self._until.get(bucket, float("-inf"))

    def remember(self, bucket: str) -> None:
        """The bucket can be used, as far as anybody knows."""
        with self._lock:
            self._until[bucket] = self._clock() + self._seconds

    def listed(self, connections: Connections, bucket: str) -> bool:
        """Whether the first page of the store's list has the bucket. False is no proof.

        Raises TransportFailed, OSError or ConfigError where there is no answer.
        """
        self._store.check()
        asked = self._store.list_buckets(bucket) if is_plain(bucket) else None
        if asked is None:
            return False
        connections.start(asked)
        while not connections.turn(_TICK):
            pass
        # An answer that is too long to be kept ends as a failure, too.
        if asked.failure is not None and not asked.status and not asked.head.tell():
            raise asked.failure
        answer = asked.content.getvalue()
        return asked.succeeded and f"<Name>{bucket}</Name>".encode() in answer
