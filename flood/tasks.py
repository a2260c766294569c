"""The tasks that ring for work: uploads with their retries, the sweep."""

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from logging import ERROR, getLogger
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from huey import crontab, signals

from flood import log, models, queries, telling
from flood.errors import SpoolError
from flood.locks import WorkerLocks
from flood.record_values import Claimed
from flood.spool import Spool
from flood.tally import Tally
from huey_config import huey

if TYPE_CHECKING:
    from workers.agent import Agent
    from workers.stand_in import StandIn

#: A ring goes before the uploads that wait, a sweep before both.
RING_PRIORITY: Final = 1
SWEEP_PRIORITY: Final = 10

#: When a store that has yet to show that it answers is thought of again, in seconds.
MOMENT: Final = 0.25

#: When to ask again for what is due where workers have been for long, in seconds: workers that were
#: at large files may be free, or such that were stopped go on.
LATER: Final = 2.0

logger = getLogger(__name__)

_agents: "dict[int, Agent]" = {}
_stand_ins: "dict[int, StandIn]" = {}
_locks: dict[int, WorkerLocks] = {}
_agents_lock = Lock()


def enqueue(profile: str, bucket: str, ids: Sequence[int]) -> None:
    """Enqueue one task for these records; inside `models.write()` it commits with them."""
    upload(profile, bucket, list(ids))


def enqueue_ring(profile: str, bucket: str) -> None:
    """Enqueue a task for whatever is due in this bucket."""
    huey.enqueue(ring_for(profile, bucket))


def ring_for(profile: str, bucket: str) -> Any:
    """A task for whatever is due in this bucket, which is yet to be enqueued."""
    return upload.s(profile, bucket, [], ring=True, priority=RING_PRIORITY)


def enqueue_late_ring(profile: str, bucket: str, due: datetime) -> None:
    """Put a ring into huey's schedule."""
    ring = upload.s(profile, bucket, [], ring=True, priority=RING_PRIORITY, eta=due)
    huey.add_schedule(ring)


def enqueue_retry(
    record_id: int, profile: str, bucket: str, due: datetime, retries_left: int
) -> None:
    """Put the retry of one record into huey's schedule."""
    huey.add_schedule(upload.s(profile, bucket, [record_id], eta=due, retries=retries_left))


def clear(stopped: Callable[[], bool]) -> None:
    """Abort multipart uploads that settled records have left, for some seconds, until `stopped`."""
    try:
        from workers import clearing  # for which no descriptor may be left

        clearing.clear(_agent(), stopped)
    except (models.DatabaseError, OSError) as error:
        _broke_off("unfinished uploads were not all aborted; the next sweep goes on", error)


def spool() -> Spool:
    """The spool that `huey` was set up with, which no other is taken for."""
    made = Spool(huey.settings.server_directory)
    if huey.spool_id is not None:
        made.expect(huey.spool_id)
    return made


def tally() -> Tally:
    """What this process has settled."""
    agent = agent_here()
    return Tally() if agent is None else agent.tally


def agent_here() -> "Agent | None":
    """This process's agent; None before there is anything to do."""
    return _agents.get(os.getpid())


