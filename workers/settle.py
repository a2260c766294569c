"""Writes decisions down, moving the files that they are about."""

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from logging import ERROR, INFO, WARNING, getLogger
from typing import Any, Final, NamedTuple

from flood import claims as claiming
from flood import leaps, log, models, queries, records, telling
from flood.columns import utc_text
from flood.identity import identity_of, touched
from flood.layout import Place
from flood.record_values import Claimed, Proof, Reason
from flood.spool import Spool
from flood.states import COMPLETED, FAILED, INCOMING, INTERRUPTED, PROCESSING
from flood.tally import BrokenOff
from flood.tree import Vanished
from flood.whereabouts import lies_in
from workers.agent import Agent
from workers.classify_rule import SCARCE_ERRNOS
from workers.decisions import Decision, Ending, GiveUp, LetGo, Missing, Prove, PutOff, TryAgain
from workers.verdict import judge

#: How long a file waits whose move failed, as on a full disk, in seconds.
MOVE_AGAIN: Final = 60.0
#: It is doubled each time, up to this.
MOVE_AGAIN_AT_MOST: Final = 3600.0

#: Enqueues the retry of one record: id, profile, bucket, when (aware), retries left after it.
Schedule = Callable[[int, str, str, datetime, int], None]

#: A claim whose file lies in completed now, where, and what the store answered.
Proven = tuple[Claimed, str, Proof]

_CHANGED: Final = Reason(
    INTERRUPTED, "changed", "somebody changed the file after it was sent: it is sent once more"
)

_AWAY: Final = Reason(
    INTERRUPTED, "spool_away", "the server directory is not there: is its disk mounted?"
)

_BACK: Final = Reason(
    INTERRUPTED,
    "went_back",
    "the file lies in incoming again, as after a power failure: flood-watch takes it from there",
)

#: What the log says of an upload whose worker has to stop.
_LET_GO: Final = "interrupted"

logger = getLogger(__name__)


class _Scarce(Exception):
    """This machine had no descriptor or memory left for a move."""


class _Line(NamedTuple):
    """A line of the log that waits for the commit."""

    level: int
    event: str
    claim: Claimed
    facts: dict[str, Any]
    #: How long what was interrupted had been under way, in seconds.
    under_way: float = 0.0


def settle(agent: Agent, decisions: Sequence[Decision], schedule: Schedule) -> list[float]:
    """Settle in one transaction: which claims still stand, the renames of exactly those, the rows.
    Return after how many seconds files are due again that no task announces: at once where one
    changed after it was sent, later where no descriptor was left for its move.

    Raises what the database raises; files may then be ahead of their rows, and the sweep follows
    once this worker's claims are given up. Why such a file was given up the log says then.
    """
    lines: list[_Line] = []
    proven: list[Proven] = []
    unrecorded: list[GiveUp] = []
    delays: list[float] = []
    scarce: str | None = None
    try:
        with models.write(), agent.spool.many_moves():
            # Not before: records are in the order of their times, and it is by this one that the
            # clock is judged.
            now = agent.now()
            mine = {claim.id for claim in claiming.still_mine(one.claim for one in decisions)}
            unrecorded = [x for x in decisions if isinstance(x, GiveUp) and x.claim.id in mine]
            for decision in decisions:
                if decision.claim.id not in mine:
                    lines.append(_Line(WARNING, "claim was taken away", decision.claim, {}))
                elif isinstance(decision, PutOff):
                    _put_off(decision, now)
                    scarce = decision.reason.message if _is_scarce(decision) else scarce
                else:
                    try:
                        lines.append(_settle(agent, decision, schedule, now, proven))
                    except _Scarce as error:
                        # Its files stay open until the group is settled: then there is room again.
                        pause = agent.scarce_pause()
                        records.put_off(decision.claim, now, pause, *_left_to_move(decision))
                        scarce, delays = str(error), [pause]
            records.complete_all(proven, now)
            if any(line.facts.get("to") == FAILED for line in lines):
                leaps.note_failure(now, agent.running)
    except Exception:
        for one in unrecorded:
            _tell_unrecorded(agent, one)
        raise
    if proven:
        agent.gets_through()
    if scarce is not None:
        agent.tell_scarcity(scarce)
    # Each directory once, when no writer waits for it any more.
    left = {one.claim.path.rpartition("/")[0]: one.claim.path for one in decisions}
    for path in left.values():
        agent.spool.prune(path)
    with log.together():
        for line in lines:
            _tell(agent, line, now)
    return delays + [0.0] * any(line.event == _CHANGED.code for line in lines)


