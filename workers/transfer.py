"""What an uploader is given for each file, with what it answers."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class Upload(NamedTuple):
    """One opened file on its way to one object.

    `descriptor` is open for reading, and belongs to the caller; uploaders read it with pread only.
    `size` bytes of it are sent, never more. `multipart_upload_id` is that of an earlier attempt
    which may have left parts behind; it is aborted before anything else is done, if that works.
    """

    record_id: int
    bucket: str
    key: str
    descriptor: int
    size: int
    multipart_upload_id: str | None = None


class Receipt(NamedTuple):
    """What the store answered to an upload that HEAD did not contradict.

    `checksum` is `algorithm:hexadecimal` of what was compared, or None. `unverified` says why HEAD
    could not confirm the object where the store does not allow the question, else it is None.
    """

    etag: str | None
    version_id: str | None
    checksum: str | None
    bytes_sent: int
    unverified: str | None = None


class Interrupted(BaseException):
    """This worker was told to stop.

    No Exception, because botocore wraps those that a body's read() raises.
    """


#: Each upload with its receipt or with the exception that ended it.
Outcome = tuple[Upload, Receipt | BaseException]

#: Counts the bytes of what is under way that the store has taken.
Measure = Callable[[], int]


#: Is told what came of one part, None where the store has it, and how many are under way with it.
PartEnded = Callable[[BaseException | None, int], None]


def _ignored(_measure: Measure) -> None:
    """What `Hooks.sending` is where nobody wants to know."""


def _unasked(_upload: Upload) -> None:
    """What `Hooks.taken` is where nobody wants to know."""


def _unlimited() -> int:
    """What `Hooks.at_most` is where nobody sets a limit."""
    return sys.maxsize


def _at_once() -> float:
    """What `Hooks.pause` is where no store asks for anything."""
    return 0.0


def _unheard(_under_way: int) -> PartEnded:
    """What `Hooks.part_begins` is where nobody wants to know."""
    return lambda _error, _under_way: None


@dataclass(frozen=True)
class Hooks:
    """What an uploader tells, or asks, while it works.

    `stopping` is asked often, from any thread. Once it is true no new transfer starts, short ones
    may finish, and the others end with `Interrupted`. `multipart_started` (the upload with its new
    multipart id, or once it is whole with that of another one which stays) and `multipart_ended`
    (none of it is left in the bucket, or the object is whole) are called only in the thread that
    iterates `transfer`; when `multipart_started` returns, the id is safely recorded. `sending` is
    called often, in the same thread, with what counts the bytes of all uploads that have begun and
    were not yielded yet. `at_most` is asked often, in the same thread, how many transfers may
    be under way; the next upload is taken only as it begins.
    `taken` may be told, in the same thread, that the store has all of a small file, of which only
    the proof is missing.
    `part_begins` is told, in any thread, that a part of a large file begins as the last of so many.
    `pause` tells for how many seconds the store wants to be left alone.
    `patience` is how long the pauses before further tries of one part may be together, in seconds.
    `left_behind` are the ids of multipart uploads of which the log has told that they stay.
    """

    stopping: Callable[[], bool]
    multipart_started: Callable[[Upload, str], None]
    multipart_ended: Callable[[Upload], None]
    sending: Callable[[Measure], None] = _ignored
    at_most: Callable[[], int] = _unlimited
    taken: Callable[[Upload], None] = _unasked
    part_begins: Callable[[int], PartEnded] = _unheard
    pause: Callable[[], float] = _at_once
    patience: float = 0.0
    left_behind: set[str] = field(default_factory=set)


class Uploader(Protocol):
    """One profile's way to its store; every implementation passes the same contract tests."""

    def ensure_bucket(self, bucket: str) -> None:
        """Return if the bucket can be used, as far as the credentials let anyone know."""

    def transfer(self, uploads: Iterable[Upload], hooks: Hooks) -> Iterator[Outcome | None]:
        """PUT then HEAD each file; yield every upload exactly once, in the order they finish.

        While others take their time a None comes now and then, so that the caller can settle what
        has finished.
        """

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Remove an unfinished multipart upload; one that is already gone is no error."""

    def close(self) -> None:
        """Give connections back."""
