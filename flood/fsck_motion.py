"""Waits until what was in motion has come to rest."""

from collections.abc import Callable
from typing import Final

from flood import models
from flood.locks import held

#: Between two looks at what seems wrong, at least, in seconds.
PAUSE: Final = 0.25

#: How long one writer may keep all others waiting before it counts as stuck, in seconds.
PATIENCE: Final = 30.0

_LOOK: Final = 0.02


class Calm:
    """Waits for the end of every transaction that is under way. `clock` is monotonic seconds."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        patience: float = PATIENCE,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._patience = patience

    def __call__(self) -> bool:
        """Whether they ended. A file is moved before its record is written, in one transaction, and
        only one goes on at a time: after a commit, or when nobody writes, the one is over that was
        under way before."""
        begun = self._clock()
        version = models.version()
        queue = f"{models.path()}-writers"
        while True:
            self._sleep(_LOOK)
            waited = self._clock() - begun
            if waited >= PAUSE and (models.version() != version or not held(queue)):
                return True
            if waited >= self._patience:
                return False
