"""Sends the parts of one large file side by side through libcurl."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from workers.curl_connections import Connections
from workers.curl_delivery import refused, stored
from workers.curl_exchange import Exchange
from workers.curl_memory import Memory
from workers.curl_payload import Loader, Payload
from workers.curl_store import Store
from workers.failures import nonsense
from workers.lanes import Lanes
from workers.s3_multipart import Large, Part, Patience
from workers.transfer import Interrupted, PartEnded

# Threads that read and digest parts while others are sent.
_READERS: Final = 2

_TICK: Final = 0.1
# How soon a part that was read is noticed while nothing happens in the network.
_READING_TICK: Final = 0.002


@dataclass
class _Part:
    number: int
    payload: Payload
    patience: Patience
    due: float = 0.0
    moved: bool = False


class Parts:
    """The parts of one upload."""

    def __init__(
        self, store: Store, connections: Connections, large: Large, upload_id: str
    ) -> None:
        self._store = store
        self._connections = connections
        self._large = large
        self._upload_id = upload_id
        signed = store.is_signed(large.upload.bucket)
        self._loader = Loader("crc32" if store.has_sums else None, signed)
        self._memory = Memory(large.part_size, large.upload.size, connections.most)
        self._running: dict[Exchange, tuple[_Part, PartEnded]] = {}
        self._resting: list[_Part] = []

    def send(self) -> list[Part]:
        """Send them all; raises Interrupted, or what judge knows."""
        large = self._large
        size = large.upload.size
        waiting = deque(enumerate(range(0, size, large.part_size), start=1))
        parts: list[Part] = []
        with Lanes[int, _Part](_READERS, "flood-part") as lanes:
            try:
                while True:
                    while waiting and self._has_room(lanes, waiting[0][0]):
                        number, offset = waiting.popleft()
                        lanes.start(number, self._loading(number, offset))
                    if not (waiting or lanes.busy or self._alive()):
                        return sorted(parts, key=lambda part: part.number)
                    self._start_what_is_read(lanes)
                    self._start_what_has_rested()
                    tick = _READING_TICK if lanes.busy or self._resting else _TICK
                    for exchange in self._connections.turn(tick):
                        part = self._ended(exchange)
                        if part is not None:
                            parts.append(part)
                    large.sending(lambda: large.stored(parts) + self._connections.sent())
                    if large.watch.expired():
                        raise Interrupted
            finally:
                # Before the lanes close: no part must be read on.
                large.source.close()
                self._connections.drop()
                self._memory.close()

    def _has_room(self, lanes: Lanes[int, _Part], number: int) -> bool:
        """Whether this part is to be read: one of the next to be sent, or what keeps the readers
        busy meanwhile."""
        most = min(self._connections.wanted, self._large.at_most())
        if lanes.busy >= _READERS or lanes.busy + self._alive() >= most:
            return False
        size = self._large.length(number)
        return self._memory.has_room(size) or not self._memory.holds

    def _alive(self) -> int:
        return len(self._running) + len(self._resting)

    def _loading(self, number: int, offset: int) -> Callable[[], _Part]:
        size = self._large.length(number)
        blocks = self._memory.take(size) if self._memory.holds else None
        return partial(self._load, number, offset, blocks)

    def _load(self, number: int, offset: int, blocks: Sequence[memoryview] | None) -> _Part:
        large = self._large
        size = large.length(number)
        if blocks is None:
            payload = self._loader.streamed(large.source, offset, size)
        else:
            give_back = self._memory.give_back
            payload = self._loader.held(large.source, offset, size, blocks, give_back)
        return _Part(number, payload, Patience(large.pauses))

    def _start_what_is_read(self, lanes: Lanes[int, _Part]) -> None:
        while lanes.busy and (finished := lanes.next(0.0)) is not None:
            part = finished[1]
            if isinstance(part, BaseException):
                raise self._large.source.failure or part
            self._start(part)

    def _start_what_has_rested(self) -> None:
        now = time.monotonic()
        for part in [each for each in self._resting if each.due <= now]:
            self._resting.remove(part)
            self._start(part)

    def _start(self, part: _Part) -> None:
        upload = self._large.upload
        exchange = self._store.put_part(
            upload.bucket, upload.key, self._upload_id, part.number, part.payload
        )
        self._connections.start(exchange)
        self._running[exchange] = part, self._large.part_begins(len(self._running) + 1)

    def _ended(self, exchange: Exchange) -> Part | None:
        """Return the part, or None if it is to be sent again; raises what it failed of."""
        under_way = len(self._running)
        part, tell = self._running.pop(exchange)
        etag = exchange.answer_header("etag") if stored(exchange) else None
        if etag:
            part.payload.let_go()
            tell(None, under_way)
            shown = exchange.answer_header("x-amz-checksum-crc32")
            crc32 = shown if self._store.has_sums else None
            return Part(part.number, etag, crc32, part.payload.digest())
        bucket = self._large.upload.bucket
        if exchange.failure is None and not part.moved and self._store.moved(bucket, exchange):
            part.moved = True
            part.payload.rewind()
            self._start(part)
            return None
        error = self._large.source.failure or exchange.failure or _refused(exchange)
        tell(error, under_way)
        pause = part.patience.rest(error)
        if self._large.source.failure or pause is None:
            raise error
        part.due = time.monotonic() + pause
        part.payload.rewind()
        self._resting.append(part)
        return None


def _refused(exchange: Exchange) -> Exception:
    if stored(exchange):
        return nonsense(exchange.host, "UploadPart: the answer has no ETag")
    return refused(exchange)
