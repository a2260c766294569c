"""A spool with its database for one test."""

import hashlib
import json
import os
import resource
import stat
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from flood import claims as claiming
from flood import models, schema
from flood.advice import Advice
from flood.columns import name_from, name_value, utc_text
from flood.config import Settings
from flood.door import Candidate
from flood.identity import Identity, identity_of
from flood.intake import Intake
from flood.layout import CARD
from flood.leaps import Running
from flood.locks import WorkerLocks
from flood.record_values import Claimed
from flood.spool import Spool
from flood.states import INCOMING, PROCESSING
from flood.walk import Found
from huey_config import huey
from tests.uploading import profile
from workers.agent import Agent
from workers.clearing import clear
from workers.decisions import Decision
from workers.settle import settle
from workers.sweep import sweep
from workers.transfer import Uploader

START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
LARGE = 16 * 1024**2
NOBODY = "0" * 32  # the name of a worker that has no lock


@dataclass
class Clock:
    """Time that passes when a test says so."""

    moment: datetime = START

    def now(self) -> datetime:
        return self.moment

    def seconds(self) -> float:
        return (self.moment - START).total_seconds() + 1000.0

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@dataclass
class House:
    """One spool, its database, the tasks that were asked for."""

    spool: Spool
    database: str
    clock: Clock = field(default_factory=Clock)
    enqueued: list[tuple[str, str, list[int]]] = field(default_factory=list)
    scheduled: list[tuple[int, str, str, datetime, int]] = field(default_factory=list)
    rung: list[tuple[str, str]] = field(default_factory=list)
    #: For how long its machine has been running, if not ever since and with a clock that is right.
    machine: Callable[[], Running] | None = None

    def running(self) -> Running:
        return self.machine() if self.machine else Running("boot", self.clock.seconds())

    def intake(self, spool: Spool | None = None, **changes: Any) -> Intake:
        known: dict[str, Any] = {
            "profiles": lambda: {"p"},
            "ignore": ["*.part", ".nfs*"],
            "large": LARGE,
            "enqueue": lambda *task: self.enqueued.append(task),
            "now": self.clock.now,
        }
        return Intake(spool or self.spool, **{**known, **changes})

    def agent(self, uploader: Uploader | None = None, **changes: Any) -> Agent:
        """An agent that lives as another process would; `uploader` serves its profile "p"."""

        def make_uploader(_profile: object) -> Uploader:
            assert uploader is not None, "this test uploads nothing"
            return uploader

        profiles = {"p": replace(profile("http://127.0.0.1:9"), name="p")}
        known = Agent(
            settings=self.settings(),
            look=lambda **_: profiles,
            spool=self.spool,
            locks=WorkerLocks(self.spool),
            make_uploader=make_uploader,
            now=self.clock.now,
            clock=self.clock.seconds,
            uniform=lambda low, _high: low,
            stopping=lambda: False,
            running=lambda: self.running(),
        )
        return replace(known, **changes)

    def settings(self, **changes: Any) -> Settings:
        known: dict[str, Any] = {
            "config": None,
            "credentials": None,
            "credentials_first": False,
            "server_directory": self.spool.root,
            "database": self.database,
            "retry_initial_delay": 30.0,
            "retry_max": 10,
            "retry_jitter": 0.25,
            "rescan_interval": 300.0,
            "min_free": 0,
            "ignore": (),
            "multipart_threshold": LARGE,
            "multipart_part_size": LARGE,
            "connect_timeout": 5.0,
            "read_timeout": 5.0,
            "bucket_cache_seconds": 60.0,
            "transfer": "curl",
            "concurrency": 4,
            "keep_completed": None,
            "keep_failed": None,
            "keep_records": None,
            "notify_command": None,
            "notify_urls": None,
            "notify_interval": 3600.0,
            "notify_age": 3600.0,
            "consumers": 0,
            "log_level": "info",
            "log_format": "text",
        }
        return Settings(**{**known, **changes})

    def advice(self, **flags: str) -> Advice:
        """What a command advises that was given these flags."""
        origins = dict.fromkeys(flags, "flag")
        return Advice(replace(self.settings(**flags), origins=origins), self.database)

    # --- files -------------------------------------------------------------------------------

    def write(self, path: str, data: bytes = b"data") -> Identity:
        """Write a file below the server directory."""
        absolute = self.spool.absolute(path)
        os.makedirs(os.path.dirname(absolute), exist_ok=True)
        with open(absolute, "wb") as file:
            file.write(data)
            file.flush()
            return identity_of(os.fstat(file.fileno()))

    def files(self) -> dict[str, bytes]:
        """Every file in the five directories with its content."""
        found = {}
        for directory, names, files in os.walk(self.spool.root):
            names[:] = [name for name in names if name != ".flood"]
            for name in files:
                path = os.path.join(directory, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    try:
                        with open(path, "rb") as file:
                            found[os.path.relpath(path, self.spool.root)] = file.read()
                    except FileNotFoundError:
                        continue  # a server moves it at this moment
        return found

    def found(self, directory: str) -> list[Found]:
        return [each for each in self.spool.walk(directory) if isinstance(each, Found)]

    # --- records -----------------------------------------------------------------------------

    def admit(self, *keys: str, data: bytes = b"data") -> list[int]:
        """Put files into incoming/p/b, and admit them; their records, in order."""
        for key in keys:
            self.write(f"incoming/p/b/{key}", data)
        result = self.intake().admit([(Candidate(f"incoming/p/b/{key}"), None) for key in keys])
        assert result.admitted == len(keys), result
        return [self.in_processing(key) for key in keys]

    def wait(self, due: datetime, *destinations: tuple[str, str], files: int = 1) -> None:
        """Records of so many files that wait in processing for their time, in each of these."""
        at, then = utc_text(self.clock.now()), utc_text(due)
        with models.write():
            models.execute_many(
                "INSERT INTO file_records (profile, bucket, filepath, file_creation_date, "
                "current_state, last_updated, device, inode, size, mtime_ns, spool_path, "
                "next_attempt_at, created_at) "
                "VALUES (?, ?, ?, ?, 'processing', ?, 1, ?, 4, 1, ?, ?, ?)",
                [
                    (
                        *map(name_value, each),
                        f"w{number}",
                        at,
                        at,
                        number,
                        f"{PROCESSING}/w{number}",
                        then,
                        at,
                    )
                    for each in destinations
                    for number in range(files)
                ],
            )

    def in_processing(self, key: str) -> int:
        [row] = self.rows("filepath = ? AND current_state = 'processing'", name_value(key))
        return int(row["id"])

    def rows(self, where: str = "1", *parameters: Any) -> list[dict[str, Any]]:
        return _select(f"SELECT * FROM file_records WHERE {where} ORDER BY id", parameters)

    def row(self, record_id: int) -> dict[str, Any]:
        [row] = self.rows("id = ?", record_id)
        return row

    def attempts(self, record_id: int) -> list[dict[str, Any]]:
        return _select("SELECT * FROM retry_attempts WHERE record_id = ? ORDER BY id", (record_id,))

    def states(self) -> list[tuple[str, str, str | None]]:
        """Key, state, outcome of every record, in the order in which they were made."""
        return [
            (
                name_from(row["filepath"]),
                row["current_state"],
                row["upload_outcome"],
            )
            for row in self.rows()
        ]

    def claim(self, *ids: int, owner: str = NOBODY) -> list[Claimed]:
        return claiming.claim(ids, "p", "b", owner=owner, large=LARGE, now=self.clock.now())

    def claim_more(self, bucket: str = "b") -> list[Claimed]:
        """As a worker that goes on, which has one file on its way."""
        return claiming.more(
            "p", bucket, owner=NOBODY, large=LARGE, company=1, now=self.clock.now()
        )

    def claimed(self, owner: str = NOBODY) -> list[Claimed]:
        """What somebody has claimed, in the order of admission."""
        return claiming.of_owner(owner)

    def settle(self, *decisions: Decision, agent: Agent | None = None) -> None:
        settle(agent or self.agent(), decisions, self.schedule)

    def sweep(self, agent: Agent | None = None) -> None:
        known = agent or self.agent()
        sweep(known, self.ring, (), self.schedule)
        clear(known, known.stopping)

    def schedule(self, *retry: Any) -> None:
        self.scheduled.append(retry)

    def ring(self, profile: str, bucket: str) -> None:
        self.rung.append((profile, bucket))

    def recover(self, *, incoming_first: bool = False) -> None:
        """What the next start of flood-watch does, in whichever order the two take turns."""
        intake = self.intake()
        for state in (INCOMING, PROCESSING) if incoming_first else (PROCESSING, INCOMING):
            if state == PROCESSING:
                intake.take_up(self.found(PROCESSING))
            else:
                there = [Candidate(each.path, ahead=True) for each in self.found(INCOMING)]
                intake.admit([(each, None) for each in there])


def _select(sql: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
    cursor = models.execute(sql, parameters)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@contextmanager
def house(directory: Path) -> Iterator[House]:
    """Make a spool below a directory, with the models bound to its database."""
    database = directory / "flood.db"
    database.write_bytes(new_database())
    models.bind(str(database))
    spool = Spool(str(directory / "spool"))
    spool.prepare()
    spool.keep(CARD, json.dumps({"id": "f" * 32, "database": str(database)}))
    try:
        yield House(spool, str(database))
    finally:
        huey.storage.close()  # with the models' connection


@contextmanager
def quick_house() -> Iterator[House]:
    """A spool in memory where that can be had, for tests that make many."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as directory, house(Path(directory)) as made:
        yield made


def deaths(
    call: Callable[[House], object],
    arrange: Callable[[House], None],
    functions: Collection[str],
) -> Iterator[House]:
    """Houses, each arranged anew, in which a process died before one line of the call: before the
    first that it executes in these functions of flood's, then before each other one that finds
    files or database changed since the line before it; in the last house it survives."""
    with quick_house() as made:
        arrange(made)
        lines, count = _telling_lines(functions, made, lambda: call(made))
    for line in [*lines, count + 1]:
        with quick_house() as made:
            arrange(made)
            died = dying_at(line, functions, lambda house=made: call(house)) != 0  # type: ignore[misc]  # bound now
            assert died == (line <= count)
            yield made


def _telling_lines(
    functions: Collection[str], house: House, call: Callable[[], object]
) -> tuple[list[int], int]:
    """The numbers of those lines, of how many; what a death between them leaves is the same, as
    nobody else knows what a process had in memory."""
    lines: list[int] = []
    passed, before = 0, b""

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal passed, before
        if frame.f_code.co_name not in functions or not _is_floods(frame):
            return None
        if event == "line":
            passed += 1
            found = _left_by_death(Path(house.database).parent)
            if found != before:
                lines.append(passed)
            before = found
        return trace

    with tempfile.TemporaryFile("w+") as told:

        def traced() -> None:
            sys.settrace(trace)
            try:
                call()
            finally:
                sys.settrace(None)
            json.dump([lines, passed], told)
            told.flush()

        assert in_child(traced) == 0
        told.seek(0)
        lines, passed = json.load(told)
    return lines, passed


def _left_by_death(directory: Path) -> bytes:
    """A digest of all names and contents below a directory, but for what SQLite makes anew."""
    digest = hashlib.sha256()
    for top, directories, files in os.walk(directory):
        directories.sort()
        for name in sorted([*directories, *files]):
            if name.endswith("-shm"):
                continue
            path = os.path.join(top, name)
            status = os.lstat(path)
            seen = (path, status.st_mode, status.st_ino, status.st_nlink, status.st_mtime_ns)
            digest.update(repr(seen).encode("utf-8", "surrogateescape"))
            if stat.S_ISREG(status.st_mode):
                digest.update(Path(path).read_bytes())
    return digest.digest()


def meddlings(
    call: Callable[[House], object],
    arrange: Callable[[House], None],
    functions: Collection[str],
    meddle: Callable[[House], None],
) -> Iterator[House]:
    """Houses, each arranged anew, in which somebody else did something in the middle of the call:
    before the first line that it executes in these functions of flood's, then before the second,
    until there is no such line."""
    line, met = 0, True
    while met:
        line += 1
        with quick_house() as made:
            arrange(made)
            met = _meddled(line, functions, lambda house=made: meddle(house), lambda: call(made))  # type: ignore[misc]
            yield made


def _meddled(
    line: int,
    functions: Collection[str],
    meddle: Callable[[], None],
    call: Callable[[], object],
) -> bool:
    passed = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal passed
        if frame.f_code.co_name not in functions or not _is_floods(frame):
            return None
        if event == "line":
            passed += 1
            if passed == line:
                meddle()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return passed >= line


@cache
def new_database() -> bytes:
    """A migrated database with the queue's tables; made once, as it takes a while."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/flood.db"
        schema.migrate(path, create=True)
        huey.storage.initialize_schema()
        with models.write():
            models.execute(
                "INSERT INTO spool (id, spool_id, created_at) VALUES (1, ?, ?)",
                ("f" * 32, utc_text(START)),
            )
        models.close()  # which brings everything into the one file
        return Path(path).read_bytes()


@contextmanager
def full_database() -> Iterator[None]:
    """Not one page more fits into the database, as on a full disk."""
    models.execute("VACUUM")  # no page is free, so that it takes little to need another one
    models.execute("PRAGMA max_page_count = 1")  # the pages that it has stay
    try:
        yield
    finally:
        models.execute("PRAGMA max_page_count = 4294967294")


def garble(database: Path) -> None:
    """Change one byte of the schema, so that what SQLite says of it is no UTF-8; nobody may have
    the database open."""
    content = bytearray(database.read_bytes())
    content[content.index(b"CREATE UNIQUE INDEX file_records_one_in_") + 16] = 0xBB
    database.write_bytes(content)


def fork() -> int:
    """os.fork for children that take none of the locks which threads may hold meanwhile."""
    models.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, about those threads
        return os.fork()


def leave_descriptors(count: int) -> None:
    """Have the system allow this process so many further descriptors: numbers may lie unused
    between those that are in use."""
    spare = [os.open("/", os.O_RDONLY) for _ in range(count + 1)]
    for each in spare:
        os.close(each)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare), hard))


@contextmanager
def without_descriptors() -> Iterator[None]:
    """Have the system refuse this process every further descriptor."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    leave_descriptors(0)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def in_child(call: Callable[[], object]) -> int:
    """Run a call in a forked process; return its exit status, 0 if the call came to its end."""
    child = fork()
    if child == 0:
        status = 70
        try:
            call()
            models.close()
            status = 0
        except BaseException:  # noqa: BLE001  the exit status tells
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying_at(line: int, functions: Collection[str], call: Callable[[], object]) -> int:
    """Run a call in a forked process that dies, as if killed, before the so-many-th line which it
    executes in functions of flood's with these names; return its exit status, 0 if it was done
    before that."""

    return in_child(lambda: _meddled(line, functions, lambda: os._exit(9), call))


def _is_floods(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(("flood.", "workers."))
