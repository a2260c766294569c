"""Leaves a store alone that fails at what can wait, each time for longer."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workers.backoff import delay

if TYPE_CHECKING:
    from flood.profiles import Profile

#: For how many seconds at most.
LONGEST: Final = 3600.0

#: From so many failures in a row on it is LONGEST, however short the first rest is.
_MOST: Final = 16


@dataclass
class _Failing:
    times: int = 0
    until: float = -math.inf


class Rests:
    """Every profile's; for one thread at a time. The first rest is of `initial` seconds, with
    `jitter` and `uniform` as `backoff.delay` has them; `clock` gives seconds that never go back.
    """

    def __init__(
        self,
        initial: float,
        jitter: float,
        uniform: Callable[[float, float], float],
        clock: Callable[[], float],
    ) -> None:
        self._initial = initial
        self._jitter = jitter
        self._uniform = uniform
        self._clock = clock
        self._failing: dict[Profile, _Failing] = {}

    def rests(self, profile: "Profile") -> bool:
        """Whether its store is to be left alone now."""
        failing = self._failing.get(profile)
        return failing is not None and self._clock() < failing.until

    def failed(self, profile: "Profile", least: float) -> float:
        """Its store has failed once more; return for how many seconds it is left alone, `least` or
        more."""
        failing = self._failing.setdefault(profile, _Failing())
        failing.times = min(failing.times + 1, _MOST)
        seconds = delay(failing.times, self._initial, self._jitter, self._uniform)
        seconds = max(least, min(seconds, LONGEST))
        failing.until = self._clock() + seconds
        return seconds

    def answered(self, profile: "Profile") -> None:
        """Its store works."""
        self._failing.pop(profile, None)
