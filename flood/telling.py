"""Lines of the log about records that more than one part of flood has to tell."""

from logging import ERROR, INFO, WARNING, Logger

from flood import log
from flood.record_values import Reason, Row
from flood.states import COMPLETED, FAILED, PROCESSING


def ended(logger: Logger, row: Row, reason: Reason | None = None) -> None:
    """Tell that the record, in `row` as it was before, has failed for a reason, or without one that
    its file was found in completed."""
    log.event(
        logger,
        ERROR if reason else INFO,
        FAILED if reason else COMPLETED,
        record=row.id,
        profile=row.profile,
        bucket=row.bucket,
        key=row.key,
        from_=row.state,
        to=FAILED if reason else COMPLETED,
        size=row.identity.size,
        error=reason.code if reason else None,
        reason=reason.message if reason else None,
    )


def went_back(logger: Logger, row: Row) -> None:
    """Tell that the record, in `row` as it was before, is in processing again with its file."""
    log.event(
        logger,
        WARNING,
        "went back",
        record=row.id,
        profile=row.profile,
        bucket=row.bucket,
        key=row.key,
        from_=row.state,
        to=PROCESSING,
        size=row.identity.size,
        reason="its file has not left: a power failure undid the move, or the clock was set back",
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
