"""Runs the benchmark from the command line; see docs/performance.md."""

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape

from tests.bench import machine, report
from tests.bench.arena import Arena, make_programs
from tests.bench.floods import Failed, options
from tests.bench.measure import contestants, idle
from tests.bench.peers import PEERS, USUAL
from tests.bench.results import Result, Series
from tests.bench.sink import NoSink
from tests.bench.workloads import WORKLOADS, Workload

_Found = TypeVar("_Found")

# What is narrower has no place for the tables.
console = Console(highlight=False, soft_wrap=True, width=max(100, Console().width))


def main() -> int:
    """Return 0 if everything that was to be measured was, 1 if something failed, 2 for wrong
    usage."""
    parser = build_parser()
    chosen = parser.parse_args()
    usual = [name for name, workload in WORKLOADS.items() if workload.usual]
    names = _chosen(parser, chosen.workloads, WORKLOADS, usual)
    peers = _chosen(parser, chosen.peers, PEERS, list(USUAL))
    if chosen.rounds < 1 or chosen.scale <= 0 or chosen.consumers < 1:
        parser.error("--rounds and --consumers begin with 1, --scale is more than 0")
    if not chosen.directory.is_dir():
        parser.error(f"{chosen.directory} is no directory: name another one with --directory")
    workloads = [WORKLOADS[name].scaled(chosen.scale) for name in names]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    directory = Path(tempfile.mkdtemp(prefix="flood-bench-", dir=chosen.directory))
    try:
        peers = _introduce(directory, peers)
        programs = make_programs(directory, tls=any(each.tls for each in workloads))
        if isinstance(programs.plain, NoSink):
            console.print(f"[bold]No sink[/]: {escape(str(programs.plain))}")
            console.print("rclone's server takes its place: the figures are that server's.")
        arena = Arena(directory, programs, threads=chosen.sink_threads, consumers=chosen.consumers)
        facts = machine.facts(peers)
        results = [_run(arena, each, peers, chosen.rounds) for each in workloads]
        commands = _commands(arena, workloads, peers, chosen.consumers)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    report.show(console, results)
    _show_words("Commands", commands)
    _show_words("Machine", facts)
    status = int(any(result.failed() for result in results))
    if chosen.report is not None:
        data = {
            "machine": facts,
            "rounds": chosen.rounds,
            "scale": chosen.scale,
            "sink": not isinstance(programs.plain, NoSink),
            "sink_threads": chosen.sink_threads,
            "commands": commands,
            "results": [result.data() for result in results],
        }
        chosen.report.write_text(json.dumps(data, indent=2) + "\n")
    if chosen.plot is not None:
        try:
            report.plot(chosen.plot, results, f"{facts['processors']}, {facts['system']}")
        except report.NoPlot as why:
            console.print(f"[bold red]no plot[/]: {escape(str(why))}")
            status = 1
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return what knows the options."""
    parser = argparse.ArgumentParser(
        "scripts/bench",
        description="Measures flood beside other programs, against a store on this machine that "
        "costs next to nothing. Exit status: 0 all was measured, 1 something failed, 2 wrong "
        "usage.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--workloads",
        metavar="LIST",
        help="with commas between: "
        + "; ".join(
            f"{each.name} ({each.words}{'' if each.usual else '; only if named'})"
            for each in WORKLOADS.values()
        ),
    )
    parser.add_argument(
        "--peers",
        metavar="LIST",
        help=f"beside flood, with commas between: {', '.join(PEERS)}; none (default: "
        f"{','.join(USUAL)})",
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="so much of each workload, as in 0.1 (default: 1)",
    )
    parser.add_argument(
        "--consumers", type=int, default=2, metavar="N", help="of flood-watch (default: 2)"
    )
    parser.add_argument(
        "--sink-threads", type=int, default=1, metavar="N", help="of the store (default: 1)"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("/var/tmp"),
        metavar="DIR",
        help="on the disk where spool and database are to be (default: /var/tmp)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the speeds: .svg, .png")
    return parser


def _chosen(
    parser: argparse.ArgumentParser, text: str | None, known: dict[str, Any], usual: list[str]
) -> list[str]:
    if text is None:
        return usual
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"{', '.join(unknown)}: unknown; there are {', '.join(known)}")
    return names


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
