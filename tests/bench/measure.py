"""Runs one program once on one workload, with a sink of its own."""

import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.bench import peers
from tests.bench.floods import Failed, Flood
from tests.bench.peers import Peer
from tests.bench.sink import Sink
from tests.bench.usage import Memory, cpu_seconds
from tests.bench.workloads import BUCKET, Tree, Workload, make_tree

_PATIENCE: Final = 900.0
_IDLE_SECONDS: Final = 10.0
_POLL: Final = 0.005


@dataclass(frozen=True)
class Figures:
    """What one run took. Times are in seconds, memory in bytes.

    `pss` is the peak of all processes together with shared pages counted once, `rss` with them
    counted for each. `sink_cpu` is the sink's own processor time.
    """

    seconds: float
    cpu: float
    pss: int
    rss: int
    connections: int
    most_connections: int
    requests: int
    sink_cpu: float


@dataclass(frozen=True)
class IdleFigures:
    """How soon single files were in the store, in seconds, and which part of a processor's time a
    flood takes that has nothing to do."""

    latencies: list[float]
    share: float

    @property
    def median(self) -> float:
        return statistics.median(self.latencies)


@dataclass
class Arena:
    """Where everything takes place: an empty directory, the sink's programs, how it is run."""

    directory: Path
    sink: Path
    sink_tls: Path | None
    certificate: Path | None
    authority: Path | None
    threads: int = 1
    consumers: int = 2

    def __post_init__(self) -> None:
        self._tree: Tree | None = None
        self._count = 0
        peers.prepare(self.directory)

    def tree(self, workload: Workload) -> Tree:
        """Return the workload's files, which are made if the last ones were others."""
        wanted = (workload.count, workload.size)
        if self._tree is None or (len(self._tree.sums), self._tree.size) != wanted:
            self.forget_tree()
            self._tree = make_tree(self.directory / "files", *wanted)
        return self._tree

    def forget_tree(self) -> None:
        """Delete the files; what is left of them may not be all."""
        shutil.rmtree(self.directory / "files", ignore_errors=True)
        self._tree = None

    @contextmanager
    def store(self, workload: Workload) -> Iterator[Sink]:
        """Run a sink as the workload wants it."""
        program = self.sink_tls if workload.tls else self.sink
        assert program is not None
        os.sync()  # what earlier runs wrote is not to be written meanwhile
        with Sink(
            program,
            [BUCKET],
            latency=workload.latency,
            connect_latency=workload.connect_latency,
            threads=self.threads,
            certificate=self.certificate if workload.tls else None,
        ) as sink:
            yield sink

    @contextmanager
    def flood(self, workload: Workload, sink: Sink) -> Iterator[Flood]:
        """A flood that is not started yet; nothing of it is left in the end."""
        self._count += 1
        directory = self.directory / f"flood-{self._count}"
        authority = self.authority if workload.tls else None
        with suppress(FileNotFoundError):
            shutil.rmtree(directory)
        try:
            with Flood(directory, sink.url, authority, self.consumers) as flood:
                yield flood
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def flood_cold(arena: Arena, workload: Workload) -> Figures:
    """From the start of flood-watch, with all files in incoming, to the last row completed."""
    tree = arena.tree(workload)
    with arena.store(workload) as sink, arena.flood(workload, sink) as flood:
        flood.fill(tree.path)
        began = time.monotonic()
        flood.start()
        with Memory(flood.pid) as memory:
            _wait_completed(flood, sink, workload.count)
            seconds, cpu = time.monotonic() - began, cpu_seconds(flood.pid)
        _check(sink, tree)
        figures = _figures(sink, seconds, cpu, memory)
        _take_back(flood, tree)
        return figures


def flood_warm(arena: Arena, workload: Workload) -> Figures:
    """From the first rename into incoming, of a flood with nothing to do, to the last row."""
    tree = arena.tree(workload)
    with arena.store(workload) as sink, arena.flood(workload, sink) as flood:
        flood.incoming.mkdir(parents=True)
        flood.start()
        flood.wait_ready()
        time.sleep(1.0)  # start-up is over
        before = cpu_seconds(flood.pid)
        with Memory(flood.pid) as memory:
            began = time.monotonic()
            for key in tree.sums:
                _move(tree.path / key, flood.incoming / key)
            _wait_completed(flood, sink, workload.count)
            seconds, cpu = time.monotonic() - began, cpu_seconds(flood.pid) - before
        _check(sink, tree)
        figures = _figures(sink, seconds, cpu, memory)
        shutil.rmtree(tree.path)  # directories only
        _take_back(flood, tree)
        return figures


