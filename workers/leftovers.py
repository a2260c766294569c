"""Aborts multipart uploads that nobody goes on with."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from logging import DEBUG, WARNING, getLogger
from typing import Final

from flood.log import event
from workers.lanes import carried
from workers.transfer import Hooks, Interrupted, Upload
from workers.verdict import judge

_log = getLogger(__name__)

# How long a store that fails is asked for one more, in seconds.
_LONGEST: Final = 30.0


def remaining(
    abort: Callable[[str], None], upload_ids: Iterable[str], given_up: Callable[[], bool]
) -> dict[str, BaseException]:
    """Abort these, each whatever becomes of the others; return those that stay, with the reasons.

    A store that hangs is not waited for once more for each of very many.
    """
    left: dict[str, BaseException] = {}
    latest = time.monotonic() + _LONGEST
    for upload_id in upload_ids:
        if left and (given_up() or time.monotonic() > latest):
            left[upload_id] = next(reversed(left.values()))
            continue
        try:
            carried(partial(abort, upload_id), given_up)
        except (Exception, Interrupted) as error:  # noqa: BLE001  whatever it is, it stays
            left[upload_id] = error
    return left


def tell_left(hooks: Hooks, upload: Upload, upload_id: str, error: BaseException) -> None:
    """Say that an upload of this file's key stays in the bucket, once for each."""
    level = DEBUG if upload_id in hooks.left_behind else WARNING
    hooks.left_behind.add(upload_id)
    event(
        _log,
        level,
        "multipart upload left behind",
        record=upload.record_id,
        bucket=upload.bucket,
        key=upload.key,
        upload_id=upload_id,
        reason=judge(error).message,
    )
