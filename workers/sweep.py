"""Finds the work that no task announces."""

from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import timedelta
from logging import WARNING, getLogger
from typing import Final

from flood import claims as claiming
from flood import devices, due_queries, log, models, queries, records, telling
from flood.errors import SpoolError
from flood.layout import Place
from flood.record_values import AHEAD, Claimed, Reason, Row
from flood.states import INCOMING, INCOMING_TMP, LOST, PROCESSING
from workers import settle
from workers.agent import Agent
from workers.backoff import delay
from workers.decisions import GiveUp, Missing

#: How often one sweep a spool is due, in seconds; consumers ask every minute, each for itself.
INTERVAL: Final = 50.0

#: How long a sweep deletes what nobody wants to keep, in seconds.
PRUNING: Final = 2.0

#: How many rows one transaction takes up.
_BATCH: Final = 200

#: Where a file is before it is in processing.
BEFORE: Final = (INCOMING_TMP, INCOMING)

#: Rings for one profile and bucket.
Ring = Callable[[str, str], None]

logger = getLogger(__name__)


def sweep(
    agent: Agent,
    ring: Ring,
    outstanding: Collection[tuple[str, str]],
    schedule: settle.Schedule,
) -> None:
    """Take up what dead workers left, what somebody removed; ring for every profile and bucket that
    has due records, unless a ring is `outstanding`; delete what the owner does not want to keep.
    Nothing is judged while the spool is away, no store is asked for anything."""
    if not agent.at_home():
        return
    devices.follow(agent.spool)
    take_over(agent, schedule)
    _follow_the_clock(agent)
    _find_vanished(agent)
    agent.locks.forget_dead(claiming.owners())
    for profile, bucket in due_queries.destinations(agent.now()):
        if profile in agent.profiles:
            if (profile, bucket) not in outstanding:
                ring(profile, bucket)
        else:
            telling.without_profile(logger, profile, bucket)
    with suppress(SpoolError):  # it went away meanwhile; the next sweep tells
        agent.retention.run(PRUNING)


def take_over(agent: Agent, schedule: settle.Schedule) -> None:
    """S6, S7, S9: settle what dead workers had claimed, or schedule its next attempt."""
    for owner in claiming.owners():
        if not agent.locks.dead(owner):
            continue
        claims = claiming.of_owner(owner)
        for start in range(0, len(claims), _BATCH):
            agent.progress.still()
            with models.write():
                for claim in claims[start : start + _BATCH]:
                    _take_over(agent, claim, schedule)


def _take_over(agent: Agent, claim: Claimed, schedule: settle.Schedule) -> None:
    identity = agent.spool.identify(claim.path)
    gone = identity is None and agent.spool.closed(claim.path) is None
    if gone or (identity is not None and identity[:2] != claim.identity[:2]):
        settle.settle(agent, [Missing(claim)], _never)
        return
    if _only_to_move(agent, claim):
        # Nothing was sent: neither is the file poisonous, nor does its verdict or proof end.
        now = agent.now()
        reason = records.DIED_MOVING
        if records.release(claim, reason, now, proof=claim.proof, verdict=claim.verdict):
            _tell_lost(claim, reason, 0.0)
        return
    settings = agent.settings
    pays = claim.company == 1
    if pays and claim.retry_count >= settings.retry_max:
        reason = Reason(LOST, "worker_died", "the worker died during the last of all attempts")
        settle.settle(agent, [GiveUp(claim, reason)], _never)
        return
    seconds = delay(
        claim.retry_count + 1,
        settings.retry_initial_delay,
        settings.retry_jitter,
        agent.uniform,
    )
    now = agent.now()
    if not records.lose(claim, seconds, now):
        return  # another sweep was faster
    retries_left = max(0, settings.retry_max - claim.retry_count - pays)
    due = now + timedelta(seconds=seconds)
    schedule(claim.id, claim.profile, claim.bucket, due, retries_left)
    _tell_lost(claim, records.WORKER_DIED, seconds)


def _only_to_move(agent: Agent, claim: Claimed) -> bool:
    """Whether this attempt had no more to do than to move its file."""
    proof = claim.proof
    proven = proof is not None and proof.changed_ns in (0, agent.spool.changed_ns(claim.path))
    return proven or claim.verdict is not None


def _tell_lost(claim: Claimed, reason: Reason, seconds: float) -> None:
    telling.attempted(
        logger,
        WARNING,
        "attempt lost",
        claim,
        delay=round(seconds, 3),
        error=reason.code,
        reason=reason.message,
    )


def _never(*_retry: object) -> None:
    raise AssertionError("neither decision asks for a retry")


def _follow_the_clock(agent: Agent) -> None:
    """What was to wait for a moment must not wait until a clock that was wrong is right."""
    moved = 0
    while ahead := due_queries.dated_ahead((now := agent.now()) + AHEAD, _BATCH):
        moved += records.wait_from_now(ahead, now)
    if moved:
        log.event(
            logger,
            WARNING,
            "the clock was set back",
            files=moved,
            next="they wait for as long as they were to, from now on",
        )


def _find_vanished(agent: Agent) -> None:
    """S11 before processing; in processing the next claim notices."""
    after = queries.FIRST
    while True:
        rows = queries.arriving(after, _BATCH)
        if not rows:
            return
        after = (rows[-1].identity.inode, rows[-1].id)
        agent.progress.still()
        # Files only go forward, and are looked for in that order: one that is in no place has gone,
        # or its row has a later state by now, and the update below leaves it alone.
        missing = [row for row in rows if not _anywhere(agent, row)]
        if missing:
            with models.write():
                missing = [row for row in missing if records.vanish(row.id, agent.now(), BEFORE)]
        for row in missing:
            telling.ended(logger, row, records.VANISHED)
            _, code, reason = records.VANISHED
            agent.tally.gave_up(row.profile, row.bucket, row.key, row.id, code, reason)


def _anywhere(agent: Agent, row: Row) -> bool:
    """Whether this very file is still on its way, though its size may not be what it will be; its
    row may be a step behind."""
    places = (Place(state, row.profile, row.bucket, row.key) for state in (INCOMING, PROCESSING))
    for path in (row.path, *(one.path for one in places)):
        found = agent.spool.identify(path)
        if found is not None and found[:2] == row.identity[:2]:
            return True
        if found is None and agent.spool.closed(path) is not None:
            return True  # nobody knows
    return False
