"""What follows an attempt, for each of its files."""

from dataclasses import dataclass
from typing import NamedTuple

from flood.identity import Identity
from flood.record_values import Claimed, Reason
from workers.transfer import Receipt


class Prove(NamedTuple):
    """The object is there: the file may go to completed, if it is still the one behind
    `descriptor`."""

    claim: Claimed
    receipt: Receipt
    descriptor: int
    #: When its inode had last changed before it was sent, as `flood.identity.changed_ns` has it.
    changed_ns: int


@dataclass(frozen=True)
class TryAgain:
    """Transient: once more after `delay` seconds; `identity` is the file's own now."""

    claim: Claimed
    identity: Identity
    reason: Reason
    delay: float


@dataclass(frozen=True)
class GiveUp:
    """Permanent, or the last retry is spent: the file goes to failed."""

    claim: Claimed
    reason: Reason


@dataclass(frozen=True)
class LetGo:
    """The worker is to stop: the file is due again at once, at no cost. It had been under way for
    so many seconds."""

    claim: Claimed
    reason: Reason
    seconds: float = 0.0


@dataclass(frozen=True)
class PutOff:
    """Nothing of the file was sent: it is due again after `delay` seconds, as if it had not been
    claimed. This machine had no descriptor or memory left for it, or the store wants to be left
    alone, as `reason` says. With `ring` others are told at once, as this worker goes on with what
    it has begun."""

    claim: Claimed
    reason: Reason
    delay: float
    ring: bool = False


@dataclass(frozen=True)
class Missing:
    """The file is not where its record says."""

    claim: Claimed


#: What ends an attempt.
Ending = Prove | TryAgain | GiveUp | LetGo | Missing
Decision = Ending | PutOff
