"""Runs HTTP exchanges side by side over connections that stay open."""

import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pycurl

from workers.classify_rule import SCARCE_ERRNOS
from workers.curl_errors import failure
from workers.curl_exchange import Exchange
from workers.curl_payload import Stream
from workers.failures import TransportFailed

# So many transfers at first; twice as many each time that the network keeps all of them waiting
# for longer than _IDLE seconds.
_FIRST: Final = 4
_IDLE: Final = 0.001

# How often transfers are looked at that may have come to a standstill, in seconds at most.
_LOOK: Final = 1.0

_KINDS: Final = ("memory", "stream", "head", "get")

_READABLE: Final = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
_INTEREST: Final = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}


@dataclass
class _Running:
    exchange: Exchange
    kind: str
    moved: int
    since: float
    #: Why there was no socket for it.
    scarce: OSError | None = None
    requests: int = 0


class Connections:
    """One libcurl multi handle; only the thread that made it uses it.

    `configure` sets on each new easy handle what all requests have in common. At most `most`
    exchanges run at once, each on a connection of its own; those of earlier exchanges are used
    again. A body of which no byte is taken for `send_timeout` seconds, and an answer of which
    none comes for `read_timeout`, end their exchange. Making it raises OSError or MemoryError where
    this machine has no descriptor or memory left.
    """

    def __init__(
        self,
        configure: Callable[[Any], None],
        most: int,
        send_timeout: float,
        read_timeout: float,
    ) -> None:
        self.most = most
        self.wanted = min(_FIRST, most)
        self._configure = configure
        self._send_timeout = send_timeout
        self._read_timeout = read_timeout
        self._look = min(_LOOK, send_timeout / 4, read_timeout / 4)
        self._looked = 0.0
        self._free: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
        self._running: dict[Any, _Running] = {}
        self._due: float | None = None
        self._sockets: set[int] = set()
        self._epoll = select.epoll()
        try:
            self._multi: Any = pycurl.CurlMulti()
        except pycurl.error as error:
            self._epoll.close()
            raise MemoryError(str(error)) from error
        self._multi.setopt(pycurl.M_PIPELINING, 0)
        self._multi.setopt(pycurl.M_MAXCONNECTS, most)
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, most)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._heed)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    def __len__(self) -> int:
        """Return how many exchanges are running."""
        return len(self._running)

    def start(self, exchange: Exchange) -> None:
        """Send a request."""
        body = exchange.body
        kind = _kind(exchange)
        handle = self._free[kind].pop() if self._free[kind] else self._make(kind)
        handle.setopt(pycurl.URL, exchange.url)
        handle.setopt(pycurl.PROXY, exchange.proxy)
        handle.setopt(pycurl.AWS_SIGV4, f"aws:amz:{exchange.region}:s3")
        handle.setopt(pycurl.HTTPHEADER, exchange.headers)
        handle.setopt(pycurl.HEADERFUNCTION, exchange.head.write)
        handle.setopt(pycurl.WRITEFUNCTION, exchange.take_content)
        if isinstance(body, bytes):
            handle.setopt(pycurl.POSTFIELDS, body)
        elif body is not None:
            reader = _Reader(body, exchange)
            handle.setopt(pycurl.INFILESIZE_LARGE, exchange.size)
            handle.setopt(pycurl.READFUNCTION, reader.read)
            handle.setopt(pycurl.SEEKFUNCTION, reader.seek)
        self._running[handle] = _Running(exchange, kind, -1, time.monotonic())
        self._multi.add_handle(handle)

    def sent(self) -> int:
        """Return how many bytes of bodies were sent by the exchanges that are running."""
        return sum(handle.getinfo(pycurl.SIZE_UPLOAD_T) for handle in self._running)

    def turn(self, seconds: float) -> list[Exchange]:
        """Wait at most so long for the network, then act; return what has ended."""
        ready = self._poll(min(seconds, _IDLE))
        if not ready and seconds > _IDLE and not self._is_due():
            if self.wanted < self.most and len(self._running) >= self.wanted:
                self.wanted = min(self.most, 2 * self.wanted)
                return []  # so that more can be started before the long wait
            ready = self._poll(seconds)
        for descriptor, events in ready:
            mask = pycurl.CSELECT_IN if events & _READABLE else 0
            mask |= pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0
            self._multi.socket_action(descriptor, mask)
        if self._is_due():
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        ended = self._collect()
        if time.monotonic() - self._looked >= self._look:
            ended += self._end_standstills()
        return ended

    def drop(self) -> list[Exchange]:
        """End all exchanges at once; their connections are closed."""
        return [self._release(handle).exchange for handle in list(self._running)]

    def close(self) -> None:
        """Close all connections."""
        self.drop()
        for handles in self._free.values():
            for handle in handles:
                handle.close()
            handles.clear()
        self._multi.close()
        self._epoll.close()

    def _make(self, kind: str) -> Any:
        handle = pycurl.Curl()
        self._configure(handle)
        handle.setopt(pycurl.OPENSOCKETFUNCTION, partial(self._open_socket, handle))
        handle.setopt(pycurl.PREREQFUNCTION, partial(self._begin_request, handle))
        if kind == "head":
            handle.setopt(pycurl.NOBODY, 1)
        elif kind == "get":
            handle.setopt(pycurl.HTTPGET, 1)
        elif kind == "stream":
            handle.setopt(pycurl.UPLOAD, 1)
        else:
            # libcurl reads a POST's body where it lies, without a callback.
            handle.setopt(pycurl.POST, 1)
            handle.setopt(pycurl.CUSTOMREQUEST, "PUT")
        return handle

    def _open_socket(self, handle: Any, _purpose: int, address: Any) -> Any:
        """Open a socket; libcurl itself does not tell why it could not."""
        family, kind, protocol, _ = address
        try:
            opened = socket.socket(family, kind, protocol)
            os.close(os.dup(opened.fileno()))  # pycurl takes a second one
        except OSError as error:
            if error.errno in SCARCE_ERRNOS:
                self._running[handle].scarce = error
            return pycurl.SOCKET_BAD
        return _Lent(opened)

    def _begin_request(self, handle: Any, *_addresses: object) -> int:
        """Keep libcurl from sending a body twice: it does so unasked where a connection that was
        used before ends without an answer, though the store may have all of it. That is one failed
        attempt, and when the next one comes is flood's to say. What a store closed while it was
        idle, for a second at least, is no such case: libcurl finds that out before it uses it."""
        running = self._running[handle]
        running.requests += 1
        answered = running.exchange.head.tell()  # as with 417 to an Expect: 100-continue
        if running.requests == 1 or answered or running.exchange.body is None:
            return int(pycurl.PREREQFUNC_OK)
        running.exchange.failure = TransportFailed(
            "connection_reset", running.exchange.host, "the connection ended without an answer"
        )
        return int(pycurl.PREREQFUNC_ABORT)

    def _poll(self, seconds: float) -> list[tuple[int, int]]:
        if self._due is not None:
            seconds = min(seconds, max(0.0, self._due - time.monotonic()))
        return self._epoll.poll(seconds)

    def _is_due(self) -> bool:
        # libcurl's own clock, whatever clock the caller has.
        return self._due is not None and self._due <= time.monotonic()

    def _set_timer(self, milliseconds: int) -> None:
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _heed(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            self._sockets.discard(descriptor)
            try:
                self._epoll.unregister(descriptor)
            except (OSError, ValueError):
                pass  # it was closed first
        elif descriptor in self._sockets:
            self._epoll.modify(descriptor, _INTEREST[what])
        else:
            self._sockets.add(descriptor)
            self._epoll.register(descriptor, _INTEREST[what])

    def _collect(self) -> list[Exchange]:
        ended = []
        more = True
        while more:
            more, whole, broken = self._multi.info_read()
            for handle in whole:
                exchange = self._running[handle].exchange
                exchange.status = handle.getinfo(pycurl.RESPONSE_CODE)
                ended.append(exchange)
                self._release(handle)
            for handle, code, words in broken:
                running = self._running[handle]
                exchange = running.exchange
                if exchange.failure is None:
                    exchange.failure = running.scarce or failure(
                        handle, code, words, exchange.host, exchange.proxy
                    )
                ended.append(exchange)
                self._release(handle)
        return ended

    def _release(self, handle: Any) -> _Running:
        running = self._running.pop(handle)
        self._multi.remove_handle(handle)
        # An idle handle keeps no body alive.
        running.exchange.body = None
        if running.kind == "memory":
            handle.setopt(pycurl.POSTFIELDS, b"")
        elif running.kind == "stream":
            handle.setopt(pycurl.READFUNCTION, _nothing)
            handle.setopt(pycurl.SEEKFUNCTION, None)
        self._free[running.kind].append(handle)
        return running

    def _end_standstills(self) -> list[Exchange]:
        self._looked = now = time.monotonic()
        ended = []
        for handle, running in list(self._running.items()):
            sent = handle.getinfo(pycurl.SIZE_UPLOAD_T)
            moved = sum(map(handle.getinfo, (pycurl.HEADER_SIZE, pycurl.SIZE_DOWNLOAD_T)), sent)
            # Until the request begins, libcurl's own time-out for connecting holds.
            if moved != running.moved or not handle.getinfo(pycurl.PRETRANSFER_TIME):
                running.moved, running.since = moved, now
                continue
            exchange = running.exchange
            sending = sent < exchange.size
            limit = self._send_timeout if sending else self._read_timeout
            if now - running.since >= limit:
                what = "sent" if sending else "received"
                exchange.failure = TransportFailed(
                    "send_timeout" if sending else "read_timeout",
                    exchange.host,
                    f"no byte was {what} for {limit:g} s",
                )
                self._release(handle)
                ended.append(exchange)
        return ended


class _Lent:
    """A socket of which pycurl takes a duplicate, then lets go without a close."""

    def __init__(self, opened: socket.socket) -> None:
        self._opened = opened

    def fileno(self) -> int:
        return self._opened.fileno()

    def __del__(self) -> None:
        self._opened.close()


def _kind(exchange: Exchange) -> str:
    """Which kind of easy handle it takes."""
    if exchange.body is None:
        return "get" if exchange.asks else "head"
    return "memory" if isinstance(exchange.body, bytes) else "stream"


def _nothing(_count: int) -> bytes:
    return b""


class _Reader:
    """Hands a body over to libcurl, whose callbacks must not raise."""

    def __init__(self, body: Stream, exchange: Exchange) -> None:
        self._body = body
        self._exchange = exchange

    def read(self, count: int) -> bytes | int:
        try:
            return self._body.read(count)
        except BaseException as error:  # noqa: BLE001  the exchange ends with it
            self._exchange.failure = error
            return int(pycurl.READFUNC_ABORT)

    def seek(self, offset: int, whence: int) -> int:
        self._body.seek(offset, whence)
        return int(pycurl.SEEKFUNC_OK)
