"""The rows of the error table for what happens on the way to the store."""

import errno
import http.client
import socket
import ssl
from typing import Final

from botocore import exceptions as boto
from urllib3.exceptions import SSLError as TLSError

from flood.states import PERMANENT, TRANSIENT
from workers.classify_rule import AGAIN, BUNDLE, ENDPOINT, FILE, FILE_ERRNOS, KEYS, TRUST, Rule
from workers.failures import TransportFailed

# On the way to a proxy boto.SSLError becomes a boto.ProxyConnectionError.
TRANSPORT: Final = (
    Rule(
        PERMANENT,
        "ca_bundle",
        "the file with trusted certificates cannot be read",
        f"{BUNDLE}, restart flood, then retry the file",
        exceptions=(boto.SSLError, TLSError),
        errnos=FILE_ERRNOS,
    ),
    Rule(
        PERMANENT,
        "ca_bundle",
        "the file with trusted certificates has none",
        f"{BUNDLE}, restart flood, then retry the file",
        exceptions=(boto.SSLError, TLSError),
        text="NO_CERTIFICATE_OR_CRL_FOUND",
        reason="ca_bundle_empty",
    ),
    Rule(
        PERMANENT,
        "ca_bundle",
        "the file with trusted certificates is damaged",
        f"{BUNDLE}, restart flood, then retry the file",
        exceptions=(boto.SSLError,),
        text=r"\[X509\b|PEM lib",
    ),
    Rule(
        PERMANENT,
        "proxy_denied",
        "the HTTP proxy refuses to connect",
        "correct the proxy settings (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), restart flood, then retry "
        "the file",
        exceptions=(boto.ProxyConnectionError,),
        text=r"Tunnel connection failed: 40[1357]",
    ),
    Rule(
        TRANSIENT,
        "proxy",
        "TLS with the HTTP proxy fails",
        f"{AGAIN}; if this goes on, write http:// in HTTP_PROXY or HTTPS_PROXY where the proxy "
        f"speaks no TLS; for an authority of your own, {TRUST}, then restart flood",
        exceptions=(boto.ProxyConnectionError,),
        text=r"SSLError\(",
        reason="proxy_tls",
    ),
    Rule(
        TRANSIENT,
        "proxy",
        "the HTTP proxy cannot be used",
        f"{AGAIN}; check the proxy settings (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) if this goes on",
        exceptions=(boto.ProxyConnectionError,),
    ),
    Rule(
        TRANSIENT,
        "dns",
        "the store's host name cannot be resolved",
        f"{AGAIN}; check the spelling of AWS_ENDPOINT, or of AWS_REGION "
        "where the profile has no endpoint, if this goes on",
        exceptions=(socket.gaierror,),
    ),
    Rule(
        PERMANENT,
        "tls_certificate",
        "the store's certificate cannot be trusted",
        f"check AWS_ENDPOINT and the clock; for an authority of your own, {TRUST}, then restart "
        "flood and retry the file",
        exceptions=(ssl.SSLCertVerificationError,),
    ),
    Rule(
        PERMANENT,
        "tls_certificate",
        "the store's certificate is for another host",
        "check AWS_ENDPOINT, then retry the file",
        exceptions=(boto.SSLError,),
        text=r"(?i)certificate|doesn't match|subjectAltName",
        reason="tls_host",
    ),
    Rule(
        PERMANENT,
        "not_tls",
        "the store's port does not speak the TLS of https",
        ENDPOINT,
        exceptions=(ssl.SSLError,),
        text=r"WRONG_VERSION_NUMBER|HTTP_REQUEST|UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION"
        r"|NO_PROTOCOLS|record layer failure",
    ),
    Rule(
        TRANSIENT,
        "tls_handshake",
        "the encrypted connection broke off",
        AGAIN,
        exceptions=(boto.SSLError, ssl.SSLError),
    ),
    Rule(
        TRANSIENT,
        "connection_refused",
        "the store refused the connection",
        f"{AGAIN}; check that the server runs if this goes on",
        errnos={errno.ECONNREFUSED},
    ),
    # One rule, since urllib3 reports a reset while sending as a connection that was closed.
    Rule(
        TRANSIENT,
        "connection_reset",
        "the connection to the store broke off",
        AGAIN,
        exceptions=(
            *(ConnectionResetError, ConnectionAbortedError, BrokenPipeError),
            *(http.client.RemoteDisconnected, http.client.IncompleteRead),
        ),
    ),
    Rule(
        TRANSIENT,
        "unreachable",
        "the store cannot be reached",
        f"{AGAIN}; check the network if this goes on",
        exceptions=(boto.EndpointConnectionError,),
    ),
    Rule(
        TRANSIENT,
        "connect_timeout",
        "the store did not answer the connection in time",
        AGAIN,
        exceptions=(boto.ConnectTimeoutError,),
    ),
    # That of TLS is part of connecting, and has its time.
    Rule(
        TRANSIENT,
        "connect_timeout",
        "the store did not answer the connection in time",
        AGAIN,
        exceptions=(boto.ReadTimeoutError,),
        text=r"handshake (operation timed out|was not over in time)",
    ),
    Rule(
        TRANSIENT,
        "read_timeout",
        "the store did not answer in time",
        f"{AGAIN}; raise --read-timeout if this goes on",
        exceptions=(boto.ReadTimeoutError,),
    ),
    Rule(
        TRANSIENT,
        "send_timeout",
        "the store stopped taking data",
        f"{AGAIN}; raise --connect-timeout, which bounds each write, if this goes on",
        exceptions=(TimeoutError,),
    ),
    Rule(
        TRANSIENT,
        "bad_response",
        "the answer has no end",
        f"{AGAIN}; check AWS_ENDPOINT if this goes on",
        exceptions=(TransportFailed,),
        reason="endless",
    ),
    Rule(
        TRANSIENT,
        "bad_response",
        "the answer is not HTTP",
        f"{AGAIN}; check AWS_ENDPOINT if this goes on",
        exceptions=(http.client.HTTPException,),
    ),
    Rule(
        PERMANENT,
        "configuration",
        "the access key, token or region has a character that no HTTP header can carry",
        KEYS,
        exceptions=(boto.HTTPClientError,),
        text="Invalid header value",
        quote=False,  # the error repeats the header, which may be the session token
    ),
    Rule(
        PERMANENT,
        "local_io",
        "the file could not be read while it was sent",
        FILE,
        exceptions=(boto.HTTPClientError,),
        errnos=FILE_ERRNOS,
    ),
)
