"""Sends boto3's requests over connections whose answers have an end."""

import base64
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse, RemoteDisconnected, parse_headers
from typing import Any, Final

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.exceptions import HTTPClientError
from botocore.httpsession import ProxyConfiguration, URLLib3Session, URLLib3SSLError

from flood.syscalls import discard
from workers.answer_limits import COMPLETION, TIMEOUTS
from workers.authorities import Authorities, as_libcurl, trusting
from workers.failures import TransportFailed, Unanswered
from workers.proxies import Proxy
from workers.s3_outflow import outflow
from workers.s3_socket import Hurried, Limited

# 101 would end the talk in HTTP, which nobody has asked for.
_INTERIM: Final = range(102, 200)

# What a connection that is over raises on the way to its first byte.
_ENDED: Final = (RemoteDisconnected, ssl.SSLEOFError, ssl.SSLZeroReturnError)

# How a proxy fails to answer CONNECT; what it answers else is a plain OSError.
_SPEECHLESS: Final = (HTTPException, ConnectionError, TimeoutError, ssl.SSLError, TransportFailed)


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
    _tunnel_host: str | None
    _tunnel_port: int | None
    _completes = False
    _used = False
    _heard = False
    _unanswered = False

    def connect(self) -> None:
        self._used = False
        super().connect()  # type: ignore[misc]  # the connection's

    def request(self, method: str, url: str, body: Any = None, **options: Any) -> Any:
        self._completes = method == "POST" and "uploadId=" in url
        self._heard = False
        self._unanswered = True
        counting = outflow()
        if counting is not None and body:
            counting.begin(self)
        # urllib3 looks for an early answer where a connection is reset while it is written to.
        with self._awaited(_ENDED):
            return super().request(method, url, body, **options)  # type: ignore[misc]  # as above

    def send(self, data: Any) -> None:
        super().send(data)  # type: ignore[misc]  # as above
        counting = outflow()
        if counting is not None:
            counting.add(self, len(data))

    def getresponse(self) -> Any:
        with self._awaited((ConnectionError, *_ENDED)), self._limited(self._patience()) as limited:
            response = super().getresponse()  # type: ignore[misc]  # the connection's
            for answer in limited.answers:
                answer.in_headers = False  # the end of the connection may be that of a body
            self._used = True
            self._unanswered = False
            return response

    def close(self) -> None:
        if self._unanswered and self.sock is not None:
            # A body that arrived after all could take the place of what is uploaded later.
            discard(self.sock.fileno())
        super().close()  # type: ignore[misc]  # as above

    def _handle_expect_response(self, body: Any) -> None:
        with self._limited(self._patience()):
            super()._handle_expect_response(body)  # type: ignore[misc]  # the connection's

    @contextmanager
    def _awaited(self, ended: tuple[type[BaseException], ...]) -> Iterator[None]:
        # Closed, as it may be once it has failed, the connection does not know any more.
        used, peer, tunnelled = self._used, self._peer(), bool(self._tunnel_host)
        try:
            yield
        except ended as error:
            if used and not self._heard:
                raise Unanswered(peer) from error
            if tunnelled:
                # Of a connection that is closed urllib3 would blame the proxy.
                raise TransportFailed("connection_reset", peer, str(error)) from error
            raise

    def _peer(self) -> str:
        if self._tunnel_host:
            return f"{self._tunnel_host}:{self._tunnel_port}"
        return f"{self.host}:{self.port}"

    def _patience(self) -> float:
        patience = TIMEOUTS * float(self.timeout)
        return max(patience, COMPLETION) if self._completes else patience

    @contextmanager
    def _limited(self, patience: float) -> Iterator[Limited]:
        plain = self.sock
        limited = Limited(plain, self._peer(), patience)
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
    """Also on its way through a proxy: what is not answered in the time-out for connecting is given
    up, CONNECT as the proxy's failure."""

    ca_certs: str | None
    ca_cert_dir: str | None
    proxy_config: Any
    _hurried: Hurried | None = None

    def connect(self) -> None:
        super().connect()
        if self._hurried is not None:
            self._hurried.take_time()

    def _connect_tls_proxy(self, hostname: str, sock: Any) -> Any:
        until = time.monotonic() + float(self.timeout)
        # urllib3 would make a context by its own rules, which are Python's.
        try:
            context = trusting(Authorities(self.ca_certs, self.ca_cert_dir))
        except OSError as error:
            raise URLLib3SSLError(error) from error  # as urllib3 has it
        self.proxy_config = self.proxy_config._replace(ssl_context=context)
        self._hurried = Hurried(super()._connect_tls_proxy(hostname, sock), until)
        return self._hurried

    def _tunnel(self) -> None:
        try:
            with self._limited(float(self.timeout)):
                super()._tunnel()
        except _SPEECHLESS as error:
            words = f"CONNECT was not answered: {error}"
            # A message quotes the innermost words.
            raise TransportFailed("proxy", f"{self.host}:{self.port}", words) from None


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
    is Authorities, which may be a directory of certificates, too."""

    def __init__(self, *, proxy: Proxy | None, **options: Any) -> None:
        super().__init__(**options)
        self._proxy_config = _Proxies(proxy)

    def _get_ssl_context(self) -> ssl.SSLContext:
        return as_libcurl(super()._get_ssl_context())

    def _setup_ssl_cert(self, conn: Any, _url: str, verify: Any) -> None:
        # botocore goes by the store's address, but to a proxy one may speak TLS on the way to a
        # store that has none. A pool is every thread's: nothing in it may be another for a moment.
        if conn.scheme == "https":
            conn.ca_certs, conn.ca_cert_dir = verify
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
