"""flood without daemons: flood-watch --once, then flood-drain."""

import fcntl
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flood.locks import CONSUMERS_LOCK, FileLock
from flood.record_values import TASK_FILES
from flood.syscalls import lock_holder
from flood.writers import PATIENCE
from tests.acceptance.harness import (
    Flood,
    MakeFlood,
    Running,
    check_promises,
    credentials,
)
from tests.chaos.machine import Clock
from tests.faults import Cut, Line, Pass, Stall, s3_error
from tests.proxy import FaultProxy
from tests.servers import S3Server

MIB = 1024**2
SLOW = Pass(bytes_per_second=MIB // 4)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: Prints what a run has imported of what is slow to import.
IMPORTED = """
import sys
from flood.commands.drain import main
status = main()
print(*sorted({"boto3", "botocore", "pycurl", "rich", "workers"} & sys.modules.keys()))
sys.exit(status)
"""

#: Gets a signal as it removes a directory.
STOPPED = """
import os, signal, sys
from flood.commands.drain import main
number = signal.SIGTERM
sys.addaudithook(lambda name, _: name == "os.rmdir" and os.kill(os.getpid(), number))
sys.exit(main())
"""


#: Runs a module as somebody whom directories that may not be written to refuse, as they refuse all
#: but root.
REFUSED = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""


@pytest.fixture
def server(moto_server: S3Server) -> S3Server:
    """rclone sometimes answers 500 where keys share a prefix; here every attempt counts."""
    return moto_server


def take_in(flood: Flood, *arguments: str) -> None:
    """Run flood-watch --once, which has nothing to say."""
    done = flood.run("-m", "flood.commands.watch", "--once", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def drain(flood: Flood, *arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run flood-drain, which has nothing to say if it ends with status 0."""
    done = flood.run("-m", "flood.commands.drain", *arguments)
    assert done.returncode == status, done
    assert done.stdout == ""
    assert (done.stderr == "") == (status == 0), done
    return done


def start_drain(flood: Flood, *arguments: str) -> Running:
    return flood.start("drain", "-m", "flood.commands.drain", *arguments)


def queued(flood: Flood) -> tuple[int, int]:
    """How many tasks wait in the queue, how many in its schedule."""
    [task], [schedule] = (flood.query(f"SELECT count(*) n FROM {x}") for x in ("task", "schedule"))
    return task["n"], schedule["n"]


def test_a_run_of_each_delivers_everything(
    make_flood: MakeFlood, server: S3Server, bucket: str
) -> None:
    settings = {"multipart_threshold": "5MiB", "multipart_part_size": "5MiB", "consumers": 2}
    flood = make_flood(credentials(("main", server.url)), **settings)
    for number in range(30):
        flood.drop(bucket, f"dir {number % 3}/key-{number}", b"%d" % number)
    flood.drop(bucket, "large", os.urandom(6 * MIB))
    take_in(flood)
    assert {row["current_state"] for row in flood.rows()} == {"processing"}
    # Tasks that find nothing to do any more do not pile up.
    flood.tamper("INSERT INTO task (queue, data, priority) SELECT queue, data, priority FROM task")
    drain(flood)
    assert flood.settled(31)
    assert queued(flood) == (0, 0)
    check_promises(flood, server)


def order(flood: Flood) -> list[str]:
    """The keys as they were completed."""
    rows = flood.query("SELECT filepath FROM file_records ORDER BY completed_at, id")
    return [row["filepath"] for row in rows]


def test_one_file_does_not_wait_for_another_buckets_backlog(
    flood: Flood, server: S3Server, bucket: str, bucket_name: Callable[[], str]
) -> None:
    for number in range(5 * TASK_FILES // 2):
        flood.drop(bucket, f"burst-{number}", b"data")
    take_in(flood)
    flood.drop(server.make_bucket(bucket_name()), "late", b"data")
    take_in(flood)
    drain(flood, "--workers", "1")
    assert order(flood).index("late") <= TASK_FILES + 1  # among equals the names decide
    check_promises(flood, server)


def test_large_files_leave_a_worker_for_small_ones(
    make_flood: MakeFlood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    settings = {"multipart_threshold": "5MiB", "multipart_part_size": "5MiB"}
    flood = make_flood(credentials(("main", proxy.url)), **settings)
    proxy.inject(Pass(bytes_per_second=3 * MIB), "PUT", times=None)
    for name in ("large", "larger"):
        flood.drop(bucket, name, os.urandom(6 * MIB))
    take_in(flood)
    flood.drop(bucket, "small", b"data")
    take_in(flood)
    drain(flood, "--workers", "2")
    assert order(flood)[0] == "small"
    check_promises(flood, server)


def test_failures_are_told_of_by_their_cause(flood: Flood, server: S3Server, bucket: str) -> None:
    flood.drop(bucket, "good", b"data")
    for number in range(12):
        flood.drop("missing", f"bad\x1b[2J{number}", b"data")
    take_in(flood)
    done = drain(flood, status=1)
    first, *keys, more, summary = done.stderr.splitlines()
    assert first.startswith("flood-drain: 12 files failed for s3://main/missing: ")
    assert first.endswith("(NoSuchBucket)")
    assert len(keys) == 10
    assert all(key.startswith(r"flood-drain:   bad\x1b[2J") for key in keys)
    assert more == "flood-drain:   ... 2 more"
    assert "12 files failed, 1 file uploaded (4 Bytes)" in summary
    drain(flood)  # they are told of once
    check_promises(flood, server, failed={f"bad\x1b[2J{number}" for number in range(12)})


def test_what_is_to_be_tried_again_is_left_to_a_later_run(
    make_flood: MakeFlood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    flood = make_flood(credentials(("main", proxy.url)), retry_initial_delay="30s")
    proxy.inject(s3_error(503, "SlowDown"), "PUT")
    flood.drop(bucket, "key", b"data")
    take_in(flood)
    drain(flood)
    row = flood.row()
    assert (row["current_state"], row["retry_count"]) == ("processing", 1)
    before = proxy.count("PUT")
    drain(flood)
    assert proxy.count("PUT") == before, "it was not due"
    flood.tamper("UPDATE file_records SET next_attempt_at = '2026-01-01T00:00:00.000000Z'")
    drain(flood)
    assert proxy.count("PUT") == before + 1
    check_promises(flood, server)


def test_where_nothing_is_due_nothing_slow_is_imported(flood: Flood, bucket: str) -> None:
    take_in(flood)
    done = flood.run("-c", IMPORTED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
    flood.drop(bucket, "key", b"data")
    take_in(flood)
    done = flood.run("-c", IMPORTED)
    assert (done.returncode, done.stderr) == (0, "")
    assert "workers" in done.stdout.split(), "the test looks for the right names"


def test_what_is_not_to_be_kept_goes_though_nothing_is_due(
    make_flood: MakeFlood, server: S3Server, bucket: str
) -> None:
    flood = make_flood(credentials(("main", server.url)), keep_completed="1d", keep_records="1d")
    for key in ("dir/old", "new"):
        flood.drop(bucket, key, b"data")
    take_in(flood)
    drain(flood)
    check_promises(flood, server)
    past = "'2001-01-01T00:00:00.000000Z'"
    flood.tamper(f"UPDATE file_records SET completed_at = {past} WHERE filepath = 'dir/old'")
    [before] = flood.query("SELECT last_swept_at FROM spool")
    assert before["last_swept_at"] is not None
    done = flood.run("-c", IMPORTED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
    assert flood.files() == [f"completed/main/{bucket}/new"]
    assert [row["filepath"] for row in flood.rows()] == ["new"]
    assert not (flood.spool / "completed" / "main" / bucket / "dir").exists()
    assert flood.query("SELECT last_swept_at FROM spool") == [before], "nobody has swept"


def test_without_anything_due_directories_are_looked_at_once_an_hour(
    flood: Flood, bucket: str
) -> None:
    take_in(flood)
    directory = flood.spool / "completed" / "main" / bucket / "empty"
    left = []
    for ago in (None, "0 hours", "-2 hours"):
        if ago is not None:
            moment = f"strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '{ago}')"
            flood.tamper(f"UPDATE spool SET last_pruned_at = {moment}")
        directory.mkdir(parents=True, exist_ok=True)
        drain(flood)
        left.append(directory.exists())
    assert left == [False, True, False]


@pytest.mark.parametrize("uploading", [False, True], ids=["idle", "uploading"])
def test_what_cannot_be_deleted_is_told_of_with_what_to_do(
    make_flood: MakeFlood, server: S3Server, bucket: str, uploading: bool
) -> None:
    flood = make_flood(credentials(("main", server.url)))
    for key in ("dir/a\x1b", "dir/b"):
        flood.drop(bucket, key, b"data")
    take_in(flood)
    drain(flood)
    check_promises(flood, server)
    directory = flood.spool / "completed" / "main" / bucket / "dir"
    directory.chmod(0o555)
    told = [  # the order of the first two is that in which they were completed
        "Permission denied: let flood's user write to the directory that it lies in; it is tried "
        "again by the next run",
        rf"cannot delete {directory}/a\x1b: Permission denied",
        f"cannot delete {directory}/b: Permission denied",
    ]
    for command in ("drain",) if uploading else ("drain", "prune"):
        arguments = (f"flood.commands.{command}", "--keep-completed", "0")
        if uploading:
            flood.drop(bucket, f"new-{command}", b"data")
            take_in(flood)
        done = flood.run("-c", REFUSED, *arguments)
        assert done.returncode == 1, done
        assert sorted(done.stderr.splitlines()) == [f"flood-{command}: {line}" for line in told]
    assert len(os.listdir(directory)) == 2
    directory.chmod(0o755)
    drain(flood, "--keep-completed", "0")
    assert not directory.exists()


def test_a_run_that_uploads_goes_on_with_the_look_at_directories(
    flood: Flood, server: S3Server, bucket: str
) -> None:
    """A tree that is larger than what one sweep sees of it."""
    flood.drop(bucket, "key", b"data")
    take_in(flood)
    place = flood.spool / "completed" / "main" / bucket
    for number in range(9):
        (place / f"empty-{number}").mkdir(parents=True)
    # Another one began, came so far, and ended.
    mark = f"completed/main/{bucket}/empty-4"
    flood.tamper(
        "UPDATE spool SET last_pruned_at = strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'), "
        f"prune_mark = '{mark}'"
    )
    drain(flood)
    assert sorted(os.listdir(place)) == [*(f"empty-{number}" for number in range(5)), "key"]
    assert flood.query("SELECT prune_mark FROM spool") == [{"prune_mark": None}]
    check_promises(flood, server)


def test_a_signal_ends_the_look_at_directories(flood: Flood, bucket: str) -> None:
    take_in(flood)
    place = flood.spool / "completed" / "main" / bucket
    for number in range(9):
        (place / f"empty-{number}").mkdir(parents=True)
    done = flood.run("-c", STOPPED)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "flood-drain: interrupted; what was deleted stays deleted\n"
    assert len(os.listdir(place)) == 8


def test_lost_tasks_keep_nothing_waiting(flood: Flood, server: S3Server, bucket: str) -> None:
    for number in range(5):
        flood.drop(bucket, f"key-{number}", b"data")
    take_in(flood)
    flood.tamper("DELETE FROM task")
    drain(flood)
    check_promises(flood, server)
    assert flood.settled(5)


def test_it_ends_in_order_when_its_time_is_over(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(SLOW, "PUT", times=None)
    proxied.drop(bucket, "key", bytes(8 * MIB))
    take_in(proxied)
    for seconds in (3, 8, 20):  # a slow machine needs some to begin with
        done = proxied.run("-m", "flood.commands.drain", "--max-time", str(seconds))
        if proxied.attempts(1):
            break
    assert (done.returncode, done.stdout) in ((0, ""), (1, ""))
    told = f"flood-drain: s3://main/{bucket}/key, record 1, was broken off after"
    assert done.stderr.startswith(told) == bool(done.returncode), done
    row = proxied.row()
    assert (row["current_state"], row["owner"], row["retry_count"]) == ("processing", None, 0)
    [attempt] = proxied.attempts(row["id"])
    assert (attempt["retry_number"], attempt["kind"]) == (0, "interrupted")
    proxy.heal()
    drain(proxied, "--max-time", "1m")
    check_promises(proxied, server)


def test_a_store_that_does_not_even_say_which_buckets_it_has_is_told_of(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    """Each run ends before the time-out, which would cost a retry, and be told of in the end."""
    proxy.inject(Stall("request"), "GET", times=None)
    for key in ("a", "b"):
        proxied.drop(bucket, key, b"data")
    take_in(proxied)
    done = proxied.run("-m", "flood.commands.drain", "--max-time", "1")
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert re.match(f"flood-drain: s3://main/{bucket}/[ab], record [12], was broken off", line)
    assert line.endswith("it needs more time than --max-time gives, or the store does not answer")
    assert [row["retry_count"] for row in proxied.rows()] == [0, 0]
    proxy.heal()
    drain(proxied)
    check_promises(proxied, server)


@pytest.mark.parametrize("transfer", ["curl", "boto3"])
def test_with_few_descriptors_it_stays_for_what_waits_a_moment(
    make_flood: MakeFlood, server: S3Server, bucket: str, transfer: str
) -> None:
    few = ["sh", "-c", 'ulimit -n 72; exec "$0" "$@"']
    flood = make_flood(credentials(("main", server.url)), prefix=few)
    flood.environ |= {"FLOOD_TRANSFER": transfer, "FLOOD_CONCURRENCY": "64"}
    for number in range(90):
        flood.drop(bucket, f"key-{number}", b"%d" % number)
    take_in(flood)
    drain(flood)
    assert flood.count(current_state="completed") == 90
    check_promises(flood, server)


def test_over_a_slow_line_each_run_delivers_something(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    """All at once they would need 24 seconds, each of them one."""
    proxy.inject(Line(MIB), "PUT", times=None)
    for number in range(24):
        proxied.drop(bucket, f"key-{number}", os.urandom(MIB))
    take_in(proxied)
    done = proxied.run("-m", "flood.commands.drain", "--max-time", "8")
    sent = [row["filepath"] for row in proxied.rows() if row["current_state"] == "completed"]
    assert len(sent) >= 2, done
    assert set(sent) <= set(server.keys(bucket))


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_end_it_at_no_cost(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str, number: signal.Signals
) -> None:
    proxy.inject(SLOW, "PUT", times=None)
    proxied.drop(bucket, "key", bytes(8 * MIB))
    take_in(proxied)
    running = start_drain(proxied)
    proxied.wait_for(lambda: proxy.count("PUT"), "the upload")
    running.signal(number)
    assert running.wait() == 130
    assert running.output().startswith("flood-drain: interrupted: ")
    row = proxied.row()
    assert (row["current_state"], row["owner"], row["retry_count"]) == ("processing", None, 0)
    proxy.heal()
    drain(proxied)
    check_promises(proxied, server)


def test_a_clock_that_is_behind_for_some_seconds_of_a_run_deletes_nothing(
    make_flood: MakeFlood, server: S3Server, proxy: FaultProxy, bucket: str, tmp_path: Path
) -> None:
    pytest.importorskip("libfaketime")  # it is not for every kind of machine
    clock = Clock(tmp_path)
    flood = make_flood(credentials(("main", proxy.url)), keep_failed="180d")
    flood.environ |= {**clock.environ(), "FAKETIME_NO_CACHE": "1"}
    proxy.inject(SLOW, "PUT", times=None)
    flood.drop(bucket, "slow", bytes(2 * MIB))
    take_in(flood)
    flood.tamper("UPDATE spool SET created_at = '2001-01-01T00:00:00.000000Z', clock = NULL")
    running = start_drain(flood)
    flood.wait_for(lambda: proxy.count("PUT"), "the upload")
    clock.set(-400 * 86_400)
    flood.drop("missing", "only copy", b"data")
    take_in(flood)
    flood.wait_for(lambda: flood.count(current_state="failed"), "the failure")
    clock.set(0)
    proxy.heal()
    assert running.wait() == 1
    [settled] = flood.query("SELECT completed_at t FROM file_records WHERE current_state='failed'")
    assert settled["t"] < flood.row(filepath="slow")["created_at"]
    drain(flood)
    check_promises(flood, server, failed=["only copy"])


@contextmanager
def held(flood: Flood) -> Iterator[None]:
    """Another program has its transaction in the database."""
    with closing(sqlite3.connect(flood.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


HELD = r"database is locked: (another program|process \d+) holds it"


def test_it_waits_for_another_program_no_longer_than_its_time(flood: Flood, bucket: str) -> None:
    flood.drop(bucket, "key", b"data")
    take_in(flood)
    with held(flood):
        began = time.monotonic()
        done = drain(flood, "--max-time", "1", status=75)
        assert time.monotonic() - began < PATIENCE / 2
    assert re.search(HELD, done.stderr)


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_end_the_wait_for_another_program(
    flood: Flood, bucket: str, number: signal.Signals
) -> None:
    flood.drop(bucket, "key", b"data")
    take_in(flood)
    with held(flood):
        running = start_drain(flood)
        turn = f"{flood.database}-writers"
        flood.wait_for(lambda: lock_holder(turn) == running.pid, "the wait")
        running.signal(number)
        assert running.wait() == 130
    assert re.search(HELD, running.output())
    drain(flood)


def test_what_a_killed_run_left_is_taken_up(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(SLOW, "PUT", times=None)
    proxied.drop(bucket, "key", bytes(8 * MIB))
    take_in(proxied)
    running = start_drain(proxied)
    proxied.wait_for(lambda: proxy.count("PUT"), "the upload")
    running.kill()
    assert proxied.row()["owner"] is not None
    proxy.heal()
    drain(proxied)  # notices, and schedules the next attempt
    assert proxied.row()["owner"] is None
    proxied.wait_for(lambda: drain(proxied) and proxied.settled(1), "the next attempt")
    check_promises(proxied, server)
    kinds = [each["kind"] for each in proxied.attempts(1)]
    assert kinds == ["lost", None]


def test_runs_share_the_work_with_each_other_and_with_daemons(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    for number in range(250):
        proxied.drop(bucket, f"key-{number}", bytes(1000))
    take_in(proxied)
    runs = [start_drain(proxied, "--workers", "1") for _ in range(2)]
    consumer = proxied.start_consumer()
    assert [run.wait() for run in runs] == [0, 0]
    assert [run.output() for run in runs] == ["", ""]
    proxied.wait_delivered()
    assert proxy.count("PUT") == 250, "no file was uploaded twice"
    assert consumer.alive()
    check_promises(proxied, server)


def test_once_leaves_it_to_a_flood_watch_that_runs(
    flood: Flood, server: S3Server, bucket: str
) -> None:
    watch = flood.start_watch()
    done = flood.run("-m", "flood.commands.watch", "--once")
    assert (done.returncode, done.stdout, done.stderr) == (75, "", "")
    flood.drop(bucket, "key", b"data")
    flood.wait_for(lambda: flood.count(current_state="processing"), "the admission")
    drain(flood)
    assert watch.alive()
    check_promises(flood, server)


def test_one_of_two_onces_takes_everything_in(flood: Flood, server: S3Server, bucket: str) -> None:
    take_in(flood)
    for number in range(100):
        flood.drop(bucket, f"key-{number}", b"data")
    runs = [flood.start("once", "-m", "flood.commands.watch", "--once") for _ in range(2)]
    assert {run.wait() for run in runs} <= {0, 75}
    assert [run.output() for run in runs] == ["", ""]
    assert flood.count(current_state="processing") == 100
    drain(flood)
    check_promises(flood, server)


def test_an_interrupted_once_says_so(flood: Flood, server: S3Server, bucket: str) -> None:
    take_in(flood)
    flood.drop(bucket, "key", b"data")
    # Somebody writes to the database, so that it has to wait for its turn.
    with open(f"{flood.database}-writers", "r+b") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        running = flood.start("once", "-m", "flood.commands.watch", "--once")
        flood.wait_for(lambda: waits(running.pid), "its waiting")
        running.signal(signal.SIGTERM)
        assert running.wait() == 130
        assert "Traceback" not in running.output()
    assert flood.files("incoming") == [f"incoming/main/{bucket}/key"]
    take_in(flood)
    drain(flood)
    check_promises(flood, server)


def waits(pid: int) -> bool:
    """Whether a process stands in the kernel's queue for a lock."""
    lines = Path("/proc/locks").read_text("ascii").splitlines()
    return any("->" in line.split() and str(pid) in line.split() for line in lines)


def test_a_profile_that_is_gone_is_told_of(flood: Flood, server: S3Server, bucket: str) -> None:
    flood.drop(bucket, "key", b"data")
    take_in(flood)
    flood.credentials.write_text(credentials(("other", server.url)))
    done = drain(flood, status=2)
    assert done.stderr == (
        f"flood-drain: files wait for the profile 'main', which {flood.credentials} does not have: "
        "add it there\n"
    )
    flood.credentials.write_text(credentials(("main", server.url)))
    drain(flood)
    check_promises(flood, server)


def test_it_refuses_what_is_no_spool_yet(flood: Flood) -> None:
    done = drain(flood, status=2)
    assert "start flood-watch first" in done.stderr
    assert not flood.database.exists()


def test_it_finds_the_database_that_flood_watch_uses(
    flood: Flood, server: S3Server, bucket: str
) -> None:
    flood.drop(bucket, "key", b"data")
    take_in(flood)
    del flood.environ["FLOOD_DATABASE"]
    elsewhere = flood.directory / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [*flood.python, "-m", "flood.commands.drain"],
        env=flood.environ,
        cwd=elsewhere,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(elsewhere.iterdir()) == []
    check_promises(flood, server)


@pytest.mark.parametrize("level", [None, "warning", "error"])
def test_a_variable_that_sets_nothing_is_told_of(flood: Flood, level: str | None) -> None:
    take_in(flood)
    flood.environ |= {"FLOOD_KEEP_COMPLETE": "1d"} | ({"FLOOD_LOG_LEVEL": level} if level else {})
    done = flood.run("-m", "flood.commands.drain")
    assert (done.returncode, done.stdout) == (0, "")
    told = [json.loads(line) for line in done.stderr.splitlines()]
    wanted = [] if level == "error" else [("unknown setting", "FLOOD_KEEP_COMPLETE")]
    assert [(each["event"], each["name"]) for each in told] == wanted


def test_it_leaves_a_spool_alone_that_is_repaired(flood: Flood, bucket: str) -> None:
    flood.drop(bucket, "key", b"data")
    take_in(flood)
    repair = FileLock(str(flood.spool / CONSUMERS_LOCK))
    assert repair.try_exclusive()
    try:
        done = flood.run("-m", "flood.commands.drain")
    finally:
        repair.release()
    assert (done.returncode, done.stdout, done.stderr) == (75, "", "")


def on_terminal(flood: Flood, *command: str) -> str:
    """What a run that succeeds shows on a terminal of 80 columns."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*flood.python, *command],
        env={**flood.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"},
        cwd=flood.directory,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    with open(leader, "rb", buffering=0) as screen:
        try:
            while part := screen.read(4096):
                shown += part
        except OSError:
            pass  # how Linux tells that nobody has the terminal open any more
    assert process.wait() == 0, shown
    return shown.decode()


def test_on_a_terminal_they_say_what_was_done(flood: Flood, server: S3Server, bucket: str) -> None:
    for number in range(3):
        flood.drop(bucket, f"key-{number}", b"data")
    assert on_terminal(flood, "-m", "flood.commands.watch", "--once") == "3 files taken in\r\n"
    shown = on_terminal(flood, "-m", "flood.commands.drain")
    assert "3 files uploaded (12 Bytes)\r\n" in shown
    assert "uploading" in shown, "there is a progress bar"
    check_promises(flood, server)


def test_leftovers_of_nobody_are_told_of(flood: Flood, server: S3Server, bucket: str) -> None:
    """A file that somebody removed on its way is found out by flood-drain."""
    path = Path(flood.outside("source"))
    path.write_bytes(b"data")
    take_in(flood)
    assert flood.put(str(path), f"s3://main/{bucket}/key").returncode == 0
    (flood.incoming(bucket) / "key").unlink()
    done = drain(flood, status=1)
    assert "(vanished)" in done.stderr
    assert flood.row()["error_code"] == "vanished"


def test_what_an_upload_left_at_a_store_that_hangs_holds_up_no_file(
    make_flood: MakeFlood, proxy: FaultProxy, server: S3Server, bucket: str
) -> None:
    """One worker uploads what is due first, then waits for that store as long as there is time."""
    settings = {"multipart_threshold": "5MiB", "multipart_part_size": "5MiB"}
    both = credentials(("main", server.url), ("hangs", proxy.url))
    flood = make_flood(both, **settings)
    proxy.inject(s3_error(403, "AccessDenied"), "PUT", times=None)
    proxy.inject(s3_error(500, "InternalError"), "DELETE")
    flood.drop(bucket, "large", bytes(6 * MIB), profile="hangs")
    take_in(flood)
    proxy.inject(Stall("request"), "DELETE", times=None)
    drain(flood, "--max-time", "5", status=1)
    assert proxy.count("DELETE") == 2, "its own end tries once more"
    for number in range(3):
        flood.drop(bucket, f"key-{number}", b"data")
    take_in(flood)
    drain(flood, "--workers", "1", "--max-time", "5")
    assert flood.count(profile="main", current_state="completed") == 3
    assert proxy.count("DELETE") == 3
    assert flood.row(profile="hangs")["multipart_upload_id"]
    proxy.heal()
    drain(flood)
    assert server.unfinished(bucket) == []
    assert flood.row(profile="hangs")["multipart_upload_id"] is None


def test_a_sweep_goes_on_with_an_upload_that_stayed_beside_the_object(
    make_flood: MakeFlood, proxy: FaultProxy, server: S3Server, bucket: str
) -> None:
    """Of two that a lost answer had begun one is the object's, the other could not be aborted."""
    settings = {"multipart_threshold": "5MiB", "multipart_part_size": "5MiB"}
    flood = make_flood(credentials(("main", proxy.url)), **settings)
    flood.drop(bucket, "large", os.urandom(6 * MIB))
    take_in(flood)
    proxy.inject(Cut("stored"), "POST", r"\?uploads")
    proxy.inject(s3_error(500, "InternalError"), "DELETE", times=3)
    drain(flood)
    [left] = server.unfinished(bucket)
    assert flood.row()["multipart_upload_id"] == left
    drain(flood)
    assert server.unfinished(bucket) == []
    check_promises(flood, server)
