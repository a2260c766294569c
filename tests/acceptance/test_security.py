"""What the real processes leave behind, and what they let others do.

docs/security.md names these tests beside what they show.
"""

import json
import os
import pickle
import pty
import re
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import Flood, MakeFlood, check_promises, credentials
from tests.servers import SECRET_ACCESS_KEY, S3Server, credentials_section

WRONG_SECRET = "Wr0ngS3cretThatNobodyMaySee"
PUT = ("-m", "flood.commands.put")
TOKEN = "T0kenThatNobodyMaySee"

#: A consumer whose attempts end as no attempt should.
DEFECT = """
import sys
from workers import upload

def attempt(agent, claims):
    raise RuntimeError("a defect")

upload.attempt = attempt
sys.argv = ["huey_consumer", "flood.tasks.huey"]
from huey.bin.huey_consumer import consumer_main
consumer_main()
"""

# --- secrets -------------------------------------------------------------------------------------


def processes(flood: Flood) -> dict[int, bytes]:
    """The command line with the environment of every process of this spool."""
    mine = os.fsencode(f"FLOOD_DATABASE={flood.database}")
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
            if mine in environ.split(b"\0"):
                found[int(process.name)] = (process / "cmdline").read_bytes() + environ
        except OSError:
            continue  # gone by now
    return found


def test_no_secret_is_left_anywhere(make_flood: MakeFlood, server: S3Server, bucket: str) -> None:
    """Not in a command line, an environment, a log with a traceback, the database, a file."""
    wrong = credentials_section("wrong", server.url).replace(SECRET_ACCESS_KEY, WRONG_SECRET)
    flood = make_flood(
        f"{credentials(('main', server.url))}{wrong}AWS_SESSION_TOKEN = {TOKEN}\n",
        log_level="debug",
    )
    source = flood.outside("source")
    source.write_bytes(b"data")
    watch = flood.start_watch("--consumers", "1")
    seen = processes(flood)
    assert len(seen) >= 2, "flood-watch with its consumer"
    for profile in ("main", "wrong"):
        put = flood.start("put", *PUT, "--wait", str(source), f"s3://{profile}/{bucket}/")
        flood.wait_for(lambda put=put: put.pid in processes(flood) or not put.alive())
        seen |= processes(flood)
        assert put.wait() == (0 if profile == "main" else 1), put.output()
    consumer = flood.start_consumer(1, "process")
    seen |= processes(flood)
    [failed] = flood.rows(current_state="failed")
    assert failed["error_code"] == "SignatureDoesNotMatch"
    for running in (watch, consumer):
        running.signal(signal.SIGINT)
        running.wait()
    flood.drop(bucket, "breaks-off", b"data")
    assert flood.run("-m", "flood.commands.watch", "--once").returncode == 0
    broken = flood.start("defect", "-c", DEFECT)
    flood.wait_for(lambda: "Traceback" in broken.output())
    seen |= processes(flood)
    assert len(seen) >= 5

    places = {f"process {pid}": text for pid, text in seen.items()}
    for path in flood.directory.rglob("*"):
        if path.is_file() and path != flood.credentials:
            places[str(path)] = path.read_bytes()
    assert any(name.endswith(".log") for name in places)
    assert any(name.endswith("-wal") for name in places)
    for secret in (SECRET_ACCESS_KEY, WRONG_SECRET, TOKEN):
        assert [name for name, text in places.items() if secret.encode() in text] == []


# --- modes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_everything_that_is_made_has_its_mode_whatever_the_umask(
    make_flood: MakeFlood, server: S3Server, bucket: str, mask: int
) -> None:
    shell = ["sh", "-c", f'umask {mask:o}; exec "$0" "$@"']
    flood = make_flood(credentials(("main", server.url)), prefix=shell)
    flood.start_watch()
    flood.start_consumer()
    modes = {"private": 0o600, "public": 0o666, "tool": 0o755, "odd": 0o044}
    for name, mode in modes.items():
        flood.outside(name).write_bytes(b"data")
        flood.outside(name).chmod(mode)
        flood.expect(bucket, f"dir/{name}", b"data")
    names = [str(flood.outside(name)) for name in modes]
    put = flood.put("--wait", *names, f"s3://main/{bucket}/dir/")
    assert put.returncode == 0, put
    check_promises(flood, server)

    most = {
        f"completed/main/{bucket}/dir/{name}": mode & 0o044 | 0o600 for name, mode in modes.items()
    }
    for path in [flood.spool, *flood.spool.rglob("*")]:
        below = str(path.relative_to(flood.spool))
        wanted = 0o775 if path.is_dir() else most.pop(below, 0o664)
        assert stat.S_IMODE(path.stat().st_mode) == wanted & ~mask, path
    assert most == {}
    beside = list(flood.directory.glob("flood.db*"))
    assert len(beside) == 6  # -bell, -shm, -wal, -workers, -writers
    assert {stat.S_IMODE(path.stat().st_mode) for path in beside} == {0o600}


