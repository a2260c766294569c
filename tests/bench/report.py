"""Shows what came out: tables, a plot."""

import io
import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.results import Result, Spread
from tests.bench.workloads import MIB


class NoPlot(Exception):
    """The plot cannot be made; the text says why."""


def show(console: Console, results: Iterable[Result]) -> None:
    """Print a table for each workload."""
    for result in results:
        title = f"{result.workload.name}: {result.workload.words}"
        if result.skipped is not None:
            console.print(f"\n[bold]{title}[/]: left out, {escape(result.skipped)}")
        elif result.workload.idle:
            _show_idle(console, title, result)
        else:
            _show_series(console, title, result)
        for problem in result.problems:
            console.print(f"[bold red]failed[/]: {escape(problem)}")


def _show_series(console: Console, title: str, result: Result) -> None:
    table = Table("", title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in result.values():
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("flood is", justify="right", no_wrap=True)
    for number, (name, series) in enumerate(result.series.items()):
        ratio = result.ratio(name) if number else None
        table.add_row(
            name,
            *(_text(series.spread(value)) for value in result.values().values()),
            "" if ratio is None else f"{ratio:.2f} x",
        )
    console.print()
    console.print(table)
    for name, series in result.series.items():
        repeated = Counter(message for run in series.runs for message in run.repeated)
        for message, count in repeated.items():
            console.print(
                f"{name}: {count} attempts failed, and were made again: {escape(message)}"
            )
        for problem in series.problems:
            console.print(f"[bold red]{escape(name)} failed[/]: {escape(problem)}")


def _show_idle(console: Console, title: str, result: Result) -> None:
    table = Table(
        *("", "median", "least", "most"), title=title, title_justify="left", box=SIMPLE_HEAD
    )
    for number, figures in enumerate(result.idle, start=1):
        values = [1000 * one for one in figures.latencies]
        table.add_row(
            f"round {number}: ms from rename to object",
            *(f"{one:.1f}" for one in (statistics.median(values), min(values), max(values))),
        )
    shares = [100 * figures.share for figures in result.idle]
    if shares:
        table.add_row(
            "% of a processor while idle",
            *(f"{one:.2f}" for one in (statistics.median(shares), min(shares), max(shares))),
        )
    console.print()
    console.print(table)


def _text(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    if spread.least == spread.most:
        return _number(spread.median)
    return f"{_number(spread.median)}\n{_number(spread.least)}-{_number(spread.most)}"


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def check_plot(path: Path) -> None:
    """Raise NoPlot if no plot can be made of the kind that the ending names."""
    if not path.suffix:
        raise NoPlot("its name has no ending that says what kind of picture: .svg, .png")
    try:
        from matplotlib.figure import Figure  # of the extra `bench`, for this only
    except ImportError as error:
        raise NoPlot(f"matplotlib cannot be imported ({error})") from error
    figure = Figure(figsize=(1, 1))
    figure.supxlabel("text")  # some kinds need other programs for that
    try:
        figure.savefig(io.BytesIO(), format=path.suffix[1:])
    except (OSError, ValueError, RuntimeError) as error:
        raise NoPlot(str(error)) from error


def plot(path: Path, results: Iterable[Result], words: str) -> None:
    """Draw the speeds as bars, a group for each workload; the ending says in what format.

    Raises NoPlot if it cannot be written; of its kind `check_plot` has to be asked before.
    """
    from matplotlib.figure import Figure

    drawn = [one for one in results if any(series.runs for series in one.series.values())]
    figure = Figure(figsize=(8, 0.6 + 1.4 * max(1, len(drawn))), layout="constrained")
    axes = figure.subplots(max(1, len(drawn)), squeeze=False)[:, 0]
    for axis, result in zip(axes, drawn, strict=False):
        column = "files/s" if result.workload.size < MIB else "MiB/s"
        value = result.values()[column]
        bars = {
            name: spread
            for name, series in result.series.items()
            if (spread := series.spread(value)) is not None
        }
        middles = [spread.median for spread in bars.values()]
        below = [spread.median - spread.least for spread in bars.values()]
        above = [spread.most - spread.median for spread in bars.values()]
        colours = ["tab:blue" if name.startswith("flood") else "tab:gray" for name in bars]
        axis.barh(list(bars), middles, xerr=[below, above], color=colours, capsize=3)
        axis.invert_yaxis()
        axis.set_title(f"{result.workload.words}: {column}", loc="left", fontsize=10)
    figure.supxlabel(words, fontsize=8)
    try:
        figure.savefig(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise NoPlot(str(error)) from error
