"""A store that misbehaves on purpose: an HTTP proxy with a script of faults.

    with FaultProxy(server.address) as proxy:
        proxy.inject(s3_error(503, "SlowDown"), method="PUT", times=2)
        proxy.inject(Cut("stored"), method="PUT", path=r"/bucket/key$")
        ...                                # uploads to proxy.url
        assert proxy.count("PUT") == 4
        proxy.down()                       # now connections are refused
        proxy.up()                         # on the same port

Without an upstream every request that no fault answers gets a bare 200. Requests are matched with
the injected faults in the order of injection; each is used `times` times (None: always), after it
let the first `skip` matching requests pass.
"""

import http.client
import itertools
import re
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from tests.faults import BLOCK, LONGEST_STALL, Exchange, Fault, Gone, Pass, Request, cut, shut


@dataclass
class _Injected:
    fault: Fault
    method: str | None
    path: re.Pattern[str]
    times: int | None
    skip: int

    def takes(self, request: Request) -> bool:
        if self.method not in (None, request.method) or not self.path.search(request.target):
            return False
        if self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FaultProxy:
    """Listens on a free port of loopback; every public method may be called from any thread.

    `address` is the store behind it. `tls` makes it speak https. `greeting` is what happens to
    each new connection: "cut" and "reset" end it at once, "cut-hello" and "reset-hello" after they
    read the client's first bytes, "stall" says nothing. `farewell` is how a connection ends that no
    answer has announced the end of: "close" after each answer, "reset" 10 ms after that, "third"
    after each third answer, "idle" as soon as it has been idle for 50 ms.
    """

    def __init__(
        self,
        address: tuple[str, int] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self.address = address
        self.greeting: Literal["", "cut", "reset", "cut-hello", "reset-hello", "stall"] = ""
        self.farewell: Literal["", "close", "reset", "third", "idle"] = ""
        self.closing = threading.Event()
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._tls = tls
        self._receive_buffer = receive_buffer
        self._injected: list[_Injected] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._serving: dict[threading.Thread, socket.socket] = {}

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def inject(
        self,
        fault: Fault,
        method: str | None = None,
        path: str = "",
        *,
        times: int | None = 1,
        skip: int = 0,
    ) -> None:
        """Have a fault happen; `path` is a regular expression for the raw path with its query."""
        with self._lock:
            self._injected.append(_Injected(fault, method, re.compile(path), times, skip))

    def heal(self) -> None:
        """Forget all faults that were injected."""
        with self._lock:
            self._injected.clear()
        self.greeting = ""

    def count(self, method: str | None = None, path: str = "") -> int:
        """Return how many such requests have arrived."""
        with self._lock:
            seen = list(self.requests)
        return sum(
            method in (None, each.method) and re.search(path, each.target) is not None
            for each in seen
        )

    def up(self) -> None:
        """Listen, on the same port as before."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self.closing.clear()
        self._listener = listener
        self._accepting = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._accepting.start()

    def down(self) -> None:
        """Refuse connections, and cut those that exist."""
        self.closing.set()
        if self._listener is not None:
            # shutdown wakes accept(), which close alone does not.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        if self._accepting is not None:
            self._accepting.join()
            self._accepting = None
        with self._lock:
            serving = dict(self._serving)
        for conn in serving.values():
            shut(conn)
        for thread in serving:
            thread.join()

    def __enter__(self) -> "FaultProxy":
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()

    def _accept(self, listener: socket.socket) -> None:
        while not self.closing.is_set():
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(conn,), daemon=True)
            with self._lock:
                self.connections += 1
                self._serving[thread] = conn
            thread.start()

    def _serve(self, conn: socket.socket) -> None:
        upstream: list[socket.socket] = []
        try:
            self._greet(conn)
            if self._tls is not None:
                conn = self._tls.wrap_socket(conn, server_side=True)
                with self._lock:
                    self._serving[threading.current_thread()] = conn
            with conn:
                self._converse(conn, upstream)
        except (OSError, Gone, http.client.HTTPException):
            pass  # the client, the store or the script ended it
        finally:
            conn.close()
            for each in upstream:
                each.close()
            with self._lock:
                del self._serving[threading.current_thread()]

    def _greet(self, conn: socket.socket) -> None:
        greeting = self.greeting
        if not greeting:
            return
        if greeting == "stall":
            self.closing.wait(LONGEST_STALL)
        elif greeting.endswith("-hello"):
            select.select([conn], [], [], LONGEST_STALL)
            conn.recv(BLOCK)
        cut(conn, reset=greeting.startswith("reset"))
        raise Gone

    def _converse(self, conn: socket.socket, upstream: list[socket.socket]) -> None:
        rest = b""
        for number in itertools.count(1):
            if self.closing.is_set():
                return
            while b"\r\n\r\n" not in rest:
                data = conn.recv(BLOCK)
                if not data:
                    return
                rest += data
            head, _, rest = rest.partition(b"\r\n\r\n")
            request = _parse(head)
            full = head + b"\r\n\r\n"
            exchange = Exchange(self.address, self.closing, conn, request, full, rest, upstream)
            self._choose(request).play(exchange)
            rest = exchange.rest
            if self._takes_leave(conn, number):
                return

    def _takes_leave(self, conn: socket.socket, answers: int) -> bool:
        if self.farewell == "reset":
            self.closing.wait(0.01)
            cut(conn, reset=True)
        if self.farewell == "idle":
            return not select.select([conn], [], [], 0.05)[0]
        return self.farewell == "close" or (self.farewell == "third" and not answers % 3)

    def _choose(self, request: Request) -> Fault:
        with self._lock:
            self.requests.append(request)
            return next((one.fault for one in self._injected if one.takes(request)), Pass())


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Request(method, target, headers, time.monotonic())
