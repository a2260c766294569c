"""Sends one large file in parts."""

import logging
import math
import os
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from flood.log import event
from flood.providers import Provider
from flood.states import TRANSIENT
from workers.failures import Unlisted
from workers.leftovers import Left, leave_to_sweeps, remaining, tell_ended, tell_left
from workers.source import Source, Watch
from workers.transfer import Hooks, Interrupted, Measure, PartEnded, Receipt, Upload
from workers.verdict import judge
from workers.verify import Sent, Shown, bare, confirm

_log = logging.getLogger(__name__)

# Limits that all providers share: AWS "Amazon S3 multipart upload limits"; Cloudflare R2 "Limits",
# which also wants all parts but the last to be equal.
MIN_PART: Final = 5 * 1024**2
MAX_PARTS: Final = 10_000
_MIB: Final = 1024**2

# A part is worth more than one try, else a blip costs the whole file: how long it waits before the
# first one, how much longer each time, how often at least, how long in all at most. In seconds.
_FIRST_PAUSE: Final = 0.2
_LONGER: Final = 3.0
_AT_LEAST: Final = 2
_LONGEST: Final = 30.0
_ROUNDING: Final = 1e-9
_LAST_WORDS: Final = 2.0
_ONCE_MORE: Final = 5.0

#: The object's metadata that tell it from an earlier one of the same key and size.
MARK: Final = "flood-upload"


class Part(NamedTuple):
    """A part that the store has; `digest` is of what was sent."""

    number: int
    etag: str
    crc32: str | None
    digest: bytes


class Whole(NamedTuple):
    """What the store says of an object that was made of parts."""

    etag: str | None
    version_id: str | None


class Begun(NamedTuple):
    """An upload that was begun. `twice`: the request was sent twice, and may have begun another
    one, of which nobody knows the id."""

    upload_id: str
    twice: bool = False


@dataclass(frozen=True)
class Large:
    """A large file on its way."""

    upload: Upload
    source: Source
    watch: Watch
    part_size: int
    #: Is told of the bytes that were sent, as `Hooks.sending`.
    sending: Callable[[Measure], None]
    #: Tells how many parts may be under way, as `Hooks.at_most`, none during its pauses.
    at_most: Callable[[], int]
    #: Is told of each part, as `Hooks.part_begins`.
    part_begins: Callable[[int], PartEnded]
    #: How long to wait before each further try of the same request, in seconds.
    pauses: Sequence[float]

    def length(self, number: int) -> int:
        """Return how many bytes this part has; the first one is number 1."""
        return min(self.part_size, self.upload.size - (number - 1) * self.part_size)

    def stored(self, parts: Iterable[Part]) -> int:
        """Return how many bytes these have together."""
        return sum(self.length(part.number) for part in parts)


class Requests(Protocol):
    """What is asked of the store for one large file.

    Each method raises what judge knows, and all but `abort` raise Interrupted as soon as the
    file's watch has expired. Only `abort` may be called by another thread than the file's own.
    """

    def unfinished(self) -> list[str]:
        """Return the ids of unfinished uploads of exactly this key; raises Unlisted where the store
        does not tell."""

    def create(self, mark: str) -> Begun:
        """Begin an upload whose object will have this mark."""

    def send_parts(self, upload_id: str) -> list[Part]:
        """Send the file; return its parts in their order. Once it has ended nothing reads from the
        source."""

    def complete(self, upload_id: str, parts: list[Part]) -> Whole:
        """Make the parts one object."""

    def head(self) -> Shown | int:
        """Return what HEAD shows, or the status of an answer that shows nothing."""

    def abort(self, upload_id: str) -> None:
        """Remove an unfinished upload; one that is already gone is no error."""


