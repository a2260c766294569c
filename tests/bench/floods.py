"""A flood as a user runs it: flood-watch with consumers, everything on, its database on disk."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tests.bench import backlog
from tests.bench.workloads import BUCKET
from tests.chaos.processes import tied

CHECKOUT: Final = Path(__file__).parents[2]

#: What an operator of many small files, or of a store that is far away, sets besides the number of
#: consumers; flood opens as many of these connections as it has a use for.
OPTIONS: Final = ("--concurrency", "256")


def options(consumers: int) -> list[str]:
    """Return what flood-watch is started with."""
    return ["--consumers", str(consumers), *OPTIONS]


PROFILE: Final = "bench"
_PATIENCE: Final = 60.0


class Failed(Exception):
    """A measurement came to nothing; the text says why."""


class Flood:
    """A new spool in a new directory; a context manager that ends what was started."""

    def __init__(self, directory: Path, url: str, authority: Path | None, consumers: int) -> None:
        directory.mkdir()
        self.consumers = consumers
        self.directory = directory
        self.spool = directory / "spool"
        self.database = directory / "flood.db"
        self.log = directory / "flood.log"
        credentials = directory / "credentials"
        credentials.touch(mode=0o600)
        credentials.write_text(
            f"[{PROFILE}]\nprovider = s3\nAWS_ACCESS_KEY_ID = bench\n"
            f"AWS_SECRET_ACCESS_KEY = bench\nAWS_REGION = us-east-1\nAWS_ENDPOINT = {url}\n"
        )
        self.incoming = self._place("incoming")
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(CHECKOUT),
            "FLOOD_SERVER_DIRECTORY": str(self.spool),
            "FLOOD_DATABASE": str(self.database),
            "FLOOD_CREDENTIALS": str(credentials),
        } | ({"AWS_CA_BUNDLE": str(authority)} if authority else {})
        self._command = [sys.executable, "-m", "flood.commands.watch", *options(consumers)]
        self._process: subprocess.Popen[bytes] | None = None
        self._last = 0

    def __enter__(self) -> "Flood":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, if it runs, as an operator would."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def fill(self, tree: Path) -> None:
        """Put a tree into incoming, before the start, by one rename."""
        self.incoming.parent.mkdir(parents=True)
        tree.rename(self.incoming)

    def empty(self, tree: Path) -> None:
        """Take the tree back; whatever flood has not completed is gone from it."""
        self._place("completed").rename(tree)

    def _place(self, state: str) -> Path:
        return self.spool / state / PROFILE / BUCKET

    def start(self) -> None:
        """Start it; return at once."""
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                tied(self._command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environ,
                cwd=self.directory,
            )

    def fall_behind(self, finished: int, waiting: int) -> None:
        """Give it records of `finished` files, and `waiting` files that are due in a day."""
        self.start()
        self.wait_ready()
        self.stop()
        day = timedelta(days=1)
        backlog.fill(
            self.database,
            self.spool,
            PROFILE,
            BUCKET,
            finished=finished,
            waiting=waiting,
            delay=day,
        )
        [(self._last,)] = self._query("SELECT max(id) FROM file_records")

    def wait_ready(self, seconds: float = _PATIENCE) -> None:
        """Wait until it is at work, with all of its consumers, and has looked through all that was
        there before."""

        def all_ready() -> bool:
            text = self.log.read_text("utf-8", "replace")
            return text.count(" ready ") > self.consumers and '"caught up"' in text

        self.wait(all_ready, seconds)

    def wait(
        self, condition: Callable[[], bool], seconds: float = _PATIENCE, poll: float = 0.02
    ) -> None:
        """Wait for a condition; raise Failed with the log's end if that is in vain."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                last = self.log.read_text("utf-8", "replace").splitlines()[-5:]
                raise Failed("flood did not come to its end; its log ends so:\n" + "\n".join(last))
            time.sleep(poll)

    def completed(self) -> int:
        """Return how many records are completed besides those that there were beforehand; raise
        Failed if one has failed."""
        counts = dict(
            self._query(
                "SELECT current_state, count(*) FROM file_records WHERE id > ? "
                "GROUP BY current_state",
                self._last,
            )
        )
        if "failed" in counts:
            [(why,)] = self._query(
                "SELECT error_message FROM file_records WHERE current_state = 'failed' LIMIT 1"
            )
            raise Failed(f"{counts['failed']} files failed, one of them with: {why}")
        return int(counts.get("completed", 0))

    def repeated(self) -> list[str]:
        """Return the message of each attempt that failed, and was made again."""
        rows = self._query(
            "SELECT error_message FROM retry_attempts WHERE record_id > ? AND outcome = 'failure'",
            self._last,
        )
        return [str(message) for (message,) in rows]

    def _query(self, sql: str, *parameters: int) -> list[tuple[Any, ...]]:
        uri = f"file:{self.database}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
                return connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError:
            return []  # flood has not made it yet; who waits has a limit
