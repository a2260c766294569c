"""A process is killed at each named point; whoever comes after it brings everything to its end."""

import json
import logging
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from flood import models, tasks
from flood.columns import utc_moment
from flood.commands import prune, put, retry, watch
from huey_config import huey
from tests import spooling
from tests.crash_points import POINTS, Point, die_at
from tests.servers import S3Server, credentials_section
from tests.spooling import in_child

MIB = 1024**2
NOWHERE = "http://127.0.0.1:9"

#: What is left of a copy that flood-put did not finish, in the words of its record.
HALF = ("abandoned", "vanished")


class StopsWhenCaughtUp(logging.Handler):
    """Ends a flood-watch that has taken in everything that waited."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "caught up":
            os.kill(os.getpid(), signal.SIGTERM)


@dataclass
class Stage:
    """One spool with one file on its way; each process of flood is a fork that runs its command."""

    home: Path
    server: S3Server
    bucket: str
    content: bytes
    killed: int = 0
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def spool(self) -> Path:
        return self.home / "spool"

    @property
    def database(self) -> Path:
        return self.home / "flood.db"

    def prepare(self) -> None:
        (self.home / "source").write_bytes(self.content)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "NO_PROXY": "127.0.0.1",
            "FLOOD_SERVER_DIRECTORY": str(self.spool),
            "FLOOD_DATABASE": str(self.database),
            "FLOOD_CREDENTIALS": str(self.home / "credentials"),
            "FLOOD_RETRY_INITIAL_DELAY": "50ms",
            "FLOOD_MULTIPART_THRESHOLD": "5MiB",
            "FLOOD_MULTIPART_PART_SIZE": "5MiB",
        }
        self.reach(self.server.url)

    def reach(self, url: str) -> None:
        """Say where the store is."""
        path = self.home / "credentials"
        path.write_text(credentials_section("p", url))
        path.chmod(0o600)

    # --- processes ---------------------------------------------------------------------------

    def process(self, command: Callable[[], int], point: Point | None) -> int:
        """Run a command in a process of its own, to its end or to the point; its exit status."""

        def run() -> None:
            log = os.open(self.home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w") for n in (1, 2))
            logging.getLogger().handlers.clear()
            os.environ.clear()
            os.environ.update(self.environ)
            if point is not None:
                die_at(point)
            status = command()
            assert status == 0, status

        status = in_child(run)
        self.killed += status == -signal.SIGKILL
        return status

    def put(self, point: Point | None = None) -> int:
        target = f"s3://p/{self.bucket}/dir/key"
        return self.process(lambda: put.main([str(self.home / "source"), target]), point)

    def retry(self, point: Point | None = None) -> int:
        return self.process(lambda: retry.main(["--all"]), point)

    def prune(self, point: Point | None = None) -> int:
        """One that keeps no files, and records no longer than it must."""
        return self.process(lambda: prune.main(["--keep-completed=0", "--keep-records=1h"]), point)

    def watch(self, point: Point | None = None) -> int:
        def command() -> int:
            logging.getLogger("flood").addHandler(StopsWhenCaughtUp())
            return watch.main([])

        return self.process(command, point)

    def consumer(self, point: Point | None = None) -> int:
        """A consumer that ends when nothing is left to do, or one that dies, when nothing is left
        to do now."""

        def command() -> int:
            huey.prepare(os.environ)
            if point is not None and point.course == "queue lost":
                for table in ("task", "schedule", "kv"):
                    models.execute(f"DROP TABLE {table}")
            huey.enqueue(tasks.sweep.s())  # as its scheduler does first of all
            deadline = time.monotonic() + 20.0
            while time.monotonic() < deadline:
                for task in huey.read_schedule():
                    huey.enqueue(task)
                while (task := huey.dequeue()) is not None:
                    huey.execute(task)
                    if not huey.storage.queue_size():
                        break
                if point is not None or not huey.storage.schedule_size():
                    return 0
                time.sleep(0.005)
            return 1

        return self.process(command, point)

    # --- what is there -------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        if not self.database.exists():
            return []
        with closing(sqlite3.connect(self.database)) as connection:
            connection.row_factory = sqlite3.Row
            try:
                found = connection.execute("SELECT * FROM file_records ORDER BY id").fetchall()
            except sqlite3.OperationalError:
                return []  # not migrated yet
            return [dict(row) for row in found]

    def places(self) -> list[str]:
        """The states that have a file, whatever its name there."""
        states = ("incoming_tmp", "incoming", "processing", "completed", "failed")
        return [
            state for state in states for path in (self.spool / state).rglob("*") if path.is_file()
        ]

    def state(self) -> str:
        """Which line of the table of states this is."""
        places, rows = self.places(), self.rows()
        assert len(places) <= 1, "a file is in one place at any time"
        place = places[0] if places else None
        row = rows[-1] if rows else None
        now = datetime.now(timezone.utc)
        if place is None:
            settled = row is None or row["current_state"] in ("completed", "failed")
            return "-" if settled else "S11"
        if place in ("incoming_tmp", "incoming"):
            assert row is None or row["current_state"] in ("incoming_tmp", "incoming")
            return "S0" if place == "incoming_tmp" else "S1"
        if place == "processing":
            if row is None or row["current_state"] != "processing":
                return "S2"
            if row["owner"] is not None:
                return "S6"
            assert row["next_attempt_at"] is not None
            due = utc_moment(row["next_attempt_at"])
            assert due < now or row["retry_count"] or row["alone"]
            return "S4" if row["next_attempt_at"] > row["last_updated"] else "S3"
        assert row is not None
        settled = row["current_state"] == place
        return {"completed": ("S7", "S8"), "failed": ("S9", "S10")}[place][settled]

    def check_end(self, *, fails: bool, earlier: int = 0) -> None:
        """The promise: in completed with its bytes in the bucket, or in failed with a reason.
        `earlier` records of the file have failed before."""
        end = "failed" if fails else "completed"
        below = self.spool / end / "p" / self.bucket
        assert self.places() == [end]
        assert (below / "dir/key").read_bytes() == self.content
        rows = self.rows()[earlier:]
        [row] = [row for row in rows if row["error_code"] not in HALF]
        assert [each["current_state"] for each in rows if each is not row] in ([], ["failed"])
        assert (row["current_state"], row["spool_path"]) == (end, f"{end}/p/{self.bucket}/dir/key")
        assert (row["owner"], row["next_attempt_at"], row["multipart_upload_id"]) == (None,) * 3
        assert bool(row["error_code"]) == bool(row["error_message"]) == fails
        with closing(sqlite3.connect(self.database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            numbers = connection.execute(
                "SELECT retry_number, outcome, kind FROM retry_attempts WHERE record_id > ? "
                "ORDER BY id",
                (earlier,),
            ).fetchall()
        free = [kind in ("lost", "interrupted") for _, _, kind in numbers]
        for (number, _, _), cost, (later, _, _) in zip(numbers, free, numbers[1:], strict=False):
            assert later in ({number, number + 1} if cost else {number + 1}), numbers
        if fails:
            return
        assert self.server.keys(self.bucket) == ["dir/key"]
        assert self.server.read(self.bucket, "dir/key") == self.content
        assert self.server.unfinished(self.bucket) == []


@pytest.fixture
def stage(
    tmp_path: Path, moto_server: S3Server, bucket_name: Callable[[], str]
) -> Callable[[Point], Stage]:
    def make(point: Point) -> Stage:
        bucket = bucket_name()
        if point.course != "refused":
            moto_server.make_bucket(bucket)
        size = 5 * MIB + 1 if point.course == "large" else 1000
        made = Stage(tmp_path, moto_server, bucket, bytes(range(250)) * (size // 250 + 1))
        if point.course == "new":
            made.prepare()
            return made
        with spooling.house(tmp_path) as house:
            card = {"id": "f" * 32, "database": house.database}
            house.spool.keep(".flood/spool", json.dumps(card))
        made.prepare()
        return made

    return make


def lead_to(point: Point, stage: Stage) -> None:
    """All that happens before the process starts that is to die."""
    if point.who == "put" or point.course == "new":
        return
    if point.course == "half put":
        copied = next(each for each in POINTS if each.name == "put-copied")
        assert stage.put(copied) == -signal.SIGKILL
        return
    assert stage.put() == 0
    if point.who == "watch":
        return
    assert stage.watch() == 0
    if point.who == "sweeper":
        claimed = next(each for each in POINTS if each.name == "claimed")
        assert stage.consumer(claimed) == -signal.SIGKILL
    if point.course == "unreachable":
        stage.reach(NOWHERE)


def of(*who: str) -> list[Any]:
    return [pytest.param(point, id=point.name) for point in POINTS if point.who in who]


@pytest.mark.parametrize("point", of("retry"))
def test_a_file_goes_back_whoever_dies_here(point: Point, stage: Callable[[Point], Stage]) -> None:
    made = stage(point)
    assert (made.put(), made.watch(), made.consumer()) == (0, 0, 0)
    assert made.state() == "S10"
    assert made.retry(point) == -signal.SIGKILL, (made.home / "log").read_text()
    assert made.state() == point.state

    made.server.make_bucket(made.bucket)
    assert (made.retry(), made.watch(), made.consumer()) == (0, 0, 0), made.state()
    made.check_end(fails=False, earlier=1)
    if point.state in ("S3", "S10"):  # else it goes on as if a person had moved it
        assert [row["left_how"] for row in made.rows()] == ["retried", None]
        assert [row["origin"] for row in made.rows()] == [None, 1]


@pytest.mark.parametrize("point", of("prune"))
def test_a_proven_file_goes_whoever_dies_here(
    point: Point, stage: Callable[[Point], Stage]
) -> None:
    made = stage(point)
    assert (made.put(), made.watch(), made.consumer()) == (0, 0, 0)
    with closing(sqlite3.connect(made.database)) as connection, connection:
        connection.execute("UPDATE file_records SET completed_at = '2026-03-01T12:00:00.000000Z'")
    assert made.prune(point) == -signal.SIGKILL, (made.home / "log").read_text()
    assert made.state() == point.state
    if made.state() == "S8":
        made.check_end(fails=False)

    assert made.prune() == 0, (made.home / "log").read_text()
    assert (made.places(), made.rows()) == ([], [])
    assert made.server.read(made.bucket, "dir/key") == made.content
    with closing(sqlite3.connect(made.database)) as connection:
        assert connection.execute("SELECT count(*) FROM retry_attempts").fetchone() == (0,)


@pytest.mark.parametrize("point", of("put", "watch", "consumer", "sweeper"))
def test_whoever_dies_here_loses_nothing(point: Point, stage: Callable[[Point], Stage]) -> None:
    made = stage(point)
    lead_to(point, made)
    before = made.killed
    if point.who == "put":
        made.put(point)
    elif point.who == "watch":
        made.watch(point)
    else:
        made.consumer(point)
    assert made.killed == before + 1, (made.home / "log").read_text()
    assert made.state() == point.state

    made.reach(made.server.url)
    if point.course == "new":
        assert made.watch() == 0, (made.home / "log").read_text()
    if made.state() in ("-", "S0", "S11"):
        assert made.put() == 0, (made.home / "log").read_text()
    assert made.watch() == 0, (made.home / "log").read_text()
    assert made.consumer() == 0, (made.home / "log").read_text()
    if any(row["current_state"] == "incoming_tmp" for row in made.rows()):
        # The record of a half copy, whose inode the next one got, ends with the sweep after that.
        assert made.consumer() == 0, (made.home / "log").read_text()
    made.check_end(fails=point.course == "refused")


def test_each_name_is_given_once() -> None:
    assert len({point.name for point in POINTS}) == len(POINTS)