@huey.task(retries=10, name="upload")
def upload(profile: str, bucket: str, ids: list[int], ring: bool = False) -> None:
    """Claim what is due of these records, with more of the same bucket; upload; settle.

    Never raises: huey would run a failed task again, and the rows know better when. A `ring`
    goes on until nothing is due; those that name records are retries that came due together.
    """
    from workers.late import late

    with late():
        from workers import giving_back
        from workers.decisions import Prove, PutOff
        from workers.settle import settle
        from workers.upload import attempt, no_more

    agent = _agent()
    if agent.stopping():
        enqueue_ring(profile, bucket)  # for another consumer, or the next one
        return
    if not agent.at_home():
        return  # the sweep rings once it is back
    if profile not in agent.profiles:
        agent.renew(at_once=True)  # flood-watch may have seen it a moment earlier
    if profile not in agent.profiles:
        telling.without_profile(logger, profile, bucket)
        return
    try:
        with models.write():
            agent.heed_haste()
            pause = agent.brief_pause((profile, bucket))
            destination, claims = agent.turns.claim(ids, (profile, bucket))
            if ring and claims:
                enqueue_ring(profile, bucket)
            elif destination != (profile, bucket):
                # Another one came first; this one's turn is yet to be.
                enqueue(profile, bucket, ids)
        for each in agent.turns.crowded():
            _ring_late(agent, each, [LATER])
        # It may have begun, or ended, while the claim was made.
        pause = max(pause, agent.brief_pause((profile, bucket)))
        if not claims and pause:
            _ring_late(agent, (profile, bucket), [pause])
            return
        if not claims and agent.turns.refused():
            huey.rest(MOMENT)
            # Behind all others, also where it was a ring: they are what this worker is kept for.
            upload(profile, bucket, ids, ring=ring)
            return
        proven: list[int] = []
        at_once = False
        # Nothing goes with what a lost attempt made suspect.
        alone = any(one.alone for one in claims)
        more = no_more if alone else partial(_more, agent, destination)
        for decisions in attempt(agent, claims, more, partial(_others_wait, agent)):
            delays = settle(agent, decisions, enqueue_retry)
            delays += [one.delay for one in decisions if isinstance(one, PutOff)]
            if any(isinstance(one, PutOff) and one.ring for one in decisions):
                _ring_once(destination)
            # At once, as a transfer that goes on may take longer than they are to wait.
            _ring_late(agent, destination, delays)
            at_once = at_once or 0.0 in delays
            proven += [one.claim.id for one in decisions if isinstance(one, Prove)]
        agent.turns.ended(claims, delivered=bool(proven))
        _ring_for_the_rest(agent, destination, claims, at_once=at_once)
    except Exception as error:  # noqa: BLE001  whatever it is, the claims must go
        try:
            given_back = giving_back.wait_and_settle(agent, error, enqueue_retry, huey.rest)
            for each in {(profile, bucket), *given_back}:
                _ring_once(each)
        except Exception as reason:  # noqa: BLE001
            # Nobody settles what this worker still claims: a name that is given up is a dead
            # owner's, whose records the sweep takes over.
            agent.locks.disown()
            arrive()
            _broke_off("an attempt broke off; the sweep takes up its files", reason)
        return
    if agent.retention.at_once:
        try:
            agent.retention.remove(proven)
        except (models.DatabaseError, OSError, SpoolError) as error:
            _broke_off("uploaded files could not be removed; the next sweep tries again", error)


def _more(agent: "Agent", destination: tuple[str, str], company: int) -> list[Claimed]:
    """Claim more for an attempt that has `company` files on their way."""
    if agent.stopping():
        return []
    with models.write():
        return agent.turns.more(destination, company)


def _others_wait(agent: "Agent") -> bool:
    """Whether this worker, which has been at work for longest, is wanted elsewhere."""
    if not agent.turns.may_yield():
        return False
    with models.write():
        return agent.turns.waits()


def _ring_late(agent: "Agent", destination: tuple[str, str], delays: Sequence[float]) -> None:
    """Ring for what an attempt has put off by so many seconds each."""
    for seconds in agent.rings_after(destination, filter(None, delays)):
        enqueue_late_ring(*destination, agent.now() + timedelta(seconds=seconds))


def _ring_for_the_rest(
    agent: "Agent", destination: tuple[str, str], claims: Sequence[Claimed], *, at_once: bool
) -> None:
    """Ring for what an attempt on these claims left: what it let go, or put off for no time, what
    others were refused while it went on."""
    if at_once or (claims and agent.stopping()):
        _ring_once(destination)
    waiting = agent.turns.passed_over(claims)
    rung = _outstanding_rings() if waiting else set()
    for each in waiting:
        if each not in rung:
            enqueue_ring(*each)


def _ring_once(destination: tuple[str, str]) -> None:
    if destination not in _outstanding_rings():
        enqueue_ring(*destination)


