"""Works off what is due, in one process that then ends."""

import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from flood import claims as claiming
from flood import due_queries, queries, tasks
from flood.locks import WorkerLocks
from flood.queue_consumer import FloodConsumer
from huey_config import huey

#: How soon what is still due is rung for again, in seconds.
RING_AGAIN: Final = 1.0

_rung: dict[tuple[str, str], float] = {}


def drain(workers: int, over: Callable[[], bool]) -> None:
    """Run a consumer with so many threads, on the settings that `huey` was set up with, until
    `over` says so, as it should once huey was refused something for want of room."""
    huey.waits_for_room = False
    huey.clears = False
    # What nobody announces is due, too, whenever the last sweep was.
    queries.ask_for_sweep()
    tasks.sweep()
    consumer = huey.consumer = FloodConsumer(
        huey, rereading=huey.rereading, workers=workers, over=over
    )
    consumer.run()
    tasks.await_stand_in()


def at_rest(now: datetime) -> bool:
    """Whether no worker would find anything to do; asked without a word to those who are at work,
    nor anything imported that uploads."""
    locks = WorkerLocks(tasks.spool())
    return not (
        huey.storage.queue_size()
        or due(now)
        or queries.left_to_sweep(now)
        or any(locks.dead(owner) for owner in claiming.owners())
    )


def drained(now: datetime) -> bool:
    """Whether this process has worked off what is due: nothing is queued, due, or claimed by it,
    nor waits for a moment as it had too much open.
    What is due, yet queued nowhere, is rung for. True also while the spool is away."""
    agent = tasks.agent_here()
    if agent is not None and not agent.at_home():
        return True
    if huey.busy() or huey.storage.queue_size():
        return False
    left, rings = due(now), []
    for destination in left:
        # What has just been refused, as others are at work, is not asked for ten times a second.
        if time.monotonic() - _rung.get(destination, -math.inf) >= RING_AGAIN:
            _rung[destination] = time.monotonic()
            rings.append(tasks.ring_for(*destination))
    if rings:
        huey.enqueue_together(rings)
    if agent is not None and agent.lacks_briefly():
        return False
    owners = agent.locks.of_process() if agent else []
    return not left and not any(claiming.of_owner(owner) for owner in owners)


def due(now: datetime) -> list[tuple[str, str]]:
    """Each profile of the credentials with each bucket that has a due record."""
    known = huey.credentials.profiles
    return [each for each in due_queries.destinations(now) if each[0] in known]
