"""Certificates of a server with what a person may trust of their chain."""

import ssl
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

#: What a server speaks TLS with, and the certificate that is trusted.
Chain = tuple[ssl.SSLContext, trustme.Blob]


def server_tls(authority: trustme.CA, *hosts: str) -> ssl.SSLContext:
    return _context(authority.issue_cert(*hosts))


def trust(certificate: trustme.Blob, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a certificate be the only one that is trusted."""
    bundle = directory / "ca.pem"
    certificate.write_to_path(str(bundle))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))


def terse(*hosts: str) -> Chain:
    """The authority's own, which does not say what its key is for: `openssl req -x509` makes such
    ones, and Python 3.13 would want more by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "An authority of one's own")])
    today = datetime.now(timezone.utc)
    named = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(named, critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    authority = trustme.CA.from_pem(certificate.public_bytes(Encoding.PEM), secret)
    return server_tls(authority, *hosts), authority.cert_pem


def leaf(*hosts: str) -> Chain:
    """The server's own, which an authority has issued."""
    issued = trustme.CA().issue_cert(*hosts)
    return _context(issued), issued.cert_chain_pems[0]


def between(*hosts: str) -> Chain:
    """That of an authority which another one has issued."""
    authority = trustme.CA().create_child_ca()
    return server_tls(authority, *hosts), authority.cert_pem


def nameless(host: str) -> Chain:
    """The server's own, in which the host is nothing but the common name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    today = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = certificate.public_bytes(Encoding.PEM)
    return _context(trustme.LeafCert(secret, public, [])), trustme.Blob(public)


#: What both libraries take, and flood-check.
CHAINS: Final[tuple[Callable[..., Chain], ...]] = (terse, leaf, between)


def _context(issued: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    return context
