"""What is uploaded, to what kind of store."""

import os
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

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
    """

    name: str
    words: str
    count: int
    size: int
    latency: float = 0.0
    connect_latency: float = 0.0
    tls: bool = False
    idle: bool = False
    usual: bool = True

    @property
    def bytes(self) -> int:
        return self.count * self.size

    def scaled(self, factor: float) -> "Workload":
        """Return it with so much less to do: fewer files or, where they are few, smaller ones."""
        if self.size >= GIB:
            return replace(self, size=max(1, round(self.size * factor)))
        return replace(self, count=max(1, round(self.count * factor)))


def _workloads() -> dict[str, Workload]:
    w1 = Workload("w1", "10,000 x 4 KiB", 10_000, 4 * KIB)
    w2 = Workload("w2", "1,000 x 1 MiB", 1_000, MIB)
    w3 = Workload("w3", "1 GiB", 1, GIB)
    every = [
        w1,
        replace(w1, name="w1-50ms", words=f"{w1.words}, 50 ms", latency=50.0),
        replace(
            w1,
            name="w1-50ms-connect",
            words=f"{w1.words}, 50 ms, 50 ms to connect",
            latency=50.0,
            connect_latency=50.0,
        ),
        replace(w1, name="w1-tls", words=f"{w1.words}, TLS", tls=True),
        replace(w1, name="w1-tls-50ms", words=f"{w1.words}, TLS, 50 ms", tls=True, latency=50.0),
        w2,
        replace(w2, name="w2-50ms", words=f"{w2.words}, 50 ms", latency=50.0),
        w3,
        replace(w3, name="w3x4", words="4 x 1 GiB", count=4, usual=False),
        Workload("idle", "100 x 4 KiB, one by one", 100, 4 * KIB, idle=True),
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
    sums: dict[str, int] = {}
    for number in range(count):
        key = f"{number % _DIRECTORIES:02}/{number:06}.bin" if count > 1 else "one.bin"
        file = path / key
        file.parent.mkdir(parents=True, exist_ok=True)
        total = 0
        with file.open("wb") as output:
            for begin in range(0, size, _BLOCK):
                block = chance.randbytes(min(_BLOCK, size - begin))
                output.write(block)
                total += sum(block)
        sums[key] = total
    os.sync()
    return Tree(path, size, sums)
