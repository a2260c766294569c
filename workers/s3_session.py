"""Sends boto3's requests over connections whose answers have an end."""

import base64
import io
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse, RemoteDisconnected, parse_headers
from typing import Any, Final

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.exceptions import HTTPClientError
from botocore.httpsession import ProxyConfiguration, URLLib3Session

from workers.answer_limits import COMPLETION, LONGEST, TIMEOUTS
from workers.failures import TransportFailed, Unanswered, endless
from workers.proxies import Proxy

# 101 would end the talk in HTTP, which nobody has asked for.
_INTERIM: Final = range(102, 200)

# What a connection that is over raises on the way to its first byte.
_ENDED: Final = (RemoteDisconnected, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class _Answer(io.RawIOBase):
    """What arrives at a socket, up to a number of bytes or a time of the monotonic clock. While
    `in_headers` is true the connection must not end."""

    def __init__(self, stream: Any, host: str, patience: float) -> None:
        self._stream = stream
        self._host = host
        self._patience = patience
        self.in_headers = True
        self._until = time.monotonic() + patience
        self._left = LONGEST

    @property
    def heard(self) -> bool:
        """Whether a byte has come."""
        return self._left < LONGEST

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        if time.monotonic() >= self._until:
            words = f"the answer was not whole after {self._patience:g} s"
            raise TransportFailed("read_timeout", self._host, words)
        count = self._stream.readinto(buffer)
        if not count and self.in_headers:
            raise RemoteDisconnected("the connection ended within an answer")
        self._left -= count or 0
        if self._left < 0:
            raise endless(self._host)
        return count

    def close(self) -> None:
        if not self.closed:
            self._stream.close()  # the socket counts who still reads from it
        super().close()


class _Socket:
    """A socket that is read with a limit."""

    def __init__(self, plain: Any, host: str, patience: float) -> None:
        self.answers: list[_Answer] = []
        self._plain = plain
        self._host = host
        self._patience = patience

    def makefile(self, mode: str, buffering: int | None = None) -> Any:
        answer = _Answer(self._plain.makefile(mode, 0), self._host, self._patience)
        self.answers.append(answer)
        # Unbuffered is how botocore looks for 100 Continue.
        return answer if buffering == 0 else io.BufferedReader(answer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


class _Final(HTTPResponse):
    """An answer that comes after any interim ones (RFC 9110, section 15.2): http.client itself
    takes all but 100 Continue for the last."""

    def _read_status(self) -> tuple[str, int, str]:
        found = super()._read_status()  # type: ignore[misc]  # typeshed leaves it out
        while found[1] in _INTERIM:
            parse_headers(self.fp)
            found = super()._read_status()  # type: ignore[misc]  # as above
        return found  # type: ignore[no-any-return]  # as above


class _Bounded:
    """Mixed into a connection: no answer has more than LONGEST bytes, takes longer than TIMEOUTS
    times the time-out that is in force, or lacks the end of its headers. One that was used before,
    and ends without a byte of an answer, raises Unanswered.

    http.client bounds neither its body nor how slowly its headers come, as each byte is in time;
    where the connection ends within them it takes what has come for all. botocore, which looks for
    100 Continue, would wait for their end for ever then.
    """

    response_class = _Final
    sock: Any
    timeout: Any
    host: str
    port: int
    _completes = False
    _used = False
    _heard = False

    def connect(self) -> None:
        self._used = False
        super().connect()  # type: ignore[misc]  # the connection's

    def request(self, method: str, url: str, *rest: Any, **options: Any) -> Any:
        self._completes = method == "POST" and "uploadId=" in url
        self._heard = False
        # urllib3 looks for an early answer where a connection is reset while it is written to.
        with self._awaited(_ENDED):
            return super().request(method, url, *rest, **options)  # type: ignore[misc]  # as above

    def getresponse(self) -> Any:
        with self._awaited((ConnectionError, *_ENDED)), self._limited() as limited:
            response = super().getresponse()  # type: ignore[misc]  # the connection's
            for answer in limited.answers:
                answer.in_headers = False  # the end of the connection may be that of a body
            self._used = True
            return response

    def _handle_expect_response(self, body: Any) -> None:
        with self._limited():
            super()._handle_expect_response(body)  # type: ignore[misc]  # the connection's

    @contextmanager
    def _awaited(self, ended: tuple[type[BaseException], ...]) -> Iterator[None]:
        used = self._used
        try:
            yield
        except ended as error:
            if not used or self._heard:
                raise
            raise Unanswered(f"{self.host}:{self.port}") from error

    @contextmanager
    def _limited(self) -> Iterator[_Socket]:
        plain = self.sock
        patience = TIMEOUTS * float(self.timeout)
        if self._completes:
            patience = max(patience, COMPLETION)
        limited = _Socket(plain, f"{self.host}:{self.port}", patience)
        self.sock = limited
        try:
            yield limited
        finally:
            self._heard = self._heard or any(answer.heard for answer in limited.answers)
            if self.sock is limited:  # else it was closed
                self.sock = plain


class _Connection(_Bounded, AWSHTTPConnection):  # type: ignore[misc]  # botocore has no types
    pass


class _SecureConnection(_Bounded, AWSHTTPSConnection):  # type: ignore[misc]  # as above
    pass


class _Wary:
    """Mixed into a pool: after Unanswered the same thread's next request, which is that one again,
    goes over a new connection. As the store closed one, it may have closed them all."""

    def __init__(self, *rest: Any, **options: Any) -> None:
        super().__init__(*rest, **options)
        self._wary = threading.local()

    def urlopen(self, *rest: Any, **options: Any) -> Any:
        # Of a 303 urllib3 would make a GET, and stumble over botocore's headers.
        options["redirect"] = False
        try:
            return super().urlopen(*rest, **options)  # type: ignore[misc]  # the pool's
        except Unanswered:
            self._wary.once = True
            raise

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]  # the pool's
        if getattr(self._wary, "once", False):
            self._wary.once = False
            connection.close()  # it opens anew
        return connection


class _Pool(_Wary, AWSHTTPConnectionPool):  # type: ignore[misc]  # as above
    ConnectionCls = _Connection


class _SecurePool(_Wary, AWSHTTPSConnectionPool):  # type: ignore[misc]  # as above
    ConnectionCls = _SecureConnection


class _Proxies(ProxyConfiguration):  # type: ignore[misc]  # as above
    """One proxy for everything, or none."""

    def __init__(self, proxy: Proxy | None) -> None:
        super().__init__(dict.fromkeys(("http", "https"), proxy.address) if proxy else None)
        self._headers = _authorization(proxy) if proxy else {}

    def proxy_headers_for(self, _proxy_url: str) -> dict[str, str]:
        return self._headers


def _authorization(proxy: Proxy) -> dict[str, str]:
    # As libcurl has it, a user alone has an empty password.
    if not proxy.user + proxy.password:
        return {}
    basic = base64.b64encode(b"%b:%b" % (proxy.user, proxy.password)).decode()
    return {"Proxy-Authorization": f"Basic {basic}"}


class Session(URLLib3Session):  # type: ignore[misc]  # as above
    """botocore's own, of which `send` raises TransportFailed where an answer has no end; `verify`
    may be a directory of certificates, too."""

    def __init__(self, *, proxy: Proxy | None, **options: Any) -> None:
        super().__init__(**options)
        self._proxy_config = _Proxies(proxy)

    def _setup_ssl_cert(self, conn: Any, _url: str, verify: Any) -> None:
        # botocore goes by the store's address, but to a proxy one may speak TLS on the way to a
        # store that has none. A pool is every thread's: nothing in it may be another for a moment.
        if conn.scheme == "https":
            directory = os.path.isdir(verify)
            conn.ca_certs, conn.ca_cert_dir = (None, verify) if directory else (verify, None)
            conn.cert_reqs = "CERT_REQUIRED"

    def _get_connection_manager(self, url: str, proxy_url: str | None = None) -> Any:
        manager = super()._get_connection_manager(url, proxy_url)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager


def sender(session: Session) -> Callable[..., Any]:
    """Return what botocore asks before it sends a request: the answer is its answer."""

    def send(request: Any, **_: object) -> Any:
        return session.send(request)

    return send


def send_again(attempts: int, caught_exception: object, **_: object) -> float | None:
    """Tell botocore to send a request once more, at once, that Unanswered has failed; None is for
    others to say."""
    lost = isinstance(caught_exception, HTTPClientError) and isinstance(
        caught_exception.kwargs.get("error"), Unanswered
    )
    return 0.0 if lost and attempts == 1 else None
