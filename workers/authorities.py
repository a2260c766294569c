"""Finds the certificates of the authorities that are trusted."""

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, NamedTuple

from workers.late import late

if TYPE_CHECKING:
    from ssl import SSLContext

#: Where distributions keep them in one file, for a Python whose OpenSSL was built to look
#: elsewhere, as one that brings its own does: the list of Go's crypto/x509, which has that of
#: truststore but for RHEL's second name of the same file.
USUAL: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/pki/tls/cacert.pem",  # OpenELEC
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL from 7, Fedora from 43
    "/etc/ssl/cert.pem",  # Alpine
)

# The names by which OpenSSL looks for a certificate in a directory; `openssl rehash` makes them.
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.[0-9]+")


class Authorities(NamedTuple):
    """Where their certificates are; of the two, one is there at least. `directory` may be several,
    with colons in between, as OpenSSL takes them."""

    file: str | None = None
    directory: str | None = None

    def __str__(self) -> str:
        return " and ".join(filter(None, self))


def authorities(built_in: Authorities | None = None, usual: Sequence[str] = USUAL) -> Authorities:
    """Return what this machine's owner named; else the system's, by OpenSSL's variables and where
    it was built to look (`built_in`), or the first of the `usual` files; else those that botocore
    would take: certifi's where that is installed, or its own.

    Decided here since libcurl and botocore each have another idea of it, and because an empty
    variable means "verify nothing" to some versions of botocore. What was named is not checked:
    where it is wrong, no other is to take its place. Of the system's only what can be read counts.
    """
    named = _variable("AWS_CA_BUNDLE") or _variable("REQUESTS_CA_BUNDLE")
    if named:
        return Authorities(None, named) if os.path.isdir(named) else Authorities(named)
    found = _by_openssl(built_in or _built_in())
    if any(found):
        return found
    return Authorities(next(filter(_is_sound, usual), None) or _bundled())


def as_libcurl(context: "SSLContext") -> "SSLContext":
    """Return the context, which judges a certificate by libcurl's rules from now on: whoever's is
    among the trusted ends the chain, an issuer's own or not, and one of an authority may lack what
    RFC 5280 wants it to say.

    Python's own rules are others before 3.13 than from then on, and neither are these: what one
    library delivered would fail through the other.
    """
    with late():
        from ssl import VERIFY_X509_PARTIAL_CHAIN, VERIFY_X509_STRICT
    context.verify_flags |= VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~VERIFY_X509_STRICT
    return context


def trusting(trusted: Authorities) -> "SSLContext":
    """Return a client's context that trusts these; raises OSError if they cannot be read."""
    with late():
        from ssl import create_default_context
    file, directory = trusted
    return as_libcurl(create_default_context(cafile=file, capath=directory))


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def _built_in() -> Authorities:
    with late():
        from ssl import get_default_verify_paths
    paths = get_default_verify_paths()
    return Authorities(paths.openssl_cafile, paths.openssl_capath)


def _by_openssl(built_in: Authorities) -> Authorities:
    named = Authorities(_variable("SSL_CERT_FILE"), _variable("SSL_CERT_DIR"))
    file = next(filter(_is_sound, [named.file or built_in.file or ""]), None)
    # Where a system has both they hold the same, and beside a directory libcurl would read the
    # file for each connection anew.
    if file and not any(named):
        return Authorities(file)
    directories = (named.directory or built_in.directory or "").split(os.pathsep)
    return Authorities(file, os.pathsep.join(filter(_is_hashed, directories)) or None)


def _is_sound(file: str) -> bool:
    """Whether there is a certificate in it, and nothing that OpenSSL cannot read."""
    if not os.path.isfile(file):
        return False
    with late():
        from ssl import PROTOCOL_TLS_CLIENT, SSLContext
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
    except OSError:
        return False
    return context.cert_store_stats()["x509"] > 0


def _is_hashed(directory: str) -> bool:
    """Whether OpenSSL finds a certificate in it."""
    try:
        names = os.listdir(directory)
    except OSError:
        return False
    hashed = filter(_HASHED.fullmatch, names)
    return any(_is_sound(os.path.join(directory, name)) for name in hashed)


def _bundled() -> str:
    try:
        from certifi import where
    except ImportError:
        # Looking for botocore does not load it.
        found = find_spec("botocore")
        places = found.submodule_search_locations if found else None
        if not places:
            raise
        return os.path.join(places[0], "cacert.pem")
    return where()