def peer(one: Peer, arena: Arena, workload: Workload) -> Figures:
    """From the start of a program to its end."""
    tree = arena.tree(workload)
    with arena.store(workload) as sink:
        command = one.command(workload, tree.path, sink.url)
        command[0] = one.program() or command[0]
        authority = arena.authority if workload.tls else None
        output = arena.directory / f"{one.name}.log"
        with output.open("wb") as log:
            began = time.monotonic()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=peers.environ(arena.directory, authority),
            )
            with Memory(process.pid) as memory:
                # subprocess would not tell what the process has used.
                _, status, used = os.wait4(process.pid, 0)
                seconds = time.monotonic() - began
                process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            last = output.read_text("utf-8", "replace").splitlines()[-5:]
            raise Failed(f"{one.name} ended with status {process.returncode}: " + "\n".join(last))
        _check(sink, tree)
        return _figures(sink, seconds, used.ru_utime + used.ru_stime, memory)


def idle(arena: Arena, workload: Workload) -> IdleFigures:
    """Rename single files into incoming, each once the one before it is completed."""
    tree = arena.tree(workload)
    chance = random.Random(1)
    renamed: dict[bytes, float] = {}
    with arena.store(workload) as sink, arena.flood(workload, sink) as flood:
        flood.incoming.mkdir(parents=True)
        flood.start()
        flood.wait_ready()
        time.sleep(3.0)  # start-up is over
        before, began = cpu_seconds(flood.pid), time.monotonic()
        time.sleep(_IDLE_SECONDS)
        share = (cpu_seconds(flood.pid) - before) / (time.monotonic() - began)
        for number, key in enumerate(tree.sums, start=1):
            target = flood.incoming / key
            target.parent.mkdir(exist_ok=True)
            time.sleep(chance.uniform(0.1, 0.3))  # its directory is being watched by then
            renamed[f"{BUCKET}/{key}".encode()] = time.monotonic()
            (tree.path / key).rename(target)
            flood.wait(lambda wanted=number: flood.completed() == wanted)  # type: ignore[misc]
        _check(sink, tree)
        latencies = [stored.at - renamed[stored.name] for stored in sink.objects()]
        shutil.rmtree(tree.path)
        _take_back(flood, tree)
    return IdleFigures(latencies, share)


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except FileNotFoundError:
        # Flood removes what is empty, also between these two.
        target.parent.mkdir(parents=True, exist_ok=True)
        _move(source, target)


def _wait_completed(flood: Flood, sink: Sink, count: int) -> None:
    # The sink is cheaper to ask than the database, which has the last word.
    began = time.monotonic()

    def all_stored() -> bool:
        if time.monotonic() - began > 2.0:
            flood.completed()  # raises if one has failed
        return bool(sink.counts()["objects"] >= count)

    flood.wait(all_stored, _PATIENCE, _POLL)
    flood.wait(lambda: flood.completed() == count, _PATIENCE, _POLL)


def _take_back(flood: Flood, tree: Tree) -> None:
    flood.empty(tree.path)


def _figures(sink: Sink, seconds: float, cpu: float, memory: Memory) -> Figures:
    counts: dict[str, Any] = sink.counts()
    return Figures(
        seconds=seconds,
        cpu=cpu,
        pss=memory.peak.fair,
        rss=memory.peak.plain,
        connections=counts["connections"],
        most_connections=counts["most_connections"],
        requests=counts["requests"],
        sink_cpu=counts["cpu_seconds"],
    )


def _check(sink: Sink, tree: Tree) -> None:
    """Raise Failed unless the sink has got every file, and nothing else."""
    got = {stored.name.decode(): (stored.size, stored.sum) for stored in sink.objects()}
    wanted = {f"{BUCKET}/{key}": (tree.size, total) for key, total in tree.sums.items()}
    if got == wanted:
        return
    missing, strange = wanted.keys() - got.keys(), got.keys() - wanted.keys()
    other = [key for key in wanted.keys() & got.keys() if wanted[key] != got[key]]
    raise Failed(
        f"{len(missing)} objects are missing, {len(strange)} are of nobody, {len(other)} have"
        f" another size or content: {sorted([*missing, *strange, *other])[:5]}"
    )


#: Flood's two ways to be measured, by name.
FLOODS: Final = {"flood": flood_cold, "flood, warm": flood_warm}


def contestants(chosen: list[str]) -> dict[str, Any]:
    """Return what measures each contestant, by its name."""
    return FLOODS | {name: partial(peer, peers.PEERS[name]) for name in chosen}
