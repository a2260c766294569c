"""What processes cost, with all that they start: processor time, memory."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_INTERVAL: Final = 0.05  # seconds

# Sharing pages fairly among processes takes the kernel a while: it is asked only when processes
# together hold so much more than when it was asked before.
_GROWTH: Final = 1.01


def family(pid: int) -> list[int]:
    """Return a process with all its living descendants."""
    found = [pid]
    for one in found:  # which grows meanwhile
        with suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as children:
                    found += [int(word) for word in children.read().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its descendants, those that ended included."""
    return sum(sum(ticks) for ticks in _ticks(family(pid))) / _TICK


def _ticks(pids: list[int]) -> Iterator[list[int]]:
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/stat") as stat:
            # Columns of proc(5) from utime to cstime; the name before them may hold anything.
            yield [int(word) for word in stat.read().rpartition(")")[2].split()[11:15]]


@dataclass
class Peak:
    """The most memory at one moment, in bytes.

    `fair` counts a page that several processes share once (PSS), `plain` once for each (RSS).
    """

    fair: int = 0
    plain: int = 0


class Memory:
    """Looks at the memory of a process and its descendants now and then; a context manager."""

    def __init__(self, pid: int) -> None:
        self.peak = Peak()
        self._pid = pid
        self._asked_at = 0.0
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._enough.set()
        self._thread.join()

    def at_least(self, plain: int) -> None:
        """Take note of what the kernel says of a process that has ended."""
        self.peak.plain = max(self.peak.plain, plain)
        self.peak.fair = self.peak.fair or plain

    def _run(self) -> None:
        self._look()  # a run may be over before the next one
        while not self._enough.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        pids = family(self._pid)
        plain = sum(_plain(pid) for pid in pids)
        self.peak.plain = max(self.peak.plain, plain)
        if plain > self._asked_at * _GROWTH:
            self._asked_at = plain
            self.peak.fair = max(self.peak.fair, sum(_fair(pid) for pid in pids))


def _plain(pid: int) -> int:
    with suppress(OSError), open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * _PAGE
    return 0


def _fair(pid: int) -> int:
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
