"""Finds the proxy on the way to a store."""

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from workers.failures import TransportFailed
from workers.late import late

_LABEL: Final = r"[A-Z0-9_](?:[A-Z0-9_-]{0,61}[A-Z0-9_])?"

# Narrower than what libcurl or urllib3 take, since each takes some for what the other does not.
# What follows the port means nothing to either.
_ADDRESS: Final = re.compile(
    r"(?:(?:(?P<scheme>https?|socks4a?|socks5h?):)?//)?"
    r"(?:(?P<user>[^\x00-\x20\x7f:@/?#\\]*)(?::(?P<password>[^\x00-\x20\x7f@/?#\\]*))?@)?"
    rf"(?P<host>{_LABEL}(?:\.{_LABEL})*\.?|\[(?P<six>[0-9A-F:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?#][^\x00-\x20\x7f@\\]*)?",
    re.ASCII | re.IGNORECASE,
)
_LONGEST_HOST: Final = 255
_LAST_PORT: Final = 65535
_WHO: Final = ("user", "password")


@dataclass(frozen=True)
class Proxy:
    """A proxy with who asks it, where it wants to know; both are empty where not.

    `address` is scheme, host, port. Libraries quote the addresses that they cannot use, so user and
    password are never part of it.
    """

    address: str
    user: bytes = field(repr=False)
    password: bytes = field(repr=False)

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.address).netloc

    @property
    def secure(self) -> bool:
        """Whether one speaks TLS to it."""
        return self.address.startswith("https:")

    @property
    def speaks_http(self) -> bool:
        """Whether it is asked by CONNECT for a way to a store at https://; a SOCKS proxy is not."""
        return self.address.startswith("http")


def proxy(address: str) -> Proxy | None:
    """Return the proxy that the environment names for an address: HTTPS_PROXY or HTTP_PROXY, as for
    boto3, except for what NO_PROXY names.

    Raises TransportFailed where it is no address of a proxy, without a word of it: it may hold a
    password.
    """
    parts = urlsplit(address)
    variable = f"{parts.scheme}_proxy"
    if not any(name.lower() == variable for name in os.environ):
        return None
    # It comes with an HTTP client, which is slow to import.
    with late():
        from urllib.request import getproxies, proxy_bypass
    named = getproxies().get(parts.scheme, "")
    if not named or proxy_bypass(parts.netloc):
        return None
    found = _read(named)
    if found is None:
        raise TransportFailed(
            "proxy",
            parts.netloc,
            f"{variable.upper()} is no address of a proxy; where user or password have blanks, or "
            "signs such as / or @, write them as %20, %2F or %40",
        )
    return found


def _read(named: str) -> Proxy | None:
    found = _ADDRESS.fullmatch(named)
    if found is None or not _is_host(found["host"], found["six"]):
        return None
    scheme = (found["scheme"] or "http").lower()
    # libcurl's own, as no two libraries agree on it.
    port = int(found["port"] or (443 if scheme == "https" else 1080))
    user, password = (unquote_to_bytes(os.fsencode(found[each] or "")) for each in _WHO)
    # libcurl ends a text there.
    if not 0 < port <= _LAST_PORT or b"\0" in user + password:
        return None
    return Proxy(f"{scheme}://{found['host']}:{port}", user, password)


def _is_host(host: str, six: str | None) -> bool:
    if six is None:
        return len(host) < _LONGEST_HOST
    try:
        ipaddress.IPv6Address(six)
    except ValueError:
        return False
    return True
