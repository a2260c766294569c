"""What libcurl's error codes mean."""

import errno
import re
from typing import Any, Final

import pycurl

from workers.classify_rule import SCARCE_ERRNOS
from workers.curl_exchange import Exchange
from workers.failures import TransportFailed

#: The oldest libcurl that the tests were run with; much older ones sign some keys wrongly.
LEAST: Final = (8, 16, 0)
if tuple(map(int, pycurl.version_info()[1].partition("-")[0].split("."))) < LEAST:
    raise ImportError(
        f"pycurl comes with libcurl {pycurl.version_info()[1]}, which is older than"
        f" {'.'.join(map(str, LEAST))}"
    )

# libcurl's numbers that pycurl has no names for.
_PROXY: Final = 97
_TOO_LARGE: Final = 100
_WEIRD_SERVER_REPLY: Final = 8

#: Each code with the row of the error table that it stands for; libcurl's "Error codes".
REASONS: Final[dict[int, str]] = {
    pycurl.E_COULDNT_RESOLVE_HOST: "dns",
    pycurl.E_COULDNT_RESOLVE_PROXY: "proxy",
    _PROXY: "proxy",
    pycurl.E_SSL_CACERT_BADFILE: "ca_bundle",
    # Only that for connecting, with the handshake, is libcurl's; Connections has the others.
    pycurl.E_OPERATION_TIMEDOUT: "connect_timeout",
    pycurl.E_PEER_FAILED_VERIFICATION: "tls_certificate",
    pycurl.E_SEND_ERROR: "connection_reset",
    pycurl.E_RECV_ERROR: "connection_reset",
    pycurl.E_GOT_NOTHING: "connection_reset",
    pycurl.E_PARTIAL_FILE: "connection_reset",
    pycurl.E_UNSUPPORTED_PROTOCOL: "bad_response",  # an answer without a status line: HTTP/0.9
    _WEIRD_SERVER_REPLY: "bad_response",
    pycurl.E_HTTP_RETURNED_ERROR: "bad_response",
    pycurl.E_WRITE_ERROR: "bad_response",  # Handle takes no more of it
    _TOO_LARGE: "bad_response",
    pycurl.E_BAD_CONTENT_ENCODING: "bad_response",
    pycurl.E_OUT_OF_MEMORY: "local_resources",
}
#: Why there is no connection; what is not named here makes the store unreachable.
NOT_CONNECTED: Final = {
    errno.ECONNREFUSED: "connection_refused",
    errno.ETIMEDOUT: "connect_timeout",
    errno.ECONNRESET: "connection_reset",
}
_NOT_TLS: Final = re.compile(
    r"(?i)wrong.version.number|http.request|unsupported.protocol|protocol.version|no.protocols"
    r"|record layer failure|packet length too long"
)
# libcurl takes 300 KiB of them, and has no code of its own for more.
_TOO_MANY: Final = "Too large response headers"
_OTHER_HOST: Final = re.compile(r"(?i)subject name|does not match|not match target")
_HANDSHAKE: Final = frozenset({pycurl.E_SSL_CONNECT_ERROR, pycurl.E_PEER_FAILED_VERIFICATION})
# How a connection fails that carries no TLS yet.
_BROKEN: Final = frozenset(
    code for code, reason in REASONS.items() if reason in ("connection_reset", "bad_response")
)
#: What says something of the proxy, rather than of the store.
_PROXYS: Final = frozenset({"proxy", "proxy_denied", "proxy_tls"})
_DENIED: Final = frozenset({401, 403, 405, 407})
_FIRST_REFUSAL: Final = 300


def failure(handle: Any, code: int, words: str, exchange: Exchange) -> TransportFailed:
    """Return why libcurl gave an exchange up."""
    reason = _reason(handle, code, words, exchange)
    between = exchange.proxy if reason in _PROXYS else None
    host = between.host if between else exchange.host
    return TransportFailed(reason, host, words or f"libcurl's error {code}")


def _reason(handle: Any, code: int, words: str, exchange: Exchange) -> str:
    tunnel = handle.getinfo(pycurl.HTTP_CONNECTCODE)
    if tunnel >= _FIRST_REFUSAL:
        return "proxy_denied" if tunnel in _DENIED else "proxy"
    number = handle.getinfo(pycurl.OS_ERRNO)
    if number in SCARCE_ERRNOS:
        return "local_resources"
    if code == pycurl.E_COULDNT_CONNECT:
        return "proxy" if exchange.proxy else NOT_CONNECTED.get(number, "unreachable")
    if _is_with_proxy(tunnel, exchange):
        if code in _HANDSHAKE:
            return "proxy_tls"
        if code == pycurl.E_OPERATION_TIMEDOUT:
            return "proxy"
        # A connection that is used again has its answer to CONNECT from an earlier request.
        if code in _BROKEN and _is_tunnelled(exchange) and handle.getinfo(pycurl.NUM_CONNECTS):
            return "proxy"
    if code == pycurl.E_SSL_CONNECT_ERROR:
        if number == errno.ECONNRESET or "reset by peer" in words:
            return "connection_reset"
        return "not_tls" if _NOT_TLS.search(words) else "tls_handshake"
    if code == pycurl.E_PEER_FAILED_VERIFICATION and _OTHER_HOST.search(words):
        return "tls_host"
    if code == pycurl.E_RECV_ERROR and words.startswith(_TOO_MANY):
        return "endless"
    return REASONS.get(code, "network")


def _is_with_proxy(tunnel: int, exchange: Exchange) -> bool:
    """Whether one speaks with a proxy of HTTP: it has said nothing to CONNECT, or is not asked."""
    if exchange.proxy is None or not exchange.proxy.speaks_http:
        return False
    return not (tunnel and _is_tunnelled(exchange))


def _is_tunnelled(exchange: Exchange) -> bool:
    return exchange.url.startswith("https:")
