"""Aborts multipart uploads that nobody goes on with."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from logging import DEBUG, ERROR, WARNING, getLogger
from typing import Final

from flood.log import event
from flood.states import PERMANENT
from workers.failures import TransportFailed
from workers.lanes import carried
from workers.transfer import Hooks, Interrupted, Upload
from workers.verdict import judge

_log = getLogger(__name__)

#: The ids of multipart uploads that stay, with the reasons.
Left = dict[str, BaseException]

# How long a store that fails is asked for one more, in seconds.
_LONGEST: Final = 30.0


def remaining(
    abort: Callable[[str], None],
    upload_ids: Iterable[str],
    stopped: Callable[[], bool],
    seconds: float = math.inf,
) -> Left:
    """Abort these in so many seconds, each whatever becomes of the others; return those that stay,
    with the reasons.

    A store that hangs is not waited for once more for each of very many.
    """
    left: Left = {}
    begun = time.monotonic()

    def is_late() -> bool:
        return time.monotonic() > begun + seconds

    for upload_id in upload_ids:
        if left and (stopped() or is_late() or time.monotonic() > begun + _LONGEST):
            left[upload_id] = next(reversed(left.values()))
            continue
        try:
            carried(partial(abort, upload_id), lambda: stopped() or is_late())
        except Interrupted as error:
            words = f"it was waited for no longer than {seconds:g} s"
            left[upload_id] = error if stopped() else TransportFailed("read_timeout", "", words)
        except Exception as error:  # noqa: BLE001  whatever it is, it stays
            left[upload_id] = error
    return left


def tell_left(hooks: Hooks, upload: Upload, upload_id: str, error: BaseException) -> None:
    """Say that an upload of this file's key stays in the bucket, once for each."""
    event(
        _log,
        level(hooks.left_behind, upload_id),
        "multipart upload left behind",
        record=upload.record_id,
        bucket=upload.bucket,
        key=upload.key,
        upload_id=upload_id,
        reason=judge(error).cause,
    )


def level(told: set[str], upload_id: str) -> int:
    """At what level the log tells of an upload that stays: of which it has `told`, it is no news;
    this one is added to those."""
    if upload_id in told:
        return DEBUG
    told.add(upload_id)
    return WARNING


def tell_ended(hooks: Hooks, upload: Upload) -> None:
    """Have recorded that nothing is left of the upload that was begun, or that it is whole."""
    with _noted(upload, "end of multipart upload not recorded"):
        hooks.multipart_ended(upload)


def leave_to_sweeps(hooks: Hooks, upload: Upload, stay: Left) -> None:
    """Have one of these recorded where the id of the file's own upload was, as that is whole, or
    gone: the next attempt aborts it, or once the record is settled sweeps do. What the store
    forbids they would try for ever."""
    for upload_id, error in stay.items():
        if judge(error).kind != PERMANENT:
            with _noted(upload, "multipart upload left behind not recorded"):
                hooks.multipart_started(upload, upload_id)
            return


@contextmanager
def _noted(upload: Upload, otherwise: str) -> Iterator[None]:
    """Where something cannot be recorded the outcome stands. An id that stays recorded does no
    harm: aborting what is gone is no error."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  see above
        event(_log, ERROR, otherwise, record=upload.record_id, exc_info=error)
