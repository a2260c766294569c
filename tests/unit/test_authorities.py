"""Whose certificates are trusted: the system's where nobody says otherwise."""

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path

import certifi
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from workers.authorities import Authorities, authorities

VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
NOWHERE = Authorities("/nowhere/cert.pem", "/nowhere/certs")

needs_openssl = pytest.mark.skipif(
    not shutil.which("openssl"), reason="takes openssl to name certificates"
)


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "file.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def directory(file: str, tmp_path: Path) -> str:
    """Has the same certificate under the name that OpenSSL looks for."""
    made = tmp_path / "directory"
    made.mkdir()
    shutil.copy(file, made / "authority.pem")
    subprocess.run(["openssl", "rehash", made], check=True, capture_output=True)
    return str(made)


def empty(path: Path) -> None:
    path.touch()


def words(path: Path) -> None:
    path.write_text("no certificate\n")


def half(path: Path) -> None:
    """As of a disk that was full."""
    pem = trustme.CA().cert_pem.bytes()
    path.write_bytes(pem + pem[: len(pem) // 2])


def endless(path: Path) -> None:
    os.mkfifo(path)


def unreadable(path: Path) -> None:
    """Whoever the tests run as cannot follow it."""
    path.symlink_to(path.name)


UNSOUND = pytest.mark.parametrize(
    "make", [empty, words, half, Path.mkdir, endless, unreadable], ids=lambda each: each.__name__
)


def test_where_openssl_was_built_to_look(file: str) -> None:
    assert authorities(Authorities(file, "/nowhere"), []) == (file, None)


@needs_openssl
def test_a_directory_counts_where_there_is_no_file(file: str, directory: str) -> None:
    assert authorities(Authorities("/nowhere", directory), []) == (None, directory)
    assert authorities(Authorities(file, directory), []) == (file, None)


def test_what_python_says_is_asked_for() -> None:
    paths = ssl.get_default_verify_paths()
    built_in = Authorities(paths.openssl_cafile, paths.openssl_capath)
    assert authorities() == authorities(built_in)


@needs_openssl
def test_the_variables_of_openssl(
    file: str, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", file)
    assert authorities(NOWHERE, []) == (file, None)
    # OpenSSL takes each from where it was built to look if it is not set.
    assert authorities(Authorities("/nowhere", directory), []) == (file, directory)
    monkeypatch.setenv("SSL_CERT_DIR", f"/nowhere:{directory}::{directory}")
    assert authorities(NOWHERE, []) == (file, f"{directory}:{directory}")
    monkeypatch.delenv("SSL_CERT_FILE")
    assert authorities(NOWHERE, []) == (None, f"{directory}:{directory}")
    assert authorities(Authorities(file, "/nowhere"), []).file == file


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_what_is_named_comes_before_the_systems(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Even where it is wrong: the error says so."""
    monkeypatch.setenv("SSL_CERT_FILE", file)
    monkeypatch.setenv(variable, "/nowhere/ca.pem")
    assert authorities(Authorities(file, None), [file]) == ("/nowhere/ca.pem", None)
    monkeypatch.setenv(variable, str(tmp_path))
    assert authorities(Authorities(file, None), [file]) == (None, str(tmp_path))


def test_the_usual_files_where_openssl_was_built_to_look_elsewhere(file: str) -> None:
    assert authorities(NOWHERE, ["/nowhere", file, certifi.where()]) == (file, None)


def test_a_container_without_certificates_has_certifis() -> None:
    assert authorities(NOWHERE, []) == (certifi.where(), None)


def test_without_certifi_there_are_botocores(tmp_path: Path) -> None:
    (tmp_path / "certifi.py").write_text("raise ImportError\n")
    code = "from workers.authorities import *; print(*authorities(Authorities('/', '/'), []))"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent.parent}"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = find_spec("botocore")
    assert found is not None
    assert found.origin is not None
    assert told == f"{Path(found.origin).parent / 'cacert.pem'} None\n"


@UNSOUND
def test_what_cannot_be_read_of_the_systems_gives_way(
    make: Callable[[Path], None], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsound = tmp_path / "unsound"
    make(unsound)
    assert authorities(Authorities(str(unsound), str(unsound)), [str(unsound), file]).file == file
    assert authorities(Authorities(str(unsound), None), []) == (certifi.where(), None)
    monkeypatch.setenv("SSL_CERT_FILE", str(unsound))
    assert authorities(NOWHERE, [file]) == (file, None)


def test_a_list_of_the_revoked_is_no_authority(file: str, tmp_path: Path) -> None:
    """OpenSSL takes it, and trusts nobody."""
    day = datetime(2026, 1, 1, tzinfo=timezone.utc)
    revoked = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "any")]))
        .last_update(day)
        .next_update(day)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    path = tmp_path / "revoked.pem"
    path.write_bytes(revoked.public_bytes(serialization.Encoding.PEM))
    ssl.create_default_context(cafile=str(path))
    assert authorities(Authorities(str(path), None), [file]).file == file


@needs_openssl
@UNSOUND
def test_a_directory_in_which_openssl_finds_nothing_gives_way(
    make: Callable[[Path], None], file: str, tmp_path: Path
) -> None:
    """Debian's is there without the package ca-certificates, and is empty."""
    directory = tmp_path / "certs"
    directory.mkdir()
    shutil.copy(file, directory / "authority.pem")  # not under the name that OpenSSL looks for
    assert authorities(Authorities(None, str(directory)), [file]) == (file, None)
    make(directory / "0123abcd.0")
    assert authorities(Authorities(None, str(directory)), [file]) == (file, None)


@pytest.mark.parametrize("name", ["jörg", "ca bundle", os.fsdecode(b"j\xf6rg")], ids=ascii)
def test_the_systems_may_lie_anywhere(file: str, tmp_path: Path, name: str) -> None:
    moved = shutil.copy(file, tmp_path / name)
    assert authorities(Authorities(str(moved), None), []) == (str(moved), None)
