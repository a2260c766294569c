"""The steps between which a process of flood may die, each with a name."""

import ast
import os
import signal
import sys
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal

ROOT: Final = Path(__file__).resolve().parents[1]

#: Who dies; "sweeper" is the consumer that comes after another one that has died with a claim.
Who = Literal["put", "watch", "consumer", "sweeper", "retry", "prune"]

#: What is going on meanwhile.
Course = Literal["plain", "new", "large", "unreachable", "refused", "queue lost", "half put"]


@dataclass(frozen=True)
class Point:
    """Just before the only line of `function` in `file` that begins with `line`; a process that
    dies there leaves the file in `state`, as the table of states in docs/architecture.md has it
    (`-` where there is none yet)."""

    name: str
    who: Who
    file: str
    function: str
    line: str
    state: str
    course: Course = "plain"

    @property
    def place(self) -> str:
        """The function with its module."""
        return f"{self.file.removesuffix('.py').replace('/', '.')}.{self.function}"

    @cached_property
    def number(self) -> int:
        """The line's number; raises LookupError unless there is exactly one such line."""
        path = ROOT / self.file
        text = path.read_text("utf-8")
        found = {
            number
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef) and node.name == self.function
            for number in range(node.lineno, (node.end_lineno or 0) + 1)
            if text.splitlines()[number - 1].strip().startswith(self.line)
        }
        if len(found) != 1:
            raise LookupError(f"{self.name}: {self.line!r} begins {len(found)} lines")
        return found.pop()


