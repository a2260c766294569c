"""Runs one program once on one workload, with a sink of its own."""

import os
import random
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from tests.bench import peers
from tests.bench.arena import Arena
from tests.bench.floods import Failed, Flood
from tests.bench.peers import Peer
from tests.bench.stores import Store
from tests.bench.usage import Memory, cpu_seconds
from tests.bench.workloads import BUCKET, Tree, Workload
from tests.chaos.processes import tied

_PATIENCE: Final = 900.0
_IDLE_SECONDS: Final = 10.0
_POLL: Final = 0.005
_LOOK: Final = 5.0


@dataclass(frozen=True)
class Figures:
    """What one run took. Times are in seconds, memory in bytes.

    `pss` is the peak of all processes together with shared pages counted once, `rss` with them
    counted for each. `store_cpu` is the store's own processor time. None is what the store does
    not tell. `repeated` says why attempts of flood's failed, and were made again.
    """

    seconds: float
    cpu: float
    pss: int
    rss: int
    connections: int | None
    most_connections: int | None
    requests: int | None
    store_cpu: float
    repeated: list[str]


@dataclass(frozen=True)
class IdleFigures:
    """How soon single files were in the store, in seconds, and which part of a processor's time a
    flood takes that has nothing to do."""

    latencies: list[float]
    share: float

    @property
    def median(self) -> float:
        return statistics.median(self.latencies)


def flood_cold(arena: Arena, workload: Workload) -> Figures:
    """From the start of flood-watch, with all files in incoming, to the last row completed."""
    tree = arena.tree(workload)
    with arena.store(workload) as store, arena.flood(workload, store.url) as flood:
        flood.fill(tree.path)
        began = time.monotonic()
        flood.start()
        with Memory(flood.pid) as memory:
            _wait_completed(flood, store, workload.count)
            seconds, cpu = time.monotonic() - began, cpu_seconds(flood.pid)
        check(store, tree)
        figures = _figures(store, seconds, cpu, memory, flood.repeated())
        flood.empty(tree.path)
        return figures


def flood_warm(arena: Arena, workload: Workload) -> Figures:
    """From the first rename into incoming, of a flood with nothing to do, to the last row."""
    return _warm(arena, replace(workload, finished=0, waiting=0))


def flood_behind(arena: Arena, workload: Workload) -> Figures:
    """The same, of a flood with the workload's backlog."""
    return _warm(arena, workload)


def _warm(arena: Arena, workload: Workload) -> Figures:
    tree = arena.tree(workload)
    with arena.store(workload) as store, arena.flood(workload, store.url) as flood:
        if workload.behind:
            flood.fall_behind(workload.finished, workload.waiting)
        flood.incoming.mkdir(parents=True, exist_ok=True)
        os.sync()
        flood.start()
        flood.wait_ready(_PATIENCE)
        time.sleep(1.0)  # start-up is over
        before = cpu_seconds(flood.pid)
        with Memory(flood.pid) as memory:
            moves = [(f"{tree.path}/{key}", f"{flood.incoming}/{key}") for key in tree.sums]
            began = time.monotonic()
            for source, target in moves:
                _move(source, target)
            _wait_completed(flood, store, workload.count)
            seconds, cpu = time.monotonic() - began, cpu_seconds(flood.pid) - before
        check(store, tree)
        figures = _figures(store, seconds, cpu, memory, flood.repeated())
        shutil.rmtree(tree.path)  # directories only
        flood.empty(tree.path)
        return figures


