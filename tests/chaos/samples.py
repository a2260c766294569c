"""What long-running processes hold, looked at again and again."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from tests.chaos.processes import Member
from tests.invariants import Violation

#: A process is judged that has been looked at so often, after its beginning.
_ENOUGH: Final = 30
_WARMING_UP: Final = 15.0  # seconds

#: What a process may hold more at the end of its life than at the beginning: the medians of the
#: first and of the last third of its life are compared, since what is under way comes and goes, and
#: a consumer loads most of its libraries only with its first upload, boto3 (30 MiB with a client)
#: only with its first failure. Two workers keep 16 connections each, at most, that they do not use,
#: and SQLite's pages, 8 MB each.
_MORE: Final = {"descriptors": 55, "threads": 10, "sockets": 40, "kilobytes": 56 * 1024}

#: What a process may hold at any moment: 2 workers, each with the open files of two claims, those
#: under way, 64 directories, 16 connections.
_MOST: Final = {"descriptors": 1300, "threads": 120, "sockets": 150, "kilobytes": 600 * 1024}


class Sample(NamedTuple):
    """What a process held at one moment."""

    descriptors: int
    threads: int
    sockets: int
    kilobytes: int


class Samples:
    """Samples of each process by its number."""

    def __init__(self) -> None:
        self.lives: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        self.command_lines: set[str] = set()

    def take(self, members: Iterable[Member]) -> None:
        """Look at each process with its children: at its command line, and at what it holds once it
        has been alive for a while."""
        for member in members:
            process = member.process
            if process is None:
                continue
            young = time.monotonic() - member.born < _WARMING_UP
            for number, pid in enumerate([process.pid, *member.children()]):
                with suppress(OSError, ValueError, KeyError):  # it is gone, or a zombie
                    name = f"{member.name} child" if number else member.name
                    line = Path(f"/proc/{pid}/cmdline").read_bytes()
                    self.command_lines.add(line.replace(b"\0", b" ").decode("utf-8", "replace"))
                    if not young:
                        held = look(pid)  # before a life is begun, which a zombie has not
                        self.lives[name, pid].append(held)

    def growth(self) -> Iterator[Violation]:
        """What grew over a process' life, and what was too much at any time."""
        for (name, pid), samples in self.lives.items():
            for kind in Sample._fields:
                values = [getattr(sample, kind) for sample in samples]
                if max(values) > _MOST[kind]:
                    yield Violation("nothing_grows", f"{name} ({pid}) had {max(values)} {kind}")
                third = len(values) // 3
                if len(values) < _ENOUGH:
                    continue
                begun, ended = values[:third], values[-third:]
                first, last = median(begun), median(ended)
                # What comes and goes with batches of files comes to its least again.
                if last - first > _MORE[kind] < 2 * (min(ended) - min(begun)):
                    course = " ".join(str(one) for one in values[:: max(1, len(values) // 12)])
                    yield Violation(
                        "nothing_grows",
                        f"{name} ({pid}) had {first:.0f} {kind} in its first third,"
                        f" {last:.0f} in its last, in {len(values)} samples; its course: {course}",
                    )


def look(pid: int) -> Sample:
    """What a process holds now."""
    links = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            links.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return Sample(
        len(links),
        int(status["Threads"]),
        sum(link.startswith("socket:") for link in links),
        int(status["VmRSS"].split()[0]),
    )
