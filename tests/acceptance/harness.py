"""A spool with flood's real processes on it."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from flood.locks import held
from flood.writers import QUEUES
from tests.servers import S3Server, credentials_section

CHECKOUT = Path(__file__).parents[2]
STATES = ("incoming_tmp", "incoming", "processing", "completed", "failed")
PATIENCE = 60.0

#: Errors of records whose file is in none of the directories any more.
NOWHERE = ("vanished", "abandoned")

_POLL = 0.02

#: A row of a table, by the names of its columns.
Row = dict[str, Any]


#: Makes a spool for this text of a credentials file, with these settings.
MakeFlood = Callable[..., "Flood"]


def digest(data: bytes) -> str:
    """Return what two equal files share."""
    return hashlib.sha256(data).hexdigest()


class Running:
    """One of flood's processes, its stderr in a file."""

    def __init__(self, name: str, command: list[str], log: Path, **options: Any) -> None:
        self.name = name
        self.log = log
        # Should the tests be killed, nothing of this goes on.
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*tied, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def events(self, name: str = "") -> list[Row]:
        """Return the lines of its log, those of one event or all."""
        lines = []
        for text in self.output().splitlines():
            # A process that was killed may have left half a line.
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and name in ("", line.get("event")):
                lines.append(line)
        return lines

    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Return its exit status, once it has ended."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Leave nothing of it, nor of what it started in its own session."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def without_roots_rights() -> list[str]:
    """Return the prefix of a command that cannot read what a file's mode forbids."""
    if os.geteuid():
        return []
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    try:
        subprocess.run([*prefix, "true"], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("root reads everything, and setpriv cannot take that right away here")
    return prefix


@dataclass(frozen=True)
class Given:
    """A file that was entrusted to flood."""

    profile: str
    bucket: str
    key: str
    digest: str


class Flood:
    """A new spool below `directory`, with the environment of its processes; a context manager.

    `settings` are FLOOD_* variables by their names without it. Nothing of this machine's own
    configuration gets in. `prefix` is a command line that runs the command line after it.
    """

    def __init__(
        self, directory: Path, credentials: str, *, prefix: Sequence[str] = (), **settings: object
    ) -> None:
        self.directory = directory
        self.python = [*prefix, sys.executable]
        self.spool = directory / "spool"
        self.database = directory / "flood.db"
        self.credentials = directory / "credentials"
        self.credentials.touch(mode=0o600)
        self.credentials.write_text(credentials)
        home = directory / "home"
        home.mkdir()
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(CHECKOUT),
            "FLOOD_SERVER_DIRECTORY": str(self.spool),
            "FLOOD_DATABASE": str(self.database),
            "FLOOD_CREDENTIALS": str(self.credentials),
            "FLOOD_RETRY_INITIAL_DELAY": "0.2s",
            "FLOOD_LOG_FORMAT": "json",
        }
        self.environ |= {f"FLOOD_{name.upper()}": str(value) for name, value in settings.items()}
        self.running: list[Running] = []
        self.given: list[Given] = []

    def __enter__(self) -> "Flood":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process, whatever state it is in, with all that came from it."""
        for one in self.running:
            one.end()
        mine = os.fsencode(f"FLOOD_DATABASE={self.database}")
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mine in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
            except (OSError, ValueError):
                continue  # another user's, or gone by now

    # --- processes ---------------------------------------------------------------------------

    def start(self, name: str, *command: str) -> Running:
        """Start `python COMMAND...` in the background."""
        log = self.directory / f"{len(self.running)}-{name}.log"
        running = Running(
            name,
            [*self.python, *command],
            log,
            env=self.environ,
            cwd=self.directory,
        )
        self.running.append(running)
        return running

    def start_watch(self, *arguments: str, until: str = "caught up") -> Running:
        """Start flood-watch; return once its log has the event `until`."""
        watch = self.start("watch", "-m", "flood.commands.watch", *arguments)
        self.wait_for(lambda: watch.events(until) or not watch.alive(), f"flood-watch {until}")
        assert watch.alive(), watch.output()
        return watch

    def start_consumer(
        self, workers: int = 2, kind: Literal["thread", "process"] = "thread", *arguments: str
    ) -> Running:
        """Start huey_consumer; return once it is about to start its workers."""
        consumer = self.start(
            "consumer",
            *("-m", "huey.bin.huey_consumer", "flood.tasks.huey"),
            *("-w", str(workers), "-k", kind, *arguments),
        )
        self.wait_for(lambda: consumer.events("ready") or not consumer.alive(), "a consumer")
        assert consumer.alive(), consumer.output()
        return consumer

    def put(self, *arguments: str, seconds: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
        """Run flood-put to its end."""
        return self.run("-m", "flood.commands.put", *arguments, seconds=seconds)

    def run(
        self, *command: str, seconds: float = PATIENCE, environ: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run `python COMMAND...` to its end."""
        return subprocess.run(
            [*self.python, *command],
            env={**self.environ, **(environ or {})},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )

    # --- files -------------------------------------------------------------------------------

    def incoming(self, bucket: str, profile: str = "main") -> Path:
        """Return a bucket's directory in incoming, which exists then."""
        directory = self.spool / "incoming" / profile / bucket
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def drop(self, bucket: str, key: str, data: bytes, profile: str = "main") -> Path:
        """Move a whole file into incoming, as a careful producer does."""
        target = self.incoming(bucket, profile) / key
        target.parent.mkdir(parents=True, exist_ok=True)
        outside = self.outside(f"drop-{len(self.given)}")
        outside.write_bytes(data)
        self.expect(bucket, key, data, profile)
        outside.rename(target)
        return target

    def outside(self, name: str) -> Path:
        """Return a path on the spool's filesystem that flood does not look at."""
        directory = self.directory / "outside"
        directory.mkdir(exist_ok=True)
        return directory / name

    def expect(self, bucket: str, key: str, data: bytes, profile: str = "main") -> None:
        """Have `check_promises` ask for this file, however it gets into the spool."""
        self.given.append(Given(profile, bucket, key, digest(data)))

    def files(self, *states: str) -> list[str]:
        """Return every file of these states, all for none, by its path below the spool."""
        found = []
        for state in states or STATES:
            for folder, _, names in os.walk(self.spool / state):
                found += [os.path.relpath(f"{folder}/{name}", self.spool) for name in names]
        return sorted(found)

    # --- records -----------------------------------------------------------------------------

    def query(self, sql: str, *parameters: object) -> list[Row]:
        """Return the answer of the database, opened read-only."""
        with closing(self._connect("ro")) as connection:
            return [dict(row) for row in connection.execute(sql, parameters)]

    def tamper(self, *statements: str) -> None:
        """Do to the database what only a hostile hand does."""
        with closing(self._connect("rw")) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{self.database}?mode={mode}", uri=True, timeout=30)
        connection.row_factory = sqlite3.Row
        return connection

    def rows(self, **where: object) -> list[Row]:
        """Return the records, by id; `where` names columns with the values they have."""
        return self._select("*", "ORDER BY id", where)

    def _select(self, columns: str, order: str, where: Mapping[str, object]) -> list[Row]:
        if not self.database.exists():
            return []
        condition = " AND ".join(["1", *(f"{name} IS ?" for name in where)])
        return self.query(
            f"SELECT {columns} FROM file_records WHERE {condition} {order}", *where.values()
        )

    def row(self, **where: object) -> Row:
        """Return the only such record."""
        [row] = self.rows(**where)
        return row

    def attempts(self, record_id: int) -> list[Row]:
        """Return a record's attempts in their order."""
        return self.query("SELECT * FROM retry_attempts WHERE record_id = ? ORDER BY id", record_id)

    def count(self, **where: object) -> int:
        """Return how many records there are."""
        counts = self._select("count(*) AS records", "", where)
        return sum(row["records"] for row in counts)

    def settled(self, count: int) -> bool:
        """Whether so many records are completed or failed, with none on the way."""
        columns = "current_state, count(*) AS records"
        states = self._select(columns, "GROUP BY current_state", {})
        if sum(row["records"] for row in states) != count:
            return False
        return {row["current_state"] for row in states} <= {"completed", "failed"}

    def wait_for(
        self, condition: Callable[[], object], what: str = "", seconds: float = PATIENCE
    ) -> None:
        """Wait until the condition holds; fail with what flood's state is if it does not."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"in vain for {what or condition}\n{self.state()}"
            time.sleep(_POLL)

    def stopped_at_rest(self, *pids: int) -> bool:
        """Stop these processes, unless one of them is writing to the database, which would keep all
        others waiting: then they go on."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:  # a signal takes its time
            while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "T":
                time.sleep(_POLL)
        if not any(held(f"{self.database}{queue}") for queue in QUEUES):
            return True
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        return False

    def wait_settled(self, count: int, seconds: float = PATIENCE) -> None:
        """Wait until exactly so many records are settled."""
        self.wait_for(lambda: self.settled(count), f"{count} settled records", seconds)

    def wait_delivered(self) -> None:
        """Wait until everything that was given is settled."""
        self.wait_settled(len(self.given))

    def state(self) -> str:
        """Return what a person would look at first."""
        columns = "id current_state bucket filepath owner retry_count next_attempt_at error_code"
        lines = [str([row[name] for name in columns.split()]) for row in self.rows()]
        return "\n".join([*_ends(lines), "", *_ends(self.files())])

    def logs(self) -> str:
        """Return what the processes have said, but for their settings."""
        parts = []
        for one in self.running:
            lines = [x for x in one.output().splitlines() if '"event": "setting"' not in x]
            status = one.process.poll()
            parts += [f"--- {one.name}, process {one.pid}, exit status {status}", *_ends(lines)]
        return "\n".join(parts)


