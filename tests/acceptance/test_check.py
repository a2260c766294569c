"""A newcomer's first minutes; flood-check beside flood's real processes."""

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flood import installing, users
from flood.states import EXIT_OK, EXIT_USAGE
from tests.acceptance.harness import Flood, MakeFlood, credentials, without_roots_rights
from tests.faults import Stall
from tests.proxy import FaultProxy
from tests.servers import SECRET_ACCESS_KEY, S3Server, credentials_section

FAKETIME = "vendor/libfaketime/src/libfaketime.so.1"
CHECK = ("-m", "flood.commands.check")


def check(flood: Flood, *arguments: str, **environ: str) -> dict[str, Any]:
    """The report of one run, whose exit status tells the same."""
    done = flood.run(*CHECK, "--json", *arguments, environ=environ)
    assert done.stdout, done.stderr
    assert SECRET_ACCESS_KEY not in done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["exit_status"] == done.returncode
    return report


def wrong(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(x["about"], x["status"]) for x in report["findings"] if x["status"] != "ok"]


def test_from_nothing_to_an_upload(make_flood: MakeFlood, server: S3Server, bucket: str) -> None:
    flood = make_flood("")
    for name in ("SERVER_DIRECTORY", "DATABASE", "CREDENTIALS"):
        del flood.environ[f"FLOOD_{name}"]
    nothing = flood.run(*CHECK)
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "flood-init DIR writes one" in nothing.stderr

    home = flood.directory / "home/flood"
    made = flood.run("-m", "flood.commands.init", str(home))
    assert made.returncode == 0, made.stderr
    config = ("--config", str(home / "flood.conf"))
    report = check(flood, *config)
    assert report["exit_status"] == 2
    assert ("file", "error") in wrong(report)

    (home / "credentials").write_text(credentials_section("main", server.url))
    report = check(flood, *config, "--probe", bucket)
    assert wrong(report) == [("flood-watch", "warning"), ("consumers", "warning")]
    assert report["exit_status"] == 0
    assert server.keys(bucket) == []

    (home / "file").write_text("first")
    early = flood.put(*config, str(home / "file"), f"s3://main/{bucket}/")
    assert early.returncode == 0
    assert "flood-watch is not running" in early.stderr
    flood.start_watch(*config)
    done = flood.put(*config, "--wait", str(home / "file"), f"s3://main/{bucket}/second")
    assert done.returncode == 0, done.stderr
    assert server.keys(bucket) == ["file", "second"]
    report = check(flood, *config)
    assert wrong(report) == []
    assert [each["about"] for each in report["findings"]].count(f"bucket {bucket}") == 1


@pytest.mark.parametrize(
    ("pycurl", "why"),
    [
        ("raise ImportError('libcurl.so.4 is missing')", "libcurl.so.4 is missing"),
        ("version_info = lambda: (0, '7.88.1')", "libcurl 7.88.1, which is older than"),
    ],
)
def test_a_libcurl_that_cannot_be_used_is_told_of(
    flood: Flood, tmp_path: Path, pycurl: str, why: str
) -> None:
    """Nothing else tells whoever runs flood-drain from cron."""
    (tmp_path / "pycurl.py").write_text(pycurl)
    broken = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    [told] = [x for x in check(flood, **broken)["findings"] if x["about"] == "transfer"]
    assert (told["topic"], told["status"]) == ("settings", "warning")
    assert why in told["found"]
    anew = ("--force-reinstall", "--only-binary", "pycurl", "pycurl")
    assert told["remedy"] == installing.command(*anew)
    for environ in ({}, {**broken, "FLOOD_TRANSFER": "boto3"}):
        assert "transfer" not in [x["about"] for x in check(flood, **environ)["findings"]]


