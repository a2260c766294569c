"""Files in incoming that are to be looked at again."""

from dataclasses import dataclass
from logging import DEBUG, INFO, WARNING, getLogger
from typing import Final

from flood import log
from flood.door import BEGUN_STANDSTILL, STANDSTILL, Candidate, Why
from flood.identity import Identity

#: How many files are kept; what does not fit is found by the next scan.
CAPACITY: Final = 20_000

# Seconds to the next look, doubled each time up to the second number.
_PAUSES: Final = {
    Why.WRITING: (0.5, 2.0),
    Why.STANDSTILL: (STANDSTILL, STANDSTILL),
    Why.OCCUPIED: (0.1, 5.0),
    Why.LINKED: (0.5, 60.0),
    Why.ERROR: (5.0, 60.0),
}

logger = getLogger(__name__)


@dataclass
class _Entry:
    candidate: Candidate
    why: Why
    pause: float
    next_look: float
    identity: Identity | None
    since: float


class Later:
    """A bounded set of files, each with its reason, its next look, its identity at the last one.

    Times are seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._full = False

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def add(self, candidate: Candidate, why: Why, identity: Identity | None, now: float) -> None:
        """Keep a file that could not be taken."""
        path = candidate.path
        entry = self._entries.get(path)
        first, longest = _PAUSES[why]
        if entry is None or entry.why is not why:
            if entry is None and len(self._entries) >= CAPACITY:
                if not self._full:
                    self._full = True
                    log.event(
                        logger, WARNING, "many files wait in incoming", kept=CAPACITY, next="scan"
                    )
                return
            # Every file that is copied in has a moment of being written.
            level = DEBUG if why is Why.WRITING else INFO
            log.event(logger, level, "waits", path=path, reason=why.value)
            since = now
            pause = first
        else:
            pause = min(entry.pause * 2, longest)
            since = entry.since if entry.identity == identity else now
        self._entries[path] = _Entry(candidate, why, pause, now + pause, identity, since)

    def due(self, now: float) -> list[tuple[Candidate, Identity | None]]:
        """The files whose next look has come, each with the identity that it had STANDSTILL ago."""
        self._full = self._full and len(self._entries) >= CAPACITY
        return [
            (entry.candidate, self.still(path, now))
            for path, entry in self._entries.items()
            if entry.next_look <= now
        ]

    def still(self, path: str, now: float) -> Identity | None:
        """The identity that a file has had for STANDSTILL, or where its close is still to come for
        BEGUN_STANDSTILL, as far as is known."""
        entry = self._entries.get(path)
        if entry is None:
            return None
        enough = BEGUN_STANDSTILL if entry.candidate.begun else STANDSTILL
        return entry.identity if now - entry.since >= enough else None

    def doubt(self) -> None:
        """Events were missed: files that were begun may have been closed since."""
        for entry in self._entries.values():
            entry.candidate = entry.candidate._replace(begun=False)

    def forget(self, path: str) -> None:
        """The file was taken, or is gone."""
        self._entries.pop(path, None)

    def next_look(self) -> float | None:
        """When the next file is due; None if none waits."""
        return min((entry.next_look for entry in self._entries.values()), default=None)
