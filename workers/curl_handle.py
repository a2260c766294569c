"""One easy handle of libcurl with the exchange that it runs."""

import os
import socket
from collections.abc import Callable, Container
from typing import Any, Final

import pycurl

from workers.answer_limits import LONGEST
from workers.classify_rule import SCARCE_ERRNOS
from workers.curl_exchange import Exchange
from workers.curl_payload import Stream
from workers.failures import endless
from workers.proxies import Proxy

#: What a handle is made for; each kind is used again for its own.
KINDS: Final = ("memory", "stream", "head", "get", "post", "delete")

#: The IP addresses of both ends of a connection, the other one's first, then their ports.
Addresses = tuple[object, ...]

# What libcurl says where a connection ends without a byte of an answer.
_ENDED: Final = frozenset({pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR, pycurl.E_GOT_NOTHING})

# How many bytes are handed to libcurl at once of a body up to so many; of larger ones the last
# number. Each handle keeps a buffer of that size: with a line that has latency there are hundreds.
_BLOCKS: Final = ((64 * 1024, 16 * 1024), (4 * 1024**2, 64 * 1024))
_LARGEST_BLOCK: Final = 256 * 1024

# What ends the headers.
_END: Final = (b"\r\n", b"\n")


class Handle:
    """An easy handle, which runs one exchange after another, all of one kind.

    What an exchange has in common with the last one libcurl is not told again. `moved` bytes were
    seen of what it runs, or fewer `left` in the kernel than before, at `since`; the whole request
    had been handed over, or was last seen to go out, at `asked`, 0.0 if not yet. The request goes
    over the connection between `addresses`. Those in `cut` are over, though libcurl would use them:
    a request that is given one is `on_cut`, and nothing of it is sent. `users` are the handles
    whose exchanges have not been given back, each by its connection.
    """

    exchange: Exchange

    def __init__(
        self,
        kind: str,
        configure: Callable[[Any], None],
        cut: Container[Addresses],
        users: dict[Addresses, "Handle"],
    ) -> None:
        self.kind = kind
        self.easy: Any = pycurl.Curl()
        self.moved = -1
        self.left = 0
        self.since = self.asked = 0.0
        #: Why there was no socket for it.
        self.scarce: OSError | None = None
        self.on_cut = False
        self.addresses: Addresses = ()
        self._cut = cut
        self._users = users
        self._requests = 0
        self._repeated = False
        self._taken = 0
        self._block = 0
        self._head: list[bytes] = []
        self._content = bytearray()
        self._proxy: Proxy | None = None
        self._region: str | None = None
        self._headers: list[str] = []
        configure(self.easy)
        self.easy.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        self.easy.setopt(pycurl.PREREQFUNCTION, self._begin_request)
        self.easy.setopt(pycurl.HEADERFUNCTION, self._head.append)
        self.easy.setopt(pycurl.WRITEFUNCTION, self._take_content)
        if kind == "head":
            self.easy.setopt(pycurl.NOBODY, 1)
        elif kind == "get":
            self.easy.setopt(pycurl.HTTPGET, 1)
        elif kind == "delete":
            self.easy.setopt(pycurl.CUSTOMREQUEST, "DELETE")
        elif kind == "stream":
            self.easy.setopt(pycurl.UPLOAD, 1)
        else:
            # libcurl reads a POST's body where it lies, without a callback.
            self.easy.setopt(pycurl.POST, 1)
            if kind == "memory":
                self.easy.setopt(pycurl.CUSTOMREQUEST, "PUT")

    def begin(self, exchange: Exchange) -> None:
        """Tell libcurl what the exchange sends."""
        easy, body = self.easy, exchange.body
        self.exchange = exchange
        self.moved = -1
        self.left = 0
        self.asked = 0.0
        easy.setopt(pycurl.URL, exchange.url)
        if exchange.proxy != self._proxy:
            self._go_through(exchange.proxy)
        if exchange.region != self._region:
            easy.setopt(pycurl.AWS_SIGV4, f"aws:amz:{exchange.region}:s3")
            self._region = exchange.region
        block = _block(exchange.size)
        if block != self._block:
            easy.setopt(pycurl.UPLOAD_BUFFERSIZE, block)
            self._block = block
        if exchange.headers != self._headers:
            easy.setopt(pycurl.HTTPHEADER, exchange.headers)
            self._headers = exchange.headers
        if isinstance(body, bytes):
            easy.setopt(pycurl.POSTFIELDS, body)
        elif body is not None:
            reader = _Reader(body, exchange)
            easy.setopt(pycurl.INFILESIZE_LARGE, exchange.size)
            easy.setopt(pycurl.READFUNCTION, reader.read)
            easy.setopt(pycurl.SEEKFUNCTION, reader.seek)

    def _go_through(self, proxy: Proxy | None) -> None:
        self._proxy = proxy
        if proxy is None:
            self.easy.setopt(pycurl.PROXY, "")
            return
        self.easy.setopt(pycurl.PROXY, proxy.address)
        self.easy.setopt(pycurl.PROXYUSERNAME, proxy.user)
        self.easy.setopt(pycurl.PROXYPASSWORD, proxy.password)

    def begin_again(self) -> None:
        """Tell libcurl of the same exchange as if it had not begun. What was sent goes over a new
        connection now: as the store closed one, it may have closed them all."""
        body = self.exchange.body
        self.easy.setopt(pycurl.FRESH_CONNECT, int(self.exchange.twice))
        if body is not None and not isinstance(body, bytes):
            body.rewind()
        self._clear()
        self.begin(self.exchange)

    def is_unanswered(self, code: int) -> bool:
        """Whether libcurl's error is that a connection which was used before ended without a byte
        of an answer; less than a line of one libcurl does not tell."""
        if self.exchange.failure is not None or self._head or not self._requests:
            return False
        used = not self.easy.getinfo(pycurl.NUM_CONNECTS)
        return self._repeated or (used and code in _ENDED)

    def is_answered(self) -> bool:
        """Whether the headers of an answer came to their end. Where the connection ends within them
        libcurl takes what has come for all, and would use the connection again."""
        head = self._head
        if head and head[-1] in _END:
            return True
        # Behind them trailers may have come; before them, an interim answer.
        last = max((n for n, line in enumerate(head) if line.startswith(b"HTTP/")), default=0)
        return any(line in _END for line in head[last:])

    def end(self) -> Exchange:
        """Give the exchange back with what there is of an answer."""
        exchange = self.exchange
        del self.exchange
        exchange.head = b"".join(self._head)
        if self._content:
            exchange.content = bytes(self._content)
        self._clear()
        if exchange.twice:
            self.easy.setopt(pycurl.FRESH_CONNECT, 0)
        # An idle handle keeps no body alive.
        exchange.body = None
        if self.kind in ("memory", "post"):
            self.easy.setopt(pycurl.POSTFIELDS, b"")
        elif self.kind == "stream":
            self.easy.setopt(pycurl.READFUNCTION, _nothing)
            self.easy.setopt(pycurl.SEEKFUNCTION, None)
        return exchange

    def _clear(self) -> None:
        self._leave()
        self._head.clear()
        self._content.clear()
        self._requests = self._taken = 0
        self.scarce = None
        self.on_cut = self._repeated = False

    def _open_socket(self, _purpose: int, address: Any) -> Any:
        """Open a socket; libcurl itself does not tell why it could not."""
        if self._is_repeat():
            return pycurl.SOCKET_BAD
        family, kind, protocol, _ = address
        try:
            opened = socket.socket(family, kind, protocol)
            os.close(os.dup(opened.fileno()))  # pycurl takes a second one
        except OSError as error:
            if error.errno in SCARCE_ERRNOS:
                self.scarce = error
            return pycurl.SOCKET_BAD
        return _Lent(opened)

    def _begin_request(self, *addresses: object) -> int:
        """Keep libcurl from sending the request again by itself, or anything over a connection
        that is known to be over."""
        if self._is_repeat():
            return int(pycurl.PREREQFUNC_ABORT)
        self._requests += 1
        # libcurl may hand a connection on before anybody was told how its last exchange ended.
        last = self._users.get(addresses, self)
        self._leave()
        self.addresses = addresses
        self.on_cut = addresses in self._cut or (last is not self and not last.is_answered())
        if self.on_cut:
            return int(pycurl.PREREQFUNC_ABORT)
        self._users[addresses] = self
        return int(pycurl.PREREQFUNC_OK)

    def _is_repeat(self) -> bool:
        """Whether libcurl is about to send the request again, as it does unasked where a connection
        that was used before ends without an answer: up to five times, each on whatever connection
        there is, and nobody could tell."""
        answered = bool(self._head)  # as with 417 to an Expect: 100-continue
        self._repeated = bool(self._requests) and not answered
        return self._repeated

    def _leave(self) -> None:
        if self._users.get(self.addresses) is self:
            del self._users[self.addresses]

    def _take_content(self, data: bytes) -> int:
        """Keep the beginning of the answer's body; an answer without end is refused."""
        self._taken += len(data)
        if self._taken > LONGEST:
            self.exchange.failure = endless(self.exchange.host)
            return -1
        self._content += data[: self.exchange.longest - len(self._content)]
        return len(data)


def _block(size: int) -> int:
    return next((block for longest, block in _BLOCKS if size <= longest), _LARGEST_BLOCK)


class _Lent:
    """A socket of which pycurl takes a duplicate, then lets go without a close."""

    def __init__(self, opened: socket.socket) -> None:
        self._opened = opened

    def fileno(self) -> int:
        return self._opened.fileno()

    def __del__(self) -> None:
        self._opened.close()


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
        if offset or whence != os.SEEK_SET:
            return int(pycurl.SEEKFUNC_FAIL)  # libcurl only ever begins anew
        self._body.rewind()
        return int(pycurl.SEEKFUNC_OK)
