"""flood-retry and flood-prune, run as a person or cron runs them, beside flood's real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from flood.locks import COMMANDS_LOCK, FileLock
from tests.acceptance.harness import Flood, MakeFlood, credentials, without_roots_rights
from tests.servers import S3Server


@pytest.fixture
def server(moto_server: S3Server) -> S3Server:
    """It refuses buckets that nobody has made."""
    return moto_server


#: Runs flood-put, and is killed once it has copied the file.
DIES = """
import sys
from tests.crash_points import POINTS, die_at
from flood.commands import put
die_at(next(each for each in POINTS if each.name == "put-copied"))
put.main(sys.argv[1:])
"""


def retry(flood: Flood, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return flood.run("-m", "flood.commands.retry", *arguments)


def told(done: "subprocess.CompletedProcess[str]") -> tuple[int, str, list[str]]:
    """Exit status, stdout, what was said on stderr without the command's name."""
    # A usage may take several lines.
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("usage: ", " "))]
    assert all(line.startswith("flood-") for line in lines), done.stderr
    return done.returncode, done.stdout, [line.partition(": ")[2] for line in lines]


def fsck(flood: Flood) -> None:
    done = flood.run("-m", "flood.commands.fsck")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_failed_goes_back_beside_all_that_runs(
    flood: Flood, server: S3Server, bucket_name: Callable[[], str]
) -> None:
    bucket = bucket_name()
    flood.environ["FLOOD_BUCKET_CACHE_SECONDS"] = "0"
    flood.start_watch("--consumers", "2")
    contents = {f"dir/{number}": f"data {number}".encode() for number in range(30)}
    contents["e\x1b[1m\u202evil"] = b"evil"
    for key, data in contents.items():
        flood.drop(bucket, key, data)
    flood.wait_settled(31)
    assert flood.count(error_code="NoSuchBucket") == 31

    assert told(retry(flood, "--all", "--error", "AccessDenied"))[0] == 2
    assert told(retry(flood, "--error", "AccessDenied")) == (0, "", [])
    evil = flood.row(filepath="e\x1b[1m\u202evil")["id"]
    status, listed, _ = told(retry(flood, "--dry-run", str(evil)))
    assert (status, len(listed.splitlines())) == (0, 2)
    assert f"record {evil}, s3://main/{bucket}/e\\x1b[1m\\u202evil, 4 Bytes, NoSuchB" in listed
    assert "\x1b" not in listed
    assert flood.count() == 31

    server.make_bucket(bucket)
    several = [
        flood.start("retry", "-m", "flood.commands.retry", "--all", "--quiet") for _ in range(3)
    ]
    assert [one.wait() for one in several] == [0, 0, 0], flood.logs()
    flood.wait_settled(62)
    for key, data in contents.items():
        old, new = flood.rows(filepath=key)
        assert (old["current_state"], old["left_how"]) == ("failed", "retried")
        assert (new["current_state"], new["origin"]) == ("completed", old["id"])
        assert server.read(bucket, key) == data
    assert flood.files("failed", "processing") == []
    assert told(retry(flood, "--all")) == (0, "", [])
    fsck(flood)


def test_a_directory_that_refuses_is_named_with_who_needs_what(
    make_flood: MakeFlood, server: S3Server, bucket_name: Callable[[], str]
) -> None:
    flood = make_flood(credentials(("main", server.url)), prefix=without_roots_rights())
    absent = bucket_name()
    for key in ("free/a", "shut/b", "shut/c"):
        flood.drop(absent, key, b"data")
    assert flood.run("-m", "flood.commands.watch", "--once").returncode == 0
    flood.run("-m", "flood.commands.drain")
    shut = f"failed/main/{absent}/shut"
    assert len(flood.files("failed")) == 3
    (flood.spool / shut).chmod(0o500)
    rights = "flood's user needs all rights to it, and flood-check says how he gets them"
    for back in ("1 file put back, 4 Bytes\n", ""):
        status, out, said = told(retry(flood, "--all"))
        assert (status, out) == (1, f"{back}2 files left in failed: the move is refused\n")
        assert len(said) == 2
        for line in said:
            assert line.endswith(f"Permission denied in {shut}: {rights}")
    check = json.loads(flood.run("-m", "flood.commands.check", "--json").stdout)
    [remedy] = [x["remedy"] for x in check["findings"] if x["about"] == "rights"]
    subprocess.run(remedy, shell=True, check=True)  # noqa: S602  as a person copies it
    assert told(retry(flood, "--all")) == (0, "2 files put back, 8 Bytes\n", [])


