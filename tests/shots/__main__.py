"""Writes what flood prints into the documentation, or compares it; see scripts/shots --help."""

import argparse
import sys
from pathlib import Path

from tests.shots import pages
from tests.shots.acts import ACTS
from tests.shots.live import PICTURE, live
from tests.shots.stage import Stage

_DESCRIPTION = """\
Runs flood's commands on a spool of their own, with a store on this machine, and puts what they
print into the documentation, below each line like <!-- scripts/shots: NAME -->. A block that has
the same lines but for numbers, sizes, times, and for where names are cut, stays as it is. The live
screen becomes docs/live.svg.
"""
_EPILOG = """\
exit status: 0 done, nothing differs; 1 with --check: the documentation shows something else than
flood prints; 2 wrong usage, or a page wants what no act shows"""


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/shots",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    acts = {**ACTS, live.__name__: live}
    parser.add_argument(
        "acts", metavar="ACT", nargs="*", help=f"of {', '.join(acts)}; all by default"
    )
    parser.add_argument("--check", action="store_true", help="write nothing, tell what differs")
    chosen = parser.parse_args()
    for name in chosen.acts:
        if name not in acts:
            parser.error(f"there is no act {name}: {', '.join(acts)}")
    shots: dict[str, str] = {}
    for name in chosen.acts or acts:
        print(f"{name} ...", flush=True)  # noqa: T201  a person waits
        with Stage() as stage:
            acts[name](stage)
            shots |= stage.shots
    picture = shots.pop(PICTURE, None)
    wanted = {name for page in pages.pages() for name in pages.marked(page.read_text("utf-8"))}
    if not chosen.acts and wanted - shots.keys():
        parser.error(f"no act shows {', '.join(sorted(wanted - shots.keys()))}")
    different = [page for page in pages.pages() if _renew(page, shots, write=not chosen.check)]
    if picture is not None and not chosen.check:
        (pages.ROOT / "docs" / PICTURE).write_text(picture, "utf-8")
    for page in different:
        print(f"{page.relative_to(pages.ROOT)} {'differs' if chosen.check else 'is new'}")  # noqa: T201
    return int(chosen.check and bool(different))


def _renew(page: Path, shots: dict[str, str], *, write: bool) -> bool:
    old = page.read_text("utf-8")
    new = pages.renewed(old, shots)
    if write and new != old:
        page.write_text(new, "utf-8")
    return new != old


if __name__ == "__main__":
    sys.exit(main())
