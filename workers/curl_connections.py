"""Runs HTTP exchanges side by side over connections that stay open."""

import os
import select
import time
from collections.abc import Callable
from typing import Any, Final

import pycurl

from flood.syscalls import discard, unsent
from workers.answer_limits import TIMEOUTS
from workers.curl_errors import failure
from workers.curl_exchange import Exchange
from workers.curl_handle import KINDS, Addresses, Handle
from workers.failures import TransportFailed, Unanswered
from workers.transfer import Interrupted

# So many transfers at first; twice as many each time that the network keeps all of them waiting
# for longer than _IDLE seconds.
_FIRST: Final = 4
_IDLE: Final = 0.001

# How often the caller is asked whether it still waits.
_TICK: Final = 0.1

# How often transfers are looked at that may have come to a standstill, in seconds at most.
_LOOK: Final = 1.0

_READABLE: Final = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
_INTEREST: Final = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}


class Connections:
    """One libcurl multi handle; only the thread that made it uses it.

    `configure` sets on each new easy handle what all requests have in common. At most `most`
    exchanges run at once, each on a connection of its own; those of earlier exchanges are used
    again. A connection that is not there after `connect_timeout` seconds ends its exchange; so does
    a body of which no byte is taken for as long, an answer of which none comes for `read_timeout`,
    or that is not whole after TIMEOUTS times that, or after its own patience. A request that went
    out on a connection that was used before, which then ended without a byte of an answer, is sent
    once more, on a new one (RFC 9112, section 9.3.1).
    Making it raises OSError or MemoryError where this machine has no descriptor or memory left.
    """

    def __init__(
        self,
        configure: Callable[[Any], None],
        most: int,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        self.most = most
        self.wanted = min(_FIRST, most)
        self._configure = configure
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._look = min(_LOOK, connect_timeout / 4, read_timeout / 4)
        self._looked = 0.0
        self._free: dict[str, list[Handle]] = {kind: [] for kind in KINDS}
        self._running: dict[Any, Handle] = {}
        self._cut: set[Addresses] = set()
        self._users: dict[Addresses, Handle] = {}
        self._due: float | None = None
        self._sockets: set[int] = set()
        self._epoll = select.epoll()
        try:
            self._multi: Any = pycurl.CurlMulti()
        except pycurl.error as error:
            scarcity = _lacking(str(error))
            self._epoll.close()
            raise scarcity from error
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
        kind = _kind(exchange)
        free = self._free[kind]
        handle = free.pop() if free else self._new(kind)
        handle.begin(exchange)
        self._running[handle.easy] = handle
        self._multi.add_handle(handle.easy)

    def ask(self, exchange: Exchange, given_up: Callable[[], bool]) -> Exchange:
        """Run one exchange while no other is running; return it.

        Raises its failure, or Interrupted as soon as `given_up` says so.
        """
        try:
            self.start(exchange)
            while not self.turn(_TICK):
                if given_up():
                    raise Interrupted
        except BaseException:
            self.drop()
            raise
        if exchange.failure is not None:
            raise exchange.failure
        return exchange

    def sent(self) -> int:
        """Return how many bytes of bodies the other ends have taken of the exchanges that are
        running."""
        return sum(map(_taken, self._running))

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
        return [self._give_up(easy) for easy in list(self._running)]

    def close(self) -> None:
        """Close all connections."""
        self.drop()
        for handles in self._free.values():
            for handle in handles:
                handle.easy.close()
            handles.clear()
        self._multi.close()
        self._epoll.close()

    def _new(self, kind: str) -> Handle:
        handle = Handle(kind, self._configure, self._cut, self._users)
        patience = max(1, round(1000 * self._connect_timeout))
        handle.easy.setopt(pycurl.CONNECTTIMEOUT_MS, patience)
        return handle

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
            for easy in whole:
                status = easy.getinfo(pycurl.RESPONSE_CODE)
                handle = self._running[easy]
                if not handle.is_answered():
                    self._cut.add(handle.addresses)
                    handle.exchange.failure = TransportFailed(
                        "connection_reset",
                        handle.exchange.host,
                        "the connection ended within an answer",
                    )
                exchange = self._release(easy)
                exchange.status = status
                ended.append(exchange)
            for easy, code, words in broken:
                handle = self._running[easy]
                if handle.on_cut:
                    self._begin_again(handle)
                    continue
                scarce, exchange = handle.scarce, handle.exchange
                if handle.is_unanswered(code):
                    if not exchange.twice:
                        exchange.twice = True
                        self._begin_again(handle)
                        continue
                    exchange.failure = Unanswered(exchange.host)
                if exchange.failure is None:
                    exchange.failure = scarce or failure(easy, code, words, exchange)
                ended.append(self._release(easy))
        return ended

    def _begin_again(self, handle: Handle) -> None:
        """Run an exchange on another connection; libcurl has closed the one that is over."""
        self._cut.discard(handle.addresses)
        self._multi.remove_handle(handle.easy)
        handle.begin_again()
        self._multi.add_handle(handle.easy)

    def _release(self, easy: Any) -> Exchange:
        handle = self._running.pop(easy)
        self._multi.remove_handle(easy)
        self._free[handle.kind].append(handle)
        return handle.end()

    def _give_up(self, easy: Any) -> Exchange:
        # A body that arrived after all could take the place of what is uploaded later.
        discard(easy.getinfo(pycurl.ACTIVESOCKET))
        return self._release(easy)

    def _end_standstills(self) -> list[Exchange]:
        self._looked = now = time.monotonic()
        ended = []
        for easy, handle in list(self._running.items()):
            # Until the request begins, libcurl's own time-out for connecting holds.
            if not easy.getinfo(pycurl.PRETRANSFER_TIME):
                continue
            why_not = self._standstill(easy, handle, now)
            if why_not is not None:
                handle.exchange.failure = why_not
                ended.append(self._give_up(easy))
        return ended

    def _standstill(self, easy: Any, handle: Handle, now: float) -> TransportFailed | None:
        """Why nobody waits for this exchange any longer."""
        exchange = handle.exchange
        sent = easy.getinfo(pycurl.SIZE_UPLOAD_T)
        answered = sum(map(easy.getinfo, (pycurl.HEADER_SIZE, pycurl.SIZE_DOWNLOAD_T)))
        # A store that says something while it takes nothing of the body has come to a standstill.
        sending = sent < exchange.size
        moved = sent if sending else sent + answered
        # What was handed to the kernel, megabytes perhaps, is yet to go over a slow line.
        left = unsent(easy.getinfo(pycurl.ACTIVESOCKET)) if exchange.size else 0
        goes_out = left < handle.left
        if moved != handle.moved or goes_out:
            handle.since = now
        handle.moved, handle.left = moved, left
        if sending:
            if now - handle.since < self._connect_timeout:
                return None
            words = f"no byte was sent for {self._connect_timeout:g} s"
            return TransportFailed("send_timeout", exchange.host, words)
        if goes_out or not handle.asked:
            handle.asked = now
        whole = max(TIMEOUTS * self._read_timeout, exchange.patience)
        if now - handle.since >= self._read_timeout:
            words = f"no line, or byte after the headers, came for {self._read_timeout:g} s"
        elif now - handle.asked >= whole:
            words = f"the answer was not whole after {whole:g} s"
        else:
            return None
        return TransportFailed("read_timeout", exchange.host, words)


def _kind(exchange: Exchange) -> str:
    """Which kind of easy handle it takes."""
    if exchange.method != "PUT":
        return exchange.method.lower()
    return "memory" if isinstance(exchange.body, bytes) else "stream"


def _taken(easy: Any) -> int:
    sent = int(easy.getinfo(pycurl.SIZE_UPLOAD_T))
    return max(0, sent - unsent(easy.getinfo(pycurl.ACTIVESOCKET)))


def _lacking(words: str) -> OSError | MemoryError:
    """What this machine lacks where libcurl's `words` are no more than that it failed: it takes two
    descriptors, as a pipe does."""
    try:
        ends = os.pipe()
    except OSError as error:
        return error
    for end in ends:
        os.close(end)
    return MemoryError(words)
