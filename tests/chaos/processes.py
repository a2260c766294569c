"""Flood's long-running processes, which are killed, stopped, started again."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

#: Pauses before a process that ended is started again, in seconds.
_PAUSE = 0.3
_LONG_PAUSE = 1.0

#: How long a process has to end in order, in seconds.
_PATIENCE = 45.0


def tied(command: Sequence[str]) -> list[str]:
    """Return a command that ends with the thread that started it."""
    prefix = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    return [*prefix, *command]


def survivors(disk: Path) -> str:
    """Which of flood's processes have this disk's spool, by their numbers with their commands."""
    found = []
    mark = os.fsencode(f"FLOOD_SERVER_DIRECTORY={disk}/spool")
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is gone, or somebody else's
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found.append(f"{entry.name} {command.decode('utf-8', 'replace').strip()[-80:]}")
    return "; ".join(sorted(found))


class Member:
    """One process, with all its successors; what they say goes to one log."""

    def __init__(
        self, name: str, command: list[str], directory: Path, statuses: Collection[int]
    ) -> None:
        self.name = name
        #: What it may end with, but for signals that were sent to it.
        self.statuses = frozenset(statuses)
        self.command = command
        self.log = directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.born = 0.0
        self._log_begins = 0
        self.next_start = 0.0
        self.halted = False
        self._sent: set[int] = set()
        #: Whether kills pass it by.
        self.spared = False
        #: Whether it is not to be started for a while.
        self.away = False

    def began(self, process: "subprocess.Popen[bytes]", log_begins: int) -> None:
        """Take note of a new process, whose log begins there."""
        self.process, self._log_begins = process, log_begins
        self.born = time.monotonic()
        self.halted = False
        self._sent = set()

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ready(self) -> bool:
        """Whether it is at work; Python answers signals in its own way before that."""
        if not self.alive():
            return False
        with self.log.open("rb") as log:
            log.seek(self._log_begins)
            return b'"event": "ready"' in log.read()

    def send(self, number: int) -> bool:
        """Send a signal; whether there was somebody to get it."""
        if self.process is None or not self.alive():
            return False
        self._sent.add(number)
        self.process.send_signal(number)
        return True

    def was_sent(self, number: int) -> None:
        """Take note of a signal that somebody else sends."""
        self._sent.add(number)

    def odd_ending(self) -> str | None:
        """In words what its process ended by, if that is none of its statuses and no signal that it
        got; None if all is well, or it has not ended."""
        status = self.process.poll() if self.process is not None else None
        if status is None or status in self.statuses or -status in self._sent:
            return None
        how = f"by signal {-status}, which nobody sent" if status < 0 else f"with status {status}"
        return f"{self.name} ended {how}, after {time.monotonic() - self.born:.1f} s"

    def children(self) -> list[int]:
        """The processes that it has started."""
        if self.process is None:
            return []
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with suppress(OSError):
            return [int(word) for word in path.read_text().split()]
        return []


class Crew:
    """Everything that serves one spool; used by one thread."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self._directory = directory
        self._environ = dict(environ)
        self.members: list[Member] = []
        self.counts: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        #: Endings that nothing explains, in words.
        self.odd_endings: list[str] = []
        self.resting = True

    def add(self, name: str, *command: str, statuses: Collection[int] = (0,)) -> Member:
        """Take on a process, which `tend` starts; it may end with these statuses."""
        member = Member(name, [sys.executable, *command], self._directory, statuses)
        self.members.append(member)
        return member

    def tend(self) -> None:
        """Start whoever is not running, after a pause; nobody while the crew is resting."""
        now = time.monotonic()
        for member in self.members:
            if self.resting or member.alive():
                continue
            if member.away and member.process is None:
                continue
            if member.process is not None:
                self._note_ending(member)
                member.process = None
                lived = now - member.born
                member.next_start = now + (_PAUSE if lived > _LONG_PAUSE else _LONG_PAUSE)
            if now >= member.next_start:
                self._start(member)

    def _note_ending(self, member: Member) -> None:
        assert member.process is not None
        self.endings[f"{member.name} {member.process.returncode}"] += 1
        odd = member.odd_ending()
        if odd is not None:
            self.odd_endings.append(odd)

    def _start(self, member: Member) -> None:
        with member.log.open("ab") as output:
            output.write(f"--- started {time.time():.3f}\n".encode())
            output.flush()
            process = subprocess.Popen(
                tied(member.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environ,
                cwd=self._directory,
                start_new_session=True,
            )
            member.began(process, output.tell())
        self.counts["start"] += 1

    def choose(self, rng: random.Random) -> Member:
        return rng.choice([member for member in self.members if not member.spared])

    def kill(self, member: Member) -> None:
        """End it as a crash does."""
        if member.send(signal.SIGKILL):
            assert member.process is not None
            member.process.wait()
            self.counts[f"kill {member.name}"] += 1

    def kill_child(self, member: Member, rng: random.Random) -> None:
        """End one of the processes that it has started."""
        children = member.children()
        if children:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(children), signal.SIGKILL)
                self.counts[f"kill child of {member.name}"] += 1

    def halt(self, member: Member) -> None:
        """Stop it as Ctrl-Z does."""
        if member.send(signal.SIGSTOP):
            member.halted = True
            self.counts[f"stop and continue {member.name}"] += 1

    def resume(self, member: Member) -> None:
        """End `halt`."""
        member.send(signal.SIGCONT)
        member.halted = False

    def end(self, member: Member, number: int) -> None:
        """Have it end by a signal that asks for that; `tend` starts it again."""
        if not member.halted and member.ready() and member.send(number):
            self.counts[f"{signal.Signals(number).name} to {member.name}"] += 1

    def kill_all(self) -> None:
        """End everybody at once, with nobody to come after them."""
        self.resting = True
        children = [pid for member in self.members for pid in member.children()]
        for member in self.members:
            self.kill(member)
        for pid in children:  # a consumer that lost its flood-watch would take its time
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def work(self) -> None:
        """Let everybody be started."""
        self.resting = False

    def end_all(self) -> list[str]:
        """End everybody in order; who did not, in words."""
        deadline = time.monotonic() + _PATIENCE
        while not all(member.ready() for member in self.members):
            if time.monotonic() > deadline:
                break  # what comes of it is told below
            self.tend()
            time.sleep(0.1)
        self.resting = True
        problems = []
        running = [member for member in self.members if member.alive()]
        for member in self.members:
            if member not in running and member.process is not None:
                self._note_ending(member)
        for member in running:
            self.resume(member)
            member.send(signal.SIGINT)
        deadline = time.monotonic() + _PATIENCE
        for member in running:
            assert member.process is not None
            try:
                status = member.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                problems.append(f"{member.name} does not end on SIGINT")
                member.process.kill()
                member.process.wait()
                continue
            if status:
                problems.append(f"{member.name} ended with status {status} on SIGINT")
        return problems
