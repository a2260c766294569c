"""What is uploaded, to what kind of store."""

import os
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from humanize import naturalsize

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3
BUCKET: Final = "bench"

_DIRECTORIES: Final = 10
_BLOCK: Final = MIB


@dataclass(frozen=True)
class Workload:
    """`count` files of `size` bytes; the store answers after `latency`, and takes `connect_latency`
    for each new connection, in milliseconds.

    `idle` is a flood that waits for single files, one after the other, instead of all at once.
    With `finished` or `waiting` flood has so many records of uploaded files, so many files in
    backoff beforehand, and is compared with one that has none.
    """

    name: str
    count: int
    size: int
    latency: float = 0.0
    connect_latency: float = 0.0
    tls: bool = False
    idle: bool = False
    finished: int = 0
    waiting: int = 0
    usual: bool = True

    @property
    def bytes(self) -> int:
        return self.count * self.size

    @property
    def words(self) -> str:
        """What it is, for people."""
        words = [f"{self.count:,} x {naturalsize(self.size, binary=True, format='%.4g')}"]
        words += ["one by one"] * self.idle + ["TLS"] * self.tls
        words += [f"{self.latency:g} ms"] * bool(self.latency)
        words += [f"{self.connect_latency:g} ms to connect"] * bool(self.connect_latency)
        words += [f"behind {self.finished:,} finished"] * bool(self.finished)
        words += [f"{self.waiting:,} in backoff"] * bool(self.waiting)
        return ", ".join(words)

    @property
    def behind(self) -> bool:
        """Whether there is a backlog."""
        return bool(self.finished or self.waiting)

    def scaled(self, factor: float) -> "Workload":
        """Return it with so much less to do: fewer files or, where they are few, smaller ones."""
        if self.size >= GIB:
            return replace(self, size=max(1, round(self.size * factor)))
        return replace(
            self,
            count=max(1, round(self.count * factor)),
            finished=round(self.finished * factor),
            waiting=round(self.waiting * factor),
        )


def _workloads() -> dict[str, Workload]:
    w1 = Workload("w1", 10_000, 4 * KIB)
    w2 = Workload("w2", 1_000, MIB)
    w3 = Workload("w3", 1, GIB)
    every = [
        w1,
        replace(w1, name="w1-50ms", latency=50.0),
        replace(w1, name="w1-50ms-connect", latency=50.0, connect_latency=50.0),
        replace(w1, name="w1-tls", tls=True),
        replace(w1, name="w1-tls-50ms", tls=True, latency=50.0),
        w2,
        replace(w2, name="w2-50ms", latency=50.0),
        w3,
        replace(w3, name="w3-50ms", latency=50.0, usual=False),
        replace(w3, name="w3x4", count=4, usual=False),
        replace(w1, name="w1-backlog", finished=1_000_000, waiting=100_000, usual=False),
        Workload("idle", 100, 4 * KIB, idle=True),
    ]
    return {each.name: each for each in every}


WORKLOADS: Final = _workloads()


@dataclass(frozen=True)
class Tree:
    """Files for one kind of workload; `sums` has each one's sum of bytes by its key."""

    path: Path
    size: int
    sums: dict[str, int]


def make_tree(path: Path, count: int, size: int, seed: int = 1) -> Tree:
    """Make `count` files of `size` random bytes in a new directory."""
    chance = random.Random(seed)
    # Few blocks in any order are random enough, and soon made.
    blocks = [chance.randbytes(_BLOCK) for _ in range(8 if size >= _BLOCK else 0)]
    known = {block: sum(block) for block in blocks}
    sums: dict[str, int] = {}
    for number in range(count):
        key = f"{number % _DIRECTORIES:02}/{number:06}.bin" if count > 1 else "one.bin"
        file = path / key
        file.parent.mkdir(parents=True, exist_ok=True)
        total = 0
        with file.open("wb") as output:
            for begin in range(0, size, _BLOCK):
                left = size - begin
                whole = blocks and left >= _BLOCK
                block = chance.choice(blocks) if whole else chance.randbytes(min(_BLOCK, left))
                output.write(block)
                total += known[block] if whole else sum(block)
        sums[key] = total
    os.sync()
    return Tree(path, size, sums)
