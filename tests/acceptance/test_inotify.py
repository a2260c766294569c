"""What the kernel's limits of inotify do to flood-watch."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.harness import (
    MakeFlood,
    check_promises,
    credentials,
    without_roots_rights,
)
from tests.servers import S3Server

#: How many events the kernel keeps, 16,384 by default.
KEPT = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text("ascii"))

#: How many files are renamed in, as fast as possible; set FLOOD_TEST_BURST for more.
MANY = int(os.environ.get("FLOOD_TEST_BURST", "1000"))

SCARCE = 20


@pytest.fixture
def server(rclone_server: S3Server) -> S3Server:
    return rclone_server


@pytest.mark.timeout(600)
def test_a_burst_while_flood_watch_is_stopped(
    make_flood: MakeFlood, server: S3Server, bucket: str
) -> None:
    flood = make_flood(
        credentials(("main", server.url)), rescan_interval="1d", log_level="warning", concurrency=64
    )
    watch = flood.start("watch", "-m", "flood.commands.watch", "--consumers", "2")
    flood.wait_for(flood.spool.joinpath("failed", "main").exists, "flood-watch")
    staged = flood.outside("staged")
    staged.mkdir()
    keys = [f"{number:06}" for number in range(MANY)]
    for key in keys:
        (staged / key).write_bytes(key.encode())
    target = flood.incoming(bucket)
    flood.drop(bucket, "before", b"before")
    flood.wait_for(lambda: flood.count(current_state="completed"), "the first file")
    watch.signal(signal.SIGSTOP)
    # Few files that go in and out again make as many events as many files do.
    for left in reversed(range(1 + KEPT // MANY)):
        for key in keys:
            os.rename(staged / key, target / key)
        for key in keys if left else ():
            os.rename(target / key, staged / key)
    watch.signal(signal.SIGCONT)

    def done() -> bool:
        [row] = flood.query(
            "SELECT count(*) AS n FROM file_records WHERE upload_outcome = 'success'"
        )
        return bool(row["n"] == MANY + 1)

    flood.wait_for(done, "all of them", 120.0 + MANY / 100)
    assert watch.events("missed events")
    assert server.keys(bucket) == sorted([*keys, "before"])
    watch.signal(signal.SIGTERM)
    assert watch.wait() == 0


def in_namespace(setting: str) -> list[str]:
    """The prefix of a command that runs where this user has few watches (user_namespaces(7))."""
    prefix = ["unshare", "-r", "sh", "-c", f'echo {SCARCE} > {setting} && exec "$@"', "sh"]
    try:
        possible = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        possible = None
    if possible is None or possible.returncode:
        pytest.skip("takes a user namespace")
    return prefix


def test_fewer_watches_than_directories(
    make_flood: MakeFlood, server: S3Server, bucket: str
) -> None:
    prefix = in_namespace("/proc/sys/user/max_inotify_watches")
    flood = make_flood(credentials(("main", server.url)), prefix=prefix, rescan_interval="1s")
    for number in range(3 * SCARCE):
        flood.drop(bucket, f"{number}/before", b"before %d" % number)
    watch = flood.start_watch("--consumers", "1")
    for number in range(3 * SCARCE):
        flood.drop(bucket, f"{number}/after", b"after %d" % number)
    flood.wait_delivered()
    check_promises(flood, server)
    [told] = watch.events("cannot watch every directory")
    assert told["run"] == "sysctl user.max_inotify_watches=1024"


def test_a_directory_that_cannot_be_read_yet_is_watched_later(make_flood: MakeFlood) -> None:
    """As between another user's mkdir and his chmod; re-scans are far away."""
    flood = make_flood(
        credentials(("main", "http://127.0.0.1:9")),
        prefix=without_roots_rights(),
        rescan_interval="1d",
    )
    watch = flood.start_watch()
    folder = flood.incoming("bucket") / "new"
    folder.mkdir(0o000)
    flood.wait_for(lambda: watch.events("cannot watch"), "the refusal")
    folder.chmod(0o755)
    (folder / "key").write_bytes(b"data")
    flood.wait_for(lambda: flood.count(filepath="new/key") == 1, "the file")
