"""What commands say, with which status they end, where a disk takes no more."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flood import locks, models
from flood.locks import COMMANDS_LOCK
from tests.mounts import mounting
from tests.spooling import House
from tests.spooling import house as make_house

pytestmark = mounting

BIN = Path(sys.executable).parent
RETRY, PRUNE, NOTIFY = "flood-retry --all", "flood-prune", "flood-notify --notify-command true"
CONSUMER = "huey_consumer flood.tasks.huey"
PUT = f"flood-put {__file__} s3://p/box/a"

#: Runs a script, its third argument, on a copy of the disk that is mounted as the second one says.
MOUNT = """set -e
cp -a "$1" kept; mount -t tmpfs -o "$2" none "$1"; cp -a kept/. "$1"; cd "$1"
eval "$3"
"""

#: Not one inode is left: bytes are.
NO_INODE = """
i=0; mkdir fill; while (: > "fill/$i") 2>/dev/null; do i=$((i + 1)); done
"""
INODES = "size=16m,nr_inodes=200"

#: The database can be opened, but hardly be written to.
HARDLY_A_BYTE = """
cat /dev/zero > fill 2>/dev/null || true; truncate -s -%dK fill
"""
BYTES = "size=4m"

NO_INODE_IS_LEFT = (
    "unable to open database file, as the disk is full (no inode is left): make room on the disk "
    "of the database"
)

CREDENTIALS = """\
[p]
PROVIDER = s3
AWS_ACCESS_KEY_ID = key
AWS_SECRET_ACCESS_KEY = secret
AWS_REGION = us-east-1
AWS_ENDPOINT = http://127.0.0.1:9
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    disk = tmp_path / "disk"
    disk.mkdir()
    with make_house(disk) as made:
        made.admit("key")
        models.close()
        yield made


def run(house: House, mounted: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a directory with both spool and database, which is a disk of its own then."""
    disk = Path(house.database).parent
    credentials = disk.parent / "credentials"
    credentials.write_text(CREDENTIALS)
    credentials.chmod(0o600)
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNT, "sh", disk, mounted, script],
        cwd=disk.parent,
        env={
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "FLOOD_SERVER_DIRECTORY": house.spool.root,
            "FLOOD_DATABASE": house.database,
            "FLOOD_CREDENTIALS": str(credentials),
            "FLOOD_MIN_FREE": "0",
            "HOME": str(disk.parent),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "command", ["flood-watch --once", PUT, "flood-drain", RETRY, PRUNE, NOTIFY], ids=str.split
)
def test_without_an_inode_commands_end_with_a_status_of_their_own(
    house: House, command: str
) -> None:
    locks.lay(house.spool)
    done = run(house, INODES, f"{NO_INODE} {command}")
    assert f"cannot use the database {house.database}: {NO_INODE_IS_LEFT}\n" in done.stderr
    assert "deleted" not in done.stderr
    assert done.returncode == 75


@pytest.mark.parametrize("daemon", ["flood-watch", CONSUMER], ids=str.split)
def test_without_an_inode_daemons_wait(house: House, daemon: str) -> None:
    locks.lay(house.spool)
    script = f"mkfifo log; {NO_INODE} exec 3<>log; FLOOD_LOG_LEVEL=error {daemon} 2>&3 & "
    done = run(house, INODES, f'{script} read -r line <&3; echo "$line"; kill $!; wait $! || :')
    assert '"cannot start yet"' in done.stdout
    assert NO_INODE_IS_LEFT in done.stdout, done


def test_without_an_inode_those_that_look_say_so(house: House) -> None:
    fsck = run(house, INODES, f"{NO_INODE} flood-fsck")
    assert f"cannot read the database {house.database}: {NO_INODE_IS_LEFT}\n" in fsck.stderr
    assert fsck.returncode == 2
    checked = run(house, INODES, f"{NO_INODE} flood-check")
    assert "(no inode is left)\n" in checked.stdout
    assert "mends: make room on the disk of the database\n" in checked.stdout
    assert "deleted" not in checked.stdout
    assert checked.returncode == 1


@pytest.mark.parametrize(
    ("fill", "mounted", "seen"),
    [
        (NO_INODE, INODES, "0 more files fit on its filesystem, of 200, and flood leaves"),
        (HARDLY_A_BYTE % 0, BYTES, "no byte is left"),
    ],
    ids=["inodes", "bytes"],
)
def test_a_full_disk_is_an_error_whatever_is_to_be_left_free(
    house: House, fill: str, mounted: str, seen: str
) -> None:
    checked = run(house, mounted, f"{fill} flood-check")
    assert f"error    room: {house.spool.root} has no room: {seen}" in checked.stdout
    assert "mends: delete what is not needed, as in completed\n" in checked.stdout
    assert checked.returncode == 1


@pytest.mark.parametrize("command", [RETRY, PRUNE, NOTIFY], ids=str.split)
def test_a_lock_that_cannot_be_made_is_not_another_users(house: House, command: str) -> None:
    done = run(house, INODES, f"{NO_INODE} {command}")
    lock = house.spool.absolute(COMMANDS_LOCK)
    told = f"cannot lock {lock}: No space left on device; make room on its disk\n"
    assert done.stderr.endswith(told)
    assert done.returncode == 75


def test_whoever_makes_room_needs_no_inode_while_flood_watch_runs(house: House) -> None:
    os.makedirs(house.spool.absolute("completed/p/box/empty"))
    script = "mkfifo log; exec 3<>log; flood-watch 2>&3 & grep -qm 1 ready <&3; "
    done = run(house, INODES, f"{script} {NO_INODE} flood-prune; kill $!; wait $!")
    assert done.stdout == "1 empty directory deleted, 0 Bytes\n"
    assert done.stderr == ""


@pytest.mark.parametrize("left", [4, 36, 48, 64, 100])
def test_flood_drain_ends_where_little_can_be_written(house: House, left: int) -> None:
    """It says so once, whatever it is refused first: a consumer would wait."""
    done = run(house, BYTES, f"{HARDLY_A_BYTE % left} flood-drain --max-time 50")
    [line] = done.stderr.splitlines()
    assert line.startswith("flood-drain: cannot ")
    assert line.endswith("full: make room on the disk of the database") or left == 4
    assert done.returncode == 75
