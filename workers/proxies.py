"""Finds the proxy on the way to a store."""

import os
from urllib.parse import urlsplit

from workers.failures import TransportFailed
from workers.late import late


def proxy(address: str) -> str:
    """Return the proxy that the environment names for an address, with its scheme, or an empty
    text: HTTPS_PROXY or HTTP_PROXY, as for boto3, except for what NO_PROXY names.

    Raises TransportFailed where it is no address of a proxy, without a word of it: it may hold a
    password.
    """
    parts = urlsplit(address)
    variable = f"{parts.scheme}_proxy"
    if not any(name.lower() == variable for name in os.environ):
        return ""
    # It comes with an HTTP client, which is slow to import.
    with late():
        from urllib.request import getproxies, proxy_bypass
    named = getproxies().get(parts.scheme, "")
    if not named or proxy_bypass(parts.netloc):
        return ""
    found = named if "://" in named else f"http://{named.removeprefix('//')}"
    if not _is_address(found):
        raise TransportFailed(
            "proxy",
            parts.netloc,
            f"{variable.upper()} is no address of a proxy; where user or password have signs such "
            "as / or @, write them as %2F or %40",
        )
    return found


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        beyond = parts.path + parts.query + parts.fragment
        return bool(parts.hostname) and parts.port != 0 and "@" not in beyond
    except ValueError:
        return False
