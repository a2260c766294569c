"""flood-status beside flood's real processes."""

import json
import signal
from typing import Any

import pytest

from tests.acceptance.harness import Flood, MakeFlood, credentials, without_roots_rights
from tests.faults import Pass
from tests.proxy import FaultProxy
from tests.servers import S3Server

SLOW = Pass(bytes_per_second=1024**2)
MIB = 1024**2


@pytest.fixture
def server(rclone_server: S3Server) -> S3Server:
    return rclone_server


def status(flood: Flood) -> dict[str, Any]:
    done = flood.run("-m", "flood.commands.status", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("transfer", ["curl", "boto3"])
def test_what_is_uploaded_now_is_seen_until_its_worker_dies(
    proxied: Flood, proxy: FaultProxy, bucket: str, transfer: str
) -> None:
    proxied.environ |= {
        "FLOOD_TRANSFER": transfer,
        "FLOOD_MULTIPART_THRESHOLD": "5MiB",
        "FLOOD_MULTIPART_PART_SIZE": "5MiB",
        "FLOOD_CONCURRENCY": "1",
    }
    proxy.inject(SLOW, "PUT", times=None)
    proxied.start_watch()
    consumer = proxied.start_consumer(workers=3)
    proxied.wait_for(lambda: len(status(proxied)["workers"]) == 3, "workers that wait")
    assert {one["pid"] for one in status(proxied)["workers"]} == {consumer.pid}
    proxied.drop(bucket, "film", bytes(40 * MIB))

    def sent() -> int:
        uploads = status(proxied)["uploads"]
        return int(uploads[0]["bytes_sent"] or 0) if uploads else 0

    proxied.wait_for(lambda: 0 < sent() < 40 * MIB, "some of it to be sent")
    before = sent()
    proxied.wait_for(lambda: sent() > before, "more of it to be sent")
    proxied.drop(bucket, "film", b"newer")
    proxied.wait_for(lambda: status(proxied)["held_back"]["files"] == 1, "the newer one")
    [upload] = status(proxied)["uploads"]
    assert (upload["key"], upload["pid"], upload["worker_lives"]) == ("film", consumer.pid, True)
    assert status(proxied)["held_back"]["oldest"][0]["behind"]["record"] == upload["record"]
    story = proxied.run("-m", "flood.commands.status", f"s3://main/{bucket}/film").stdout
    assert "a worker is at it" in story
    assert f"waits for record {upload['record']}" in story
    consumer.signal(signal.SIGKILL)
    consumer.wait()
    found = status(proxied)
    assert found["workers"] == []
    assert not found["consumers_run"]
    assert [one["worker_lives"] for one in found["uploads"]] == [False]


def test_a_batch_says_how_many_are_done(proxied: Flood, proxy: FaultProxy, bucket: str) -> None:
    proxied.environ["FLOOD_CONCURRENCY"] = "1"
    proxied.start_watch()
    for number in range(8):
        proxied.drop(bucket, str(number), bytes(MIB))
    proxied.wait_for(lambda: proxied.count(current_state="processing") == 8, "all of them")
    proxy.inject(SLOW, "PUT", times=None)
    proxied.start_consumer(workers=1)

    def done() -> bool:
        return any(0 < one["files_done"] < one["files"] for one in status(proxied)["uploads"])

    proxied.wait_for(done, "some of them to be done")


@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_a_directory_that_cannot_be_looked_into_is_told_of(
    make_flood: MakeFlood, bucket: str, mode: int
) -> None:
    """As a producer's umask makes them: files wait there for ever, and nobody would know."""
    flood = make_flood(credentials(("main", "http://127.0.0.1:9")), prefix=without_roots_rights())
    flood.environ["FLOOD_RESCAN_INTERVAL"] = "2s"
    album = flood.spool / "incoming" / "main" / bucket / "album"
    album.mkdir(parents=True)
    (album / "photo").write_bytes(b"photo")
    album.chmod(mode)
    # Only now: it would take the file before the directory is closed.
    flood.start_watch()
    path = f"incoming/main/{bucket}/album"
    found = status(flood)
    assert [one["path"] for one in found["closed"]] == [path]
    assert not found["whole"]

    def said(*arguments: str) -> tuple[int, str]:
        done = flood.run("-m", "flood.commands.status", *arguments)
        return done.returncode, done.stdout + done.stderr

    assert f"Nothing counts that lies in {path}: this user cannot look into it" in said()[1]
    code, line = said("--check")
    assert (code, f"; cannot look into {path}" in line) == (3, True)
    code, line = said("--check", "--max-age", "0s")
    assert (code, "oldest waits" in line) == (2, True)
    code, told = said(f"s3://main/{bucket}/album/photo")
    assert (code, f"but this user cannot look into {path}: run" in told) == (1, True)
    exposed = said("--format", "prometheus")[1]
    assert "flood_closed_directories 1.0\n" in exposed
    assert "flood_whole 0.0\n" in exposed
    assert f'oldest_waiting_timestamp_seconds{{bucket="{bucket}",profile="main"}}' in exposed

    def digest() -> str:
        return flood.run(
            *("-m", "flood.commands.notify", "--dry-run", "--notify-age", "1s"),
            *("--notify-command", "true"),
        ).stdout

    flood.wait_for(digest, "the directory to be a second old")
    assert f"s3://main/{bucket}/album/\n" in digest()
    assert "it is a directory that flood cannot look into" in digest()
    checked = flood.run("-m", "flood.commands.check", "--json").stdout
    [finding] = [one for one in json.loads(checked)["findings"] if one["about"] == "rights"]
    assert finding["found"] == f"this user may not use {path}"
    assert finding["remedy"].endswith(f": chmod u+rwX {flood.spool}/{path}")
    album.chmod(0o700)
    flood.wait_for(lambda: flood.count() == 1, "the file, once it can be taken")
    assert status(flood)["closed"] == []


def test_only_what_is_seen_to_be_gone_is_called_so(make_flood: MakeFlood, bucket: str) -> None:
    flood = make_flood(credentials(("main", "http://127.0.0.1:9")), prefix=without_roots_rights())
    flood.environ["FLOOD_RETRY_INITIAL_DELAY"] = "300"
    flood.drop(bucket, "key", b"data")
    flood.run("-m", "flood.commands.watch", "--once")
    flood.run("-m", "flood.commands.drain")
    directory = flood.spool / "processing" / "main" / bucket
    uri = f"s3://main/{bucket}/key"
    directory.chmod(0)
    told = flood.run("-m", "flood.commands.status", uri).stdout
    assert "next      retry 1 at " in told
    directory.chmod(0o700)
    (directory / "key").unlink()
    told = flood.run("-m", "flood.commands.status", uri).stdout
    gone = "its file is gone: the record fails as vanished with retry 1, at "
    assert f"  next      {gone}" in told
    [record] = json.loads(flood.run("-m", "flood.commands.status", uri, "--json").stdout)["records"]
    assert (record["next"].startswith(gone), record["present"]) == (True, False)
    # An overview looks at no file that waits for its retry: its story does.
    assert status(flood)["retries"][0]["key"] == "key"


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "cron"])
def test_a_newer_version_is_taken_once_the_old_one_is_moved_away(
    make_flood: MakeFlood, bucket: str, daemon: bool
) -> None:
    flood = make_flood(credentials(("main", "http://127.0.0.1:9")))
    flood.environ["FLOOD_RETRY_INITIAL_DELAY"] = "300"
    once = ("-m", "flood.commands.watch", "--once")
    flood.drop(bucket, "key", b"data")
    flood.run(*once)
    flood.run("-m", "flood.commands.drain")
    flood.drop(bucket, "key", b"newer")
    old = flood.spool / "processing" / "main" / bucket / "key"

    def story() -> dict[str, Any]:
        done = flood.run("-m", "flood.commands.status", f"s3://main/{bucket}/key", "--json")
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    assert story()["arriving"].startswith("waits for record 1, an earlier file of this key")
    if daemon:
        watch = flood.start_watch()
        flood.wait_for(lambda: flood.stopped_at_rest(watch.pid), "flood-watch to be stopped")
    old.unlink()
    told = story()
    asleep = f"goes on, as it is stopped: kill -CONT {watch.pid}" if daemon else "runs; to start it"
    [record] = told["records"]
    assert record["next"].startswith("its file is gone: the record fails as vanished with retry 1")
    assert f", or as flood-watch takes the newer version, once it {asleep}" in record["next"]
    assert told["arriving"].startswith("waits for flood-watch, which ")
    if daemon:
        watch.signal(signal.SIGCONT)
    else:
        assert flood.run(*once).returncode == 0
    flood.wait_for(lambda: flood.count(current_state="failed") == 1, "the end of the old one")
    first, second = story()["records"]
    assert first["error_code"] == "vanished"
    assert second["state"] == "processing"


