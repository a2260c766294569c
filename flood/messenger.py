"""Hands a digest to a command, which has a limited time for it."""

import os
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from flood import parent, syscalls
from flood.stop import Stop

#: How long a command may take, in seconds.
PATIENCE: Final = 60.0

_TICK: Final = 0.1

#: What is kept of a command's stderr: so many bytes, so many lines.
_TAIL: Final = 2048
_LINES: Final = 3


@dataclass(frozen=True)
class Answer:
    """Whether somebody was told; `words` are the last lines of the command's stderr, before them
    how it ended if nobody was."""

    told: bool
    words: str


def send(
    command: Sequence[str],
    message: bytes,
    *,
    stop: Stop,
    clock: Callable[[], float],
    patience: float = PATIENCE,
) -> Answer:
    """Run the command with the message on its standard input; exit status 0 means that it has told
    somebody. After so many seconds of `clock`, or on the stop, it is killed with all that it has
    started, as far as that has stayed in its process group."""
    # Not a pipe, which a command that does not read would fill.
    with os.fdopen(os.memfd_create("digest"), "w+b") as letter:
        letter.write(message)
        letter.flush()
        letter.seek(0)
        try:
            process = subprocess.Popen(
                command,
                stdin=letter,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=parent.without(os.environ),
                # There is one thread only, and nothing else would end it if this process is killed.
                preexec_fn=partial(syscalls.die_with_parent, signal.SIGKILL),
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            return Answer(False, f"cannot run {command[0]}: {reason}")
    try:
        over, said = _attend(process, stop, clock, clock() + patience)
    finally:
        _end(process)
    if over:
        why = "was broken off by the stop" if stop.is_set() else f"took over {patience:g} seconds"
        return Answer(False, _joined(f"it {why}", said))
    status = process.returncode
    if status == 0:
        return Answer(True, _joined("", said))
    how = f"status {status}" if status > 0 else f"signal {-status}"
    return Answer(False, _joined(f"it ended with {how}", said))


def _attend(
    process: "subprocess.Popen[bytes]", stop: Stop, clock: Callable[[], float], end: float
) -> tuple[bool, bytes]:
    """Wait for its end, or the time's; whether it was the time's, and the end of its stderr."""
    assert process.stderr is not None  # noqa: S101  it was asked for
    pipe = process.stderr.fileno()
    os.set_blocking(pipe, False)
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    poller.register(stop.fileno(), select.POLLIN)
    said, closed = b"", False
    # Its end is not that of the pipe, which what it has started may hold.
    while process.poll() is None:
        if stop.is_set() or clock() >= end:
            return True, said
        poller.poll(_TICK * 1000)
        said, now_closed = _read(pipe, said)
        if now_closed and not closed:
            closed = True
            poller.unregister(pipe)
    return False, _read(pipe, said)[0]


def _read(pipe: int, said: bytes) -> tuple[bytes, bool]:
    """The end of what was said with what has come since; whether the pipe is closed."""
    try:
        data = os.read(pipe, 1 << 20)
    except BlockingIOError:
        return said, False
    return (said + data)[-_TAIL:], not data


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _joined(how: str, said: bytes) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines()]
    last = [line for line in lines if line][-_LINES:]
    return ": ".join(part for part in (how, "; ".join(last)) if part)
