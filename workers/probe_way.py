"""Tries the way to a store, from its name to its certificate."""

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from humanize import naturaldelta

from flood.check_findings import ERROR, OK, STORE, WARNING, Finding
from flood.states import PERMANENT
from workers.authorities import Authorities, trusting
from workers.classify import classify
from workers.classify_rule import BUNDLE, TRUST
from workers.failures import TransportFailed
from workers.lanes import carried
from workers.proxies import Proxy, proxy
from workers.transfer import Interrupted

#: The limit for each step on the way, in seconds.
STEP: Final = 5.0

#: What one address of several has at least, in seconds.
_TRY: Final = 2.0

#: A certificate that ends before that is told of; automatic renewals come earlier.
_SOON: Final = timedelta(days=14)

_WAITS: Final = "files for this profile wait in processing, and are tried again for hours"
_FAILS: Final = "every file for this profile fails"

Addresses = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Way:
    """Where a profile's store is: `address` is a normalized one; `hint` says which setting its
    host comes from, `authorities` is where the trusted certificates are."""

    profile: str
    address: str
    hint: str
    authorities: Authorities
    now: Callable[[], datetime]
    clock: Callable[[], float]
    stopping: Callable[[], bool]

    def walk(self) -> Iterator[Finding]:
        """Take it step by step; the first step that fails ends it, with an ERROR."""
        parts = urlsplit(self.address)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        try:
            proxied = proxy(self.address)
        except TransportFailed as error:
            remedy = "correct that variable, then restart flood"
            yield self._wrong("proxy", str(error), _WAITS, remedy)
            return
        if proxied:
            host, port = _gate(proxied)
            # What lies beyond it only the store's own answers tell.
            yield self._found("proxy", OK, f"connections go through {_name(host, port)}")
        try:
            addresses, seconds = self._timed(partial(_resolve, host, port))
        except (OSError, UnicodeError, Interrupted) as error:
            yield self._unresolved(host, error, proxied=bool(proxied))
            return
        shown = list(dict.fromkeys(str(each[4][0]) for each in addresses))
        if shown != [host]:
            yield self._found("DNS", OK, f"{host} is {', '.join(shown)}", seconds)
        try:
            connection, seconds = self._timed(partial(_connect, addresses))
        except (OSError, Interrupted) as error:
            yield self._unreachable(_name(host, port), error, proxied=bool(proxied))
            return
        with connection:
            peer = connection.getpeername()
            yield self._found("TCP", OK, f"connected to {_name(*peer[:2])}", seconds)
            if proxied.secure if proxied else secure:
                yield self._encrypted(connection, host, proxied=bool(proxied))

    def _timed(self, call: Callable[[], Any]) -> tuple[Any, float]:
        """What the call answers, with how long it took; raises Interrupted if it takes too long."""
        begun = self.clock()

        def over() -> bool:
            return self.stopping() or self.clock() - begun > STEP

        return carried(call, over), self.clock() - begun

    def _found(self, step: str, status: str, text: str, seconds: float | None = None) -> Finding:
        took = "" if seconds is None else f" ({seconds * 1000:.0f} ms)"
        return Finding(STORE, step, status, f"{text}{took}", profile=self.profile)

    def _wrong(self, step: str, text: str, meaning: str, remedy: str) -> Finding:
        return Finding(STORE, step, ERROR, text, meaning, remedy, self.profile)

    def _unresolved(self, host: str, error: BaseException, *, proxied: bool) -> Finding:
        setting = "HTTPS_PROXY, HTTP_PROXY or NO_PROXY" if proxied else self.hint
        remedy = f"check the spelling of {setting}, then the name service: getent hosts {host}"
        return self._wrong("DNS", f"{host} cannot be resolved ({_words(error)})", _WAITS, remedy)

    def _unreachable(self, peer: str, error: BaseException, *, proxied: bool) -> Finding:
        what = "the proxy" if proxied else "the server"
        remedy = f"check that {what} runs, that no firewall is in between, and the port"
        return self._wrong(
            "TCP", f"{peer} cannot be connected to ({_words(error)})", _WAITS, remedy
        )

    def _encrypted(self, connection: socket.socket, host: str, *, proxied: bool) -> Finding:
        setting = "HTTPS_PROXY or HTTP_PROXY" if proxied else self.hint
        try:
            context = trusting(self.authorities)
        except (OSError, ssl.SSLError) as error:
            return self._wrong(
                "TLS",
                f"the trusted certificates in {self.authorities} cannot be read ({_words(error)})",
                _FAILS,
                f"{BUNDLE}, then restart flood",
            )
        begun = self.clock()
        try:
            with context.wrap_socket(connection, server_hostname=host) as encrypted:
                version, certificate = encrypted.version(), encrypted.getpeercert() or {}
        except ssl.SSLCertVerificationError as error:
            return self._wrong(
                "TLS",
                f"the certificate of {host} cannot be trusted ({error.verify_message}); trusted "
                f"is who has a certificate in {self.authorities}",
                _WAITS if proxied else _FAILS,
                f"check {setting} and the clock; for an authority of your own, {TRUST}, then "
                "restart flood",
            )
        except OSError as error:
            return self._wrong(
                "TLS",
                f"TLS with {host} fails ({_words(error)})",
                _FAILS if classify(error).kind == PERMANENT and not proxied else _WAITS,
                f"check scheme and port of {setting}; is there a proxy or firewall in between?",
            )
        seconds = self.clock() - begun
        return self._certified(f"{version}", certificate, seconds, proxied=proxied)

    def _certified(
        self, version: str, certificate: Any, seconds: float, *, proxied: bool
    ) -> Finding:
        ends = certificate.get("notAfter")
        if not ends:
            return self._found("TLS", OK, version, seconds)
        until = datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), timezone.utc)
        left = until - self.now()
        text = f"{version}, certificate until {until:%Y-%m-%d}"
        if left > _SOON:
            return self._found("TLS", OK, text, seconds)
        return Finding(
            STORE,
            "TLS",
            WARNING,
            f"{text}, which is in {naturaldelta(left)}",
            f"{_WAITS if proxied else _FAILS}, from then on",
            f"have whoever runs the {'proxy' if proxied else 'server'} renew its certificate",
            self.profile,
        )


def _gate(proxied: Proxy) -> tuple[str, int]:
    """Where a proxy is, whose port is always said."""
    parts = urlsplit(proxied.address)
    return parts.hostname or "", parts.port or 0


def _name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resolve(host: str, port: int) -> Addresses:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def _connect(addresses: Addresses) -> socket.socket:
    """A connection to the first of these addresses that takes one."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(max(_TRY, STEP / len(addresses)))
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = failure or error
            continue
        connection.settimeout(STEP)
        return connection
    raise failure or OSError("it has no address")


def _words(error: BaseException) -> str:
    if isinstance(error, Interrupted | TimeoutError):
        return f"no answer within {STEP:.0f} seconds"
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
