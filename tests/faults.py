"""What can happen to a request on its way to a store; `tests.proxy` makes it happen."""

import http.client
import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from xml.sax.saxutils import escape

BLOCK = 64 * 1024
LONGEST_STALL = 60.0


class Gone(Exception):
    """This connection is over."""


#: Status, headers, body.
Reply = tuple[int, list[tuple[str, str]], bytes]


@dataclass(frozen=True)
class Request:
    """A request as it arrived; `target` is the raw path with its query."""

    method: str
    target: str
    headers: dict[str, str]
    at: float


@dataclass
class Exchange:
    """One request with everything a fault may do to it."""

    address: tuple[str, int] | None
    closing: threading.Event
    conn: socket.socket
    request: Request
    head: bytes
    rest: bytes
    upstream: list[socket.socket]

    def body(self) -> Iterator[bytes]:
        """Yield the raw body as it arrives, asking for it first if the client waits for that."""
        if self.request.headers.get("expect", "").lower() == "100-continue":
            self.conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.request.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunked()
            return
        left = int(self.request.headers.get("content-length", "0"))
        while left:
            data = self._take(left)
            left -= len(data)
            yield data

    def _take(self, most: int) -> bytes:
        data, self.rest = self.rest[:most], self.rest[most:]
        data = data or self.conn.recv(min(most, BLOCK))
        if not data:
            raise Gone
        return data

    def _chunked(self) -> Iterator[bytes]:
        seen = b""
        while not seen.endswith(b"\r\n0\r\n\r\n") and seen != b"0\r\n\r\n":
            data = self._take(BLOCK)
            seen = (seen + data)[-7:]
            yield data

    def forward(
        self, pace: Callable[[int], None] | None = None
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Send the request on; return the store's status, headers and body."""
        if self.address is None:
            for _ in self.body():
                pass
            return 200, [], b""
        if not self.upstream:
            self.upstream.append(socket.create_connection(self.address, timeout=60))
        store = self.upstream[0]
        # The store must not answer 100 to what the proxy has answered already.
        store.sendall(re.sub(rb"(?im)^expect:[^\r\n]*\r\n", b"", self.head))
        for data in self.body():
            store.sendall(data)
            if pace is not None:
                pace(len(data))
        answer = http.client.HTTPResponse(store, method=self.request.method)
        try:
            answer.begin()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            if answer.will_close:
                self.upstream.pop().close()
            answer.close()

    def reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer; Content-Length is the body's, except that HEAD keeps its own."""
        kept = [(name, value) for name, value in headers if name.lower() not in _FRAMING]
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        head_length = lengths[0] if lengths and self.request.method == "HEAD" else None
        kept.append(("Content-Length", head_length or str(len(body))))
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, 'Odd')}"]
        lines += [f"{name}: {value}" for name, value in kept]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self.conn.sendall(head + (b"" if self.request.method == "HEAD" else body))

    def cut(self, *, reset: bool) -> None:
        """End the connection; a reset discards what is under way, else it ends in good order."""
        cut(self.conn, reset=reset)
        raise Gone


_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive"})


class Fault:
    """Something that happens to a request instead of being passed on."""

    def play(self, exchange: Exchange) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Pass(Fault):
    """Nothing happens: the request is passed on, as fast as `bytes_per_second` if that is set."""

    bytes_per_second: int | None = None

    def play(self, exchange: Exchange) -> None:
        rate = self.bytes_per_second
        closing = exchange.closing

        def pace(count: int) -> None:
            if rate is not None:
                closing.wait(count / rate)

        exchange.reply(*exchange.forward(pace))


@dataclass
class Line(Fault):
    """A line that all requests share, which takes so many bytes a second; `most` tells how many
    there were on it at once."""

    bytes_per_second: int
    most: int = 0
    _present: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _counts: threading.Lock = field(default_factory=threading.Lock)

    def play(self, exchange: Exchange) -> None:
        def pace(count: int) -> None:
            with self._lock:
                exchange.closing.wait(count / self.bytes_per_second)

        with self._counts:
            self._present += 1
            self.most = max(self.most, self._present)
        try:
            answer = exchange.forward(pace)
        finally:
            with self._counts:
                self._present -= 1
        exchange.reply(*answer)


@dataclass(frozen=True)
class Tunnel(Fault):
    """A CONNECT is obeyed, though it always leads to `address`."""

    address: tuple[str, int]

    def play(self, exchange: Exchange) -> None:
        client = exchange.conn
        with socket.create_connection(self.address, timeout=60) as store:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            others = {client: store, store: client}
            while True:
                for one in select.select(list(others), [], [])[0]:
                    data = one.recv(BLOCK)
                    if not data:
                        raise Gone
                    others[one].sendall(data)


@dataclass(frozen=True)
class Cut(Fault):
    """The connection ends: before the body is read, after `after` bytes of it, or once the store
    has the object but before its answer is passed on."""

    at: Literal["request", "body", "stored"]
    after: int = 1
    reset: bool = True

    def play(self, exchange: Exchange) -> None:
        if self.at == "body":
            seen = 0
            for data in exchange.body():
                seen += len(data)
                if seen >= self.after:
                    break
        elif self.at == "stored":
            exchange.forward()
        exchange.cut(reset=self.reset)


