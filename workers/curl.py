"""Uploads through libcurl to one profile's store."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from workers.answer_limits import SHORT_CONNECT, SHORT_READ
from workers.curl_buckets import listed
from workers.curl_connections import Connections
from workers.curl_delivery import Delivery
from workers.curl_exchange import Exchange
from workers.curl_store import Store
from workers.known import Known
from workers.late import late
from workers.opening import is_large, refusal, threshold
from workers.source import Source, Watch
from workers.transfer import Hooks, Interrupted, Outcome, Receipt, Upload

if TYPE_CHECKING:
    from flood.profiles import Profile
    from workers.s3 import S3

_TICK: Final = 0.1

# Bodies of up to so many bytes are held in memory while they are sent, as long as all of a
# worker's together do not exceed the second number. Larger ones are read once more.
_IN_MEMORY: Final = 1024**2
_ALL_IN_MEMORY: Final = 16 * 1024**2


class Curl:
    """An Uploader for one profile; any number of threads may use it at once.

    What it takes is what `workers.s3.S3` takes. boto3 is loaded for buckets that the store does
    not list, for keys that libcurl would rewrite, for refusals.
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
    ) -> None:
        provider = profile.provider
        self._buckets = Known(bucket_cache_seconds, clock)
        self._make_boto3 = partial(
            _s3,
            profile,
            concurrency=concurrency,
            multipart_threshold=multipart_threshold,
            multipart_part_size=multipart_part_size,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            bucket_cache_seconds=bucket_cache_seconds,
            clock=clock,
            known=self._buckets,
        )
        self._made: S3 | None = None
        self._threshold = threshold(provider, multipart_threshold)
        self._part_size = multipart_part_size
        self._concurrency = concurrency
        self._connect_timeout = connect_timeout or provider.connect_timeout
        self._read_timeout = read_timeout or provider.read_timeout
        self._clock = clock
        self._store = Store(profile, self._ask_address)
        self._lock = Lock()
        self._idle: list[Connections] = []
        self._closings = 0

    def ensure_bucket(self, bucket: str) -> None:
        """Return if the bucket exists, or if the access key may not ask; raises what S3's does, or
        TransportFailed."""
        if bucket in self._buckets:
            return
        with self._borrowed() as connections:
            found = listed(self._store, connections, bucket, self._buckets)
        if not found:
            self._boto3().ensure_bucket(bucket, is_listed=found)
        self._buckets.add(bucket)

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Remove an unfinished multipart upload; one that is already gone is no error.

        Raises what judge knows.
        """
        if _is_rewritten(key):
            self._boto3().abort_multipart(bucket, key, upload_id)
            return
        with late():
            from workers.curl_requests import abort
        # Its own, since it comes from other threads than transfers; aborts are rare.
        patience = min(self._connect_timeout, SHORT_CONNECT), min(self._read_timeout, SHORT_READ)
        with closing(Connections(self._store.configure, 1, *patience)) as connections:
            abort(self._store, connections, bucket, key, upload_id)

    def close(self) -> None:
        """Close idle connections at once, others when their transfers end; a later call opens new
        ones."""
        with self._lock:
            idle, self._idle = self._idle, []
            made = self._made
            self._closings += 1
        for connections in idle:
            connections.close()
        if made is not None:
            made.close()

    def transfer(self, uploads: Iterable[Upload], hooks: Hooks) -> Iterator[Outcome | None]:
        """PUT then HEAD each file; yield every upload exactly once, in the order they finish, with
        a None every tenth of a second while none does.

        Failures are yielded, never raised. After an upload is yielded, or the iterator closed,
        nothing reads from its descriptor any more. What the caller does meanwhile holds up the
        transfers.
        """
        watch = Watch(hooks.stopping, self._clock)
        with ExitStack() as stack:
            try:
                connections = stack.enter_context(self._borrowed())
            except (OSError, MemoryError) as scarcity:
                for upload in uploads:
                    yield upload, scarcity
                return
            work = stack.enter_context(closing(_Work(self._store, connections, hooks)))
            for upload in uploads:
                why_not = refusal(upload, hooks, watch, self.abort_multipart, self._threshold)
                if why_not is not None:
                    yield upload, why_not
                elif is_large(upload, self._threshold):
                    yield from work.until(work.is_done, watch)
                    yield None  # a large file takes long, and nothing is yielded meanwhile
                    yield upload, self._send_large(upload, hooks, watch, connections)
                elif _is_rewritten(upload.key):
                    yield upload, self._send_odd(upload, hooks, watch)
                else:
                    error = work.begin(upload, watch)
                    if error is not None:
                        yield upload, error
                    yield from work.until(work.has_room, watch)
            yield from work.until(work.is_done, watch)

    def _send_large(
        self, upload: Upload, hooks: Hooks, watch: Watch, connections: Connections
    ) -> Receipt | BaseException:
        try:
            if _is_rewritten(upload.key):
                return self._boto3().send_large(upload, hooks, watch)
            with late():
                from workers.curl_requests import CurlRequests
                from workers.s3_multipart import Multipart, large
        except (OSError, MemoryError) as scarcity:
            return scarcity
        sent = large(upload, hooks, watch, self._part_size)
        requests = CurlRequests(self._store, connections, sent, self.abort_multipart)
        return Multipart(sent, requests, self._store.provider).outcome(hooks)

    def _send_odd(self, upload: Upload, hooks: Hooks, watch: Watch) -> Receipt | BaseException:
        try:
            boto3 = self._boto3()
        except (OSError, MemoryError) as scarcity:
            return scarcity
        return boto3.send_small(upload, hooks, watch)

    def _ask_address(self, bucket: str, region: str | None) -> str:
        return self._boto3().clients.address(bucket, region)

    def _boto3(self) -> "S3":
        """boto3's uploader, made when it is first needed; raises OSError or MemoryError where this
        machine lacks what that takes."""
        with self._lock:
            if self._made is None:
                self._made = self._make_boto3()
            return self._made

    @contextmanager
    def _borrowed(self) -> Iterator[Connections]:
        with self._lock:
            connections = self._idle.pop() if self._idle else None
            closings = self._closings
        if connections is None:
            connections = Connections(
                self._store.configure, self._concurrency, self._connect_timeout, self._read_timeout
            )
        try:
            yield connections
        finally:
            with self._lock:
                kept = closings == self._closings
                if kept:
                    self._idle.append(connections)
            if not kept:
                connections.close()


class _Work:
    """The small files of one call that are under way."""

    def __init__(self, store: Store, connections: Connections, hooks: Hooks) -> None:
        self._store = store
        self._connections = connections
        self._sending = hooks.sending
        self._at_most = hooks.at_most
        self._taken = hooks.taken
        self._running: dict[Exchange, Delivery] = {}
        self._held = 0
        self._told = time.monotonic()

    def begin(self, upload: Upload, watch: Watch) -> BaseException | None:
        """Start a transfer; return why it cannot be."""
        source = Source(upload.descriptor, upload.size, watch)
        delivery = Delivery(self._store, upload, source)
        try:
            self._start(delivery.begin(min(_IN_MEMORY, _ALL_IN_MEMORY - self._held)), delivery)
        except (Exception, Interrupted) as error:  # noqa: BLE001  every failure is an outcome
            return error
        return None

    def has_room(self) -> bool:
        """Whether one more transfer is to be started now."""
        return len(self._running) < min(self._connections.wanted, self._at_most())

    def is_done(self) -> bool:
        """Whether nothing is under way."""
        return not self._running

    def until(self, enough: Callable[[], bool], watch: Watch) -> Iterator[Outcome | None]:
        """Yield what finishes until it is enough."""
        while not enough():
            ended = self._connections.turn(_TICK)
            for exchange in ended:
                outcome = self._go_on(exchange)
                if outcome is not None:
                    yield outcome
                    self._told = time.monotonic()
            # The network stirs far more often than a transfer ends.
            if not ended and time.monotonic() - self._told >= _TICK:
                self._told = time.monotonic()
                yield None
            self._sending(self._connections.sent)
            if watch.expired():
                for exchange in self._connections.drop():
                    yield self._end(exchange, Interrupted())

    def close(self) -> None:
        """End what is under way."""
        for exchange in self._connections.drop():
            self._end(exchange, Interrupted())

    def _start(self, exchange: Exchange, delivery: Delivery) -> None:
        self._connections.start(exchange)
        self._running[exchange] = delivery
        self._held += exchange.held

    def _go_on(self, exchange: Exchange) -> Outcome | None:
        """Take an answer; return the outcome, or None if another request follows."""
        delivery = self._running[exchange]
        try:
            following = delivery.go_on(exchange)
        except (Exception, Interrupted) as error:  # noqa: BLE001  every failure is an outcome
            return self._end(exchange, error)
        if isinstance(following, Receipt):
            return self._end(exchange, following)
        self._forget(exchange)
        self._start(following, delivery)
        if delivery.is_taken():
            self._taken(delivery.upload)
        return None

    def _end(self, exchange: Exchange, result: Receipt | BaseException) -> Outcome:
        delivery = self._forget(exchange)
        delivery.source.close()
        return delivery.upload, result

    def _forget(self, exchange: Exchange) -> Delivery:
        self._held -= exchange.held
        return self._running.pop(exchange)


def _s3(profile: "Profile", **options: Any) -> "S3":
    with late():
        from workers.s3 import S3

    return S3(profile, **options)


def _is_rewritten(key: str) -> bool:
    """Whether libcurl takes the key for a path with steps up or nowhere, which it would walk."""
    return not {".", ".."}.isdisjoint(key.split("/"))