def gone(pid: int) -> bool:
    """Whether a process has ended, even if nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def _ends(lines: list[str], most: int = 60) -> list[str]:
    if len(lines) <= 2 * most:
        return lines
    return [*lines[:most], f"... {len(lines) - 2 * most} more ...", *lines[-most:]]


def credentials(*profiles: tuple[str, str]) -> str:
    """Return a credentials file's text, for profiles with their endpoints."""
    return "\n".join(credentials_section(name, url) for name, url in profiles)


def check_promises(flood: Flood, server: S3Server, *, failed: Collection[str] = ()) -> None:
    """Check all that holds once everything is settled, whatever happened before.

    `failed` are the keys that end in failed.
    """
    rows = flood.rows()
    files = flood.files()
    assert flood.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert flood.files("incoming_tmp", "incoming", "processing") == []

    # Each file is where its record says, and no other file is anywhere.
    places = [_name(row["spool_path"]) for row in rows if row["error_code"] not in NOWHERE]
    assert sorted(places) == files
    attempts: dict[int, list[Row]] = {row["id"]: [] for row in rows}
    for each in flood.query("SELECT * FROM retry_attempts ORDER BY id"):
        attempts[each["record_id"]].append(each)
    for row in rows:
        _check_row(flood, row, failed)
        _check_attempts(row, attempts[row["id"]])

    # Nothing that was given is lost, overwritten or recorded twice.
    held = [
        Given(row["profile"], row["bucket"], _name(row["filepath"]), _content(flood, row))
        for row in rows
        if row["error_code"] not in NOWHERE
    ]
    assert _sorted(held) == _sorted(flood.given)

    # The bucket has the last version of each key, byte for byte, with nothing besides.
    last: dict[tuple[str, str], Row] = {}
    buckets = {row["bucket"] for row in rows if row["current_state"] == "completed"}
    for row in rows:
        if row["current_state"] == "completed":
            last[row["bucket"], row["filepath"]] = row
    for bucket in buckets:
        keys = sorted(key for name, key in last if name == bucket)
        assert server.keys(bucket) == keys
        assert server.unfinished(bucket) == []
    for (bucket, key), row in last.items():
        assert digest(server.read(bucket, key)) == _content(flood, row), key