def test_each_exit_status(flood: Flood, bucket: str, bucket_name: Callable[[], str]) -> None:
    absent = bucket_name()
    assert told(retry(flood, "--all"))[0] == 2  # no spool yet
    flood.start_watch()
    consumer = flood.start_consumer()
    flood.drop(bucket, "key", b"uploaded")
    flood.drop(absent, "key", b"old")
    flood.wait_settled(2)
    flood.drop(absent, "key", b"new")
    flood.wait_settled(3)
    completed = flood.row(bucket=bucket)["id"]
    old, new = (row["id"] for row in flood.rows(bucket=absent))
    consumer.kill()

    for arguments, status, words in (
        ([], 2, "say which"),
        (["--all", "--key", "*"], 2, "leave it out"),
        (["--now", "--overwrite-newer", "--all"], 2, "--overwrite-newer is for failed files"),
        (["x1"], 2, "'x1' is neither the number of a record nor s3://"),
        (["s3://main"], 2, "names no profile or no bucket"),
        (["--older-than", "soon", "--all"], 2, "--older-than: 'soon' is no duration"),
        (["4711"], 1, "there is no record 4711"),
        ([str(completed)], 1, f"record {completed} is in completed, and does not lie in failed"),
        (["s3://main/" + absent + "/other"], 1, "no files that lie in failed fit this"),
        ([str(old), str(new)], 1, f"record {old}, s3://main/{absent}/key: it is outdated"),
        ([str(old)], 1, "is a newer version, and in processing"),
        (["--overwrite-newer", str(old)], 75, "another version of it is in processing"),
        (["--overwrite-newer", "--min-free", "1024TiB", str(old)], 75, "has no room"),
        (["--now", str(old)], 1, "does not wait for a retry"),
    ):
        done = told(retry(flood, *arguments))
        assert done[0] == status, (arguments, done)
        assert words in " ".join(done[2]), (arguments, done)
    assert told(retry(flood, "--bucket", absent)) == (0, "", [])

    report: dict[str, Any] = json.loads(retry(flood, "--bucket", absent, "--json").stdout)
    assert report["counts"] == {"superseded": 1}
    assert [one["record"] for one in report["records"]] == [old]

    lock = FileLock(str(flood.spool / COMMANDS_LOCK))
    assert lock.try_exclusive()
    assert told(retry(flood, "--all"))[0] == 75
    lock.release()


def test_a_file_whose_name_no_store_takes_is_named_as_any_other(flood: Flood, bucket: str) -> None:
    """What is told of it is what is told where everything is asked for."""
    flood.start_watch("--consumers", "1")
    flood.drop(bucket, "dir/bad\udcff\udcfe", b"data")
    flood.wait_settled(1)
    uri = f"s3://main/{bucket}/dir/bad\udcff\udcfe"
    listed = told(retry(flood, "--dry-run", uri))[1]
    assert f"s3://main/{bucket}/dir/bad\\udcff\\udcfe, 4 Bytes, key_not_utf8" in listed
    every = retry(flood, "--dry-run", "--json", "--all").stdout
    for name in (uri, f"s3://main/{bucket}/dir/"):
        assert retry(flood, "--dry-run", "--json", name).stdout == every
    status, said, problems = told(retry(flood, uri))
    assert (status, said, problems) == (0, "1 file put back, 4 Bytes\n", [])
    flood.wait_settled(2)
    assert [row["error_code"] for row in flood.rows()] == ["key_not_utf8"] * 2


