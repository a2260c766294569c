"""Redraws what one spool is doing until somebody has seen enough."""

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from flood import models, status_text
from flood.advice import Advice
from flood.errors import FloodError
from flood.states import EXIT_OK
from flood.status import Status
from flood.status_fit import Fitted
from flood.text import printable

#: Between two looks, in seconds; longer where a look takes long, so that the machine has its peace.
_PAUSE: Final = 1.0
_SHARE: Final = 10.0


def run(look: Callable[[], Status], advice: Advice, *, clock: Callable[[], float]) -> int:
    """Look and draw until q is pressed, then return the exit status; while the spool or its
    database is away, say so instead. Raises KeyboardInterrupt. `clock` is monotonic seconds."""
    console = Console(highlight=False)
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            begun = clock()
            live.update(_drawn(look, advice), refresh=True)
            if pressed(max(_PAUSE, _SHARE * (clock() - begun))) in ("q", "Q"):
                return EXIT_OK


def _drawn(look: Callable[[], Status], advice: Advice) -> RenderableType:
    try:
        return Fitted(status_text.parts(look(), advice))
    except (FloodError, OSError, models.DatabaseError) as error:
        told = printable(f"cannot read this spool: {models.explain(error)}")
        return Group(Text(told, style="bold red"), Text("It is looked for every second; q ends."))


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Gives the function that waits for a key for so many seconds; the empty text is none."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 1).decode("ascii", "replace") if ready else ""

    tty.setcbreak(descriptor)
    try:
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
