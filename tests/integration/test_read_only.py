"""What commands say where a filesystem is mounted read-only, as after an error of its disk."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from flood import models
from flood.locks import PUT_LOCK
from tests.spooling import House
from tests.spooling import house as make_house

MOUNT = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"'
BIN = Path(sys.executable).parent
RETRY, PRUNE, NOTIFY = "flood-retry --all", "flood-prune", "flood-notify --notify-command true"
CONSUMER = "huey_consumer flood.tasks.huey"

#: What every one of them advises.
ADVICE = ": Read-only file system: look at the kernel's log (dmesg) for why, have the disk checked"

CREDENTIALS = """\
[p]
PROVIDER = s3
AWS_ACCESS_KEY_ID = key
AWS_SECRET_ACCESS_KEY = secret
AWS_REGION = us-east-1
AWS_ENDPOINT = http://127.0.0.1:9
"""


def read_only(directory: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command for which alone nothing below this directory can be written to."""
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'{MOUNT} && shift && exec "$@"', "sh", directory, *command],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def can_mount(directory: Path) -> bool:
    try:
        return read_only(directory, "true").returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where the server directory and the database lie."""
    path = tmp_path / "disk"
    path.mkdir()
    if not can_mount(path):
        pytest.skip("takes the right to mount a directory read-only")
    return path


@pytest.fixture
def house(disk: Path) -> Iterator[House]:
    with make_house(disk) as made:
        made.admit("key")
        models.close()
        yield made


def run(house: House, directory: Path, command: str) -> subprocess.CompletedProcess[str]:
    credentials = directory.parent / "credentials"
    credentials.write_text(CREDENTIALS)
    credentials.chmod(0o600)
    name, *arguments = command.split()
    return read_only(
        directory,
        str(BIN / name),
        *arguments,
        FLOOD_SERVER_DIRECTORY=house.spool.root,
        FLOOD_DATABASE=house.database,
        FLOOD_CREDENTIALS=str(credentials),
        FLOOD_LOG_LEVEL="error",
        HOME=str(directory.parent),
    )


@pytest.mark.parametrize(
    ("command", "cannot"),
    [
        ("flood-watch", "cannot use the server directory {root}"),
        ("flood-watch --once", "cannot use the server directory {root}"),
        ("flood-drain", "cannot use the database {database}"),
        (CONSUMER, "cannot use the database {database}"),
        *((name, "cannot lock {root}/.flood/commands.lock") for name in (RETRY, PRUNE, NOTIFY)),
    ],
)
def test_it_is_no_question_of_permissions(
    house: House, disk: Path, command: str, cannot: str
) -> None:
    done = run(house, disk, command)
    assert cannot.format(root=house.spool.root, database=house.database) + ADVICE in done.stderr
    assert "this user" not in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["flood-drain", CONSUMER])
def test_a_database_that_a_killed_process_left(house: House, disk: Path, command: str) -> None:
    """SQLite complains in other words then."""
    subprocess.run(
        [
            *(sys.executable, "-c"),
            "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
            "c.execute('UPDATE spool SET id = id'); os._exit(0)",
            house.database,
        ],
        check=True,
    )
    assert os.path.getsize(f"{house.database}-wal")
    done = run(house, disk, command)
    assert f"cannot use the database {house.database}{ADVICE}" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["flood-drain", CONSUMER])
def test_a_spool_whose_database_is_on_another_disk(house: House, command: str) -> None:
    done = run(house, Path(house.spool.root), command)
    assert f"cannot lock {house.spool.root}/.flood/consumers.lock{ADVICE}" in done.stderr
    assert done.returncode == 1


def test_a_new_server_directory_cannot_be_made(house: House, disk: Path) -> None:
    done = run(house, disk, f"flood-watch --server-directory {disk}/new --database {disk}/new.db")
    assert f"cannot use the server directory {disk}/new{ADVICE}" in done.stderr
    assert done.returncode == 1


def test_those_that_look_say_so(house: House, disk: Path) -> None:
    looked = run(house, disk, "flood-status --json")
    assert (looked.returncode, looked.stderr) == (0, "")
    checked = run(house, disk, "flood-check")
    told = "is on a filesystem that is mounted read-only\n"
    for path in (house.spool.root, house.database):
        assert f"{path} {told}" in checked.stdout
    assert checked.stdout.count("mends: look at the kernel's log (dmesg)") == 2
    assert checked.returncode == 1
    fsck = run(house, disk, "flood-fsck")
    assert f"cannot read the database {house.database}: " in fsck.stderr
    assert "(Read-only file system): look at the kernel's log (dmesg)" in fsck.stderr
    assert fsck.returncode == 2


def test_nothing_can_be_put(house: House, disk: Path) -> None:
    source, root = disk / "a", house.spool.root
    source.write_text("a")
    lock, copies = Path(root, PUT_LOCK), Path(root, "incoming_tmp/p/box")
    for make, told in (
        (source.touch, f"cannot open {lock}{ADVICE}"),
        (lock.touch, f"cannot write to {copies}{ADVICE}"),
        (
            partial(copies.mkdir, parents=True),
            f"{source}: the spool is on a filesystem that is mounted read-only\n",
        ),
    ):
        make()
        done = run(house, disk, f"flood-put {source} s3://p/box/a")
        assert f"flood-put: {told}" in done.stderr
        assert f"the database {house.database} is on a filesystem that is mou" in done.stderr
        assert done.returncode == 1


def test_no_installation_is_laid_out_there(house: House, disk: Path) -> None:
    new = run(house, disk, f"flood-init {disk}/new")
    assert "Read-only file system; choose a directory that this user may write to" in new.stderr
    subprocess.run([BIN / "flood-init", disk / "half"], capture_output=True, check=True)
    (disk / "half" / "flood.db").unlink()
    half = run(house, disk, f"flood-init {disk}/half")
    assert f"cannot use the server directory {disk}/half/spool{ADVICE}" in half.stderr
    assert (new.returncode, half.returncode) == (2, 2)