@pytest.mark.parametrize("option", [(), ("--overwrite-newer",)])
def test_a_key_that_is_named_goes_back_in_its_newest_version(
    flood: Flood, bucket_name: Callable[[], str], option: tuple[str, ...]
) -> None:
    absent = bucket_name()
    flood.start_watch()
    consumer = flood.start_consumer()
    for number in (1, 2, 3):
        flood.drop(absent, "dir/key", b"data" * number)
        flood.wait_settled(number)
    consumer.kill()
    first, second, third = (row["id"] for row in flood.rows(bucket=absent))
    uri = f"s3://main/{absent}/dir/key"

    # Who names a version by its number has asked for that one.
    named = json.loads(retry(flood, "--dry-run", "--json", *option, str(first), uri).stdout)
    assert named["exit_status"] == 1
    below = json.loads(retry(flood, "--dry-run", "--json", uri.removesuffix("key")).stdout)
    assert (below["exit_status"], below["counts"]) == (0, {"retried": 1, "outdated": 2})

    done = told(retry(flood, *option, uri))
    why = "it is outdated: a newer version goes back"
    assert done[0] == 0
    assert done[1].splitlines() == [
        "1 file put back, 12 Bytes",
        "2 files left in failed: a newer version goes back",
    ]
    assert done[2] == [f"record {one}, {uri}: {why}" for one in (second, first)]
    assert [row["origin"] for row in flood.rows(bucket=absent)] == [None, None, None, third]
    again = told(retry(flood, uri))
    assert again[0] == 1, "nothing went back"
    assert "is a newer version, and in processing" in again[2][0]


def test_a_killed_flood_put_hides_no_failure(
    flood: Flood, bucket_name: Callable[[], str], server: S3Server
) -> None:
    """Neither while its copy lies there, nor once the next flood-watch has ended its record."""
    bucket = bucket_name()
    flood.environ["FLOOD_BUCKET_CACHE_SECONDS"] = "0"
    uri = f"s3://main/{bucket}/key"
    source = flood.outside("key")
    watch = flood.start_watch("--consumers", "2")
    source.write_bytes(b"older")
    assert flood.put("--wait", str(source), uri).returncode == 1
    source.write_bytes(b"newer")
    killed = flood.run("-c", DIES, str(source), uri)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    old, copy = flood.rows(bucket=bucket)
    assert (old["current_state"], copy["current_state"]) == ("failed", "incoming_tmp")

    checked = flood.run("-m", "flood.commands.status", "--check")
    assert (checked.returncode, "CRITICAL - 1 failed" in checked.stdout) == (2, True)
    assert "a person mends the cause" in flood.run("-m", "flood.commands.status", uri).stdout
    server.make_bucket(bucket)
    assert told(retry(flood, "--all")) == (0, "1 file put back, 5 Bytes\n", [])
    flood.wait_for(lambda: server.keys(bucket) == ["key"], "the older version")
    assert server.read(bucket, "key") == b"older"

    # The newer one is in no store: whoever put it has to put it again.
    watch.signal(signal.SIGTERM)
    assert watch.wait() == 0
    flood.start_watch("--consumers", "2")
    again = f"put again what is needed of {uri}"
    assert again in joined(flood.run("-m", "flood.commands.status").stdout)
    status, _, said = told(retry(flood, uri))
    gone = f"record {copy['id']}, {uri}: its file is gone (abandoned)"
    assert (status, said) == (1, [f"{gone}: put it again"])
    assert flood.put("--wait", str(source), uri).returncode == 0
    assert server.read(bucket, "key") == b"newer"
    assert again not in joined(flood.run("-m", "flood.commands.status").stdout)
    latest = flood.rows(bucket=bucket)[-1]["id"]
    newer = f"{gone}, but record {latest} is a newer version, and in completed"
    assert told(retry(flood, uri)) == (0, "", [newer])
    fsck(flood)


def joined(text: str) -> str:
    """Lines that were wrapped, as one."""
    return " ".join(text.split())


def test_what_waits_is_tried_at_once(make_flood: MakeFlood, bucket: str, server: S3Server) -> None:
    flood = make_flood(credentials(("main", "http://127.0.0.1:9")), retry_initial_delay="1h")
    flood.start_watch()
    consumer = flood.start_consumer()
    flood.drop(bucket, "key", b"data")
    flood.wait_for(lambda: flood.count(retry_count=1), "a failed attempt")
    consumer.kill()
    flood.credentials.write_text(credentials(("main", server.url)))
    assert told(retry(flood, "--now", "--all", "--dry-run"))[1].splitlines()[-1:] == [
        "1 file would be due now, 4 Bytes"
    ]
    assert told(retry(flood, "--now", "--all")) == (0, "1 file due now, 4 Bytes\n", [])
    assert told(retry(flood, "--now", "--all")) == (0, "", [])
    flood.start_consumer()
    flood.wait_delivered()
    assert server.read(bucket, "key") == b"data"


