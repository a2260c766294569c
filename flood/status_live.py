"""Redraws what one spool is doing until somebody has seen enough."""

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from flood import models, status_text
from flood.advice import Advice
from flood.errors import ConfigError, FloodError
from flood.states import EXIT_OK
from flood.status import Status
from flood.status_fit import Fitted, Part
from flood.text import printable

#: Between two looks, in seconds; longer where a look takes long, so that the machine has its peace.
_PAUSE: Final = 1.0
_SHARE: Final = 10.0

#: What looks at a spool that is open, with what a person is advised there.
Began: TypeAlias = tuple[Callable[[], Status], Advice]


def check_terminal(environ: Mapping[str, str]) -> None:
    """Raise ConfigError for a terminal of which the environment says that nothing can be redrawn
    there: it would stay empty."""
    console = Console()
    if console.is_dumb_terminal:
        raise ConfigError(
            f"--live cannot redraw a terminal where TERM is '{environ.get('TERM', '')}'; leave "
            "--live out, or set TERM to what the terminal is, as in TERM=xterm"
        )
    if not console.is_terminal:
        raise ConfigError(
            "--live needs a terminal, and TTY_COMPATIBLE or FORCE_COLOR says that there is none; "
            "leave --live out, or unset them"
        )


def run(
    begin: Callable[[], Began], told: Callable[[Exception], str], *, clock: Callable[[], float]
) -> int:
    """Look and draw until q is pressed, then return the exit status; while the spool or its
    database is away, say so instead, in the words of `told`. `begin` opens both, and is called
    until they are there. Raises KeyboardInterrupt. `clock` is monotonic seconds."""
    parts = _parts(begin)
    console = Console(highlight=False)
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            begun = clock()
            live.update(_drawn(parts, told), refresh=True)
            if pressed(max(_PAUSE, _SHARE * (clock() - begun))) in ("q", "Q"):
                return EXIT_OK


def _parts(begin: Callable[[], Began]) -> Callable[[], Sequence[Part]]:
    began: Began | None = None

    def parts() -> Sequence[Part]:
        nonlocal began
        if began is None:
            began = begin()
        look, advice = began
        status = look()
        if models.at_rest():
            began = None  # should anybody come to work
        return status_text.parts(status, advice)

    return parts


def _drawn(parts: Callable[[], Sequence[Part]], told: Callable[[Exception], str]) -> RenderableType:
    try:
        return Fitted(parts())
    except (FloodError, OSError, models.DatabaseError) as error:
        words = Text(printable(told(error)), style="bold red")
        return Group(words, Text("It is looked for every second; q ends."))


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Gives the function that waits for a key for so many seconds; the empty text is none. A
    terminal that is gone answers as if q was pressed."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        if not ready:
            return ""
        return os.read(descriptor, 1).decode("ascii", "replace") or "q"

    tty.setcbreak(descriptor)
    try:
        yield pressed
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
