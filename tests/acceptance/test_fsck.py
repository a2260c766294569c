"""flood-fsck beside flood's real processes."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from flood.columns import utc_text
from flood.locks import CONSUMERS_LOCK, FileLock
from tests.acceptance.harness import (
    Flood,
    MakeFlood,
    check_promises,
    credentials,
    without_roots_rights,
)
from tests.faults import Pass, s3_error
from tests.proxy import FaultProxy
from tests.servers import S3Server

SLOW = Pass(bytes_per_second=128 * 1024)


@pytest.fixture
def server(moto_server: S3Server) -> S3Server:
    """rclone sometimes answers 500 where keys share a prefix."""
    return moto_server


def fsck(flood: Flood, *arguments: str) -> dict[str, Any]:
    """The report of one run, whose exit status tells the same."""
    done = flood.run("-m", "flood.commands.fsck", "--json", *arguments)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["exit_status"] == done.returncode == (0 if report["clean"] else 1)
    return report


def now() -> datetime:
    return datetime.now(timezone.utc)


def kinds(report: dict[str, Any], where: str = "found") -> set[str]:
    who = {name: kind["who"] for name, kind in report["kinds"].items()}
    return {each["kind"] for each in report[where] if who[each["kind"]] != "note"}


def stop(flood: Flood) -> None:
    for one in flood.running:
        if one.alive():
            one.signal(signal.SIGTERM)
            one.wait()


@contextmanager
def producers(flood: Flood, bucket: str) -> Iterator[list[int]]:
    """Somebody moves files in, somebody else runs flood-put, until the end of the block; how many
    files that were."""
    ended = threading.Event()
    counts = [0, 0]
    tree = flood.outside("tree")
    for number in range(20):
        tree.mkdir(exist_ok=True)
        (tree / str(number)).write_bytes(os.urandom(2000))

    def move_in() -> None:
        directory = flood.incoming(bucket)
        while not ended.is_set():
            name = f"moved-{counts[0] % 400}"  # earlier versions are still at work
            outside = flood.outside(name)
            outside.write_bytes(random.randbytes(random.randint(0, 20_000)))
            outside.rename(directory / name)
            counts[0] += 1
            ended.wait(0.002)

    def put() -> None:
        while not ended.is_set():
            done = flood.put("-r", str(tree), f"s3://main/{bucket}/{counts[1]}/")
            assert done.returncode == 0, done
            counts[1] += 1

    threads = [threading.Thread(target=call) for call in (move_in, put)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_under_load_nothing_is_reported_that_is_merely_in_motion(
    proxied: Flood, proxy: FaultProxy, bucket: str
) -> None:
    """Some uploads fail for a passing reason, some for good."""
    proxy.inject(s3_error(503, "SlowDown", "later"), "PUT", "/moved-[0-9]*7$", times=None)
    proxy.inject(s3_error(403, "AccessDenied", "no"), "PUT", "/moved-[0-9]*3$", times=None)
    proxied.start_watch()
    consumers = [proxied.start_consumer() for _ in range(2)]
    with producers(proxied, bucket) as counts:
        proxied.wait_for(lambda: counts[1] and proxied.count() > 100, "load")
        for _ in range(8):
            report = fsck(proxied)
            assert kinds(report) == set(), report["found"]
            assert {"flood-watch", "consumers"} <= set(report["at_work"])
        assert report["records"] > 100
    for one in consumers:
        one.signal(signal.SIGINT)
        one.wait()
    assert kinds(fsck(proxied)) == set()
    stop(proxied)
    report = fsck(proxied)
    assert kinds(report) == set(), report["found"]
    assert report["at_work"] == []


def test_what_a_killed_consumer_leaves_is_found_then_mended(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(SLOW, "PUT", times=None)
    proxied.start_watch()
    consumer = proxied.start_consumer()
    proxied.drop(bucket, "key", bytes(1024**2))
    proxied.wait_for(lambda: proxy.count("PUT"), "the upload")
    assert kinds(fsck(proxied)) == set()
    consumer.kill()
    report = fsck(proxied)
    assert [(x["kind"], x["state"], x["key"]) for x in report["found"] if x["state"]] == [
        ("dead_claim", "S6", "key")
    ]
    report = fsck(proxied, "--repair")
    assert kinds(report) == set()
    assert kinds(report, "mended") == {"dead_claim"}
    proxy.heal()
    # Nothing announces what fsck put off; what is not due when a consumer starts waits for a sweep.
    proxied.wait_for(lambda: proxied.row()["next_attempt_at"] <= utc_text(now()), "the retry")
    proxied.start_consumer()
    proxied.wait_delivered()
    check_promises(proxied, server)
    assert [each["kind"] for each in proxied.attempts(1)] == ["lost", None]


def test_a_lost_database_is_made_anew_once_nobody_works_any_more(
    make_flood: MakeFlood, server: S3Server, bucket: str
) -> None:
    flood = make_flood(credentials(("main", server.url)))
    watch = flood.start_watch()
    consumer = flood.start_consumer()
    for number in range(5):
        flood.drop(bucket, f"done-{number}", b"%d" % number)
    flood.wait_delivered()
    stop(flood)
    consumer = flood.start_consumer()  # which idles
    flood.database.rename(f"{flood.database}.gone")
    report = fsck(flood, "--repair")
    assert kinds(report) == {"database_gone"}
    assert "a consumer is at work" in report["found"][0]["not_mended"]
    consumer.signal(signal.SIGTERM)
    consumer.wait()

    flood.drop(bucket, "meanwhile", b"meanwhile")
    report = fsck(flood, "--repair")
    assert kinds(report) == set()
    assert kinds(report, "mended") == {"database_gone", "unrecorded"}
    assert flood.count(current_state="completed", error_code="record_lost") == 5
    watch = flood.start_watch("--consumers", "1")
    flood.wait_for(lambda: flood.settled(6), "the file that came meanwhile")
    assert watch.alive()
    assert kinds(fsck(flood)) == set()
    assert len(flood.files("completed")) == 6
    assert server.read(bucket, "meanwhile") == b"meanwhile"


def test_no_consumer_starts_while_the_database_is_replaced(flood: Flood, bucket: str) -> None:
    stop_after = flood.start_watch()
    lock = FileLock(str(flood.spool / CONSUMERS_LOCK))
    assert lock.try_exclusive()
    consumer = flood.run("-m", "huey.bin.huey_consumer", "flood.tasks.huey")
    assert consumer.returncode == 75
    assert "flood-fsck repairs" in consumer.stderr
    lock.release()
    assert stop_after.alive()
    flood.start_consumer()


def test_a_person_reads_what_is_wrong(flood: Flood) -> None:
    flood.start_watch()
    stop(flood)
    run = ("-m", "flood.commands.fsck")
    done = flood.run(*run)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "in order")
    (flood.spool / "incoming" / "evil\x1b[2J\n").write_bytes(b"")
    for number in range(12):
        (flood.spool / "processing" / "main" / "b").mkdir(parents=True, exist_ok=True)
        (flood.spool / "processing" / "main" / "b" / f"key-{number:02}").write_bytes(b"x")
    done = flood.run(*run)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert r"incoming/evil\x1b[2J\n" in done.stdout
    assert "12  files in processing that no record knows to be there (S2)" in done.stdout
    assert "2 more, which --all shows" in done.stdout
    assert "key-11" not in done.stdout
    assert "key-11" in flood.run(*run, "--all").stdout
    done = flood.run(*run, "--repair")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "1 discrepancy left, 1 of them for a person"
    (flood.spool / "incoming" / "evil\x1b[2J\n").unlink()
    assert flood.run(*run).returncode == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"FLOOD_SERVER_DIRECTORY": "/nowhere/at/all"},
            "which is still there: set --server-directory",
        ),
        ({"FLOOD_DATABASE": "/nowhere/flood.db"}, "correct --database"),
        ({"FLOOD_RETRY_MAX": "11"}, "retry-max"),
    ],
)
def test_what_cannot_be_checked_is_status_2(
    flood: Flood, settings: dict[str, str], words: str
) -> None:
    flood.start_watch()
    stop(flood)
    done = flood.run("-m", "flood.commands.fsck", environ=settings)
    assert done.returncode == 2
    assert words in done.stderr.replace("FLOOD_RETRY_MAX", "retry-max")
    assert done.stdout == ""


def test_a_database_that_may_not_be_read_is_not_called_deleted(make_flood: MakeFlood) -> None:
    flood = make_flood(credentials(("main", "http://127.0.0.1:9")), prefix=without_roots_rights())
    flood.start_watch()
    stop(flood)
    flood.database.chmod(0o000)
    done = flood.run("-m", "flood.commands.fsck")
    assert done.returncode == 2
    assert f"Permission denied: chmod u+rwX {flood.database}\n" in done.stderr
    assert "deleted" not in done.stderr


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "by a link"])
def test_a_database_in_a_closed_directory_is_not_called_gone(
    make_flood: MakeFlood, linked: bool
) -> None:
    flood = make_flood(credentials(("main", "http://127.0.0.1:9")), prefix=without_roots_rights())
    place = flood.directory / "base"
    place.mkdir()
    named = database = place / "flood.db"
    if linked:
        named = flood.directory / "link.db"
        named.symlink_to(database)
    flood.environ |= {"FLOOD_DATABASE": str(named), "FLOOD_LOG_FORMAT": "text"}
    assert flood.run("-m", "flood.commands.watch", "--once").returncode == 0
    place.chmod(0)
    mend = f"Permission denied: chmod u+rwX {place}\n"
    for name, *arguments in (("fsck",), ("fsck", "--repair"), ("status",), ("watch", "--once")):
        done = flood.run("-m", f"flood.commands.{name}", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(mend)
    place.chmod(0o700)
    assert flood.run("-m", "flood.commands.fsck").returncode == 0


def test_neither_credentials_nor_a_named_database_are_needed(flood: Flood) -> None:
    flood.start_watch()
    stop(flood)
    flood.credentials.unlink()
    del flood.environ["FLOOD_DATABASE"], flood.environ["FLOOD_CREDENTIALS"]
    assert fsck(flood)["database"] == str(flood.database)


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not here")
@pytest.mark.parametrize("with_database", [False, True])
def test_a_spool_moves_to_another_disk_as_documented(
    flood: Flood, bucket: str, with_database: bool
) -> None:
    """In the layout that the page has, by its very commands, as the user that runs the tests."""
    for place, name in ((bucket, "sent"), ("nowhere", "kept")):
        (flood.incoming(place) / name).write_bytes(b"data")
    for program in (("watch", "--once"), ("drain",)):
        flood.run("-m", f"flood.commands.{program[0]}", *program[1:])
    assert flood.files("completed", "failed") == [
        f"completed/main/{bucket}/sent",
        "failed/main/nowhere/kept",
    ]
    new = flood.outside("new")
    for line in moving():
        if "flood.db" in line and not with_database:
            continue
        ours = line.replace("sudo ", "").replace("-o flood", f"-o {os.geteuid()}")
        ours = ours.replace("/srv/flood", str(flood.directory)).replace("/mnt/new/flood", str(new))
        subprocess.run(["/bin/sh", "-ec", ours], check=True)
    assert (flood.directory / "credentials").exists()
    assert flood.database.exists() != with_database
    there = {"FLOOD_SERVER_DIRECTORY": str(new / "spool")}
    if with_database:
        there["FLOOD_DATABASE"] = str(new / "flood.db")
    assert list((new / "spool/completed").iterdir()) == []
    found = flood.run("-m", "flood.commands.fsck", "--json", environ=there)
    assert kinds(json.loads(found.stdout)) <= {"unrecorded", "card_outdated", "device_changed"}
    target = new / "spool/incoming/main" / bucket
    target.mkdir(parents=True, exist_ok=True)
    (target / "next").write_bytes(b"data")
    for program in (("watch", "--once"), ("drain",)):
        done = flood.run("-m", f"flood.commands.{program[0]}", *program[1:], environ=there)
        assert done.returncode == 0, done.stderr
    assert (new / "spool/completed/main" / bucket / "next").exists()
    assert (new / "spool/failed/main/nowhere/kept").read_bytes() == b"data"


def moving() -> list[str]:
    """The commands of the documentation that make and move files, without what is said of them."""
    page = Path(__file__).parents[2].joinpath("docs/operations.md").read_text("utf-8")
    section = page.split("\n## Moving a spool\n")[1].split("\n## ")[0]
    lines = re.findall(r"^    (sudo (?:install|rsync|mv) \S.*?)(?:  .*)?$", section, re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["install", "rsync", "mv", "mv"]
    return lines