def test_files_go_right_after_their_upload_was_proven(
    make_flood: MakeFlood, bucket: str, server: S3Server
) -> None:
    flood = make_flood(credentials(("main", server.url)), keep_completed="0")
    flood.start_watch("--consumers", "2")
    contents = {f"dir/{number}/key": f"data {number}".encode() for number in range(60)}
    for key, data in contents.items():
        flood.drop(bucket, key, data)
    flood.wait_for(lambda: flood.count(left_how="removed") == 60, "60 removed files")
    assert flood.files() == []
    # A directory goes after the record tells that its last file went.
    completed = flood.spool / "completed" / "main" / bucket
    flood.wait_for(lambda: os.listdir(completed) == [], "no directory left")
    for key, data in contents.items():
        assert server.read(bucket, key) == data
    assert flood.count(current_state="completed", upload_outcome="success") == 60
    fsck(flood)


def test_pruning_by_hand(flood: Flood, bucket: str) -> None:
    flood.start_watch("--consumers", "1")
    for number in range(5):
        flood.drop(bucket, f"dir/key\x1b{number}", b"data")
    flood.wait_delivered()
    before = flood.files()

    def prune(*arguments: str) -> tuple[int, str, list[str]]:
        return told(flood.run("-m", "flood.commands.prune", *arguments))

    assert prune() == (0, "", [])
    assert "are not set" in prune("--dry-run")[2][0]
    assert prune("--keep-completed", "1h") == (0, "", [])
    status, listed, said = prune("--keep-completed", "0", "--dry-run")
    assert said == []
    assert status == 0
    assert f"completed/main/{bucket}/dir/key\\x1b0" in listed.splitlines()
    assert listed.splitlines()[-1] == "5 files of completed would be deleted, 20 Bytes"
    assert flood.files() == before
    changed, aside = flood.spool / f"completed/main/{bucket}/dir/key\x1b0", flood.outside("aside")
    changed.rename(aside)
    changed.write_bytes(b"another file")
    [stays] = prune("--keep-completed", "0", "--dry-run")[2]
    assert stays.startswith("1 file of completed or failed stays: ")
    aside.rename(changed)
    done = flood.run("-m", "flood.commands.prune", "--keep-completed", "0", "--json")
    report = json.loads(done.stdout)
    assert (report["files"], report["size"]) == ({"completed": 5, "failed": 0}, 20)
    assert flood.files() == []
    assert prune("--keep-failed", "0")[0] == 2
    fsck(flood)


@pytest.mark.parametrize(
    ("command", "told", "said"),
    [
        ("retry --all", "nothing to put back\n", ""),
        (
            "prune",
            "nothing to delete\n",
            "flood-prune: keep-completed, keep-failed, keep-records are not set: every file and "
            "every record is kept for ever\n",
        ),
    ],
    ids=["retry", "prune"],
)
def test_a_person_sees_that_there_is_nothing_to_do(
    flood: Flood, command: str, told: str, said: str
) -> None:
    """cron does not; script(1) makes a terminal."""
    flood.start_watch()
    done = subprocess.run(
        ["script", "-qec", f"{sys.executable} -m flood.commands.{command} 2>said", "/dev/null"],
        env=flood.environ,
        cwd=flood.directory,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout) == (0, told)
    assert (flood.directory / "said").read_text() == said


@pytest.mark.parametrize("command", ["watch --once", "drain", "retry --all", "prune", "fsck"])
def test_a_variable_that_sets_nothing_is_told_of(flood: Flood, command: str) -> None:
    assert flood.run("-m", "flood.commands.watch", "--once").returncode == 0
    name, *arguments = command.split()
    done = flood.run(
        *("-m", f"flood.commands.{name}", *arguments, "--log-level", "warning"),
        environ={"FLOOD_KEEPCOMPLETED": "1d"},
    )
    assert "FLOOD_KEEPCOMPLETED" in done.stderr
    assert "is keep-completed meant?" in done.stderr
    checked = flood.run("-m", "flood.commands.check", environ={"FLOOD_KEEPCOMPLETED": "1d"}).stdout
    assert "variable: FLOOD_KEEPCOMPLETED is in the environment, and is no setting" in checked
    assert "mends: is keep-completed meant?" in checked
