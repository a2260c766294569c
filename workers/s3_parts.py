"""Sends the parts of one large file side by side through boto3."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from botocore.parsers import ResponseParserError

from flood.providers import Provider
from workers.lanes import Lanes
from workers.s3_client import Clients
from workers.s3_multipart import Large, Part, Patience
from workers.s3_outflow import Outflow, counted
from workers.source import Body
from workers.transfer import Interrupted
from workers.verify import digest_algorithm

_TICK: Final = 0.1


class Parts:
    """The parts of one upload."""

    def __init__(self, clients: Clients, provider: Provider, large: Large, upload_id: str) -> None:
        self._clients = clients
        self._provider = provider
        self._large = large
        self._names = {
            "Bucket": large.upload.bucket,
            "Key": large.upload.key,
            "UploadId": upload_id,
        }
        self._outflows: dict[int, Outflow] = {}

    def send(self, concurrency: int) -> list[Part]:
        """Send them all; raises Interrupted, or what classify knows."""
        large = self._large
        parts: list[Part] = []
        with Lanes[None, Part](concurrency, "flood-part") as lanes:
            waiting = deque(self._calls(lambda: lanes.busy))
            try:
                while True:
                    while waiting and lanes.busy < min(lanes.count, large.at_most()):
                        lanes.start(None, waiting.popleft())
                    if not (waiting or lanes.busy):
                        return sorted(parts, key=lambda part: part.number)
                    finished = lanes.next(_TICK)
                    if large.watch.expired():
                        raise Interrupted
                    large.sending(lambda: large.stored(parts) + self._under_way())
                    if finished is None:
                        continue
                    result = finished[1]
                    if isinstance(result, BaseException):
                        raise large.source.failure or result
                    parts.append(result)
            finally:
                # Before the lanes close: parts that are under way must not read on.
                large.source.close()

    def _under_way(self) -> int:
        # Threads add to them, and take them away, meanwhile.
        return sum(each.taken() for each in list(self._outflows.values()))

    def _calls(self, under_way: Callable[[], int]) -> Iterator[Callable[[], Part]]:
        size, part_size = self._large.upload.size, self._large.part_size
        for number, offset in enumerate(range(0, size, part_size), start=1):
            yield partial(self._counted, number, offset, under_way)

    def _counted(self, number: int, offset: int, under_way: Callable[[], int]) -> Part:
        outflow = self._outflows[number] = Outflow()
        try:
            with counted(outflow):
                return self._send(number, offset, under_way)
        finally:
            del self._outflows[number]

    def _send(self, number: int, offset: int, under_way: Callable[[], int]) -> Part:
        large, source = self._large, self._large.source
        body = Body(source, offset, large.length(number), digest_algorithm(self._provider))
        patience = Patience(large.pauses)
        while True:
            tell = large.part_begins(under_way())
            try:
                answer = self._clients.main.upload_part(**self._names, PartNumber=number, Body=body)
                if not answer.get("ETag"):
                    raise ResponseParserError("UploadPart: the answer has no ETag")
            except Exception as error:
                tell(error, under_way())
                pause = patience.rest(error)
                if source.failure or pause is None:
                    raise
                large.watch.pause(pause)
                body.seek(0)
            else:
                tell(None, under_way())
                has_sums = self._provider.checksums == "when_supported"
                crc32 = answer.get("ChecksumCRC32") if has_sums else None
                return Part(number, str(answer["ETag"]), crc32, body.digest())