def die_at(point: Point) -> None:
    """Have this process killed when any of its threads comes to the point."""
    path = str(ROOT / point.file)

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:
        code = frame.f_code
        if code.co_name == point.function and code.co_filename == path:
            return in_function
        return None

    def in_function(frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line" and frame.f_lineno == point.number:
            os.kill(os.getpid(), signal.SIGKILL)
        return in_function

    assert point.number
    threading.settrace(trace)
    sys.settrace(trace)


POINTS: Final = (
    # --- flood-put: copy, flush, rename, flush directories -----------------------------------
    Point("put-begins", "put", "flood/put_copy.py", "_open", "copy.writer = os.open(", "-"),
    Point("put-made-no-lock", "put", "flood/put_copy.py", "_open", "fcntl.flock(copy.lock", "S0"),
    Point("put-made-no-row", "put", "flood/put.py", "_deliver", "self._rows.begin(copies)", "S0"),
    Point("put-row", "put", "flood/put.py", "_deliver", "announced = [", "S0"),
    Point("put-copied-no-times", "put", "flood/put_copy.py", "fill", "os.utime(", "S0"),
    Point("put-copied", "put", "flood/put.py", "_deliver", "self._flush(copies, pool)", "S0"),
    Point("put-flushed", "put", "flood/put.py", "_deliver", "self._rows.correct(", "S0"),
    Point("put-corrected", "put", "flood/put.py", "_move", "self._spool.move(", "S0"),
    Point("put-renamed", "put", "flood/put.py", "_settle", "self._flush_directories(", "S1"),
    Point("put-durable", "put", "flood/put.py", "_settle", "self._rows.arrive(moved)", "S1"),
    Point("put-arrived", "put", "flood/put.py", "_settle", "for copy in moved:", "S1"),
    # --- flood-watch: its start ---------------------------------------------------------------
    Point("start-no-schema", "watch", "flood/schema.py", "migrate", "models.bind(", "-", "new"),
    Point("start-wal", "watch", "flood/schema.py", "_upgrade", "steps = _runner(", "-", "new"),
    Point("start-schema", "watch", "flood/schema.py", "_upgrade", "return steps", "-", "new"),
    Point("start-no-card", "watch", "flood/spool.py", "keep", "os.replace(", "-", "new"),
    Point(
        "start-card", "watch", "flood/binding.py", "bind", "if create and (recorded is", "-", "new"
    ),
    Point(
        "start-bound",
        "watch",
        "flood/commands/watch.py",
        "_prepare",
        "huey.storage.initialize_schema()",
        "-",
        "new",
    ),
    Point(
        "start-queue", "watch", "flood/commands/watch.py", "_prepare", "spool.prepare()", "-", "new"
    ),
    Point(
        "start-purged-no-row",
        "watch",
        "flood/purge.py",
        "purge",
        "with models.write():",
        "S11",
        "half put",
    ),
    # --- flood-watch: rename, rows, tasks, commit, bell -----------------------------------------
    Point("admit-looked", "watch", "flood/intake.py", "_transaction", "moved: list", "S1"),
    Point("admit-begun", "watch", "flood/intake.py", "_move", "try:", "S1"),
    Point("admit-renamed", "watch", "flood/intake.py", "_move", "identity = ", "S2"),
    Point("admit-no-rows", "watch", "flood/intake.py", "_record", "fresh = ", "S2"),
    Point("admit-no-tasks", "watch", "flood/intake.py", "_record", "for profile, bucket", "S2"),
    Point("admit-no-commit", "watch", "flood/intake.py", "_record", "return every", "S2"),
    Point("admit-no-bell", "watch", "flood/bell.py", "ring", "os.close(", "S3"),
    Point("admitted", "watch", "flood/intake.py", "_transaction", "for arrival, record_id", "S3"),
    # --- consumer: claim, open, bucket, PUT, HEAD -------------------------------------------------
    Point("task-taken", "consumer", "flood/tasks.py", "upload", "agent = _agent()", "S3"),
    Point("claim-no-commit", "consumer", "flood/claims.py", "_take", "rows += models", "S3"),
    Point("claimed", "consumer", "flood/tasks.py", "upload", "proven: list[int] = []", "S6"),
    Point("opened", "consumer", "workers/upload.py", "_transfer", "error = _bucket_error", "S6"),
    Point("bucket-known", "consumer", "workers/upload.py", "_transfer", "group = _Group", "S6"),
    Point("more-claimed", "consumer", "workers/upload.py", "__iter__", "if not (added", "S6"),
    Point("before-put", "consumer", "workers/curl_delivery.py", "_put", "return self._store", "S6"),
    Point("put-no-head", "consumer", "workers/curl_delivery.py", "_stored", "return self._s", "S6"),
    Point("head", "consumer", "workers/upload.py", "_judge", "now = identity_of(", "S6"),
    # --- consumer: settle -------------------------------------------------------------------------
    Point("judged", "consumer", "workers/settle.py", "settle", "with models.write(), ", "S6"),
    Point("settle-mine", "consumer", "workers/settle.py", "_prove", "place = _move(", "S6"),
    Point("settle-renamed", "consumer", "workers/settle.py", "_prove", "proven.append(", "S7"),
    Point("settle-no-row", "consumer", "workers/settle.py", "settle", "records.complete_all", "S7"),
    Point("settle-no-commit", "consumer", "flood/records.py", "_settle_all", "return sett", "S7"),
    Point("settled", "consumer", "workers/settle.py", "settle", "for line in lines:", "S8"),
    # --- consumer: failures -----------------------------------------------------------------------
    Point(
        "retry-no-row",
        "consumer",
        "workers/settle.py",
        "_try_again",
        "due = records.retry(",
        "S6",
        "unreachable",
    ),
    Point(
        "retry-no-task",
        "consumer",
        "workers/settle.py",
        "_try_again",
        "schedule(claim.id",
        "S6",
        "unreachable",
    ),
    Point(
        "retry-no-commit",
        "consumer",
        "workers/settle.py",
        "_try_again",
        "facts = {",
        "S6",
        "unreachable",
    ),
    Point(
        "retry-settled",
        "consumer",
        "workers/settle.py",
        "settle",
        "for line in lines:",
        "S4",
        "unreachable",
    ),
    Point(
        "fail-no-rename",
        "consumer",
        "workers/settle.py",
        "_give_up",
        "place = _move(",
        "S6",
        "refused",
    ),
    Point(
        "fail-no-row",
        "consumer",
        "workers/settle.py",
        "_give_up",
        "records.fail(",
        "S9",
        "refused",
    ),
    Point(
        "fail-no-commit",
        "consumer",
        "workers/settle.py",
        "_give_up",
        "return _failed(",
        "S9",
        "refused",
    ),
    Point(
        "failed",
        "consumer",
        "workers/settle.py",
        "settle",
        "for line in lines:",
        "S10",
        "refused",
    ),
    # --- consumer: a large file in parts ----------------------------------------------------------
    Point(
        "parts-none",
        "consumer",
        "workers/s3_multipart.py",
        "_send",
        "upload_id, twice",
        "S6",
        "large",
    ),
    Point(
        "parts-no-id",
        "consumer",
        "workers/s3_multipart.py",
        "_send",
        "hooks.multipart_started(",
        "S6",
        "large",
    ),
    Point(
        "parts-id", "consumer", "workers/s3_multipart.py", "_send", "parts = self.r", "S6", "large"
    ),
    Point(
        "parts-sent",
        "consumer",
        "workers/s3_multipart.py",
        "_send",
        "sent = self._c",
        "S6",
        "large",
    ),
    Point(
        "parts-whole", "consumer", "workers/s3_multipart.py", "_send", "whole = True", "S6", "large"
    ),
    Point(
        "parts-no-head",
        "consumer",
        "workers/s3_multipart.py",
        "_send",
        "receipt = confirm(",
        "S6",
        "large",
    ),
    # --- the sweep, after another consumer died with a claim -------------------------------------
    Point("sweep-begins", "sweeper", "workers/sweep.py", "sweep", "take_over(", "S6"),
    Point("sweep-no-row", "sweeper", "workers/sweep.py", "_take_over", "if not records.l", "S6"),
    Point("sweep-no-task", "sweeper", "workers/sweep.py", "_take_over", "schedule(", "S6"),
    Point(
        "sweep-no-commit",
        "sweeper",
        "workers/sweep.py",
        "_take_over",
        "_tell_lost(claim, rec",
        "S6",
    ),
    Point("sweep-taken-over", "sweeper", "workers/sweep.py", "sweep", "_find_vanished(", "S4"),
    Point("sweep-no-locks", "sweeper", "workers/sweep.py", "sweep", "agent.locks.forget", "S4"),
    Point("sweep-no-rings", "sweeper", "workers/sweep.py", "sweep", "for profile, bucket", "S4"),
    # --- flood-retry: rename, rows, tasks, commit -------------------------------------------------
    Point("retry-begun", "retry", "flood/retry.py", "_move", "target = ", "S10", "refused"),
    Point("retry-renamed", "retry", "flood/retry.py", "_move", "identity = ", "S2", "refused"),
    Point("retry-no-row-yet", "retry", "flood/retry.py", "put_back", "new = ", "S2", "refused"),
    Point("retry-no-note", "retry", "flood/departures.py", "retried", "leave(", "S2", "refused"),
    Point("retry-no-tasks", "retry", "flood/retry.py", "put_back", "for task in", "S2", "refused"),
    Point("retry-back", "retry", "flood/retry.py", "put_back", "self._spool.p", "S3", "refused"),
    # --- retention: flush, unlink, row, commit --------------------------------------------------
    Point("prune-looked", "prune", "flood/removal.py", "take", "flush_database(", "S8"),
    Point("prune-no-unlink", "prune", "flood/spool.py", "discard", "os.unlink(", "S8"),
    Point("prune-unlinked", "prune", "flood/removal.py", "_discard", "removed.append(", "-"),
    Point("prune-no-commit", "prune", "flood/removal.py", "_discard", "departures.leave(g", "-"),
    Point("prune-noted", "prune", "flood/removal.py", "_removed", "self._spool.prune(", "-"),
    Point("prune-no-record", "prune", "flood/departures.py", "forget", '"DELETE FROM file_', "-"),
    # --- the queue's tables, which somebody has dropped -----------------------------------------
    Point(
        "queue-mend-begins",
        "consumer",
        "flood/queue_storage.py",
        "make_anew",
        "with self.db(commit=True)",
        "S3",
        "queue lost",
    ),
    Point(
        "queue-mend-dropped",
        "consumer",
        "flood/queue_storage.py",
        "make_anew",
        "super().initialize_schema()",
        "S3",
        "queue lost",
    ),
)