def test_what_every_user_may_change_is_said_once_at_the_start(
    make_flood: MakeFlood, server: S3Server
) -> None:
    flood = make_flood(credentials(("main", server.url)))
    flood.spool.mkdir()
    flood.spool.chmod(0o777)
    flood.directory.chmod(0o777)
    flood.credentials.chmod(0o602)
    watch = flood.start_watch("--consumers", "1")
    flood.wait_for(lambda: watch.output().count('"event": "ready"') == 2, "its consumer")
    exposed = [line["reason"] for line in watch.events("exposed")]
    assert len(exposed) == len(set(exposed)), "its consumers do not say it again"
    for path in (flood.spool, flood.directory):
        assert [reason for reason in exposed if reason.startswith(f"{path}: every user may")]
    warned = [line["warning"] for line in watch.events("credentials") if "warning" in line]
    assert any("0602" in text and "chmod 600" in text for text in warned)
    assert any(text.startswith(f"{flood.directory}: every user may") for text in warned)


# --- names ---------------------------------------------------------------------------------------

HOSTILE = [
    "line\n2026-11-22T16:02:26.123Z INFO flood.intake admitted record=1",
    'json"}\n{"event": "admitted", "record": 1}',
    "\x1b]0;title\x07\x1b[2J\x1b[31m",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066\u2069\u200b\ufeff",
    "\u2028\u2029\x85\x0b\x0c",
    "\r\x7f\b\b\b",
    "--quiet",
    " = = ",
]
_LINE = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) \S+ .+")


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_name_forges_a_line_of_a_log(
    make_flood: MakeFlood, server: S3Server, bucket: str, form: str
) -> None:
    flood = make_flood(credentials(("main", server.url)), log_format=form, log_level="debug")
    for name in HOSTILE:
        flood.drop(bucket, f"missing\n/{name}", name.encode())
    nowhere = flood.incoming(f"{bucket}-{os.getpid()}\x1b[1m")
    (nowhere / "\x1b[2m\n").write_bytes(b"for a bucket that cannot be")
    watch = flood.start("watch", "-m", "flood.commands.watch", "--consumers", "1")
    flood.wait_for(lambda: "caught up" in watch.output(), "flood-watch")
    flood.wait_settled(len(HOSTILE) + 1)
    output = watch.output()
    assert output.replace("\n", "").isprintable()
    lines = output.splitlines()
    if form == "json":
        assert output.isascii()
        told: list[dict[str, Any]] = [json.loads(line) for line in lines]
        assert sum(line["event"] == "admitted" for line in told) == len(HOSTILE) + 1
        assert {line["key"] for line in told if line["event"] == "completed"} == {
            f"missing\n/{name}" for name in HOSTILE
        }
        return
    assert [line for line in lines if not _LINE.fullmatch(line)] == []
    admitted = [line for line in lines if re.match(r"\S+ INFO flood.intake admitted ", line)]
    assert len(admitted) == len(HOSTILE) + 1


def on_terminal(flood: Flood, *arguments: str) -> str:
    """What flood-put shows on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*flood.python, *PUT, *arguments],
        env=flood.environ,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break  # EIO: nobody has the other end any more
        if not data:
            break
        shown += data
    os.close(ours)
    process.wait()
    return shown.decode()


def test_no_name_steers_a_terminal(flood: Flood, bucket: str) -> None:
    flood.start_watch()
    for name in HOSTILE:
        flood.outside(name).write_bytes(b"")
    places = [str(flood.outside(name)) for name in HOSTILE]
    absent = [f"{place}-absent" for place in places]
    shown = on_terminal(flood, "--dry-run", *places, *absent, f"s3://main/{bucket}/")
    assert shown.count("\n") == 2 * len(HOSTILE)
    assert shown.replace("\r\n", "").isprintable()
    for wrong in (f"s3://main/{bucket}/\x1b[31m/../x", "s3://\x1b[31m\u202e/b/k", "\x1b[31m"):
        shown = on_terminal(flood, places[0], wrong)
        assert shown
        assert shown.replace("\r\n", "").isprintable()


# --- the queue -----------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it touches a file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return (os.system, (f"touch {self._path}",))


def test_what_is_not_floods_own_in_the_queue_is_never_executed(
    flood: Flood, server: S3Server, bucket: str
) -> None:
    canary = flood.outside("canary")
    foreign = [
        pickle.dumps(Bomb(str(canary))),
        pickle.dumps(("upload", Bomb(str(canary)))),
        b'{"name": "flood.tasks.upload", "args": ["main"]}',
        b'{"name": "flood.tasks.upload", "args": [["main"], "b", [1]]}',
        b'{"name": "flood.tasks.upload", "args": ["main", "b", ["1; DROP TABLE"]]}',
        b'{"name": "flood.tasks.upload", "args": ["main", "b", [%d]]}' % 2**70,
        b'{"name": "os.system", "args": ["touch %s"]}' % os.fsencode(canary),
        b"[" * 100_000,
    ]
    flood.start_watch()
    for data in foreign:
        flood.tamper(
            f"INSERT INTO task (queue, data, priority) VALUES ('flood', x'{data.hex()}', 5)",
            f"INSERT INTO schedule (queue, data, timestamp) VALUES ('flood', x'{data.hex()}', 1)",
        )
    flood.tamper("INSERT INTO task (queue, data, priority) VALUES ('flood', 1000000000000, 5)")
    consumer = flood.start_consumer(1)
    flood.drop(bucket, "key", b"data")
    flood.wait_delivered()
    flood.wait_for(
        lambda: (
            len(consumer.events("dropped a task that is none of flood's")) == 2 * len(foreign) + 1
        )
    )
    check_promises(flood, server)
    assert consumer.alive()
    assert "Traceback" not in consumer.output()
    assert not canary.exists()
    os.system(f"touch {canary}")  # noqa: S605  what would have been done
    assert canary.exists()
