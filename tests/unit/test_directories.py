"""Directories that are made in those of other users."""

import ctypes
import logging
import os
import platform
import stat
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flood import directories
from tests.spooling import in_child

SERVICE, PRODUCER, SHARED = 65534, 65532, 65533

#: The calls that set a mode, by machine, each with the place of the mode among its arguments.
MODES = {
    "x86_64": {90: 1, 91: 1, 268: 2, 452: 2, 83: 1, 258: 2},
    "aarch64": {52: 1, 53: 2, 452: 2, 34: 2},
}


@pytest.fixture
def top() -> Iterator[Path]:
    """The service's own directory, for its group to write to."""
    if os.geteuid() != 0:
        pytest.skip("takes root to become two other users")
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        path = Path(made) / "incoming"
        path.mkdir()
        os.chown(path, SERVICE, SHARED)
        path.chmod(0o775)
        yield path


def become(user: int, group: int, groups: list[int], mask: int = 0o022) -> None:
    os.setgroups(groups)
    os.setgid(group)
    os.setuid(user)
    os.umask(mask)


def restrict() -> None:
    """Have the kernel refuse whatever sets a setuid or setgid bit, as RestrictSUIDSGID=yes does
    (systemd.exec(5), seccomp(2))."""
    load, equal, any_of, answer = 0x20, 0x15, 0x45, 0x06  # linux/bpf_common.h
    allow, refuse = 0x7FFF0000, 0x00050001  # EPERM
    lines = [(load, 0, 0, 0)]  # the number of the call
    for number, place in MODES[platform.machine()].items():
        lines += [(equal, 0, 4, number), (load, 0, 0, 16 + 8 * place), (any_of, 0, 1, 0o6000)]
        lines += [(answer, 0, 0, refuse), (answer, 0, 0, allow)]
    lines.append((answer, 0, 0, allow))
    packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in lines))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(packed))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


@pytest.mark.parametrize("group", [SHARED, PRODUCER])
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_who_may_take_files_out_of_one_may_out_of_all_below(
    top: Path, group: int, mask: int
) -> None:
    """The producer's umask, or a primary group of his own, keeps the service from nothing."""

    def produce() -> None:
        become(PRODUCER, group, [SHARED], mask)
        directories.make(str(top / "a"), alike=True)
        directories.make(str(top / "a/b"), alike=True)
        (top / "a/b/file").write_bytes(b"data")

    def serve() -> None:
        become(SERVICE, SHARED, [SHARED])
        os.rename(top / "a/b/file", top / "taken")

    assert in_child(produce) == 0
    assert in_child(serve) == 0
    status = (top / "a").stat()
    assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (SHARED, 0o775)


def test_who_hands_his_group_on_has_it_handed_on_below(top: Path) -> None:
    top.chmod(0o2775)

    def serve() -> None:
        become(SERVICE, SERVICE, [SHARED])
        directories.make(str(top / "a/b"), alike=True)

    def produce() -> None:
        become(PRODUCER, PRODUCER, [SHARED], 0o002)
        (top / "a/b/c").mkdir()

    assert in_child(serve) == 0
    assert in_child(produce) == 0
    for path in (top / "a", top / "a/b", top / "a/b/c"):
        assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (SHARED, 0o2775)


@pytest.mark.skipif(platform.machine() not in MODES, reason="knows other machines' calls only")
def test_a_mode_that_is_refused_is_told_once(
    top: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    top.chmod(0o2775)
    monkeypatch.setattr(directories, "_told", set())

    def serve() -> None:
        become(SERVICE, SERVICE, [SHARED])
        restrict()
        directories.make(str(top / "a"), alike=True)
        directories.make(str(top / "b/c"), alike=True)
        [line] = caplog.records
        assert (line.levelno, line.getMessage()) == (logging.WARNING, "mode refused")
        facts = line.__dict__["facts"]
        assert (facts["path"], facts["mode"]) == (str(top / "a"), "2775")
        assert facts["reason"] == "Operation not permitted"

    assert in_child(serve) == 0
    assert stat.S_IMODE((top / "a").stat().st_mode) == 0o2755


def test_a_group_that_is_not_the_services_gets_nothing(top: Path) -> None:
    """Where every user may write, whoever has the producer's group is one of them, no more."""
    top.chmod(0o707)

    def produce() -> None:
        become(PRODUCER, PRODUCER, [], 0o077)
        directories.make(str(top / "a/b"), alike=True)

    assert in_child(produce) == 0
    for path in (top / "a", top / "a/b"):
        assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (PRODUCER, 0o707)


def test_what_root_makes_belongs_to_the_owner_of_the_one_above(top: Path) -> None:
    top.chmod(0o700)
    directories.make(str(top / "a/b"), alike=True)
    (top / "a/b/file").write_bytes(b"data")

    def serve() -> None:
        become(SERVICE, SHARED, [SHARED])
        os.rename(top / "a/b/file", top / "taken")

    assert in_child(serve) == 0
    for path in (top / "a", top / "a/b"):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (SERVICE, SHARED)
        assert stat.S_IMODE(status.st_mode) == 0o700


def test_otherwise_the_umask_has_its_say(top: Path) -> None:
    def serve() -> None:
        become(SERVICE, SHARED, [SHARED], 0o077)
        directories.make(str(top / "a/b"))

    assert in_child(serve) == 0
    assert stat.S_IMODE((top / "a/b").stat().st_mode) == 0o700


def test_where_everybody_keeps_his_own_nothing_is_shared(top: Path) -> None:
    top.chmod(0o1777)

    def produce() -> None:
        become(PRODUCER, PRODUCER, [], 0o022)
        directories.make(str(top / "a"), alike=True)

    assert in_child(produce) == 0
    assert stat.S_IMODE((top / "a").stat().st_mode) == 0o755
