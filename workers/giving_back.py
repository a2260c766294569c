"""Gives claims back whose attempts cannot go on."""

from collections.abc import Callable
from logging import ERROR, getLogger

from flood import claims as claiming
from flood import log, models, records
from flood.record_values import Reason
from flood.states import INTERRUPTED
from workers.agent import Agent
from workers.decisions import LetGo
from workers.rounds import Destination
from workers.settle import Schedule, settle

_STOPPED = Reason(INTERRUPTED, "stopped", "the consumer was stopped at once")

logger = getLogger(__name__)


def wait_and_settle(
    agent: Agent, error: Exception, schedule: Schedule, rest: Callable[[], None]
) -> set[Destination]:
    """Let go of what this worker has claimed, for all of which `error` broke its attempt off, as
    soon as whoever holds the database has let go of that; `rest` waits a moment. Return where it
    was claimed. Raises what leaves it to the sweep: another error, or this one once the consumer is
    to stop."""
    if agent.stopping() or not models.held(error):
        raise error
    log.event(
        logger,
        ERROR,
        "an attempt could not be recorded",
        reason=models.explain(error),
        next="its files are tried again once the database can be written to",
    )
    # Nor could any sweep take them over before that.
    while not agent.stopping():
        try:
            return _settle(agent, schedule)
        except models.DatabaseError as again:
            if not models.held(again):
                raise
            rest()
    raise error


def _settle(agent: Agent, schedule: Schedule) -> set[Destination]:
    claims = claiming.of_owner(agent.locks.own())
    settle(agent, [LetGo(claim, records.UNRECORDED) for claim in claims], schedule)
    return {(claim.profile, claim.bucket) for claim in claims}


def at_once(agent: Agent, ring: Callable[[str, str], None]) -> None:
    """Let go of what all workers of this process have claimed: it ends before their attempts do;
    `ring` enqueues a task for a destination."""
    try:
        with models.write():  # one wait, should another program hold the database
            owners = agent.locks.of_process()
            claims = [claim for owner in owners for claim in claiming.of_owner(owner)]
            for claim in claims:
                records.release(claim, _STOPPED, agent.now())
            for destination in {(claim.profile, claim.bucket) for claim in claims}:
                ring(*destination)
    except (models.DatabaseError, OSError) as error:
        log.event(
            logger,
            ERROR,
            "claims were not given back",
            reason=models.explain(error),
            next="the sweep takes up their files",
        )
