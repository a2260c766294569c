"""Reads the credentials again once their file has changed."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from logging import ERROR, INFO, getLogger
from threading import Lock
from typing import Final

from flood import credentials, log, startup
from flood.credentials import Credentials, Stamp
from flood.errors import CredentialsError
from flood.profiles import Profile

#: How often the file is looked at, at most, in seconds.
INTERVAL: Final = 1.0

#: How long a file must stand still before it is read, in seconds: somebody may be writing it.
STANDSTILL: Final = 1.0

logger = getLogger(__name__)


class Rereading:
    """`credentials` are those that count now; any thread may look.

    What is wrong with the file is told once, the credentials of before count on. `clock` is
    monotonic seconds, `now` seconds since the epoch.
    """

    def __init__(
        self, found: Credentials, *, clock: Callable[[], float], now: Callable[[], float]
    ) -> None:
        self.credentials = found
        self._clock = clock
        self._now = now
        self._read: Stamp | None = found.stamp
        self._seen: Stamp | None = found.stamp
        self._next = clock() + INTERVAL
        self._refused = ""
        self._asked = False
        self._lock = Lock()

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """The profiles that count now, the same object until that changes."""
        return self.credentials.profiles

    @property
    def refused(self) -> bool:
        """Whether the file has changed to what is wrong, or is gone."""
        return bool(self._refused)

    @property
    def asked(self) -> bool:
        """Whether somebody asked, and nobody has looked since."""
        return self._asked

    def ask(self) -> None:
        """Have the next look read the file whatever it finds; a signal's receiver may call this."""
        self._asked = True

    def look(self, *, at_once: bool = False) -> Mapping[str, Profile]:
        """The profiles that count now, after a look at the file unless there was one within
        INTERVAL. With `at_once` it is looked at, and read even if it has only just changed."""
        hurry = at_once or self._asked
        # Whoever is in no hurry does not wait for a disk that another thread waits for.
        if (hurry or self._clock() >= self._next) and self._lock.acquire(blocking=hurry):
            try:
                self._look(hurry)
            finally:
                self._lock.release()
        return self.credentials.profiles

    def _look(self, hurry: bool) -> None:
        self._next = self._clock() + INTERVAL
        asked, self._asked = self._asked, False
        stamp = credentials.stamp_of(self.credentials.path)
        still = stamp == self._seen or self._stands_still(stamp)
        self._seen = stamp
        if not asked and (stamp == self._read or not (still or hurry)):
            return
        # If it changes while it is read, it has another stamp at the next look.
        self._read = stamp
        try:
            found = credentials.load_again(self.credentials)
        except CredentialsError as error:
            self._refuse(str(error), again=asked)
        else:
            self._take(found, asked)

    def _stands_still(self, stamp: Stamp | None) -> bool:
        return stamp is not None and self._now() - max(stamp[-2:]) / 1e9 >= STANDSTILL

    def _refuse(self, reason: str, *, again: bool) -> None:
        if reason == self._refused and not again:
            return
        self._refused = reason
        log.event(
            logger,
            ERROR,
            "credentials refused",
            file=self.credentials.path,
            reason="; ".join(reason.splitlines()),
            next="those of before count on: correct the file",
        )

    def _take(self, found: Credentials, asked: bool) -> None:
        old, self.credentials = self.credentials, found
        startup.warn_of_credentials(one for one in found.warnings if one not in old.warnings)
        was_refused, self._refused = self._refused, ""
        if found.profiles == old.profiles:
            self.credentials = replace(found, profiles=old.profiles)
            if asked or was_refused:
                log.event(logger, INFO, "credentials unchanged", file=found.path)
            return
        before, after = old.profiles, found.profiles
        both = before.keys() & after.keys()
        log.event(
            logger,
            INFO,
            "credentials changed",
            file=found.path,
            added=_names(after.keys() - before.keys()),
            removed=_names(before.keys() - after.keys()),
            changed=_names({name for name in both if before[name] != after[name]}),
        )


def _names(names: Collection[str]) -> str | None:
    return ",".join(sorted(names)) or None
