"""What a spool, its database, its logs and its bucket show, collected for judging."""

import hashlib
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flood.locks import WorkerLocks
from flood.spool import Spool
from flood.states import STATES

#: How large the parts are in which files go whose ETag is of parts, in bytes.
PART_SIZE: Final = 5 * 2**20

#: A row of a table, by the names of its columns.
Row = dict[str, Any]


@dataclass(frozen=True)
class File:
    """A file in the spool, by its path from the server directory."""

    path: str
    identity: tuple[int, int, int, int]
    links: int
    digest: str

    @property
    def state(self) -> str:
        return self.path.partition("/")[0]


@dataclass(frozen=True)
class Input:
    """A file that was brought to flood; `number` orders those of one key.

    `certain`: its producer was told that it is delivered. `removed`: somebody took it out again.
    `awaited`: flood-put --wait said that it is uploaded. `content` makes its bytes anew; if its
    writer was cut off, `partial`, any beginning of them may have arrived.
    """

    number: int
    bucket: str
    key: str
    digest: str
    certain: bool = True
    removed: bool = False
    awaited: bool = False
    content: Callable[[], bytes] | None = None
    partial: bool = False

    def begins(self, path: Path) -> bool:
        """Whether this file is a beginning of what was to be delivered."""
        if self.content is None or not self.partial:
            return False
        return self.content().startswith(path.read_bytes())

    def beginning(self, size: int) -> str | None:
        """The digest of so many of its first bytes, if that may be all that arrived."""
        if self.content is None or not self.partial:
            return None
        return _digest(self.content()[:size])

    def proven_by(self, row: Row) -> str | None:
        """The digest of what this row's receipt is of, by size and ETag, if that is this input, or
        may be the beginning of it that arrived; else None."""
        if self.content is None:
            return None
        data = self.content()
        if not self.partial and len(data) != row["size"]:
            return None
        data = data[: row["size"]]
        return _digest(data) if row["etag"] == _etag(data, "-" in (row["etag"] or "")) else None


@dataclass
class Evidence:
    """Everything that the predicates of `tests.invariants` look at."""

    root: Path
    rows: list[Row] = field(default_factory=list)
    attempts: Mapping[int, list[Row]] = field(default_factory=dict)
    #: Tasks of the queue, scheduled ones too; a task that cannot be read is {}.
    tasks: list[Row] = field(default_factory=list)
    raw_tasks: list[bytes] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    integrity: str = "ok"
    dead_owners: set[str] = field(default_factory=set)
    #: Digest of each object by bucket with key.
    objects: dict[tuple[str, str], str] = field(default_factory=dict)
    #: Multipart uploads that the store still has, in words.
    unfinished: list[str] = field(default_factory=list)
    #: Lines of each log.
    logs: dict[str, list[str]] = field(default_factory=dict)
    #: Those of flood's processes, as every user of the machine can read them.
    command_lines: list[str] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    #: How many runs of retention were killed, or could not write down what they did.
    prunings_broken_off: int = 0


def collect(root: Path, database: Path, logs: Iterable[Path] = ()) -> Evidence:
    """Read everything but the bucket; nothing is changed, and nobody should be at work."""
    found = Evidence(root)
    uri = f"file:{database}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
        connection.row_factory = sqlite3.Row
        found.integrity = "; ".join(row[0] for row in connection.execute("PRAGMA integrity_check"))
        found.rows = [_row(row) for row in connection.execute("SELECT * FROM file_records")]
        attempts: dict[int, list[Row]] = defaultdict(list)
        for row in connection.execute("SELECT * FROM retry_attempts ORDER BY id"):
            attempts[row["record_id"]].append(_row(row))
        found.attempts = attempts
        found.raw_tasks = _tasks(connection)
    found.tasks = [_task(data) for data in found.raw_tasks]
    locks = WorkerLocks(Spool(str(root)))
    owners = {row["owner"] for row in found.rows if row["owner"]}
    found.dead_owners = {owner for owner in owners if locks.dead(owner)}
    found.files = list(files(root))
    for log in logs:
        if log.exists():
            found.logs[log.name] = log.read_text("utf-8", "replace").splitlines()
    return found


def files(root: Path, states: Sequence[str] = STATES) -> list[File]:
    """Every regular file of these states."""
    found = []
    for state in states:
        for folder, _, names in os.walk(root / state):
            for name in names:
                path = f"{folder}/{name}"
                status = os.lstat(path)
                with open(path, "rb") as file:
                    digest = _digest(file.read())
                identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
                found.append(File(os.path.relpath(path, root), identity, status.st_nlink, digest))
    return found


def name(value: str | bytes) -> str:
    """A name out of the database as Python has names."""
    return os.fsdecode(value)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _etag(data: bytes, in_parts: bool) -> str:
    """What a store answers that takes the MD5 for it; of a file in parts that of all MD5s, with how
    many there are."""
    if not in_parts:
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    parts = [data[start : start + PART_SIZE] for start in range(0, len(data), PART_SIZE)]
    sums = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
    return f"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _row(row: sqlite3.Row) -> Row:
    values = dict(row)
    for column in ("profile", "bucket", "filepath", "spool_path"):
        if column in values:
            values[column] = name(values[column])
    return values


def _tasks(connection: sqlite3.Connection) -> list[bytes]:
    found = []
    for table in ("task", "schedule"):
        try:
            found += [bytes(row[0]) for row in connection.execute(f"SELECT data FROM {table}")]
        except sqlite3.Error:
            continue  # somebody dropped it; it is made anew when it is needed
    return found


def _task(data: bytes) -> Row:
    try:
        task = json.loads(data)
    except ValueError:
        return {}
    return task if isinstance(task, dict) else {}