def test_what_has_failed_behind_a_closed_door_is_not_called_gone(
    make_flood: MakeFlood, bucket: str
) -> None:
    flood = make_flood(credentials(("main", "http://127.0.0.1:9")), prefix=without_roots_rights())
    flood.environ["FLOOD_RETRY_MAX"] = "0"
    flood.start_watch()
    flood.start_consumer()
    flood.drop(bucket, "key", b"data")
    flood.wait_for(lambda: flood.count(current_state="failed") == 1, "the failure")
    directory = flood.spool / "failed" / "main" / bucket
    directory.chmod(0)
    uri = f"s3://main/{bucket}/key"
    told = flood.run("-m", "flood.commands.status", uri).stdout
    path = f"failed/main/{bucket}"
    assert f"  may lie in {path}, which this user cannot look into\n" in told
    assert f"next      nobody knows, as this user cannot look into {path}: flood-status as" in told
    story = json.loads(flood.run("-m", "flood.commands.status", "--json", uri).stdout)
    assert (story["closed"], story["records"][0]["present"]) == ([path], None)
    put_back = flood.run("-m", "flood.commands.retry", uri)
    assert put_back.returncode == 1
    assert f"{uri}: this user cannot look into {path}: flood's user needs" in put_back.stderr
    directory.chmod(0o700)
    told = flood.run("-m", "flood.commands.status", uri).stdout
    assert f"  lies in {path}/key\n" in told


def test_closed_directories_of_producers_that_still_write_are_nobodys_trouble(
    make_flood: MakeFlood, bucket: str
) -> None:
    """rsync makes its own with mode 0700, whoever has which rights to the others."""
    flood = make_flood(credentials(("main", "http://127.0.0.1:9")), prefix=without_roots_rights())
    once = ("-m", "flood.commands.watch", "--once")
    assert flood.run(*once).returncode == 0
    partial = flood.spool / "incoming" / "main" / bucket / ".rsync-partial"
    partial.mkdir(parents=True)
    partial.chmod(0)
    done = flood.run(*once)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    found = status(flood)
    assert (found["closed"], found["whole"]) == ([], True)
    checked = flood.run("-m", "flood.commands.check", "--json").stdout
    assert "rights" not in {one["about"] for one in json.loads(checked)["findings"]}
    assert flood.run("-m", "flood.commands.fsck").returncode == 0
    watch = flood.start_watch()
    flood.wait_for(lambda: watch.events("caught up"), "the first scan")
    assert watch.events("cannot watch") == []
    partial.chmod(0o700)
