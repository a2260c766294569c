"""Hands a digest to a command, which has a limited time for it."""

import os
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from flood import parent, syscalls
from flood.stop import Stop

#: How long a command may take, in seconds.
PATIENCE: Final = 60.0

_TICK: Final = 0.1

#: How long one that was killed is waited for, in seconds.
_DEATH: Final = 2.0

#: What is kept of a command's stderr: so many bytes, so many lines.
_TAIL: Final = 2048
_LINES: Final = 3


@dataclass(frozen=True)
class Answer:
    """Whether somebody was told; `words` are the last lines of the command's stderr, before them
    how it ended if nobody was."""

    told: bool
    words: str

    @property
    def line(self) -> str:
        """The words in one line, as the log has them."""
        return "; ".join(self.words.splitlines())


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
    started, as far as that has stayed in its process group. What a command leaves that ends by
    itself goes on: mail programs hand over in the background."""
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
        stays = not _end(process)
    if over:
        said = b"it runs as another user, and cannot be killed" if stays else said
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
    while not _has_ended(process):
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


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it has; its number, which is that of its group, stays its own until `_end`."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: "subprocess.Popen[bytes]") -> bool:
    """Kill its group if it has not ended, then take its status; whether it has ended."""
    if process.stderr is not None:
        process.stderr.close()
    if not _has_ended(process):
        with suppress(PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(_DEATH)
    except subprocess.TimeoutExpired:  # sudo, which nobody but root ends
        return False
    return True


def _joined(how: str, said: bytes) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines()]
    last = [line for line in lines if line][-_LINES:]
    return ": ".join(part for part in (how, "\n".join(last)) if part)
