"""Lines of the log about records that more than one part of flood has to tell."""

from logging import ERROR, INFO, WARNING, Logger

from flood import log
from flood.record_values import Claimed, Reason, Row
from flood.states import COMPLETED, FAILED, PROCESSING


def ended(logger: Logger, row: Row, reason: Reason | None = None) -> None:
    """Tell that the record, in `row` as it was before, has failed for a reason, or without one that
    its file was found in completed."""
    level = ERROR if reason else INFO
    to = FAILED if reason else COMPLETED
    _told(logger, level, to, row, to, reason.message if reason else None, reason and reason.code)


def went_back(logger: Logger, row: Row, to: str) -> None:
    """Tell that the record, in `row` as it was before, is in an earlier state again, `to`, with its
    file."""
    why = "its file has not left: a power failure undid the move, or the clock was set back"
    if row.state == PROCESSING:
        why = "a power failure undid the move to processing, or somebody moved the file back"
    _told(logger, WARNING, "went back", row, to, why)


def _told(
    logger: Logger,
    level: int,
    event: str,
    row: Row,
    to: str,
    reason: str | None,
    error: str | None = None,
) -> None:
    log.event(
        logger,
        level,
        event,
        record=row.id,
        profile=row.profile,
        bucket=row.bucket,
        key=row.key,
        from_=row.state,
        to=to,
        size=row.identity.size,
        error=error,
        reason=reason,
    )


def attempted(logger: Logger, level: int, event: str, claim: Claimed, **facts: object) -> None:
    """Tell what became of an attempt, of which the claim has the rest."""
    log.event(
        logger,
        level,
        event,
        record=claim.id,
        profile=claim.profile,
        bucket=claim.bucket,
        key=claim.key,
        attempt=claim.retry_count,
        **facts,
    )


def without_profile(logger: Logger, profile: str, bucket: str) -> None:
    """Tell that due records wait for a profile which the credentials do not have."""
    log.event(
        logger,
        WARNING,
        "waiting",
        profile=profile,
        bucket=bucket,
        reason="the credentials have no such profile: add it to their file",
    )
