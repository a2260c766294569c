"""The console scripts, from their first instant on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = "import sys; from flood.commands.start import {0}; sys.exit({0}())"

# What every command imports, before much else.
SLOW = """
import sys, time
print("importing", flush=True)
time.sleep(60)
"""

#: What no command takes, with what it says of that.
WRONG = [
    ("watch", ["--once", "--consumers", "2"], "--once starts no consumers"),
    ("drain", ["--max-time", "soon"], "'soon' is no duration"),
    ("drain", ["--max-time", "0"], "allowed: 1s to 1d"),
    ("drain", ["--workers", "0"], "allowed: 1 to 64"),
    ("drain", ["everything"], "unrecognized arguments"),
    ("notify", ["--json"], "--json is for --dry-run"),
    ("notify", ["--test", "--json"], "--json is for --dry-run"),
    ("notify", ["--test", "--dry-run"], "--test does not go with --dry-run: take one of them"),
    ("notify", [], "nobody is to be told"),
    ("notify", ["--notify-command", "'"], "cannot be split into words"),
]

SIGINT_OF_FSCK = """
import signal, sys
from flood.commands.start import fsck
try:
    fsck()
except SystemExit:
    print(getattr(signal.getsignal(signal.SIGINT), "__name__", "ignored"), file=sys.stderr)
"""

STREAMS = """
import os, sys
from importlib import import_module
try:
    import_module("flood.commands." + sys.argv[1]).main(["--version"])
except SystemExit:
    pass
with open(sys.argv[2], "w") as file:
    for number in range(3):
        print(os.readlink(f"/proc/self/fd/{number}"), file=file)
    print(None in (sys.stdin, sys.stdout, sys.stderr), file=file)
"""

COMMANDS = ["watch", "drain", "put", "status", "retry", "prune", "notify", "fsck", "check", "init"]


def environ(*first: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": ":".join(map(str, (*first, ROOT)))}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_early_interrupt_ends_it_without_a_traceback(command: str, tmp_path: Path) -> None:
    (tmp_path / "peewee.py").write_text(SLOW)
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(command)],
        env=environ(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == (b"", b"")
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_of_its_own_takes_the_place_of_a_stream_that_is_closed(
    command: str, tmp_path: Path
) -> None:
    """As from a service that closes them: a pipe there would be written to, or never be quiet."""
    found = tmp_path / "found"
    subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", STREAMS, command, found],
        env=environ(),
        check=True,
    )
    assert found.read_text().split() == ["/dev/null"] * 3 + ["False"]


@pytest.mark.parametrize(
    ("shell", "found"), [("exec", "default_int_handler"), ("trap '' INT; exec", "ignored")]
)
def test_flood_fsck_can_be_interrupted_unless_it_was_ignored(shell: str, found: str) -> None:
    ended = subprocess.run(
        ["sh", "-c", f'{shell} "$@"', "sh", sys.executable, "-c", SIGINT_OF_FSCK, "--help"],
        env=environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--repair" in ended.stdout
    assert ended.stderr.strip() == found


def test_once_takes_no_consumers_for_an_answer(tmp_path: Path) -> None:
    arguments = ["--server-directory", tmp_path / "spool", "--once", "--consumers", "0"]
    arguments += ["--credentials", tmp_path / "none", "--credentials-first"]
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format("watch"), *arguments],
        env=environ(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "starts no consumers" not in ended.stderr
    assert f"{tmp_path}/none" in ended.stderr  # which it asks for next


@pytest.mark.parametrize(("command", "arguments", "told"), WRONG)
def test_wrong_usage_is_told_before_anything_is_made(
    command: str, arguments: list[str], told: str, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(command), "--server-directory", spool, *arguments],
        env=environ(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert told in ended.stderr
    assert list(tmp_path.iterdir()) == []
