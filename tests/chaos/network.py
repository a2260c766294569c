"""The way to the store, on which faults happen by chance."""

import random
import select
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from tests.faults import Exchange, Fault, Gone, Request, s3_error, shut
from tests.proxy import FaultProxy

#: How often each fault is drawn, in a thousand requests of the methods named.
CHANCES: Final = {
    "reset before the body": (("PUT", "HEAD", "GET", "POST"), 10),
    "reset in the body": (("PUT",), 14),
    "reset after it was stored": (("PUT", "POST"), 14),
    "stall before": (("PUT", "HEAD"), 4),
    "stall after it was stored": (("PUT",), 4),
    "slow link": (("PUT",), 10),
    "truncated answer": (("PUT", "HEAD", "GET", "POST"), 14),
    "status 500": (("PUT", "HEAD", "GET", "POST"), 10),
    "status 503": (("PUT", "HEAD", "GET", "POST"), 10),
    "status 429": (("PUT", "HEAD", "GET", "POST"), 10),
    "wrong size on HEAD": (("HEAD",), 16),
}
_ERRORS: Final = {
    "status 500": s3_error(500, "InternalError"),
    "status 503": s3_error(503, "SlowDown"),
    "status 429": s3_error(429, "TooManyRequests", Retry_After="1"),
}

#: A link that carries so many bytes a second is slow.
_SLOW: Final = 120_000
_SLICE: Final = 0.05
_LIMIT: Final = 4.0  # a slow link is slow for so many seconds at most


class Network(FaultProxy):
    """A proxy that draws a fault for each request while it is `rough`, and counts them.

    A request with a body gets to the store whole or not at all, requests for one key one after the
    other, and none whose client is gone: as with a real store, what a client has given up is not
    carried out later. `stall` is for how long, in seconds, a stalled request stands still.
    """

    def __init__(
        self, address: tuple[str, int], rng: random.Random, kinds: set[str], *, stall: float
    ) -> None:
        super().__init__(address)
        self.rough = False
        self.counts: Counter[str] = Counter()
        self.requests_seen: Counter[str] = Counter()
        self.bytes_received = 0
        self._rng = rng
        self._kinds = kinds
        self._stall = stall
        self._orders: dict[str, threading.Lock] = {}
        self._held = threading.Event()

    def blackhole(self) -> bool:
        """Let no new connection come about, nor any existing one live on; whether that holds."""
        assert self._listener is not None
        self._held.set()
        time.sleep(2 * _SLICE)  # the accepting thread may be half-way through
        # With a full queue of connections that nobody accepts, the kernel drops each SYN.
        self._listener.listen(0)
        self._fillers = [self._knock() for _ in range(3)]
        self.hang_up()
        probe = self._knock()
        _, writable, _ = select.select([], [probe], [], 0.3)
        self._fillers.append(probe)
        if not writable:
            self.counts["black-holed connect"] += 1
        return not writable

    def hang_up(self) -> None:
        """End every connection that exists."""
        with self._lock:
            serving = list(self._serving.values())
        for conn in serving:
            shut(conn)

    def light(self) -> None:
        """End `blackhole`."""
        if self._held.is_set():
            assert self._listener is not None
            for filler in self._fillers:
                filler.close()
            self._listener.listen(128)
            self._held.clear()

    def _knock(self) -> socket.socket:
        caller = socket.socket()
        caller.setblocking(False)
        caller.connect_ex(("127.0.0.1", self.port))
        return caller

    def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        while not self.closing.is_set():
            if self._held.is_set():
                time.sleep(_SLICE)
                continue
            try:
                if not select.select([listener], [], [], _SLICE)[0]:
                    continue
                conn, _ = listener.accept()
            except BlockingIOError:
                continue
            except (OSError, ValueError):
                return
            conn.setblocking(True)
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(conn,), daemon=True)
            with self._lock:
                self.connections += 1
                self._serving[thread] = conn
            thread.start()

    def _choose(self, request: Request) -> Fault:
        path = request.target.partition("?")[0]
        with self._lock:
            self.requests_seen[request.method] += 1
            order = self._orders.setdefault(path, threading.Lock())
            kind = self._draw(request.method) if self.rough else ""
        return _Passage(self, kind, order, self._stall)

    def _draw(self, method: str) -> str:
        number = self._rng.uniform(0, 1000)
        for kind, (methods, share) in CHANCES.items():
            if kind in self._kinds and method in methods:
                if number < share:
                    return kind
                number -= share
        return ""

    def tally(self, kind: str) -> None:
        """Count a fault that takes hold."""
        with self._lock:
            self.counts[kind] += 1


@dataclass(frozen=True)
class _Passage(Fault):
    """A request's way to the store and back, with what happens on it."""

    network: Network
    kind: str
    order: threading.Lock
    stall: float

    def play(self, exchange: Exchange) -> None:
        kind = self.kind
        if kind == "reset in the body" and not _length(exchange.request):
            kind = "reset before the body"
        if kind:
            self.network.tally(kind)
        if kind == "reset before the body":
            exchange.cut(reset=True)
        if kind == "reset in the body":
            next(exchange.body())
            exchange.cut(reset=True)
        self._receive(exchange, slow=kind == "slow link")
        if kind in _ERRORS:
            _ERRORS[kind].play(exchange)
            return
        if kind == "stall before":
            self._wait(exchange, self.stall)
        with self.order:
            _check(exchange)
            status, headers, body = exchange.forward()
        if kind == "stall after it was stored":
            self._wait(exchange, self.stall)
        if kind == "reset after it was stored":
            exchange.cut(reset=True)
        if kind == "truncated answer":
            exchange.conn.sendall(f"HTTP/1.1 {status} OK\r\nContent-Le".encode())
            exchange.cut(reset=False)
        if kind == "wrong size on HEAD":
            wrong = [("Content-Length", "4711")]
            headers = [each for each in headers if each[0].lower() != "content-length"] + wrong
        exchange.reply(status, headers, body)

    def _receive(self, exchange: Exchange, *, slow: bool) -> None:
        """Take the whole body before any of it goes on."""
        parts = []
        until = time.monotonic() + _LIMIT
        for data in exchange.body():
            parts.append(data)
            if slow and time.monotonic() < until:
                self._wait(exchange, min(len(data) / _SLOW, until - time.monotonic()))
        data = b"".join(parts)
        self.network.bytes_received += len(data)
        exchange.rest = data + exchange.rest
        exchange.request.headers.pop("expect", None)

    def _wait(self, exchange: Exchange, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if exchange.closing.wait(_SLICE):
                raise Gone
            _check(exchange)


def _length(request: Request) -> int:
    return int(request.headers.get("content-length", "0"))


def _check(exchange: Exchange) -> None:
    """Raise Gone if the client has hung up."""
    poller = select.poll()
    poller.register(exchange.conn, select.POLLRDHUP)
    if poller.poll(0):
        raise Gone