def _check_row(flood: Flood, row: Row, failed: Collection[str]) -> None:
    wanted = "failed" if _name(row["filepath"]) in failed else "completed"
    assert row["current_state"] == wanted, row
    assert row["upload_outcome"] == {"completed": "success", "failed": "failure"}[wanted], row
    assert row["owner"] is None, row
    assert row["next_attempt_at"] is None, row
    assert row["multipart_upload_id"] is None, row
    if wanted == "completed":
        assert row["retry_count"] == 0, row
        assert row["bytes_sent"] == row["size"], row
        assert row["error_code"] is None, row
    else:
        assert row["error_code"], row
        assert row["error_message"], row
    if row["error_code"] not in NOWHERE:
        assert _name(row["spool_path"]).startswith(f"{wanted}/"), row
        status = os.lstat(flood.spool / _name(row["spool_path"]))
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        assert identity == tuple(row[x] for x in ("device", "inode", "size", "mtime_ns")), row


def _check_attempts(row: Row, attempts: list[Row]) -> None:
    numbers = [each["retry_number"] for each in attempts]
    assert numbers == sorted(numbers), attempts
    assert max(numbers, default=0) <= 10, attempts
    for each in attempts:
        assert each["started_at"] <= each["finished_at"], each
        assert (each["kind"] is None) == (each["outcome"] == "success"), each
    outcomes = [each["outcome"] for each in attempts]
    if outcomes and row["error_code"] not in NOWHERE:
        assert outcomes[-1] == row["upload_outcome"], attempts
        assert "success" not in outcomes[:-1], attempts


def _content(flood: Flood, row: Row) -> str:
    return digest((flood.spool / _name(row["spool_path"])).read_bytes())


def _name(value: str | bytes) -> str:
    return os.fsdecode(value)


def _sorted(given: Iterable[Given]) -> list[Given]:
    return sorted(given, key=lambda one: (one.profile, one.bucket, one.key, one.digest))
