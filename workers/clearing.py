"""Aborts what settled records have left in stores of multipart uploads, in a few seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from logging import INFO, getLogger
from threading import Lock
from typing import Final

from flood import log, queries
from flood.profiles import Profile
from flood.queries import Leftover
from flood.states import PERMANENT
from workers.agent import Agent
from workers.answer_limits import SHORT_CONNECT, SHORT_READ
from workers.leftovers import level, remaining
from workers.transfer import Interrupted
from workers.verdict import judge

#: For how long one more is begun, in seconds.
BEGINNING: Final = 3.0

#: How long one may take, in seconds.
LONGEST: Final = SHORT_CONNECT + SHORT_READ

logger = getLogger(__name__)


def clear(agent: Agent, stopped: Callable[[], bool]) -> None:
    """Abort what settled records have left, one after the other, until `stopped` or for BEGINNING
    seconds; the last one has LONGEST. A store that fails is left alone then, each time for longer.
    """
    with _alone(agent.clearing) as alone:
        if not (alone and agent.at_home()):
            return
        end = agent.clock() + BEGINNING
        for one in _in_turn(agent.cleared):
            known = agent.profiles.get(one.profile)
            if known is None or agent.rests.rests(known) or agent.pace(known).pause(one.bucket):
                continue
            if stopped() or agent.clock() > end:
                return
            error = _abort(agent, known, one, stopped)
            if isinstance(error, Interrupted):
                return
            agent.cleared = one.record_id
            if error is None:
                _gone(agent, known, one)
            else:
                _stays(agent, known, one, error)


@contextmanager
def _alone(lock: Lock) -> Iterator[bool]:
    """Whether no other thread is at it, whose store may hang."""
    taken = lock.acquire(blocking=False)
    try:
        yield taken
    finally:
        if taken:
            lock.release()


def _in_turn(after: int) -> list[Leftover]:
    """All of them, first those behind where the last time ended: what fails each time must not keep
    others from being tried."""
    found = queries.leftover_multiparts()
    return sorted(found, key=lambda one: (one.record_id <= after, one.record_id))


def _abort(
    agent: Agent, known: Profile, one: Leftover, stopped: Callable[[], bool]
) -> BaseException | None:
    try:
        with agent.uploader(known) as uploader:
            abort = partial(uploader.abort_multipart, one.bucket, one.key)
            left = remaining(abort, [one.upload_id], stopped, LONGEST)
    except Exception as error:  # noqa: BLE001  an uploader that cannot be made is as one that fails
        return error
    return left.get(one.upload_id)


def _gone(agent: Agent, known: Profile, one: Leftover) -> None:
    agent.rests.answered(known)
    queries.multipart_gone(one.record_id, one.upload_id)
    log.event(logger, INFO, "multipart upload aborted", **_about(one))


def _stays(agent: Agent, known: Profile, one: Leftover, error: BaseException) -> None:
    verdict = judge(error)
    seconds = None
    if verdict.kind != PERMANENT:  # a refusal of this one says nothing of others
        seconds = round(agent.rests.failed(known, verdict.retry_after or 0.0), 3)
    log.event(
        logger,
        level(agent.left_behind, one.upload_id),
        "multipart upload stays",
        **_about(one),
        delay=seconds,
        error=verdict.code,
        reason=verdict.cause,
    )


def _about(one: Leftover) -> dict[str, object]:
    return {
        "record": one.record_id,
        "profile": one.profile,
        "bucket": one.bucket,
        "key": one.key,
        "upload": one.upload_id,
    }
