"""The tests and the crash points that the documentation names are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.crash_points import POINTS, Point

ROOT = Path(__file__).resolve().parents[2]
WHO = {
    "put": "flood-put",
    "watch": "flood-watch",
    "consumer": "consumer",
    "sweeper": "sweep",
    "retry": "flood-retry",
    "prune": "flood-prune",
}


@cache
def every_test() -> set[str]:
    """The name of every test function."""
    return {
        node.name
        for path in ROOT.glob("tests/**/test_*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def named(text: str) -> list[str]:
    return re.findall(r"`(test_\w+)`", text)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


@pytest.mark.parametrize("name", ["architecture.md", "security.md"])
def test_each_test_that_a_page_names_exists(name: str) -> None:
    assert named(page(name))
    assert set(named(page(name))) - every_test() == set()


@pytest.mark.parametrize("state", [f"S{number}" for number in range(13)])
def test_each_state_is_visited_by_tests(state: str) -> None:
    table = page("architecture.md").partition("\n| | tests |\n")[2]
    [line] = re.findall(rf"^\| {state} \|.*$", table.partition("\n\n")[0], re.MULTILINE)
    assert set(named(line)) & every_test()


@pytest.mark.parametrize("heading", ["Links", "Names", "Modes", "Secrets", "The queue"])
def test_each_point_of_the_page_on_security_names_its_tests(heading: str) -> None:
    text = page("security.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert named(text)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_each_crash_point_is_one_line_of_the_program(point: Point) -> None:
    assert point.number > 0


def test_the_table_of_crash_points_is_that_of_the_tests() -> None:
    table = page("architecture.md").partition("\n## Crash points\n")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    assert lines == [
        f"| `{point.name}` | {WHO[point.who]} | `{point.place}` | {point.state} |"
        for point in POINTS
    ]
