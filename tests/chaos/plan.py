"""What happens when in a trial, drawn from one seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Faults of the machine, with how long each lasts in seconds; a round of them has each once.
MACHINE: Final = {
    "black-holed connect": 2.5,
    "DNS failure": 2.5,
    "full disk": 3.0,
    "read-only disk": 3.0,
    "locked database": 2.5,
    "lost queue": 0.0,
    "clock step": 4.0,
    "removed by a third hand": 0.0,
    "replaced by a third hand": 0.0,
    "locks removed by a third hand": 7.0,
}

#: It ends every process; it comes in the first part of a trial only, of which this is the share.
KILLS_ALL: Final = "read-only disk"
QUIETER: Final = 0.6

#: What is done to processes, with how often each is chosen.
_PROCESSES: Final = {
    "kill": 52,
    "kill in mid-upload": 12,
    "kill a child": 8,
    "kill a program": 14,
    "cron in place of flood-watch": 5,
    "stop and continue": 12,
    "stop and continue a program": 6,
    "SIGTERM": 6,
    "SIGINT": 6,
}

#: How long it lasts at most, in seconds, where it does not happen in an instant.
_LONGEST: Final = {
    "stop and continue": 4.0,
    "stop and continue a program": 4.0,
    "cron in place of flood-watch": 8.0,
}

#: A round of machine faults takes so many seconds for each of them, if there is the time; where a
#: defect is to be found they come thicker.
SHARE: Final = 5.9
THICK: Final = 3.6

#: Between two faults of rounds that are added, in seconds, as between those that were planned; how
#: long such a round is at least.
_GAP: Final = 3.4
_SHORTEST_ROUND: Final = 10.0


@dataclass(frozen=True)
class Event:
    """Something that happens so many seconds after the trial began, for `lasting` seconds."""

    at: float
    kind: str
    lasting: float = 0.0


def draw(
    seed: int, seconds: float, machine: Sequence[str], actions: float, share: float = SHARE
) -> list[Event]:
    """Return every event of a trial, in order; `actions` on processes are done each minute, a
    fault of the machine comes every `share` seconds."""
    events = [
        *_machine(random.Random(f"{seed}:machine"), seconds, machine, share),
        *_processes(random.Random(f"{seed}:processes"), seconds, actions),
    ]
    return sorted(events, key=lambda event: event.at)


def draw_more(
    rng: random.Random, begin: float, lagging: Sequence[str], actions: float
) -> tuple[list[Event], float]:
    """Return the events of one more round that begins then, in order, with when it is over: the
    faults of the machine in `lagging` come once each, `actions` on processes are done each
    minute."""
    order = list(lagging)
    rng.shuffle(order)
    at = begin + 1.0
    events = []
    for kind in order:
        events.append(Event(at, kind, MACHINE[kind]))
        at += MACHINE[kind] + _GAP * rng.uniform(0.6, 1.0)
    end = max(at, begin + _SHORTEST_ROUND)
    events += [
        Event(begin + event.at, event.kind, event.lasting)
        for event in _processes(rng, end - begin, actions)
    ]
    return sorted(events, key=lambda event: event.at), end


def _machine(rng: random.Random, seconds: float, kinds: Sequence[str], share: float) -> list[Event]:
    """Rounds of all kinds, one after the other, so that no two last at the same time."""
    if not kinds:
        return []
    events = []
    rounds = max(1, int(seconds / (share * len(kinds))))
    length = seconds * 0.95 / rounds
    lasting = sum(MACHINE[kind] for kind in kinds)
    gap = max(0.3, (length - lasting) / (len(kinds) + 1))
    for number in range(rounds):
        order = list(kinds)
        if KILLS_ALL in kinds and rounds > 3:
            # What grows needs a long life to do so: the last part of a trial grants it.
            order.remove(KILLS_ALL)
            order += [KILLS_ALL, KILLS_ALL] if number < rounds * QUIETER else []
        rng.shuffle(order)
        # A file that could not be moved waits a minute, so that this comes early.
        order.sort(key=lambda kind: kind != "full disk")
        at = number * length + min(2.0, gap)
        for kind in order:
            events.append(Event(at, kind, MACHINE[kind]))
            at += MACHINE[kind] + gap * rng.uniform(0.6, 1.0)
    return [event for event in events if event.at + event.lasting < seconds]


def _processes(rng: random.Random, seconds: float, actions: float) -> list[Event]:
    events = []
    at = 1.0
    while actions > 0:
        at += rng.uniform(0.2, 1.8) * 60 / actions
        if at >= seconds:
            break
        [kind] = rng.choices(list(_PROCESSES), list(_PROCESSES.values()))
        longest = _LONGEST.get(kind)
        lasting = 0.0 if longest is None else rng.uniform(0.3, longest)
        events.append(Event(at, kind, min(lasting, seconds - at)))
    return events
