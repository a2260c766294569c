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
    latest that it has ever shown, when it was last set to another time, or the database made."""

    boot: str
    began: float
    at: float
    latest: float
    set_at: float

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
    """What is to be known of the clock at `now` (aware), with whether that is news."""
    clock, created = models.execute("SELECT clock, created_at FROM spool WHERE id = 1").fetchone()
    known = _known(clock)
    made = utc_moment(created).timestamp()
    seen = _judged(known, now.timestamp(), running(), made)
    # What has failed before the database was made was dated by another one, or by a wrong clock.
    seen = replace(seen, set_at=max(seen.set_at, made))
    if known is None:
        return seen, True
    moved = abs(seen.began - known.began) > 1.0
    return seen, moved or seen.boot != known.boot or seen.at - known.at > _NOTED


def _known(clock: str | None) -> Seen | None:
    """What was noted; None also if somebody else has written there."""
    try:
        noted = json.loads(clock or "{}")
        boot, *times = (noted[name] for name in Seen.__match_args__)
        return Seen(str(boot), *map(float, times))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def note(now: datetime, running: Callable[[], Running]) -> Seen:
    """The same, which the next look can compare with."""
    seen, news = look(now, running)
    if news:
        with models.write():
            models.execute("UPDATE spool SET clock = ? WHERE id = 1", (json.dumps(asdict(seen)),))
    return seen


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
        known = Seen(running.boot, began, created, created, 0.0)
    # Of the time while it was off a machine knows nothing, but that clocks do not go back.
    same = running.boot == known.boot
    # Who sets the clock back sets it right, as far as anybody knows.
    back = same and began < known.began - LEAP
    latest = wall if back else max(known.latest, wall)
    seen = Seen(running.boot, began, wall, latest, known.set_at)
    leapt = abs(began - known.began) > LEAP if same else known.behind
    return replace(seen, set_at=wall) if leapt or seen.behind > known.behind else seen