def part_size(size: int, wanted: int) -> int:
    """Return the size of all parts but the last: at least `wanted`, and few enough parts."""
    least = -(-size // MAX_PARTS)
    return max(wanted, MIN_PART, -(-least // _MIB) * _MIB if least > wanted else 0)


def large(upload: Upload, hooks: Hooks, watch: Watch, wanted: int) -> Large:
    """Return a file that is to be sent in parts of about the size that is wanted."""
    source = Source(upload.descriptor, upload.size, watch)
    size = part_size(upload.size, wanted)

    def at_most() -> int:
        # For longer a worker is not held: the store refuses the parts, and the file waits.
        return 0 if 0.0 < hooks.pause() <= _LONGEST else hooks.at_most()

    told = hooks.sending, at_most, hooks.part_begins
    return Large(upload, source, watch, size, *told, pauses(hooks.patience))


def pauses(patience: float) -> list[float]:
    """Return how long to wait before each further try, in seconds: few times in any case, then as
    often as all pauses stay within `patience`."""
    found = [_FIRST_PAUSE * _LONGER**number for number in range(_AT_LEAST)]
    while sum(found) + found[-1] * _LONGER <= min(patience, _LONGEST):
        found.append(found[-1] * _LONGER)
    return found


@dataclass(frozen=True)
class Multipart:
    """One large file with who asks the store for it."""

    large: Large
    requests: Requests
    provider: Provider

    def outcome(self, hooks: Hooks) -> Receipt | BaseException:
        """Send the file; return what came of it."""
        try:
            return self.send(hooks)
        except (Exception, Interrupted) as error:  # noqa: BLE001  every failure is an outcome
            return error

    def send(self, hooks: Hooks) -> Receipt:
        """Send the file; on any failure nothing of it is left in the bucket, if it can be helped.

        Raises Interrupted, or what judge knows.
        """
        left = self._clear_leftovers(hooks)
        if self.large.watch.expired():
            raise Interrupted
        own: Left = {}
        try:
            return self._send(hooks, left, own)
        finally:
            # What failed before may not fail any more; a store that hangs keeps no proof waiting.
            stay = self._abort(hooks, left, _ONCE_MORE)
            if not own:
                leave_to_sweeps(hooks, self.large.upload, stay)

    def _send(self, hooks: Hooks, left: Left, own: Left) -> Receipt:
        """Send the file; add to what is `left` of others, to `own` the upload that was begun if it
        stays."""
        mark = os.urandom(16).hex()
        upload_id, twice = self.requests.create(mark)
        whole = False
        try:
            hooks.multipart_started(self.large.upload, upload_id)
            if twice:
                left.update(self._clear(each for each in self._listed() if each != upload_id))
            parts = self.requests.send_parts(upload_id)
            sent = self._complete(upload_id, parts, mark)
            receipt = confirm(self.provider, self.large.upload, sent, self.requests.head)
            # Not before: what says that it has made an object of the parts may not have done so.
            whole = True
        finally:
            self.large.source.close()
            if not whole:
                own.update(self._abort(hooks, [upload_id]))
            if not own:
                tell_ended(hooks, self.large.upload)
        return receipt

    def _clear_leftovers(self, hooks: Hooks) -> Left:
        """Abort what an earlier attempt has recorded, with what else of exactly this key is
        unfinished; return those that stay, of which the record is about to forget its own."""
        recorded = self.large.upload.multipart_upload_id
        known = [] if recorded is None else [recorded]
        left = self._clear([*known, *(each for each in self._listed() if each not in known)])
        if recorded in left:
            event(
                _log,
                logging.INFO,
                "multipart upload not aborted yet",
                record=self.large.upload.record_id,
                bucket=self.large.upload.bucket,
                key=self.large.upload.key,
                upload_id=recorded,
                reason=judge(left[recorded]).cause,
                next="it is tried once more when the file is through",
            )
        elif known:
            tell_ended(hooks, self.large.upload)
        return left

    def _clear(self, upload_ids: Iterable[str]) -> Left:
        return remaining(self.requests.abort, upload_ids, self.large.watch.expired)

    def _listed(self) -> list[str]:
        """Return the ids of unfinished uploads of exactly this key.

        A process that died before it could record an id leaves one, so does an answer that was
        lost. A store that does not list them is no reason to fail, nor is one that keeps them.
        """
        upload = self.large.upload
        try:
            return self.requests.unfinished()
        except Exception as error:  # noqa: BLE001  see above
            event(
                _log,
                logging.DEBUG,
                "multipart uploads not listed",
                record=upload.record_id,
                bucket=upload.bucket,
                key=upload.key,
                # The verdict takes boto3, for a key that merely may not list.
                reason=str(error) if isinstance(error, Unlisted) else judge(error).message,
            )
            return []

    def _complete(self, upload_id: str, parts: list[Part], mark: str) -> Sent:
        """Make the parts one object; an answer that got lost is looked for in the object."""
        digest = zlib.crc32(b"".join(part.digest for part in parts)).to_bytes(4, "big")
        patience = Patience(self.large.pauses)
        while True:
            try:
                whole = self.requests.complete(upload_id, parts)
            except Exception as error:
                if judge(error).kind != TRANSIENT:
                    raise
                found = self._found(mark)
                if found is None:
                    pause = patience.rest(error)
                    if pause is None:
                        raise
                    self.large.watch.pause(pause)
                    continue
                whole = found
            return Sent(bare(whole.etag), whole.version_id, digest, len(parts))

    def _found(self, mark: str) -> Whole | None:
        """Return what HEAD shows if that is the object of this very upload."""
        try:
            shown = self.requests.head()
        except Exception:  # noqa: BLE001  the caller has the error that matters
            return None
        if isinstance(shown, Shown) and shown.mark == mark:
            return Whole(shown.etag, shown.version_id)
        return None

    def _abort(self, hooks: Hooks, upload_ids: Iterable[str], seconds: float = math.inf) -> Left:
        """Abort these, in so many seconds at most, and tell of those that stay; return them."""
        # Where the worker is to stop, the store has a moment for it; the next attempt does it else.
        stopped = Watch(self.large.watch.expired, time.monotonic, _LAST_WORDS).expired
        left = remaining(self.requests.abort, upload_ids, stopped, seconds)
        for upload_id, error in left.items():
            tell_left(hooks, self.large.upload, upload_id, error)
        return left


class Patience:
    """What is left of the pauses before further tries of one request."""

    def __init__(self, pauses: Sequence[float]) -> None:
        self._pauses = list(pauses)

    def rest(self, error: BaseException) -> float | None:
        """Return after how many seconds the same request may well succeed; None if it is not worth
        the time. A Retry-After uses the pauses up for which it stands."""
        verdict = judge(error)
        if verdict.kind != TRANSIENT or not self._pauses:
            return None
        left = sum(self._pauses)
        seconds = max(self._pauses[0], verdict.retry_after or 0.0)
        if seconds > left:
            return None
        del self._pauses[0]
        while sum(self._pauses) > left - seconds + _ROUNDING:
            self._pauses.pop()
        return seconds