@dataclass(frozen=True)
class Stall(Fault):
    """Nothing more is read or answered, until the proxy closes or `seconds` have passed."""

    at: Literal["request", "stored"]
    seconds: float = LONGEST_STALL

    def play(self, exchange: Exchange) -> None:
        answer = exchange.forward() if self.at == "stored" else None
        exchange.closing.wait(self.seconds)
        if exchange.closing.is_set():
            raise Gone
        exchange.reply(*(answer or exchange.forward()))


@dataclass(frozen=True)
class Answer(Fault):
    """A canned answer, after the body has been read."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def play(self, exchange: Exchange) -> None:
        for _ in exchange.body():
            pass
        exchange.reply(self.status, list(self.headers.items()), self.body)


@dataclass(frozen=True)
class Raw(Fault):
    """Bytes that need not be HTTP, then the end of the connection."""

    data: bytes

    def play(self, exchange: Exchange) -> None:
        for _ in exchange.body():
            pass
        exchange.conn.sendall(self.data)
        exchange.cut(reset=False)


@dataclass(frozen=True)
class Unending(Fault):
    """An answer that goes on for ever: `start`, then `more` after every so many `seconds`. If
    `early`, it begins before the request's body is read."""

    start: bytes
    more: bytes
    seconds: float = 0.0
    early: bool = False

    def play(self, exchange: Exchange) -> None:
        for _ in () if self.early else exchange.body():
            pass
        exchange.conn.sendall(self.start)
        while not exchange.closing.wait(self.seconds):
            exchange.conn.sendall(self.more)
        raise Gone


@dataclass(frozen=True)
class Alive(Fault):
    """A canned answer of XML of which blanks come first, for `seconds`, as Amazon has it."""

    body: bytes
    seconds: float

    def play(self, exchange: Exchange) -> None:
        for _ in exchange.body():
            pass
        count = round(self.seconds / 0.02)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {count + len(self.body)}\r\n\r\n"
        exchange.conn.sendall(head.encode())
        for _ in range(count):
            exchange.closing.wait(0.02)
            exchange.conn.sendall(b" ")
        exchange.conn.sendall(self.body)


@dataclass
class Crowded(Fault):
    """A store that bears `most` requests at once, each of which takes a moment; the others are
    asked to slow down."""

    most: int
    seconds: float = 0.01
    refusals: int = 0
    _present: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def play(self, exchange: Exchange) -> None:
        with self._lock:
            self._present += 1
            refused = self._present > self.most
            self.refusals += refused
        try:
            if refused:
                s3_error(503, "SlowDown").play(exchange)
                return
            exchange.closing.wait(self.seconds)
            answer = exchange.forward()
        finally:
            with self._lock:
                self._present -= 1
        exchange.reply(*answer)


@dataclass(frozen=True)
class Preceded(Fault):
    """Nothing happens, but that interim answers come before the store's."""

    interim: bytes

    def play(self, exchange: Exchange) -> None:
        answer = exchange.forward()
        exchange.conn.sendall(self.interim)
        exchange.reply(*answer)


@dataclass(frozen=True)
class Trailed(Fault):
    """Nothing happens, but that the store's answer comes in chunks, with trailers behind them."""

    trailers: bytes

    def play(self, exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        if exchange.request.method == "HEAD":
            exchange.reply(status, headers, body)
            return
        lines = [f"HTTP/1.1 {status} Trailed", "Transfer-Encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in headers if name.lower() not in _FRAMING]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        exchange.conn.sendall(head + chunk + b"0\r\n" + self.trailers + b"\r\n")


@dataclass(frozen=True)
class Alter(Fault):
    """The store's answer with other headers, and only `keep` bytes of its body if that is set."""

    headers: dict[str, str] = field(default_factory=dict)
    keep: int | None = None

    def play(self, exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        changed = {name.lower() for name in self.headers}
        headers = [each for each in headers if each[0].lower() not in changed]
        headers += self.headers.items()
        if self.keep is None:
            exchange.reply(status, headers, body)
            return
        lines = [f"HTTP/1.1 {status} Cut", f"Content-Length: {len(body)}", "", ""]
        exchange.conn.sendall("\r\n".join(lines).encode() + body[: self.keep])
        exchange.cut(reset=False)


def s3_error(status: int, code: str, message: str = "", **headers: str) -> Answer:
    """Return S3's way to say no; `Retry_After="2"` becomes the header Retry-After."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    )
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body.encode(), {"Content-Type": "application/xml"} | named)


def cut(conn: socket.socket, *, reset: bool) -> None:
    if reset:
        # A linger time of zero makes close() send RST.
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        if isinstance(conn, ssl.SSLSocket):
            _end_tls(conn)
        shut(conn)
    conn.close()


def _end_tls(conn: ssl.SSLSocket) -> None:
    conn.setblocking(False)
    try:
        conn.unwrap()
    except OSError:
        pass  # it is said, and the client's own end is not waited for


def shut(conn: socket.socket) -> None:
    try:
        conn.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is over already