@huey.periodic_task(crontab(minute="*"), name="sweep", priority=SWEEP_PRIORITY)
def sweep() -> None:
    """Take up what no task announces, unless somebody did within the minute."""
    agent = _agent()
    with agent.progress.sweeping():
        leftovers = _sweep(agent)
    if leftovers and huey.clears:
        # No worker is kept from files by a store that hangs.
        with suppress(RuntimeError):  # no other thread can be had; the next sweep tries again
            Thread(target=_clear_aside, args=(agent.stopping,), name="clear").start()


def _clear_aside(stopped: Callable[[], bool]) -> None:
    try:
        clear(stopped)
    finally:
        models.close()


def _sweep(agent: "Agent") -> bool:
    """Sweep, if it is this caller's turn; whether unfinished uploads are left to be aborted."""
    from workers import sweep as sweeping

    try:
        with models.write():
            begins = queries.sweep_begins(agent.now(), sweeping.INTERVAL)
        if begins:
            sweeping.sweep(agent, enqueue_ring, _outstanding_rings(), enqueue_retry)
        return begins and bool(queries.leftover_multiparts())
    except (models.DatabaseError, OSError) as error:
        _broke_off("a sweep broke off; the next one is due in a minute", error)
        return False


def _broke_off(what: str, error: Exception) -> None:
    """A disk or a database that refuses is a person's to mend, and worth no traceback."""
    if huey.ends_with(error):
        return  # which is told then
    tally().broke_off()
    if isinstance(error, models.DatabaseError | OSError | SpoolError):
        log.event(logger, ERROR, what, error=type(error).__name__, reason=models.explain(error))
        huey.rest()
    else:
        logger.error(what, exc_info=error)


def _outstanding_rings() -> set[tuple[str, str]]:
    found = set()
    for data in huey.storage.of_priority(RING_PRIORITY):
        try:
            profile, bucket, *_ = huey.serializer.deserialize(data).args
        except (ValueError, TypeError, AttributeError):
            continue  # none of flood's; the consumer that gets it says so
        found.add((profile, bucket))
    return found


def look_after(workers: int) -> None:
    """See to it that something is uploaded though so many threads wait for stores that hang."""
    if os.getpid() in _stand_ins:  # else none of them has begun anything
        _stand_ins[os.getpid()].look(workers)


huey.look_after = look_after


def await_stand_in() -> None:
    """Wait for what it is at, which ends soon once the process is to stop."""
    if os.getpid() in _stand_ins:
        _stand_ins[os.getpid()].end()


@huey.on_startup()
def arrive() -> None:
    """Let whoever looks see this worker before it has had anything to do."""
    from workers.progress import Progress

    with suppress(OSError):  # of a spool that is away; the first claim makes up for it
        locks = _worker_locks()
        locks.own()
        Progress(locks, now=_now, clock=time.monotonic).end()


@huey.signal(signals.SIGNAL_INTERRUPTED)
def release_claims(*_task: Any) -> None:
    """Let go of what this process has claimed: it ends before its attempts do."""
    agent = agent_here()
    if agent is None:
        return
    from workers import giving_back  # as whoever claimed anything has done

    giving_back.at_once(agent, enqueue_ring)


def _agent() -> "Agent":
    """This process's agent, with the credentials of this moment; huey's worker processes are
    forked, and each needs its own."""
    from workers import uploaders
    from workers.agent import Agent
    from workers.stand_in import StandIn

    locks = _worker_locks()
    with _agents_lock:
        agent = _agents.get(os.getpid())
        if agent is None:
            settings = huey.settings
            agent = _agents[os.getpid()] = Agent(
                settings=settings,
                look=huey.rereading.look,
                spool=spool(),
                locks=locks,
                make_uploader=uploaders.maker(settings),
                now=_now,
                clock=time.monotonic,
                uniform=random.uniform,
                stopping=huey.stopping,
                outdated=lambda: huey.rereading.refused,
            )
            _stand_ins[os.getpid()] = StandIn(agent, partial(upload.call_local, ids=[]))
    agent.renew()
    return agent


def _worker_locks() -> WorkerLocks:
    """This process's, which need nothing that is slow to import."""
    with _agents_lock:
        return _locks.setdefault(os.getpid(), WorkerLocks(spool()))


def _now() -> datetime:
    return datetime.now(timezone.utc)