def peer(one: Peer, arena: Arena, workload: Workload) -> Figures:
    """From the start of a program to its end."""
    tree = arena.tree(workload)
    with arena.store(workload) as store:
        command = one.command(workload, tree.path, store.url)
        command[0] = one.program() or command[0]
        authority = arena.authority(workload)
        output = arena.directory / f"{one.name}.log"
        with output.open("wb") as log:
            began = time.monotonic()
            process = subprocess.Popen(
                tied(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=peers.environ(arena.directory, authority),
            )
            patience = threading.Timer(_PATIENCE, process.kill)
            patience.start()
            try:
                with Memory(process.pid) as memory:
                    # subprocess would not tell what the process has used.
                    _, status, used = os.wait4(process.pid, 0)
                    seconds = time.monotonic() - began
                    memory.at_least(1024 * used.ru_maxrss)
                    process.returncode = os.waitstatus_to_exitcode(status)
            finally:
                patience.cancel()
                process.kill()  # which is nothing if it has ended
        if process.returncode:
            last = output.read_text("utf-8", "replace").splitlines()[-5:]
            raise Failed(f"{one.name} ended with status {process.returncode}: " + "\n".join(last))
        check(store, tree)
        return _figures(store, seconds, used.ru_utime + used.ru_stime, memory, [])


def idle(arena: Arena, workload: Workload) -> IdleFigures:
    """Rename single files into incoming, each once the one before it is completed."""
    tree = arena.tree(workload)
    chance = random.Random(1)
    renamed: dict[bytes, float] = {}
    with arena.store(workload) as store, arena.flood(workload, store.url) as flood:
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
        check(store, tree)
        latencies = [stored.at - renamed[stored.name] for stored in store.objects()]
        shutil.rmtree(tree.path)
        flood.empty(tree.path)
    return IdleFigures(latencies, share)


def _move(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        # Flood removes what is empty, also between these two.
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _move(source, target)


def _wait_completed(flood: Flood, store: Store, count: int) -> None:
    # The sink is cheaper to ask than the database, which has the last word.
    looked = time.monotonic()

    def all_stored() -> bool:
        nonlocal looked
        if time.monotonic() - looked > _LOOK:
            looked = time.monotonic()
            flood.completed()  # raises if one has failed
        return bool(store.counts().get("objects", count) >= count)

    flood.wait(all_stored, _PATIENCE, _POLL)
    flood.wait(lambda: flood.completed() == count, _PATIENCE, _POLL)


def _figures(
    store: Store, seconds: float, cpu: float, memory: Memory, repeated: list[str]
) -> Figures:
    counts = store.counts()
    return Figures(
        seconds=seconds,
        cpu=cpu,
        pss=memory.peak.fair,
        rss=memory.peak.plain,
        connections=counts.get("connections"),
        most_connections=counts.get("most_connections"),
        requests=counts.get("requests"),
        store_cpu=cpu_seconds(store.pid),
        repeated=repeated,
    )


def check(store: Store, tree: Tree) -> None:
    """Raise Failed unless the store has got every file, and nothing else."""
    got = {stored.name.decode(): (stored.size, stored.sum) for stored in store.objects()}
    wanted = {f"{BUCKET}/{key}": (tree.size, total) for key, total in tree.sums.items()}
    if got == wanted:
        return
    missing, strange = wanted.keys() - got.keys(), got.keys() - wanted.keys()
    other = [key for key in wanted.keys() & got.keys() if wanted[key] != got[key]]
    raise Failed(
        f"{len(missing)} objects are missing, {len(strange)} are of nobody, {len(other)} have"
        f" another size or content: {sorted([*missing, *strange, *other])[:5]}"
    )


#: Runs a contestant once.
Run = Callable[[Arena, Workload], Figures]

#: Flood's two ways to be measured, by name.
FLOODS: Final[dict[str, Run]] = {"flood": flood_cold, "flood, warm": flood_warm}

#: How it is measured with a backlog, and what that is compared with.
BEHIND: Final[dict[str, Run]] = {"flood, warm": flood_warm, "flood, behind": flood_behind}


def contestants(workload: Workload, chosen: Iterable[str]) -> dict[str, Run]:
    """Return what measures flood, and each chosen peer, by its name; the first is the one that all
    are compared with."""
    if workload.behind:
        return BEHIND
    return FLOODS | {name: partial(peer, peers.PEERS[name]) for name in chosen}