def _tell(agent: Agent, line: _Line, now: datetime) -> None:
    claim = line.claim
    seconds = (now - claim.claimed_at).total_seconds()
    facts = {"seconds": round(seconds, 3), **line.facts}
    telling.attempted(logger, line.level, line.event, claim, **facts)
    _count(agent, line)


def _tell_unrecorded(agent: Agent, decision: GiveUp) -> None:
    """The sweep finds a file that has gone to failed already, but nobody knows any more why."""
    claim, reason = decision.claim, decision.reason
    if agent.spool.identify(claim.path) is not None:
        return  # it has not left, and its next attempt ends as this one did
    telling.attempted(
        logger,
        ERROR,
        "not recorded",
        claim,
        from_=PROCESSING,
        to=FAILED,
        error=reason.code,
        reason=reason.message,
        next="its record will say given_up",
    )


def _count(agent: Agent, line: _Line) -> None:
    claim, facts = line.claim, line.facts
    to = facts.get("to")
    if to == COMPLETED:
        agent.tally.completed(facts["size"])
        return
    name = (claim.profile, claim.bucket, claim.key, claim.id)
    if to == FAILED:
        agent.tally.gave_up(*name, facts["error"], facts["reason"])
    elif line.event == _LET_GO and line.under_way:
        agent.tally.let_go(BrokenOff(*name, line.under_way))


def _settle(
    agent: Agent, decision: Ending, schedule: Schedule, now: datetime, proven: list[Proven]
) -> _Line:
    """Move the file and write its row; what is proven is added to `proven` instead, whose rows are
    written together."""
    claim = decision.claim
    try:
        if isinstance(decision, Prove):
            return _prove(agent, decision, now, proven)
        if isinstance(decision, GiveUp):
            return _give_up(agent, decision, now)
    except Vanished:
        return _missing(agent, claim, now, uploaded=isinstance(decision, Prove))
    except OSError as error:
        if error.errno in SCARCE_ERRNOS:
            raise _Scarce(judge(error).message) from error
        proof, verdict = _left_to_move(decision)
        seconds = _growing(claim, "cannot_move")
        given_up = f"it was given up ({verdict.message}), and " if verdict else ""
        to = _place(claim, COMPLETED if isinstance(decision, Prove) else FAILED)
        why = agent.spool.refusal(error, claim.path, to.path)
        reason = Reason(
            INTERRUPTED,
            "cannot_move",
            f"{given_up}the file cannot leave processing ({why}): the move is tried again in "
            f"{seconds:.0f} s",
        )
        records.release(claim, reason, now, seconds, proof, verdict)
        return _Line(ERROR, "cannot move", claim, {"error": reason.code, "reason": reason.message})
    if isinstance(decision, Missing):
        return _missing(agent, claim, now)
    if isinstance(decision, LetGo):
        records.release(claim, decision.reason, now)
        facts = {"error": decision.reason.code, "reason": decision.reason.message}
        return _Line(INFO, _LET_GO, claim, facts, decision.seconds)
    return _try_again(agent, decision, schedule, now)


def _growing(claim: Claimed, code: str) -> float:
    """How long to wait after one more attempt that ended with this code, in seconds."""
    return min(
        MOVE_AGAIN * 2.0 ** min(queries.attempts_with(claim.id, code), 10), MOVE_AGAIN_AT_MOST
    )


def _put_off(decision: PutOff, now: datetime) -> None:
    # What is only to be moved keeps why it was given up.
    tells = decision.delay and decision.claim.verdict is None
    reason = decision.reason if tells else None
    records.put_off(decision.claim, now, decision.delay, reason=reason)


def _is_scarce(decision: PutOff) -> bool:
    return decision.reason.code == "local_resources"


def _left_to_move(decision: Ending) -> tuple[Proof | None, Reason | None]:
    """What is kept where the move failed: what is proven, or given up, needs no other attempt."""
    proof = _proof(decision) if isinstance(decision, Prove) else None
    verdict = decision.reason if isinstance(decision, GiveUp) else None
    return proof, verdict


