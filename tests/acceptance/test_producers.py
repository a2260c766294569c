"""Programs that put files into incoming without knowing of flood."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.acceptance.harness import Flood, MakeFlood, check_promises, credentials
from tests.proxy import FaultProxy
from tests.servers import S3Server

MIB = 1024**2

#: The tree that they deliver: relative names with sizes.
TREE = {
    "empty": 0,
    "one": 1,
    ".hidden": 10,
    "two words": 100,
    "100% + more": 5_000,
    "umlaut ä 🎂": 70_000,
    "sub/large": 12 * MIB,
    "sub/sub/middle": MIB,
    **{f"sub/many/file-{number}": 300 * number for number in range(40)},
}

SLOW_WRITER = """\
import sys, time
with open(sys.argv[1], "wb", buffering=0) as file:
    for number in range(6):
        file.write(b"chunk %d" % number * 1000)
        time.sleep(0.3)
"""


@pytest.fixture
def server(moto_server: S3Server) -> S3Server:
    """rclone sometimes answers 500 where keys share a prefix; here every attempt counts."""
    return moto_server


def watch(make_flood: MakeFlood, proxy: FaultProxy, bucket: str, rescan: str) -> Flood:
    """Return a running spool that scans incoming at this interval, besides following events."""
    flood = make_flood(credentials(("main", proxy.url)), rescan_interval=rescan)
    flood.start_watch()
    flood.start_consumer()
    flood.incoming(bucket)
    return flood


@pytest.fixture
def watched(make_flood: MakeFlood, proxy: FaultProxy, bucket: str) -> Flood:
    """A running spool that looks everywhere all the time."""
    return watch(make_flood, proxy, bucket, "0.1s")


def make_tree(flood: Flood, bucket: str) -> Path:
    """Make the tree outside of the spool; have it expected below `tree/`."""
    root = flood.outside("tree")
    for name, size in TREE.items():
        data = random.randbytes(size)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        flood.expect(bucket, f"tree/{name}", data)
    return root


def copy(source: Path, target: Path) -> list[list[str]]:
    return [["cp", "-r", str(source), str(target)]]


def move(source: Path, target: Path) -> list[list[str]]:
    return [["mv", str(source), str(target)]]


def rsync(source: Path, target: Path) -> list[list[str]]:
    return [["rsync", "-a", str(source), str(target)]]


def untar(source: Path, target: Path) -> list[list[str]]:
    archive = source.with_suffix(".tar.gz")
    return [
        ["tar", "-czf", str(archive), "-C", str(source.parent), source.name],
        ["tar", "-xf", str(archive), "-C", str(target)],
    ]


@pytest.mark.parametrize("rescan", ["0.1s", "1h"], ids=["scans", "events"])
@pytest.mark.parametrize("producer", [copy, move, rsync, untar])
def test_a_tree_arrives_whole(
    producer: Callable[[Path, Path], list[list[str]]],
    rescan: str,
    make_flood: MakeFlood,
    server: S3Server,
    proxy: FaultProxy,
    bucket: str,
) -> None:
    flood = watch(make_flood, proxy, bucket, rescan)
    commands = producer(make_tree(flood, bucket), flood.incoming(bucket))
    for command in commands:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed")
        subprocess.run(command, check=True)
    flood.wait_delivered()
    check_whole(flood, server, proxy)


def check_whole(flood: Flood, server: S3Server, proxy: FaultProxy) -> None:
    """Check that each file was sent once, in its final form."""
    check_promises(flood, server)
    rows = flood.rows()
    sent = [
        (unquote(each.target), int(each.headers["content-length"]))
        for each in proxy.requests
        if each.method == "PUT"
    ]
    assert sorted(sent) == sorted((f"/{x['bucket']}/{x['filepath']}", x["size"]) for x in rows)
    assert {len(flood.attempts(row["id"])) for row in rows} == {1}


def test_a_slow_writer_is_waited_for(
    watched: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    path = watched.incoming(bucket) / "slow"
    subprocess.run([sys.executable, "-c", SLOW_WRITER, str(path)], check=True)
    watched.expect(bucket, "slow", b"".join(b"chunk %d" % n * 1000 for n in range(6)))
    watched.wait_delivered()
    check_whole(watched, server, proxy)


def test_a_writer_that_was_there_first_is_waited_for(
    make_flood: MakeFlood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    flood = make_flood(credentials(("main", proxy.url)))
    path = flood.incoming(bucket) / "first"
    with path.open("wb", buffering=0) as file:
        file.write(b"half ")
        watcher = flood.start_watch()
        assert [line["waiting"] for line in watcher.events("caught up")] == [1]
        flood.start_consumer()
        flood.drop(bucket, "witness", b"not held up")
        flood.wait_delivered()
        assert path.exists()
        file.write(b"whole")
    flood.expect(bucket, "first", b"half whole")
    flood.wait_delivered()
    check_whole(flood, server, proxy)


def test_an_atomic_rename_from_outside(
    watched: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    for number in range(50):
        watched.drop(bucket, f"key-{number}", random.randbytes(1000 * number))
    watched.wait_delivered()
    check_whole(watched, server, proxy)


def test_a_temporary_name_waits_for_the_final_one(
    watched: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    directory = watched.incoming(bucket)
    names = {".name.a1B2c3": "name", "film.part": "film", "page.crdownload": "page"}
    for temporary in names:
        (directory / temporary).write_bytes(temporary.encode())
    watched.drop(bucket, "witness", b"w")
    watched.wait_delivered()
    assert sorted(os.listdir(directory)) == sorted(names)
    for temporary, final in names.items():
        watched.expect(bucket, final, temporary.encode())
        (directory / temporary).rename(directory / final)
    watched.wait_delivered()
    check_whole(watched, server, proxy)


def test_what_is_no_regular_file_stays(
    watched: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    directory = watched.incoming(bucket)
    secret = watched.outside("secret")
    secret.write_bytes(b"not to be uploaded")
    (directory / "link").symlink_to(secret)
    os.mkfifo(directory / "fifo")
    stray = watched.spool / "incoming/main/no-bucket"
    stray.write_bytes(b"no bucket")
    watched.drop(bucket, "witness", b"w")
    watched.wait_delivered()
    watcher = watched.running[0]
    watched.wait_for(lambda: len(watcher.events("left alone")) == 3, "three warnings")
    watched.drop(bucket, "later", b"after some scans")
    watched.wait_delivered()
    left = {line["path"] for line in watcher.events("left alone")}
    assert left == {
        "incoming/main/no-bucket",
        *(f"incoming/main/{bucket}/{x}" for x in ("link", "fifo")),
    }
    assert len(watcher.events("left alone")) == 3, "one warning each"
    for path in (directory / "link", directory / "fifo", stray):
        path.unlink()
    check_whole(watched, server, proxy)
