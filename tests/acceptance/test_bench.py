"""A small run of the benchmark, flood alone, as scripts/bench runs large ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.harness import CHECKOUT


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the benchmark to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=100,
        check=False,
    )


def test_a_small_run_measures_flood(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = bench(
        *("--scale", "0.01", "--rounds", "1", "--workloads", "w1,w1-backlog", "--peers", "none"),
        *("--directory", str(tmp_path), "--report", str(report)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == [report]
    results = json.loads(report.read_text())["results"]
    assert [set(result["contestants"]) for result in results] == [
        {"flood", "flood, warm"},
        {"flood, warm", "flood, behind"},
    ]
    assert [result["workload"]["finished"] for result in results] == [0, 10_000]
    for contestant in (each for one in results for each in one["contestants"].values()):
        [run] = contestant["runs"]
        assert contestant["problems"] == []
        assert contestant["medians"]["files/s"]["median"] == pytest.approx(100 / run["seconds"])
        assert 0.0 < run["cpu"] < 30.0
        assert 20 * 1024**2 < run["pss"] <= run["rss"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workloads", "w1,w9"],
        ["--peers", "scp"],
        ["--rounds", "0"],
        ["--scale", "-1"],
        ["--directory", "/nowhere/at all"],
    ],
)
def test_wrong_usage_is_said(arguments: list[str]) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("scripts/bench: error: ") == 1
    assert done.stdout == ""