def _prove(agent: Agent, decision: Prove, now: datetime, proven: list[Proven]) -> _Line:
    claim, receipt = decision.claim, decision.receipt
    status = os.fstat(decision.descriptor)
    identity = identity_of(status)
    if agent.spool.found(claim.path) != identity:
        raise Vanished(claim.path)
    if identity != claim.identity or touched(status, decision.changed_ns):
        # The next attempt takes the new identity down, as it does with any change.
        records.release(claim, _CHANGED, now)
        return _Line(WARNING, _CHANGED.code, claim, {"reason": _CHANGED.message})
    place = _move(agent.spool, claim, COMPLETED)
    proven.append((claim, place.path, _proof(decision)))
    facts: dict[str, Any] = {"from_": PROCESSING, "to": COMPLETED, "size": receipt.bytes_sent}
    if receipt.unverified:
        facts["unverified"] = receipt.unverified
    return _Line(INFO, "completed", claim, facts)


def _proof(decision: Prove) -> Proof:
    one = decision.receipt
    return Proof(one.etag, one.version_id, one.checksum, one.bytes_sent, decision.changed_ns)


def _give_up(agent: Agent, decision: GiveUp, now: datetime) -> _Line:
    claim, reason = decision.claim, decision.reason
    identity = agent.spool.found(claim.path)
    if identity is None or identity[:2] != claim.identity[:2]:
        raise Vanished(claim.path)
    place = _move(agent.spool, claim, FAILED)
    records.fail(claim, place.path, reason, now)
    return _failed(claim, reason, identity.size)


def _failed(claim: Claimed, reason: Reason, size: int) -> _Line:
    facts: dict[str, Any] = {"from_": PROCESSING, "to": FAILED, "size": size}
    facts |= {"error": reason.code, "reason": reason.message}
    return _Line(ERROR, "failed", claim, facts)


def _try_again(agent: Agent, decision: TryAgain, schedule: Schedule, now: datetime) -> _Line:
    claim, reason = decision.claim, decision.reason
    due = records.retry(claim, decision.identity, reason, decision.delay, now)
    if due is not None:
        retries_left = max(0, agent.settings.retry_max - claim.retry_count - 1)
        schedule(claim.id, claim.profile, claim.bucket, due, retries_left)
    facts = {
        "error": reason.code,
        "reason": reason.message,
        "delay": round(decision.delay, 3),
        "next": utc_text(due) if due else None,
    }
    return _Line(WARNING, "retry", claim, facts)


def _missing(agent: Agent, claim: Claimed, now: datetime, *, uploaded: bool = False) -> _Line:
    """The file left processing without its row: by a worker that died, or by somebody's hand."""
    present = agent.spool.identify(claim.path)
    remounted = present is not None and present[1:] == claim.identity[1:]
    if remounted or not agent.at_home():
        records.release(claim, _AWAY, now, MOVE_AGAIN)
        return _Line(WARNING, "spool is away", claim, {"reason": _AWAY.message})
    found = lies_in(agent.spool, claim)
    before = _place(claim, INCOMING)
    if found is None and agent.spool.identify(before.path) == claim.identity:
        records.release(claim, _BACK, now, _growing(claim, _BACK.code))
        return _Line(WARNING, "went back", claim, {"error": _BACK.code, "reason": _BACK.message})
    if found is None:
        known = uploaded or claim.proof is not None
        reason = records.TAKEN if known else records.VANISHED
        records.gone(claim, now, reason)
        return _failed(claim, reason, claim.identity.size)
    if found.state == COMPLETED:
        proof = claim.proof or Proof(None, None, None, claim.identity.size)
        records.complete(claim, found.path, proof, now)
        return _Line(
            INFO,
            "completed",
            claim,
            {"from_": PROCESSING, "to": COMPLETED, "size": claim.identity.size},
        )
    reason = claim.verdict or records.GIVEN_UP
    records.fail(claim, found.path, reason, now)
    return _failed(claim, reason, claim.identity.size)


def _move(spool: Spool, claim: Claimed, state: str) -> Place:
    return spool.move_beside(claim.path, _place(claim, state), claim.id)


def _place(claim: Claimed, state: str) -> Place:
    return Place(state, claim.profile, claim.bucket, claim.key)
