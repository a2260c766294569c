"""Checks the address of a store."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

# RFC 1123, 2.1; of anything else botocore says that it is no endpoint.
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST: Final = re.compile(rf"(?=.{{1,254}}$){_LABEL}(?:\.{_LABEL})*\.?")
_EXAMPLE: Final = "https://s3.example.com"


def normalized(text: str) -> str:
    """Return `https://host[:port]`, or with http where `text` says so, in lower case.

    Raises ValueError with what is wrong and what to write. Its message quotes the host at most,
    and nothing where it may belong to a user name or a password.
    """
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError:  # as for an unclosed bracket or a port out of range
        raise ValueError(f"is no address; write one such as {_EXAMPLE}") from None
    if "@" in parts.netloc or "\\" in text:
        raise ValueError(f"must hold scheme, host, port only; write one such as {_EXAMPLE}")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"must begin with https:// or http://; write one such as {_EXAMPLE}")
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError(f"names no port after its colon; write one such as {_EXAMPLE}:9000")
    if "_" in host:
        raise ValueError(
            "has a host with an underscore, which no host name may have (RFC 1123): use another "
            "name for it, or its IP address"
        )
    if not _is_host(host):
        raise ValueError(f"names no host; write one such as {_EXAMPLE}")
    bracketed = f"[{host}]" if ":" in host else host
    address = f"{parts.scheme}://{bracketed}" + (f":{port}" if port is not None else "")
    if parts.path not in ("", "/") or "?" in text or "#" in text:
        # A host with a dot in it is no misplaced secret: those are base64 or hexadecimal.
        advice = address if "." in host else f"one such as {_EXAMPLE}"
        raise ValueError(f"must have no path, no bucket, no query; write {advice}")
    return address


def host_of(address: str) -> str:
    """Return the host of a normalized address."""
    return urlsplit(address).hostname or ""


def is_exposed(address: str) -> bool:
    """Return whether what is sent to a normalized address can be read on the way."""
    host = host_of(address)
    if address.startswith("https:") or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def _is_host(host: str) -> bool:
    if ":" not in host:
        return _HOST.fullmatch(host) is not None
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return "%" not in host
