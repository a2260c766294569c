"""Directories that are made in those of other users."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flood import directories
from tests.spooling import in_child

SERVICE, PRODUCER, SHARED = 65534, 65532, 65533


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
