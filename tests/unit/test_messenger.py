"""Commands that are told: they have a minute, and nothing of them is left."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flood import messenger
from flood.messenger import Answer
from flood.stop import Stop
from tests.acceptance.harness import gone
from tests.spooling import in_child

#: The number of a user that has no rights here.
OTHER = 65534

LARGE = b"x" * 1_000_000


@pytest.fixture
def stop() -> Iterator[Stop]:
    made = Stop()
    yield made
    made.close()


def send(stop: Stop, *command: str, message: bytes = b"{}", patience: float = 30.0) -> Answer:
    return messenger.send(command, message, stop=stop, clock=time.monotonic, patience=patience)


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_a_command_gets_the_message(stop: Stop, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert send(stop, *sh(f"cat > {out}"), message=LARGE) == Answer(True, "")
    assert out.read_bytes() == LARGE


def test_a_command_need_not_read(stop: Stop) -> None:
    assert send(stop, "true", message=LARGE) == Answer(True, "")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "it ended with status 3"),
        ("kill -9 $$", "it ended with signal 9"),
        ("echo no such host >&2; exit 1", "it ended with status 1: no such host"),
        ("seq 9 >&2; exit 1", "it ended with status 1: 7; 8; 9"),
        ("yes a long line | head -c 300000 >&2; echo; echo end >&2; exit 1", None),
        ("printf '\\377' >&2; exit 1", "it ended with status 1: \ufffd"),
    ],
)
def test_why_nobody_was_told(stop: Stop, script: str, words: str | None) -> None:
    answer = send(stop, *sh(script))
    assert not answer.told
    assert answer.line == words if words else answer.line.endswith("; end")
    assert answer.words == answer.line.replace("; ", "\n")


def test_what_was_said_beside_is_kept(stop: Stop) -> None:
    assert send(stop, *sh("echo one; echo two >&2")) == Answer(True, "two")


@pytest.mark.parametrize(
    "command", ["/nowhere/tell", "/etc/passwd", "a\0b"], ids=["missing", "no program", "no name"]
)
def test_what_cannot_be_run(stop: Stop, command: str) -> None:
    answer = send(stop, command)
    assert not answer.told
    assert answer.words.startswith("cannot run ")


def test_one_that_hangs_is_killed_with_what_it_has_started(stop: Stop, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 1000 & echo $! $$ > {pids}; echo waiting >&2; wait"
    answer = send(stop, *sh(script), patience=1.0)
    assert answer == Answer(False, "it took over 1 seconds: waiting")
    for pid in map(int, pids.read_text().split()):
        wait_gone(pid)


@pytest.mark.parametrize("status", [0, 3])
def test_what_one_leaves_in_its_group_goes_on(stop: Stop, tmp_path: Path, status: int) -> None:
    """As a mail program leaves who delivers; it has the command's stderr."""
    pid = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {pid}; echo done >&2; exit {status}"
    words = "it ended with status 3: done" if status else "done"
    assert send(stop, *sh(script)) == Answer(status == 0, words)
    os.kill(int(pid.read_text()), signal.SIGKILL)  # it is there


def test_who_leaves_something_behind_is_not_waited_for(stop: Stop, tmp_path: Path) -> None:
    """Which has its stderr, and another session."""
    pid = tmp_path / "pid"
    began = time.monotonic()
    code = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        f"os.setsid(); open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    )
    try:
        assert send(stop, sys.executable, "-c", code) == Answer(True, "")
        assert time.monotonic() - began < 25.0
    finally:
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.01)
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a program that runs as root")
def test_one_that_became_another_user_is_left_to_itself(tmp_path: Path) -> None:
    """As sudo does."""
    perl, pid = shutil.which("perl"), tmp_path / "pid"
    if perl is None or os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip("no program is there that can become root")
    become = tmp_path / "become"
    shutil.copy(perl, become)
    become.chmod(0o4755)
    pid.touch()
    tmp_path.chmod(0o777)

    asked = 0

    def clock() -> float:
        """Its time begins with the first question, and is over once it is root."""
        nonlocal asked
        asked += 1
        return 9.0 if asked > 1 and os.stat("pid").st_size else 0.0

    def as_another_user() -> None:
        directory = os.open(tmp_path, os.O_RDONLY)
        os.setuid(OTHER)
        os.chdir(directory)  # pytest's own directories above are closed to others
        command = [
            "./become",
            "-e",
            "$< = 0; open F, '>', 'pid'; print F qq($$\\n); close F; sleep",
        ]
        answer = messenger.send(command, b"", stop=Stop(), clock=clock, patience=1.0)
        words = "it took over 1 seconds: it runs as another user, and cannot be killed"
        assert answer == Answer(False, words)

    try:
        assert in_child(as_another_user) == 0
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_a_stop_breaks_it_off(stop: Stop) -> None:
    stop.set()
    assert send(stop, "sleep", "1000") == Answer(False, "it was broken off by the stop")


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 30.0
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
