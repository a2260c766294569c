"""Counts how files ended in one process."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Final, NamedTuple

from flood.states import GONE_BEFORE, MISNAMED

#: How many keys of one kind of failure are kept.
EXAMPLES: Final = 10


class Cause(NamedTuple):
    """What failures of one kind share; `code` is that of the record."""

    profile: str
    bucket: str
    code: str


@dataclass
class Failures:
    """How many files failed for one cause, with the first reason in words, the first keys, each
    with its record's id."""

    reason: str
    files: int = 0
    examples: list[tuple[str, int]] = field(default_factory=list)


class BrokenOff(NamedTuple):
    """A file that was under way when its worker had to stop, for so many seconds by then."""

    profile: str
    bucket: str
    key: str
    record: int
    seconds: float


@dataclass
class Tally:
    """What this process has settled; safe in any thread."""

    files: int = 0
    size: int = 0
    broken: int = 0
    stopped: list[BrokenOff] = field(default_factory=list)
    failures: dict[Cause, Failures] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def failed(self) -> int:
        """How many files have failed for good."""
        with self._lock:
            return sum(each.files for each in self.failures.values())

    @property
    def retriable(self) -> int:
        """How many of those that have failed flood-retry can put back, once the cause is mended."""
        beyond = (*GONE_BEFORE, *MISNAMED)
        with self._lock:
            return sum(
                each.files for cause, each in self.failures.items() if cause.code not in beyond
            )

    @property
    def settled(self) -> int:
        """How many files have ended, well or not."""
        return self.files + self.failed

    def completed(self, size: int) -> None:
        """Count a file of so many bytes whose upload is proven."""
        with self._lock:
            self.files += 1
            self.size += size

    def gave_up(
        self, profile: str, bucket: str, key: str, record: int, code: str, reason: str
    ) -> None:
        """Count a file that has failed for good."""
        with self._lock:
            known = self.failures.setdefault(Cause(profile, bucket, code), Failures(reason))
            known.files += 1
            if len(known.examples) < EXAMPLES:
                known.examples.append((key, record))

    def let_go(self, one: BrokenOff) -> None:
        """Note a file whose upload was to go on for longer."""
        with self._lock:
            self.stopped.append(one)

    def broke_off(self) -> None:
        """Count an attempt, or a sweep, that ended by an error of this machine's or of flood's."""
        with self._lock:
            self.broken += 1
