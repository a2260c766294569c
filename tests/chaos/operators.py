"""Whoever operates flood by hand or from cron, each in a thread of its own."""

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from flood.states import EXIT_FAILED, EXIT_OK, EXIT_TRY_AGAIN, EXIT_USAGE
from flood.status_check import CRITICAL, OK, UNKNOWN, WARNING
from tests.chaos.programs import Ended, Programs


class Command(NamedTuple):
    """A command of flood's with its options and what it may end with; `again` is how often it is
    chosen, `early` whether in the first part of a trial only, `prunes` whether it deletes files."""

    words: str
    statuses: tuple[int, ...]
    again: int
    early: bool = False
    prunes: bool = False


#: Cron's way to do without flood-watch.
ONCE: Final = Command("watch --once", (EXIT_OK, EXIT_TRY_AGAIN), 2)

# flood-drain ends with 1 where files failed, as those for the bucket that does not exist do. Of
# what retention has deleted only records tell: what comes later is judged by the files as well.
_DRAIN: Final = "drain --workers 2 --max-time 20"
_DRAINED: Final = (EXIT_OK, EXIT_FAILED)
COMMANDS: Final = (
    ONCE,
    Command(_DRAIN, _DRAINED, 12),
    Command(f"{_DRAIN} --keep-completed 0", _DRAINED, 4, early=True, prunes=True),
    Command("prune --keep-completed 30s", (EXIT_OK,), 10, early=True, prunes=True),
    Command("retry --all", (EXIT_OK, EXIT_TRY_AGAIN), 3),
    Command("retry --bucket nowhere --newer-than 2m", (EXIT_OK, EXIT_TRY_AGAIN), 5),
    Command("retry --all --now", (EXIT_OK,), 6),
    Command("status --json", (EXIT_OK,), 5),
    Command("status --check", (OK, WARNING, CRITICAL, UNKNOWN), 5),
)

#: What else a command may end with where disk or database refuse.
_REFUSED: Final = (EXIT_FAILED, EXIT_USAGE, EXIT_TRY_AGAIN)


class Operators:
    """Threads that run one command after the other, until `finish`.

    `python` are the arguments with which Python runs a module; `refusing` tells that disk or
    database may refuse; `early` is for how many seconds files are deleted; between two commands
    there are `pause` seconds on average.
    """

    def __init__(
        self,
        programs: Programs,
        python: Callable[[str], list[str]],
        seed: int,
        *,
        refusing: bool,
        early: float,
        pause: float,
        threads: int = 2,
    ) -> None:
        self.counts: Counter[str] = Counter()
        #: Endings that nothing explains, in words.
        self.odd_endings: list[str] = []
        #: How many commands that delete files were killed, or ended in another odd way.
        self.broken_off = 0
        self._programs = programs
        self._python = python
        self._seed = seed
        self._refusing = refusing
        self._early = early
        self._pause = pause
        self._asked: list[Command] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def ask(self, command: Command) -> None:
        """Have somebody run this at once."""
        thread = threading.Thread(target=self._inside, args=(command,), daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()

    def finish(self, seconds: float) -> None:
        """Let everybody come to an end; kill what has not within so many seconds."""
        self._stop.set()
        deadline = time.monotonic() + seconds
        while any(thread.is_alive() for thread in self._threads):
            if time.monotonic() > deadline:
                self._programs.kill_any(random.Random(0))
            time.sleep(0.1)

    def _run(self, number: int) -> None:
        rng = random.Random(f"{self._seed}:operator:{number}")
        while not self._stop.wait(rng.uniform(0.4, 1.6) * self._pause):
            early = time.monotonic() - self._began < self._early
            known = [one for one in COMMANDS if early or not one.early]
            [command] = rng.choices(known, [one.again for one in known])
            self._inside(command)

    def _inside(self, command: Command) -> None:
        with self._programs.gate.inside():
            if self._stop.is_set():
                return
            name, *options = command.words.split()
            ended = self._programs.run(
                [sys.executable, *self._python(f"flood.commands.{name}"), *options],
                f"flood-{name}",
                heard=name == "status",
            )
        self._judge(command, ended)

    def _judge(self, command: Command, ended: Ended) -> None:
        allowed = {*command.statuses, *(_REFUSED if self._refusing else ())}
        told = f"flood-{command.words}: exit status {ended.status}"
        with self._lock:
            self.counts[told] += 1
            self.broken_off += command.prunes and ended.status != EXIT_OK
            if not ended.killed and ended.status not in allowed:
                self.odd_endings.append(f"flood-{command.words} ended with status {ended.status}")
            if command.words == "status --json" and ended.status == EXIT_OK and not _whole(ended):
                self.odd_endings.append(f"flood-{command.words} printed no JSON")


def _whole(ended: Ended) -> bool:
    try:
        return isinstance(json.loads(ended.output), dict)
    except ValueError:
        return False
