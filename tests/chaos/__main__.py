"""Runs a trial from the command line; see docs/reliability.md."""

import argparse
import json
import os
import random
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.chaos import namespace
from tests.chaos.planted import DEFECTS
from tests.chaos.trial import Options, Outcome, Trial, every_fault

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Return 0 if every invariant held, 1 if one did not or too little happened, 2 for wrong
    usage."""
    arguments = _parser().parse_args()
    faults = every_fault() if arguments.faults is None else _chosen(arguments.faults)
    if arguments.seed is None:
        arguments.seed = random.randrange(10**6)
        sys.argv += ["--seed", str(arguments.seed)]
    namespace.enter(sys.argv[1:])
    options = Options(
        seed=arguments.seed,
        minutes=arguments.minutes or (2.5 if arguments.defect else 1.0),
        files=arguments.files,
        consumers=arguments.consumers,
        faults=faults,
        defect=arguments.defect,
        retry_initial=arguments.retry_initial,
        actions=arguments.actions,
        calm=arguments.calm or (60.0 if arguments.defect else 120.0),
        each=arguments.each,
    )
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    directory = _directory(arguments.keep)
    command = shlex.join(["scripts/chaos", *sys.argv[1:]])
    console.print(f"seed {options.seed}: {escape(command)}")
    console.print(f"directory: {directory}")
    with Trial(directory, options, lambda line: console.print(escape(line))) as trial:
        outcome = trial.run()
        # Before the end of what was started, which may go wrong, too.
        _report(outcome)
        if arguments.report is not None:
            arguments.report.write_text(json.dumps(_data(outcome, options), indent=2) + "\n")
    if outcome.violations:
        console.print(
            f"\nEverything is kept in {directory}; run it again with\n  {escape(command)}"
        )
        return 1
    if arguments.keep is None:
        shutil.rmtree(directory)
    return 1 if outcome.short else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "scripts/chaos",
        description="Runs flood's real processes against a real S3 server while everything goes "
        "wrong, then checks that nothing was lost. Exit status: 0 all invariants held, 1 one did "
        "not, or the trial fell short of --each, 2 wrong usage.",
        allow_abbrev=False,
    )
    parser.add_argument("--seed", type=int, help="what chance is drawn from; default: any")
    parser.add_argument(
        "--minutes", type=float, help="how long (default: 1, or 2.5 to find a defect)"
    )
    parser.add_argument("--files", type=int, default=400, help="how many files (default: 400)")
    parser.add_argument(
        "--each",
        type=int,
        default=0,
        metavar="N",
        help="go on, for twice the minutes at most, until each class of faults has happened N "
        "times, and all files were brought (default: 0, do not)",
    )
    parser.add_argument(
        "--consumers", type=int, default=2, help="consumers besides flood-watch's own (default: 2)"
    )
    parser.add_argument(
        "--faults",
        metavar="LIST",
        help="classes of faults, with commas between; 'none', or " + ", ".join(every_fault()),
    )
    parser.add_argument(
        "--defect", choices=sorted(DEFECTS), help="plant this defect in flood, to see it found"
    )
    parser.add_argument(
        "--actions", type=float, default=14.0, help="kills, stops, restarts a minute (default: 14)"
    )
    parser.add_argument(
        "--retry-initial",
        type=float,
        default=0.2,
        metavar="SECONDS",
        help="flood's first delay before a retry (default: 0.2)",
    )
    parser.add_argument(
        "--calm",
        type=float,
        metavar="SECONDS",
        help="how long flood may take once the last retry was due; default: 120, with a defect 60",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="do it here, leave all of it")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the figures as JSON")
    return parser


def _chosen(text: str) -> tuple[str, ...]:
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    unknown = sorted(set(names) - set(every_fault()))
    if unknown:
        print(f"scripts/chaos: no such faults: {', '.join(unknown)}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2)
    return tuple(names)


def _directory(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="flood-chaos-"))
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        print(f"scripts/chaos: {keep} must be empty", file=sys.stderr)  # noqa: T201
        raise SystemExit(2)
    return keep.resolve()


def _report(outcome: Outcome) -> None:
    table = Table("what", "how often", title="The trial")
    for name, value in outcome.figures.items():
        table.add_row(name, f"{value:,}")
    for title, counts in outcome.counts.items():
        table.add_section()
        table.add_row(f"[bold]{title}[/bold]", f"{counts.total():,}")
        for name, count in sorted(counts.items(), key=lambda each: str(each[0])):
            table.add_row(f"  {escape(str(name))}", f"{count:,}")
    for name, why in outcome.skipped.items():
        table.add_row(f"skipped: {escape(name)}", escape(why))
    console.print(table)
    for one in outcome.violations[:50]:
        where = f" ({one.bucket}/{one.key!r})" if one.bucket else ""
        console.print(f"[bold red]violation[/] of {one.invariant}: {escape(one.words + where)}")
    if len(outcome.violations) > 50:
        console.print(f"... {len(outcome.violations) - 50} more violations")
    for text in outcome.stories:
        console.print(f"\n{escape(text)}")
    for words in outcome.short:
        console.print(f"[bold red]too few[/] of {escape(words)}")
    if outcome.short:
        console.print("The trial fell short of what was asked: more minutes may help.")
    if not outcome.violations:
        console.print("[bold green]Every invariant held.[/]")


def _data(outcome: Outcome, options: Options) -> dict[str, object]:
    return {
        "seed": options.seed,
        "minutes": options.minutes,
        "files": options.files,
        "each": options.each,
        "defect": options.defect,
        "figures": outcome.figures,
        "counts": {title: dict(counts) for title, counts in outcome.counts.items()},
        "skipped": outcome.skipped,
        "short": outcome.short,
        "violations": [
            {"invariant": one.invariant, "words": one.words, "bucket": one.bucket, "key": one.key}
            for one in outcome.violations
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
