"""A short trial of the real processes under kills and faults, as scripts/chaos runs long ones."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import CHECKOUT


def run(tmp_path: Path, *arguments: str) -> tuple["subprocess.CompletedProcess[str]", Any]:
    """Run a trial to its end; return what it reports, too."""
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.chaos", "--keep", str(tmp_path / "trial")),
            *("--report", str(report), *arguments),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=280,
        check=False,
    )
    return done, json.loads(report.read_text()) if report.exists() else None


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_is_stuck(tmp_path: Path) -> None:
    done, report = run(tmp_path, "--seed", "1", "--minutes", "0.7", "--files", "250")
    assert done.returncode == 0, done.stdout + done.stderr
    figures, faults = report["figures"], report["counts"]["faults"]
    assert figures["files brought"] >= 100
    assert figures["kills"] >= 5
    assert sum(faults.values()) >= 10
    assert report["counts"]["records"]["completed"] >= 100


@pytest.mark.timeout(600)
def test_a_planted_defect_is_found(tmp_path: Path) -> None:
    """A checker that never fails would prove nothing. In a trial that is this short nobody may die
    with a claim, by chance."""
    for seed in ("1", "2", "3", "4"):
        directory = tmp_path / seed
        directory.mkdir()
        done, report = run(
            directory,
            *("--defect", "no-sweep", "--faults", "none", "--actions", "90"),
            *("--seed", seed, "--minutes", "0.12", "--files", "150", "--calm", "5"),
        )
        if done.returncode:
            break
    assert done.returncode == 1, done.stdout + done.stderr
    assert "nobody_dead_owns_a_row" in {one["invariant"] for one in report["violations"]}
    assert "the story of" in done.stdout
    assert "scripts/chaos" in done.stdout