def test_the_exit_status_tells_what_is_wrong(
    make_flood: MakeFlood, server: S3Server, bucket: str
) -> None:
    flood = make_flood(credentials(("main", server.url), ("dead", "http://127.0.0.1:9")))
    flood.start_watch()
    report = check(flood)
    assert wrong(report) == [("TCP", "error"), ("consumers", "warning")]
    assert (report["exit_status"], report["errors"], report["warnings"]) == (1, 1, 1)
    flood.drop(bucket, "key", b"waits")
    flood.wait_for(lambda: flood.count(current_state="processing"), "the file's record")
    assert wrong(check(flood))[-1] == ("consumers", "error")
    for arguments, words in (
        (
            ("--probe", bucket),
            f"several profiles (dead, main): write --probe s3://PROFILE/{bucket}",
        ),
        (("--probe", f"main/{bucket}"), f"write --probe s3://main/{bucket}"),
        (("--probe", ""), "write --probe s3://PROFILE/BUCKET"),
        (("--probe", "s3://main"), "no bucket; write --probe s3://PROFILE/BUCKET"),
        (("--probe", "s3://nobody/bucket"), "no such profile"),
        (("--probe", "s3://main/bucket/key"), "without a path"),
        (("--probe", "s3://main/abc/../d"), "must not have"),
        (("--retry-max", "11"), "--retry-max"),
    ):
        done = flood.run(*CHECK, *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert words in done.stderr


def test_files_of_a_profile_that_was_taken_out_are_told_of(
    make_flood: MakeFlood, server: S3Server, bucket: str
) -> None:
    flood = make_flood(credentials(("main", server.url), ("old", server.url)))
    watch = flood.start_watch()
    flood.drop(bucket, "key", b"waits", profile="old")
    flood.wait_for(lambda: flood.count(current_state="processing"), "the file's record")
    flood.drop(bucket, "key", b"waits", profile="mian")
    (flood.spool / "incoming/main/high").write_text("waits")
    flood.wait_for(lambda: len(watch.events("left alone")) == 2, "what flood-watch leaves alone")
    flood.credentials.write_text(credentials(("main", server.url)))
    flood.start_consumer()
    assert wrong(check(flood)) == [
        ("profile mian", "error"),
        ("profile old", "error"),
        ("incoming", "warning"),
    ]
    story = flood.run("-m", "flood.commands.status", f"s3://old/{bucket}/key").stdout
    assert "the next free worker whose credentials have the profile takes it" in story


@pytest.mark.parametrize("transfer", ["curl", "boto3"])
def test_a_clock_that_is_behind_is_what_has_to_be_mended(
    make_flood: MakeFlood, server: S3Server, bucket: str, transfer: str
) -> None:
    libfaketime = pytest.importorskip("libfaketime")  # it is not for every kind of machine
    flood = make_flood(credentials(("main", server.url)), transfer=transfer)
    flood.start_watch()
    late = {
        "LD_PRELOAD": str(Path(libfaketime.__file__).parent / FAKETIME),
        "FAKETIME": "-20m",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    report = check(flood, "--probe", bucket, **late)
    store = [each for each in report["findings"] if each["topic"] == "store"]
    bad = [each for each in store if each["status"] != "ok"]
    assert [each["about"] for each in bad] == ["ListBuckets", "clock", f"upload to {bucket}"]
    assert {each["status"] for each in bad} == {"error"}
    assert {each["remedy"] for each in bad} == {"timedatectl set-ntp true"}
    flood.environ |= late
    flood.start_consumer()
    flood.drop(bucket, "key", b"data")
    flood.wait_for(lambda: flood.count(current_state="failed"), "the failure")
    row = flood.row(filepath="key")
    assert row["error_code"] == "RequestTimeTooSkewed"
    assert "set the clock, then retry the file" in row["error_message"]


def test_an_interrupted_upload_leaves_nothing(
    proxied: Flood, proxy: FaultProxy, server: S3Server, bucket: str
) -> None:
    proxy.inject(Stall("stored", 2.0), "PUT", "/flood-check-", times=None)
    running = proxied.start("check", *CHECK, "--probe", bucket)
    proxied.wait_for(lambda: server.keys(bucket), "the upload")
    running.signal(signal.SIGINT)
    assert running.wait() == 130
    assert server.keys(bucket) == []
    assert "interrupted" in running.output()


def test_what_this_user_may_not_use_is_named(make_flood: MakeFlood, server: S3Server) -> None:
    flood = make_flood(credentials(("main", server.url)), prefix=without_roots_rights())
    watch = flood.start_watch()
    watch.signal(signal.SIGTERM)
    assert watch.wait() == 0
    (flood.spool / "failed").chmod(0)
    flood.database.chmod(0o400)
    report = check(flood)
    assert wrong(report)[:2] == [("access", "error"), ("access", "error")]
    told = [each["found"] for each in report["findings"] if each["about"] == "access"]
    assert told[0].startswith("this user may not use failed in ")
    assert told[1].startswith(f"this user may not use {flood.database}, which belongs to ")
    (flood.spool / ".flood").chmod(0)
    report = check(flood)
    assert wrong(report) == [("server directory", "error")]
    (flood.spool / ".flood").chmod(0o700)


def test_the_owner_of_the_database_is_told_to_give_himself_its_rights(
    make_flood: MakeFlood, server: S3Server
) -> None:
    """What SQLite has beside a database gets its mode, and keeps that."""
    flood = make_flood(credentials(("main", server.url)), prefix=without_roots_rights())
    place = flood.directory / "base"
    place.mkdir()
    database = place / "flood.db"
    flood.environ |= {"FLOOD_DATABASE": str(database), "FLOOD_LOG_FORMAT": "text"}

    def take_in() -> tuple[int, str]:
        done = flood.run("-m", "flood.commands.watch", "--once")
        return done.returncode, done.stderr

    def mended() -> str:
        [finding] = [x for x in check(flood)["findings"] if x["about"] == "access"][1:]
        assert finding["meaning"].startswith("it is the right user")
        return str(finding["remedy"])

    def refused(mends: str) -> None:
        assert mended() == mends
        status, told = take_in()
        assert status == EXIT_USAGE
        assert f"cannot use the database {database}: Permission denied: {mends}\n" in told

    assert take_in()[0] == EXIT_OK
    place.chmod(0o555)
    refused(f"chmod u+rwX {place}")
    place.chmod(0)
    assert mended() == f"chmod u+rwX {place}"
    told = flood.run("-m", "flood.commands.status").stderr
    assert told.endswith(f"Permission denied: chmod u+rwX {place}\n")
    place.chmod(0o700)
    beside = [f"{database}-wal", f"{database}-shm"]
    for path in (str(database), *beside):
        open(path, "a").close()
        os.chmod(path, 0o400)
    refused(f"chmod u+rwX {database} {' '.join(beside)}")
    database.chmod(0o600)
    mends = f"chmod u+rwX {' '.join(beside)}"
    assert mended() == mends
    subprocess.run(mends.split(), check=True)
    assert take_in()[0] == EXIT_OK


@pytest.mark.parametrize("place", ["", "failed", "incoming", ".flood", ".flood/workers"])
def test_the_owner_of_the_spool_is_told_to_give_himself_its_rights(
    make_flood: MakeFlood, server: S3Server, place: str
) -> None:
    flood = make_flood(credentials(("main", server.url)), prefix=without_roots_rights())
    flood.environ["FLOOD_LOG_FORMAT"] = "text"
    watch = ("-m", "flood.commands.watch", "--once")
    assert flood.run(*watch).returncode == EXIT_OK
    path = flood.spool / place
    path.mkdir(exist_ok=True)
    path.chmod(0o500)
    [finding] = [x for x in check(flood)["findings"] if x["about"] == "access"][:1]
    assert finding["status"] == "error"
    assert finding["meaning"].startswith("it is the right user")
    assert finding["remedy"] == f"chmod u+rwX {path}"
    if not place:
        assert flood.run(*watch).stderr.endswith(f"Permission denied: {finding['remedy']}\n")
        if os.geteuid() == 0:  # who can give it to somebody else
            path.chmod(0o755)
            os.chown(path, 65534, -1)
            [finding] = [x for x in check(flood)["findings"] if x["about"] == "access"][:1]
            mine = users.mine()
            told = f"sudo chown {mine} {path} && sudo chmod u+rwX {path}"
            assert finding["remedy"] == told
            os.chown(path, os.geteuid(), -1)
    path.chmod(0o700)
    [finding] = [x for x in check(flood)["findings"] if x["about"] == "access"][:1]
    assert finding["status"] == "ok"


def test_what_is_behind_a_closed_directory_is_not_called_missing(
    make_flood: MakeFlood, server: S3Server
) -> None:
    """Nobody is told to make anew what he cannot see."""
    flood = make_flood(credentials(("main", server.url)), prefix=without_roots_rights())
    place = flood.directory / "place"
    place.mkdir()
    spool = place / "a/spool"
    base = {"FLOOD_DATABASE": f"{place}/a/flood.db", "FLOOD_LOG_FORMAT": "text"}
    flood.environ |= {"FLOOD_SERVER_DIRECTORY": str(spool), **base}
    assert flood.run("-m", "flood.commands.watch", "--once").returncode == EXIT_OK
    mends = [f"chmod u+rwX {place}"]
    if os.geteuid() == 0:  # who can give it to somebody else
        mends.append(f"run this as the user that flood runs as, or give root access to {place}")
    seen = f"cannot look into {place}: Permission denied"
    for mend, owner in zip(mends, (-1, 65534), strict=False):
        place.chmod(0)
        os.chown(place, owner, -1)
        [finding] = [x for x in check(flood)["findings"] if x["topic"] in ("spool", "database")]
        assert (finding["found"], finding["remedy"]) == (seen, mend)
        for command in (
            ("watch", "--once"),
            ("fsck",),
            ("fsck", "--repair"),
            ("status",),
            ("retry", "--all"),
            ("prune", "--dry-run"),
            ("put", __file__, "s3://main/bucket/key"),
        ):
            name, *arguments = command
            done = flood.run("-m", f"flood.commands.{name}", *arguments)
            assert (done.returncode, done.stderr) == (EXIT_USAGE, f"flood-{name}: {seen}: {mend}\n")
    os.chown(place, os.geteuid(), -1)
    place.chmod(0o700)
    assert flood.run("-m", "flood.commands.watch", "--once").returncode == EXIT_OK


def test_a_closed_directory_is_no_missing_place_for_a_new_database(make_flood: MakeFlood) -> None:
    flood = make_flood("", prefix=without_roots_rights())
    place = flood.directory / "place"
    place.mkdir(0)
    flood.environ["FLOOD_DATABASE"] = f"{place}/base/flood.db"
    [finding] = [x for x in check(flood)["findings"] if x["topic"] == "database"]
    assert finding["found"] == f"cannot look into {place}: Permission denied"
    assert finding["remedy"] == f"chmod u+rwX {place}"


def test_credentials_that_this_user_may_not_read_are_told_of(
    make_flood: MakeFlood, server: S3Server
) -> None:
    flood = make_flood(credentials(("main", server.url)), prefix=without_roots_rights())
    flood.credentials.chmod(0)
    [finding] = [x for x in check(flood)["findings"] if x["topic"] == "credentials"]
    assert finding["found"].startswith("no credentials file can be read (")
    assert f"{flood.credentials}: Permission denied" in finding["found"]
    mended = f"sudo chown {users.mine()} {flood.credentials} && chmod 600 {flood.credentials}"
    assert finding["remedy"].endswith(f"read it: {mended}")
    keys = flood.directory / "keys"
    keys.mkdir()
    flood.credentials.chmod(0o600)
    flood.environ["FLOOD_CREDENTIALS"] = str(flood.credentials.rename(keys / "credentials"))
    keys.chmod(0)
    [finding] = [x for x in check(flood)["findings"] if x["topic"] == "credentials"]
    assert f"each directory on the way to {keys}/credentials, or name" in finding["remedy"]
    keys.chmod(0o700)


def test_a_directory_of_workers_that_is_anothers_is_told_of(
    make_flood: MakeFlood, server: S3Server
) -> None:
    """As a consumer that root has run once by mistake may leave it."""
    flood = make_flood(credentials(("main", server.url)), prefix=without_roots_rights())
    assert flood.run("-m", "flood.commands.watch", "--once").returncode == 0
    workers = flood.spool / ".flood" / "workers"
    workers.mkdir()
    lock = workers / "a"
    lock.touch()
    assert ("access", "error") not in wrong(check(flood))
    mend = f"chmod u+rwX {workers}"
    whole = f"sudo chown -R {users.mine()} {workers} && sudo chmod -R u+rwX {workers}"
    for path, mode, remedy in ((lock, 0, whole), (workers, 0o500, mend)):
        path.chmod(mode)
        [finding] = [x for x in check(flood)["findings"] if x["about"] == "access"]
        assert finding["found"] == f"this user may not use .flood/workers in {flood.spool}"
        assert finding["remedy"] == remedy
    done = flood.run("-m", "flood.commands.drain")
    assert done.returncode == 2
    assert done.stderr == f"flood-drain: this user may not use {workers}: {mend}\n"
    workers.chmod(0o700)


def terminal(flood: Flood, *command: str, **environ: str) -> str:
    """What the command prints on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*flood.python, *command],
        env={**flood.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environ},
        cwd=flood.directory,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    ):
        os.close(theirs)
        seen = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:
                break  # the other end is closed
            if not data:
                break
            seen += data
    os.close(ours)
    return seen.decode().replace("\r\n", "\n")


def test_a_person_reads_it(flood: Flood, bucket: str) -> None:
    flood.start_watch()
    evil = flood.spool / "incoming/main/evil\x1b[2J\n"
    evil.mkdir(parents=True)
    (evil / "film.part").touch()  # which stays there
    piped = flood.run(*CHECK)
    assert "\x1b" not in piped.stdout
    assert r"bucket evil\x1b[2J\n: " in piped.stdout
    assert piped.stdout.splitlines()[-1] == "1 error, 1 warning"

    seen = terminal(flood, *CHECK)
    assert "\x1b[1;31m" in seen
    assert "\x1b[2J" not in seen
    text = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    # Only what is to be copied goes over the edge, as paths of a test do.
    assert all(len(line) <= 80 for line in text.splitlines() if "mends:" not in line)
    plain = terminal(flood, *CHECK, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)


@pytest.mark.parametrize("closed", ["/dev/full"])
def test_what_nobody_can_read_is_no_success(flood: Flood, closed: str) -> None:
    flood.start_watch()
    assert flood.run(*CHECK).returncode == 0
    with Path(closed).open("wb") as full:
        done = subprocess.run(
            [*flood.python, *CHECK],
            env=flood.environ,
            cwd=flood.directory,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "cannot write to stdout: No space left on device" in done.stderr
