"""What somebody wants to have measured, as the command line says it."""

import argparse
import os
from pathlib import Path
from typing import Any, Final

from flood.options import MOST_CONSUMERS
from flood.text import printable
from tests.bench import report
from tests.bench.peers import PEERS, USUAL
from tests.bench.sink import MOST_THREADS
from tests.bench.workloads import WORKLOADS

#: Ten million files, or one of a TiB.
_MOST_SCALE: Final = 1000


def parse() -> argparse.Namespace:
    """Return the options, with the names of workloads and peers as lists; end the process with
    status 2 where the measurements, or what is written after them, would fail."""
    parser = build_parser()
    chosen = parser.parse_args()
    usual = [name for name, workload in WORKLOADS.items() if workload.usual]
    chosen.workloads = _chosen(parser, chosen.workloads, WORKLOADS, usual)
    chosen.peers = _chosen(parser, chosen.peers, PEERS, list(USUAL))
    _check(parser, chosen)
    # What is measured has a directory of its own to run in.
    chosen.directory = chosen.directory.absolute()
    return chosen


def build_parser() -> argparse.ArgumentParser:
    """Return what knows the options."""
    parser = argparse.ArgumentParser(
        "scripts/bench",
        description="Measures flood beside other programs, against a store on this machine that "
        "costs next to nothing. Exit status: 0 all was measured, 1 something failed, 2 wrong "
        "usage, 130 interrupted.",
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


def _check(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    if chosen.rounds < 1:
        parser.error("--rounds begins with 1")
    if not 1 <= chosen.consumers <= MOST_CONSUMERS:
        parser.error(f"--consumers is from 1 to {MOST_CONSUMERS}")
    if not 0 < chosen.scale <= _MOST_SCALE:  # which nan is not, either
        parser.error(f"--scale is more than 0, and at most {_MOST_SCALE}")
    if not 1 <= chosen.sink_threads <= MOST_THREADS:
        parser.error(f"--sink-threads is from 1 to {MOST_THREADS}")
    if not chosen.directory.is_dir():
        parser.error(f"{chosen.directory} is no directory: name another one with --directory")
    for option, path in (("--report", chosen.report), ("--plot", chosen.plot)):
        try:
            if path is not None:
                _check_writable(path)
        except OSError as error:
            parser.error(printable(f"{option} {path} cannot be written: {error.strerror}"))
    try:
        if chosen.plot is not None:
            report.check_plot(chosen.plot)
    except report.NoPlot as why:
        parser.error(printable(f"--plot {chosen.plot}: {why}"))


def _check_writable(path: Path) -> None:
    """Raise OSError if a file cannot be written there; none is made, none is changed."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except FileNotFoundError:
        real = os.path.realpath(path)  # a link may lead to what is to be made
        os.close(os.open(real, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.unlink(real)
