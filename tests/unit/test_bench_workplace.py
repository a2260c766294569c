"""Of the benchmark's directory, with what was started in it, nothing is left, with real signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.harness import CHECKOUT

# A process that no signal but SIGKILL ends, whose own child has lost the one between them.
STUBBORN = """
trap "" INT TERM HUP
(sh -c 'echo $$; while :; do sleep 60; done' &)
echo $$
while :; do sleep 60; done
"""

WORKS = f"""
import subprocess, sys
from pathlib import Path
from tests.bench.workplace import work_in

def work(directory):
    (directory / "deep").mkdir()
    (directory / "deep" / "file").touch()
    child = subprocess.Popen(["sh", "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
    print(child.stdout.readline().decode(), child.stdout.readline().decode(), flush=True)
    match sys.argv[2]:
        case "wait":
            sys.stdin.read()
        case "fail":
            raise ValueError("as it should")
    return "found"

try:
    print(work_in(Path(sys.argv[1]), work))
except KeyboardInterrupt:
    sys.exit(130)
"""


def begun(directory: Path, way: str, *prefix: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", WORKS, str(directory), way],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def started(process: "subprocess.Popen[str]") -> list[int]:
    """The processes that it has started, once it has."""
    assert process.stdout is not None
    found: list[int] = []
    while len(found) < 2:
        line = process.stdout.readline()
        assert line, process.communicate()
        found += map(int, line.split())
    return found


def left(directory: Path, pids: list[int]) -> list[object]:
    return [*directory.iterdir(), *(pid for pid in pids if os.path.exists(f"/proc/{pid}"))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_nothing_left(tmp_path: Path, number: signal.Signals) -> None:
    with begun(tmp_path, "wait") as process:
        pids = started(process)
        assert len(left(tmp_path, pids)) == 3
        process.send_signal(number)
        printed, complaints = process.communicate(timeout=60)
    assert (process.returncode, printed.strip(), complaints) == (130, "", "")
    assert left(tmp_path, pids) == []


@pytest.mark.parametrize(("way", "status"), [("return", 0), ("fail", 1)])
def test_its_own_end_leaves_nothing(tmp_path: Path, way: str, status: int) -> None:
    with begun(tmp_path, way) as process:
        pids = started(process)
        printed, complaints = process.communicate(timeout=60)
    assert process.returncode == status
    assert printed.strip() == ("" if status else "found")
    assert complaints.endswith("ValueError: as it should\n" if status else "")
    assert left(tmp_path, pids) == []


def test_signals_that_come_again_and_again_do_not_break_its_end_off(tmp_path: Path) -> None:
    with begun(tmp_path, "wait") as process:
        pids = started(process)
        for _ in range(1000):
            process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGTERM), complaints  # the last comes after its end
    assert left(tmp_path, pids) == []


def test_a_hang_up_that_is_ignored_stays_so(tmp_path: Path) -> None:
    with begun(tmp_path, "wait", "sh", "-c", 'trap "" HUP; exec "$@"', "sh") as process:
        pids = started(process)
        process.send_signal(signal.SIGHUP)
        printed, complaints = process.communicate(timeout=60)
    assert (process.returncode, printed.strip(), complaints) == (0, "found", "")
    assert left(tmp_path, pids) == []
