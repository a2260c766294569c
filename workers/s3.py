"""Uploads through boto3 to one profile's store."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
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
from workers.s3_outflow import Outflow, counted
from workers.s3_requests import S3Requests, abort
from workers.source import Body, Source, Watch
from workers.transfer import Hooks, Interrupted, Outcome, Receipt, Upload
from workers.verify import Sent, bare, confirm, digest_algorithm

if TYPE_CHECKING:
    from flood.profiles import Profile

_Send = Callable[[Upload, Source], Receipt]

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
        with (
            Lanes[_Small, Receipt](self._concurrency, "flood-put") as lanes,
            closing(_Work(self._send_small, lanes, watch, hooks)) as work,
        ):
            for upload in uploads:
                why_not = refusal(upload, hooks, watch, self.abort_multipart, self._threshold)
                if why_not is not None:
                    yield upload, why_not
                elif is_large(upload, self._threshold):
                    yield from work.until(work.is_done)
                    yield None  # a large file takes long, and nothing is yielded meanwhile
                    yield upload, self.send_large(upload, hooks, watch)
                else:
                    work.begin(upload)
                    yield from work.until(work.has_room)
            yield from work.until(work.is_done)

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Remove an unfinished multipart upload; one that is already gone is no error.

        Raises a botocore exception that classify knows.
        """
        abort(self.clients, bucket, key, upload_id)

    def close(self) -> None:
        """Close idle connections; a later call opens new ones."""
        self.clients.close()

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

    def send_small(self, upload: Upload, hooks: Hooks, watch: Watch) -> Receipt | BaseException:
        """PUT then HEAD one file; return what came of it."""
        small = _Small(upload, Source(upload.descriptor, upload.size, watch))

        def given_up() -> bool:
            hooks.sending(small.taken)
            return watch.expired()

        try:
            return carried(partial(small.carry, self._send_small), given_up)
        except (Exception, Interrupted) as error:  # noqa: BLE001  every failure is an outcome
            return error
        finally:
            small.source.close()

    def send_large(self, upload: Upload, hooks: Hooks, watch: Watch) -> Receipt | BaseException:
        """Send one file in parts; return what came of it."""
        sent = large(upload, hooks, watch, self._part_size)
        requests = S3Requests(self.clients, self._provider, sent, self._concurrency)
        return Multipart(sent, requests, self._provider).outcome(hooks)


class _Small:
    """One small file under way."""

    def __init__(self, upload: Upload, source: Source) -> None:
        self.upload = upload
        self.source = source
        self._outflow = Outflow()

    def carry(self, send: _Send) -> Receipt:
        """Have `send` send it in this thread."""
        with counted(self._outflow):
            return send(self.upload, self.source)

    def taken(self) -> int:
        """Return how many of its bytes the store has taken."""
        return min(self.upload.size, self._outflow.taken())


class _Work:
    """The small files of one call that are under way, each of which `send` sends in a lane."""

    def __init__(
        self, send: _Send, lanes: Lanes[_Small, Receipt], watch: Watch, hooks: Hooks
    ) -> None:
        self._send = send
        self._lanes = lanes
        self._watch = watch
        self._hooks = hooks
        self._running: set[_Small] = set()
        self._patience = _LAST_WORDS

    def begin(self, upload: Upload) -> None:
        """Start a transfer."""
        source = Source(upload.descriptor, upload.size, self._watch)
        small = _Small(upload, source)
        self._running.add(small)
        self._lanes.start(small, partial(small.carry, self._send))

    def has_room(self) -> bool:
        """Whether one more transfer is to be started now."""
        return len(self._running) < min(self._lanes.count, self._hooks.at_most())

    def is_done(self) -> bool:
        """Whether nothing is under way."""
        return not self._running

    def until(self, enough: Callable[[], bool]) -> Iterator[Outcome | None]:
        """Yield what finishes until it is enough."""
        while not enough():
            finished = self._lanes.next(_TICK)
            self._hooks.sending(self._taken)
            if finished is not None:
                yield self._end(*finished)
                continue
            yield None
            if self._watch.expired():
                self._patience -= _TICK
                if self._patience <= 0:
                    for small in list(self._running):
                        yield self._end(small, Interrupted())

    def close(self) -> None:
        """End what is under way."""
        self._watch.cut()
        for small in self._running:
            small.source.close()

    def _taken(self) -> int:
        return sum(small.taken() for small in self._running)

    def _end(self, small: _Small, result: Receipt | BaseException) -> Outcome:
        self._running.remove(small)
        small.source.close()
        return small.upload, result
