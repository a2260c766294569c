"""Runs the benchmark from the command line; see docs/performance.md."""

import json
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.markup import escape

from tests.bench import machine, report
from tests.bench.arena import Arena, make_programs
from tests.bench.command_line import parse
from tests.bench.floods import Failed, options
from tests.bench.measure import contestants, idle
from tests.bench.peers import PEERS
from tests.bench.results import Result, Series
from tests.bench.sink import NoSink
from tests.bench.workloads import WORKLOADS, Workload
from tests.bench.workplace import work_in

_Found = TypeVar("_Found")

# What is narrower has no place for the tables.
console = Console(highlight=False, soft_wrap=True, width=max(100, Console().width))


def main() -> int:
    """Return 0 if everything that was to be measured was, 1 if something failed; wrong usage ends
    the process with 2."""
    chosen = parse()
    workloads = [WORKLOADS[name].scaled(chosen.scale) for name in chosen.workloads]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    measured = work_in(chosen.directory, partial(_measure, chosen, workloads))
    results = measured.results
    report.show(console, results)
    _show_words("Commands", measured.commands)
    _show_words("Machine", measured.facts)
    status = int(any(result.failed() for result in results))
    if chosen.report is not None:
        data = {
            "machine": measured.facts,
            "rounds": chosen.rounds,
            "scale": chosen.scale,
            "sink": measured.sink,
            "sink_threads": chosen.sink_threads,
            "commands": measured.commands,
            "results": [result.data() for result in results],
        }
        try:
            chosen.report.write_text(json.dumps(data, indent=2) + "\n")
        except OSError as why:
            console.print(f"[bold red]no report[/]: {escape(str(why))}")
            status = 1
    if chosen.plot is not None:
        facts = measured.facts
        try:
            report.plot(chosen.plot, results, f"{facts['processors']}, {facts['system']}")
        except report.NoPlot as why:
            console.print(f"[bold red]no plot[/]: {escape(str(why))}")
            status = 1
    return status


@dataclass(frozen=True)
class _Measured:
    """What came out, by which commands, on which machine; whether `sink` was the store."""

    results: list[Result]
    commands: dict[str, str]
    facts: dict[str, str]
    sink: bool


def _measure(chosen: Namespace, workloads: list[Workload], directory: Path) -> _Measured:
    """Measure everything in an empty directory."""
    peers = _introduce(directory, chosen.peers)
    programs = make_programs(directory, tls=any(each.tls for each in workloads))
    if isinstance(programs.plain, NoSink):
        console.print(f"[bold]No sink[/]: {escape(str(programs.plain))}")
        console.print("rclone's server takes its place: the figures are that server's.")
    arena = Arena(directory, programs, threads=chosen.sink_threads, consumers=chosen.consumers)
    facts = machine.facts(peers)
    results = [_run(arena, each, peers, chosen.rounds) for each in workloads]
    commands = _commands(arena, workloads, peers, chosen.consumers)
    return _Measured(results, commands, facts, not isinstance(programs.plain, NoSink))


def _introduce(directory: Path, peers: list[str]) -> list[str]:
    """Say what the reader should know beforehand; return the peers that are there."""
    if machine.is_busy():
        console.print("[bold]The machine is busy[/]: the figures will not be what it can do.")
    if machine.in_memory(directory):
        console.print(f"[bold]{directory} is in memory[/]: the figures flatter every program.")
    missing = [name for name in peers if PEERS[name].program() is None]
    for name in missing:
        console.print(f"[bold]{name} is left out[/]: it is not installed.")
    return [name for name in peers if name not in missing]


def _run(arena: Arena, workload: Workload, peers: list[str], rounds: int) -> Result:
    """Measure everybody on one workload, one after the other in each round."""
    result = Result(workload, skipped=arena.lacks(workload))
    if result.skipped is not None:
        return result
    runs = {} if workload.idle else contestants(workload, peers)
    result.series = {name: Series() for name in runs}
    for number in range(rounds):
        where = f"{workload.name}, round {number + 1} of {rounds}"
        if workload.idle:
            found = _tried(arena, partial(idle, arena, workload), where, result.problems)
            if found is not None:
                result.idle.append(found)
                console.print(f"{where}: {1000 * found.median:.1f} ms")
        # Nobody is always the first, or the one after whom the disk is busy.
        turn = number % max(1, len(runs))
        for name in [*runs, *runs][turn : turn + len(runs)]:
            series, words = result.series[name], f"{where}, {name}"
            figures = _tried(arena, partial(runs[name], arena, workload), words, series.problems)
            if figures is not None:
                series.runs.append(figures)
                console.print(f"{words}: {workload.count / figures.seconds:,.1f} files/s")
    return result


def _tried(
    arena: Arena, run: Callable[[], _Found], words: str, problems: list[str]
) -> _Found | None:
    """Return what a run finds; add to the problems, and return None, if it comes to nothing."""
    try:
        return run()
    except (Failed, NoSink, RuntimeError) as why:  # the last is of a server that does not start
        problems.append(str(why))
        console.print(f"{words}: [bold red]failed[/]")
        arena.forget_tree()
        return None


def _commands(
    arena: Arena, workloads: list[Workload], peers: list[str], consumers: int
) -> dict[str, str]:
    """Return each command line, once, with the workloads that it is for."""
    lines: dict[str, list[str]] = {}
    for workload in workloads:
        if arena.lacks(workload) is not None:
            continue
        words = [["flood-watch", *options(consumers)]]
        if not (workload.idle or workload.behind):
            words += [PEERS[name].command(workload, Path("files"), "$URL") for name in peers]
        for line in words:
            lines.setdefault(shlex.join(line).replace("'$URL'", "$URL"), []).append(workload.name)
    return {line: ", ".join(dict.fromkeys(names)) for line, names in lines.items()}


def _show_words(title: str, words: dict[str, str]) -> None:
    console.print(f"\n[bold]{title}[/]")
    for name, value in words.items():
        console.print(f"  {escape(name)}: {escape(value)}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
