"""A home directory with flood in it, where commands are run as a person types them."""

import os
import pty
import re
import secrets
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from tests.faults import Stall
from tests.proxy import FaultProxy
from tests.servers import S3Server, credentials_section, rclone
from tests.shots.pages import GAP

PROGRAMS = Path(sys.executable).parent

#: Whose home directory the documentation shows, and the store's address there.
ANN = "/home/ann"
STORE = "127.0.0.1:9000"

#: A pattern that no line fits.
NOTHING = r"(?!)"

PATIENCE = 60.0
_POLL = 0.02
_CURTAIN = 3.0


class Stage:
    """A new home directory with the settings of flood-init, a store behind a proxy; a context
    manager, which ends what runs there and removes everything.

    `shots` has what commands printed, by name. Terminals know neither colours nor cursors, and are
    80 columns wide, as rich takes dumb ones to be.
    """

    def __init__(self) -> None:
        self.shots: dict[str, str] = {}
        self._stack = ExitStack()
        self._hidden: dict[str, str] = {}

    def __enter__(self) -> "Stage":
        with self._stack as stack:
            self.home = _directory(stack)
            self._store = self.home / "store"
            self._store.mkdir()
            process = stack.enter_context(rclone(self._store))
            self.server = S3Server("rclone", process.port, verifies=True)
            self.proxy = self.way("demo")
            self.environ = {
                "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
                "HOME": str(self.home),
                "LANG": "C.UTF-8",
                "TZ": "UTC",
                "TERM": "dumb",
                "NO_PROXY": "127.0.0.1",
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    @property
    def flood(self) -> Path:
        """Where flood-init puts everything."""
        return self.home / "flood"

    def way(self, profile: str) -> FaultProxy:
        """A way to the store for a profile, on which things can happen."""
        proxy = self._stack.enter_context(FaultProxy(self.server.address))
        self._hidden[f"127.0.0.1:{proxy.port}"] = STORE
        with (self.home / "keys").open("a") as file:
            file.write(credentials_section(profile, proxy.url) + "\n")
        return proxy

    def write_keys(self) -> None:
        """Fill in the template of flood-init, as its owner would."""
        (self.flood / "credentials").write_text((self.home / "keys").read_text())

    def bucket(self, *names: str) -> None:
        """Make buckets in the store."""
        for name in names:
            self.server.make_bucket(name)
            # As `servers.PREFIXES` are: what goes there comes several files at a time.
            for day in ("day 1", "day 2"):
                (self._store / name / "2026" / day).mkdir(parents=True)

    def write(self, *names: str, size: int = 7) -> None:
        """Make files below the directory in which commands are run."""
        for name in names:
            path = self.flood / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(secrets.token_bytes(size))

    def hang(self) -> None:
        """Let no upload of the profile demo come to an end."""
        self.proxy.inject(Stall("request"), "PUT", times=None)

    def ask(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the database."""
        path = self.flood / "flood.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def records(self, key: str) -> list[int]:
        """The records of this key, in any bucket."""
        rows = self.ask("SELECT id FROM file_records WHERE filepath = ? ORDER BY id", key)
        return [row[0] for row in rows]

    def count(self, state: str) -> int:
        """How many records are in this state."""
        [[count]] = self.ask("SELECT count(*) FROM file_records WHERE current_state = ?", state)
        return int(count)

    # --- commands --------------------------------------------------------------------------------

    def run(self, line: str, *, terminal: bool = True) -> str:
        """Run a line of shell in the directory of flood-init; return what is seen of it."""
        directory = self.flood if self.flood.is_dir() else self.home
        command = ["bash", "-c", line]
        # Locks ask for the umask of people.
        options = {"cwd": directory, "env": self.environ, "umask": 0o022}
        if terminal:
            return self.told(_seen(command, **options))
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
            **options,
        )
        return self.told(done.stdout.decode())

    def shot(
        self,
        name: str,
        line: str,
        *,
        terminal: bool = True,
        without: str = NOTHING,
        hidden: str = NOTHING,
    ) -> None:
        """Keep what a line of shell prints, as `keep` does."""
        output = self.run(line, terminal=terminal)
        self.keep(name, line, output, without=without, hidden=hidden)

    def keep(
        self, name: str, line: str, output: str, *, without: str = NOTHING, hidden: str = NOTHING
    ) -> None:
        """Keep this as what a line of shell prints, without what fits the pattern `hidden`, dots in
        the place of what fits `without`; they are for whole lines."""
        assert name not in self.shots, name
        # It begins with an empty line where a progress bar was.
        text = re.sub(hidden, "", output.lstrip("\n"), flags=re.MULTILINE)
        text = re.sub(without, f"{GAP}\n", text, flags=re.MULTILINE)
        shown = [f"$ {line}", *(each.rstrip() for each in text.rstrip("\n").split("\n"))]
        self.shots[name] = "\n".join(shown)

    def told(self, text: str) -> str:
        """The text with the documentation's paths and addresses, which are no longer than those
        here: what is aligned stays aligned."""
        text = text.replace(str(self.home), ANN)
        text = text.replace(f"flood on {socket.gethostname()}:", "flood on web1:")
        for here, there in self._hidden.items():
            text = text.replace(here, there)
        return text

    @contextmanager
    def running(self, *command: str, until: str = "") -> Iterator["Background"]:
        """A command in the background, once its output has the words `until`."""
        with Background(self, command) as background:
            self.wait_for(lambda: until in background.output(), f"{command}: {until}")
            yield background

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until the condition holds. Raises RuntimeError if it never does."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"in vain for {what}:\n{self.run('flood-status')}")
            time.sleep(_POLL)


class Background:
    """A command in the background with its output in a file; a context manager."""

    def __init__(self, stage: Stage, command: tuple[str, ...]) -> None:
        self._stage = stage
        self._log = stage.home / f"{command[0]}-{secrets.token_hex(4)}.log"
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [*tied, str(PROGRAMS / command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=stage.flood,
                env=stage.environ,
                umask=0o022,
                start_new_session=True,
            )

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def output(self) -> str:
        """What it has printed so far."""
        return self._stage.told(self._log.read_text())

    def end(self) -> None:
        """End it in order, or else."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_CURTAIN * 10)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self) -> None:
        """End it as a crash does, with all that it has started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def _directory(stack: ExitStack) -> Path:
    """A directory whose path is as long as the home directory that the documentation shows."""
    while True:
        path = Path("/tmp") / secrets.token_urlsafe(8)[: len(ANN) - len("/tmp/")]
        try:
            path.mkdir(mode=0o755)
        except FileExistsError:
            continue
        stack.callback(shutil.rmtree, path, ignore_errors=True)
        return path


def _seen(command: list[str], **options: object) -> str:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            **options,
        )
    finally:
        os.close(theirs)
    try:
        seen = b""
        deadline = time.monotonic() + PATIENCE
        while True:
            ready, _, _ = select.select([ours], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                os.killpg(process.pid, signal.SIGKILL)
                raise RuntimeError(f"{command} does not end:\n{seen.decode()}")
            try:
                data = os.read(ours, 65536)
            except OSError:
                break  # nobody has the other end open any more
            if not data:
                break
            seen += data
        process.wait()
        return seen.decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
