"""Remembers when the clock was set to another time."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Final, NamedTuple

from flood import models
from flood.columns import utc_text
from flood.stored import utc_moment

#: By so many seconds a clock that is only kept right does not move between two looks.
LEAP: Final = 300.0

#: So often a look is noted at least, in seconds: after the next boot it tells whether the clock
#: went back.
_NOTED: Final = 3600.0

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"

#: What every note has, and what those of earlier programs lack.
_ALWAYS: Final = ("boot", "began", "at", "latest", "set_at")
_SINCE: Final = "set_back"


class Running(NamedTuple):
    """For how many seconds the machine has been running, or suspended, since which boot."""

    boot: str
    seconds: float


def running() -> Running:
    """The kernel's own word, which no clock changes (random(4), clock_gettime(2)). Where it does
    not say which boot it is, each other one looks like a leap."""
    boot = ""
    with suppress(OSError), open(_BOOT_ID, encoding="ascii") as file:
        boot = file.read().strip()
    return Running(boot, time.clock_gettime(time.CLOCK_BOOTTIME))


@dataclass(frozen=True)
class Seen:
    """What the clock was at a look, in seconds since the epoch: itself, when this boot began, the
    latest that it has ever shown, when it was last set to another time, or the database made;
    whether it was set back since this boot began."""

    boot: str
    began: float
    at: float
    latest: float
    set_at: float
    set_back: bool

    @property
    def last_set(self) -> datetime:
        """When the clock was last set to another time, or the database made (aware)."""
        return datetime.fromtimestamp(self.set_at, timezone.utc)

    @property
    def behind(self) -> bool:
        """Whether it shows a time that has been: somebody will set it right, be it while the
        machine is off."""
        return self.at < self.latest - LEAP


def look(now: datetime, running: Callable[[], Running]) -> tuple[Seen, bool]:
    """What is to be known of the clock at `now` (aware), with whether that is news. Both are the
    same moment's: whoever has waited since `now` asks anew what it is.

    Raises DamagedError where nobody knows any more when the database was made."""
    row = models.execute("SELECT clock, created_at FROM spool WHERE id = 1").fetchone()
    if row is None:
        raise models.DamagedError("the table spool has no row")
    clock, created = row
    known = _known(clock)
    made = utc_moment(created).timestamp()
    seen = _judged(known, now.timestamp(), running(), made)
    # What has failed before the database was made was dated by another one, or by a wrong clock.
    seen = replace(seen, set_at=max(seen.set_at, made))
    if known is None:
        # Of what was noted, yet cannot be read, nobody knows whether it told of a leap.
        return (replace(seen, set_at=max(seen.at, made)) if clock else seen), True
    moved = abs(seen.began - known.began) > 1.0
    return seen, moved or seen.boot != known.boot or seen.at - known.at > _NOTED


def _known(clock: str | None) -> Seen | None:
    """What was noted; None also if somebody else has written there."""
    try:
        noted = json.loads(clock or "{}")
        boot, began, at, latest, set_at = (noted[name] for name in _ALWAYS)
        times = float(began), float(at), float(latest), float(set_at)
        return Seen(str(boot), *times, bool(noted.get(_SINCE, False)))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def note(now: datetime, running: Callable[[], Running]) -> Seen:
    """The same, which the next look can compare with."""
    ran = running()  # before anybody is waited for
    seen, news = look(now, lambda: ran)
    if news:
        with models.write():
            # A leap that somebody else has noted meanwhile must not be lost.
            seen, _ = look(now, lambda: ran)
            models.execute("UPDATE spool SET clock = ? WHERE id = 1", (json.dumps(asdict(seen)),))
    return seen


def note_failure(now: datetime, running: Callable[[], Running]) -> None:
    """The same for a file that is given up at `now`, inside the transaction that says so: were the
    clock wrong for this moment alone, no other look would tell."""
    with suppress(models.DamagedError):  # retention meets it, too, and then deletes nothing
        note(now, running)


def told(seen: Seen) -> str:
    """Why nothing is deleted for its age."""
    day = utc_text(seen.last_set)[:10]
    return (
        f"as the clock was set to another time on {day}, or flood's database made, nobody knows "
        "for how long they have lain there; it counts from that day on"
    )


def _judged(known: Seen | None, wall: float, running: Running, created: float) -> Seen:
    began = wall - running.seconds
    if known is None:
        known = Seen(running.boot, began, created, created, 0.0, set_back=False)
    # Of the time while it was off a machine knows nothing, but that clocks do not go back.
    same = running.boot == known.boot
    # Who sets the clock back sets it right, as far as anybody knows.
    back = same and began < known.began - LEAP
    latest = wall if back else max(known.latest, wall)
    seen = Seen(
        running.boot, began, wall, latest, known.set_at, set_back=same and (back or known.set_back)
    )
    # If it was set back to a wrong time, the machine may have got the right one as it started.
    leapt = abs(began - known.began) > LEAP if same else known.behind or known.set_back
    return replace(seen, set_at=wall) if leapt or seen.behind > known.behind else seen
