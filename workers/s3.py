"""Uploads through boto3 to one profile's store."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from workers.known import Known
from workers.lanes import Lanes, carried
from workers.media_type import content_type
from workers.opening import is_large, refusal, threshold
from workers.s3_bucket import Buckets
from workers.s3_client import Clients
from workers.s3_head import head
from workers.s3_multipart import Multipart, large
from workers.s3_requests import S3Requests, abort
from workers.source import Body, Source, Watch
from workers.transfer import Hooks, Interrupted, Outcome, Receipt, Upload
from workers.verify import Sent, bare, confirm, digest_algorithm

if TYPE_CHECKING:
    from flood.profiles import Profile

_TICK: Final = 0.1
# How long transfers that were told to end are waited for, before they are left to their time-outs.
_LAST_WORDS: Final = 0.5


class S3:
    """An Uploader for one profile; any number of threads may use it at once.

    Sizes are bytes, times seconds; a time-out of None is the provider's own. `concurrency` is the
    number of transfers at once for each thread that calls `transfer`. `known` are the buckets that
    somebody else has found, who is told of others in turn.
    """

    def __init__(
        self,
        profile: "Profile",
        *,
        concurrency: int,
        multipart_threshold: int,
        multipart_part_size: int,
        connect_timeout: float | None,
        read_timeout: float | None,
        bucket_cache_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        known: Known | None = None,
    ) -> None:
        provider = profile.provider
        self._provider = provider
        self._concurrency = concurrency
        self._threshold = threshold(provider, multipart_threshold)
        self._part_size = multipart_part_size
        self._clock = clock
        self._buckets = Buckets(profile, known or Known(bucket_cache_seconds, clock))
        self.clients = Clients(
            profile,
            concurrency,
            provider.connect_timeout if connect_timeout is None else connect_timeout,
            provider.read_timeout if read_timeout is None else read_timeout,
        )

    def ensure_bucket(self, bucket: str, *, is_listed: bool | None = None) -> None:
        """Return if the bucket exists, or if the access key may not ask; `is_listed` False: the
        store's list lacks it.

        Raises BucketMissing, InvalidBucket, NotS3, or a botocore exception that classify knows.
        """
        self._buckets.ensure(self.clients.main, bucket, is_listed=is_listed)

    def transfer(self, uploads: Iterable[Upload], hooks: Hooks) -> Iterator[Outcome | None]:
        """PUT then HEAD each file; yield every upload exactly once, in the order they finish, with
        a None every tenth of a second while none does.

        Failures are yielded, never raised. After an upload is yielded, or the iterator closed,
        nothing reads from its descriptor any more.
        """
        watch = Watch(hooks.stopping, self._clock)
        running: dict[int, tuple[Upload, Source]] = {}
        with Lanes[int, Receipt](self._concurrency, "flood-put") as lanes:

            def one_less() -> int:
                return min(lanes.count, hooks.at_most()) - 1

            try:
                for number, upload in enumerate(uploads):
                    why_not = refusal(upload, hooks, watch, self.abort_multipart, self._threshold)
                    if why_not is not None:
                        yield upload, why_not
                    elif is_large(upload, self._threshold):
                        yield from self._finish(lanes, running, watch, _none)
                        yield None  # a large file takes long, and nothing is yielded meanwhile
                        yield upload, self.send_large(upload, hooks, watch)
                    else:
                        source = Source(upload.descriptor, upload.size, watch)
                        running[number] = (upload, source)
                        lanes.start(number, partial(self._send_small, upload, source))
                        yield from self._finish(lanes, running, watch, one_less)
                yield from self._finish(lanes, running, watch, _none)
            finally:
                watch.cut()
                for _, source in running.values():
                    source.close()

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Remove an unfinished multipart upload; one that is already gone is no error.

        Raises a botocore exception that classify knows.
        """
        abort(self.clients, bucket, key, upload_id)

    def close(self) -> None:
        """Close idle connections; a later call opens new ones."""
        self.clients.close()

    def _finish(
        self,
        lanes: Lanes[int, Receipt],
        running: dict[int, tuple[Upload, Source]],
        watch: Watch,
        most: Callable[[], int],
    ) -> Iterator[Outcome | None]:
        """Yield what finishes until at most `most()` transfers are running."""
        patience = _LAST_WORDS
        while len(running) > most():
            finished = lanes.next(_TICK)
            if finished is not None:
                number, result = finished
                upload, source = running.pop(number)
                source.close()
                yield upload, result
                continue
            yield None
            if watch.expired():
                patience -= _TICK
                if patience <= 0:
                    for number in list(running):
                        upload, source = running.pop(number)
                        source.close()
                        yield upload, Interrupted()

    def _send_small(self, upload: Upload, source: Source) -> Receipt:
        body = Body(source, 0, upload.size, digest_algorithm(self._provider))
        try:
            answer = self.clients.main.put_object(
                Bucket=upload.bucket,
                Key=upload.key,
                Body=body,
                ContentType=content_type(upload.key),
            )
        except Exception:
            if source.failure is not None:
                raise source.failure from source.failure.__cause__
            raise
        sent = Sent(bare(answer.get("ETag")), answer.get("VersionId"), body.digest())
        asked = partial(head, self.clients.main, self._provider, upload)
        return confirm(self._provider, upload, sent, asked)

    def send_small(self, upload: Upload, watch: Watch) -> Receipt | BaseException:
        """PUT then HEAD one file; return what came of it."""
        source = Source(upload.descriptor, upload.size, watch)
        try:
            return carried(partial(self._send_small, upload, source), watch.expired)
        except (Exception, Interrupted) as error:  # noqa: BLE001  every failure is an outcome
            return error
        finally:
            source.close()

    def send_large(self, upload: Upload, hooks: Hooks, watch: Watch) -> Receipt | BaseException:
        """Send one file in parts; return what came of it."""
        sent = large(upload, hooks, watch, self._part_size)
        requests = S3Requests(self.clients, self._provider, sent, self._concurrency)
        return Multipart(sent, requests, self._provider).outcome(hooks)


def _none() -> int:
    return 0
