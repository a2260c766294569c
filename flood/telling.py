"""The line of the log for a record that ends without an attempt."""

from logging import ERROR, INFO, Logger

from flood import log
from flood.record_values import Reason, Row
from flood.states import COMPLETED, FAILED


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
        error=reason.code if reason else None,
        reason=reason.message if reason else None,
    )
