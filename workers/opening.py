"""Decides how an upload begins, if at all."""

from collections.abc import Callable
from functools import partial

from flood.layout import MAX_KEY_BYTES
from flood.providers import Provider
from flood.states import PERMANENT
from workers.failures import KeyNotUtf8, KeyTooLong
from workers.lanes import carried
from workers.leftovers import tell_ended, tell_left
from workers.source import Watch
from workers.transfer import Hooks, Interrupted, Upload
from workers.verdict import judge

#: Removes an unfinished multipart upload: a bucket, a key, the upload's id.
Abort = Callable[[str, str, str], None]


def threshold(provider: Provider, wanted: int) -> int:
    """Return the size in bytes from which on files are sent in parts."""
    return min(wanted, provider.max_put + 1)


def is_large(upload: Upload, threshold: int) -> bool:
    """Whether the file is sent in parts."""
    return 0 < upload.size >= threshold


def refusal(
    upload: Upload, hooks: Hooks, watch: Watch, abort: Abort, threshold: int
) -> BaseException | None:
    """Return why the upload must not start, after clearing away the earlier parts of one that is
    not sent in parts now; s3_multipart does so for others."""
    if watch.stopping():
        return Interrupted()
    try:
        length = len(upload.key.encode())
    except UnicodeEncodeError:
        return KeyNotUtf8(f"the name {upload.key!a} is not UTF-8, which S3 requires of keys")
    if length > MAX_KEY_BYTES:
        return KeyTooLong(f"the key has {length} bytes, and S3 allows {MAX_KEY_BYTES}")
    if upload.multipart_upload_id is None or is_large(upload, threshold):
        return None
    return _clear_parts(upload, upload.multipart_upload_id, hooks, watch, abort)


def _clear_parts(
    upload: Upload, upload_id: str, hooks: Hooks, watch: Watch, abort: Abort
) -> Interrupted | None:
    """Abort what an earlier attempt has recorded. What cannot be aborted now is no reason to wait:
    it stays recorded, for sweeps, which would try for ever what the store forbids."""
    try:
        carried(partial(abort, upload.bucket, upload.key, upload_id), watch.expired)
    except Interrupted as error:
        return error
    except Exception as error:  # noqa: BLE001  see above
        tell_left(hooks, upload, upload_id, error)
        if judge(error).kind != PERMANENT:
            return None
    tell_ended(hooks, upload)
    return None
