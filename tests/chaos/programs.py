"""Runs programs that end by themselves, any of which may be killed or stopped at any moment."""

import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.processes import tied

#: How long a program may take before it is killed, in seconds.
_PATIENCE: Final = 120.0


class Gate:
    """Lets many in, or one who needs the disk for himself."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def inside(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    def close(self, seconds: float) -> bool:
        """Let nobody in; whether everybody is out within so many seconds."""
        with self._condition:
            self._closed = True
            return self._condition.wait_for(lambda: not self._inside, seconds)

    def open(self) -> None:
        with self._condition:
            self._closed = False
            self._condition.notify_all()


@dataclass(frozen=True)
class Ended:
    """How a program ended; `killed` if somebody killed it, `output` what stood on its stdout, if
    that was asked for."""

    status: int
    killed: bool
    output: bytes


class Programs:
    """The programs that run now, each in a thread of whoever started it; what they say goes to a
    log named for them. Methods may be called from any thread."""

    def __init__(self, logs: Path, environ: Mapping[str, str]) -> None:
        self.gate = Gate()
        self._logs = logs
        self._environ = dict(environ)
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._killed: set[int] = set()
        self._lock = threading.Lock()

    def run(self, command: Sequence[str], name: str, *, heard: bool = False) -> Ended:
        """Run a program to its end; with `heard` return its stdout."""
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                tied(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if heard else log,
                stderr=log,
                env=self._environ,
                cwd=self._logs,
            )
        with self._lock:
            self._running[process.pid] = process
        try:
            output, _ = process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        with self._lock:
            del self._running[process.pid]
            killed = process.pid in self._killed
            self._killed.discard(process.pid)
        return Ended(process.returncode, killed, output or b"")

    def pids(self) -> list[int]:
        """The numbers of those that run now."""
        with self._lock:
            return sorted(self._running)

    def kill(self, pid: int) -> bool:
        """End this one, if it is one of them."""
        with self._lock:
            found = self._running.get(pid)
            if found is None:
                return False
            self._killed.add(pid)
            found.kill()
        return True

    def kill_any(self, rng: random.Random) -> bool:
        """End one of them; whether there was one."""
        pids = self.pids()
        return bool(pids) and self.kill(rng.choice(pids))

    def halt_any(self, rng: random.Random, counts: Counter[str]) -> Callable[[], None] | None:
        """Stop one of them; return what lets it go on."""
        with self._lock:
            running = [one for _, one in sorted(self._running.items()) if one.poll() is None]
            if not running:
                return None
            chosen = rng.choice(running)
            chosen.send_signal(signal.SIGSTOP)
        counts["stop and continue program"] += 1
        return lambda: chosen.send_signal(signal.SIGCONT)

    def empty_out(self) -> None:
        """End all of them; let nobody in until `gate.open`."""
        while not self.gate.close(0.2):
            for pid in self.pids():
                self.kill(pid)
