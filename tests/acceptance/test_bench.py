"""A small run of the benchmark, flood alone, as scripts/bench runs large ones."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.harness import CHECKOUT
from tests.bench.usage import family


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


@contextmanager
def started(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The benchmark at work; it is killed if it has not ended by then."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench", *arguments],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


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
        ["--directory", "/nowhere/at all"],
    ],
)
def test_wrong_usage_is_said(arguments: list[str]) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("scripts/bench: error: ") == 1
    assert done.stdout == ""


def test_a_signal_leaves_nothing_behind(tmp_path: Path) -> None:
    with started("--workloads", "idle", "--peers", "none", "--directory", str(tmp_path)) as run:
        deadline = time.monotonic() + 60
        while not any(" ready " in log.read_text() for log in tmp_path.glob("*/flood/flood.log")):
            assert run.poll() is None, run.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        began = family(run.pid)
        run.send_signal(signal.SIGTERM)
        printed, complaints = run.communicate(timeout=90)
    assert run.returncode == 130
    assert complaints == ""
    assert "failed" not in printed
    assert list(tmp_path.iterdir()) == []
    assert len(began) > 2  # a store, flood-watch, mostly its consumers
    assert [pid for pid in began if Path("/proc", str(pid)).exists()] == []
