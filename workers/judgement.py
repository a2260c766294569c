"""Decides what follows where a file was not uploaded."""

from typing import Final

from flood.identity import Identity
from flood.record_values import Claimed, Reason
from flood.states import INTERRUPTED, TRANSIENT
from workers.agent import Agent
from workers.backoff import decide
from workers.classify_rule import AGAIN, Verdict
from workers.decisions import Decision, GiveUp, LetGo, PutOff, TryAgain

#: What a message says where no retry is left.
TRIED: Final = "it was tried again and again"
TRIED_ONCE: Final = "it was tried once"
SPENT: Final = "no retry is left: when the cause is mended, flood-retry puts the file back"

CHANGED: Final = Verdict(
    TRANSIENT, "changed", "somebody changed the file while it was uploaded: it is sent once more"
)
_STOPPED: Final = Reason(INTERRUPTED, "stopped", "the consumer was told to stop")


def decision(agent: Agent, claim: Claimed, identity: Identity, verdict: Verdict) -> Decision:
    """What a verdict on a file means for its record; `identity` is the file's own now."""
    if verdict.kind == INTERRUPTED:
        if verdict.code == "local_resources":
            reason = Reason(INTERRUPTED, verdict.code, verdict.message)
            return PutOff(claim, reason, agent.scarce_pause())
        return LetGo(claim, _STOPPED)
    reason = Reason(verdict.kind, verdict.code, verdict.message)
    settings = agent.settings
    retry = decide(
        verdict.kind,
        verdict.retry_after,
        claim.retry_count,
        retry_max=settings.retry_max,
        initial=settings.retry_initial_delay,
        jitter=settings.retry_jitter,
        uniform=agent.uniform,
    )
    if retry is None:
        if verdict.kind == TRANSIENT:
            tried = TRIED if claim.retry_count else TRIED_ONCE
            reason = reason._replace(message=f"{reason.message.replace(AGAIN, tried)}; {SPENT}")
        return GiveUp(claim, reason)
    return TryAgain(claim, identity, reason, retry.delay)
