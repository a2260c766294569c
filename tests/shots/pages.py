"""The blocks of the documentation that show what flood prints.

    <!-- scripts/shots: drain -->

        $ flood-drain
        211 files uploaded (1.3 GiB)

The mark names the shot, the indented block below it is the shot.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INDENT = "    "

#: What stands where lines of a shot are left out.
GAP = "..."

_BLOCK = re.compile(
    r"^<!-- scripts/shots: (?P<name>[a-z0-9-]+) -->\n\n(?P<block>(?:    .*\n|\n+(?=    ))+)", re.M
)
_MARK = re.compile(r"^<!-- scripts/shots: ([a-z0-9-]+) -->$", re.M)

# What is different each time: names that are random, numbers, sizes, how long ago; where a name is
# cut, as columns of sizes and times take more room, or less: a table leaves eleven columns of it.
_CUT = re.compile(r"(\S(?:\S| (?=\S)){10})(?:\S| (?=\S))*…")
_RANDOM = re.compile(r"\b[0-9a-f]{32,}\b")
_NUMBER = re.compile(r"\d[\d.,:]*")
_SIZE = re.compile(r"# (?:B|KiB|MiB|GiB|Bytes?)\b")
_SPAN = re.compile(
    r"(?:a moment|an? (?:micro|milli)?second|a minute|an hour"
    r"|# (?:(?:micro|milli)?seconds|minutes|hours))\b"
)
_BAR = re.compile(r"[━╸╺]+")


def pages() -> list[Path]:
    """Every page that may have such blocks."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def marked(text: str) -> list[str]:
    """The names of the shots that a page wants."""
    return _MARK.findall(text)


def quoted(text: str) -> Iterator[tuple[str, str]]:
    """Each shot that a page has, by its name, without the indentation."""
    for found in _BLOCK.finditer(text):
        lines = found["block"].rstrip("\n").split("\n")
        yield found["name"], "\n".join(line.removeprefix(INDENT) for line in lines)


def renewed(text: str, shots: Mapping[str, str]) -> str:
    """The page with these shots. One that has the shape that it had stays as it is, so that a new
    run changes only what flood prints differently."""

    def block(found: re.Match[str]) -> str:
        new = shots.get(found["name"])
        old = dict(quoted(found[0])).get(found["name"], "")
        if new is None or shape(new) == shape(old):
            return found[0]
        lines = (f"{INDENT}{line}".rstrip() for line in new.split("\n"))
        return f"<!-- scripts/shots: {found['name']} -->\n\n" + "\n".join(lines) + "\n"

    return _BLOCK.sub(block, text)


def shape(shot: str) -> Counter[str]:
    """The lines of a shot without what is different each time; processes that run side by side
    print theirs in any order."""
    return Counter(_plain(line) for line in shot.split("\n"))


def _plain(line: str) -> str:
    line = _NUMBER.sub("#", _RANDOM.sub("#", _CUT.sub(r"\1…", line)))
    line = _SPAN.sub("TIME", _SIZE.sub("SIZE", line))
    return " ".join(_BAR.sub("BAR", line).split())
