"""The ways in which an upload fails before, beside or after what the network reports.

FloodError
  BucketError
    BucketMissing       the store says that there is no such bucket
    InvalidBucket       no store accepts this name
    NotS3               something answers at the endpoint, but it does not speak S3
  KeyRefused
    KeyNotUtf8          the file's name is no UTF-8
    KeyTooLong          the key has more than 1024 bytes
  LocalReadError        the file cannot be read; the cause is the OSError
  FileChanged           the file became shorter while it was sent
  ContradictedByHead    HEAD shows another object than the one that was sent
  TransportFailed       the request could not be sent, or its answer not be read
    Unanswered          a connection that was used before ended without a byte of an answer
  Unlisted              the store does not tell which multipart uploads are unfinished
"""

from flood.errors import FloodError
from workers.answer_limits import LONGEST


class BucketError(FloodError):
    """The bucket cannot be used; the message names profile, bucket and endpoint."""


class BucketMissing(BucketError):
    """The store says that there is no such bucket."""


class InvalidBucket(BucketError):
    """No S3-compatible store accepts a bucket of this name."""


class NotS3(BucketError):
    """The endpoint answered something that S3 never answers."""


class KeyRefused(FloodError):
    """The name of the file can be no key."""


class KeyNotUtf8(KeyRefused):
    """S3 keys are UTF-8, and the file's name is not."""


class KeyTooLong(KeyRefused):
    """S3 keys have 1024 bytes at most (AWS, "Naming Amazon S3 objects"; R2 and B2 say the same)."""


class LocalReadError(FloodError):
    """The file could not be read; `__cause__` is the OSError."""


class FileChanged(FloodError):
    """The file ended before the size that it had when it was opened."""


class ContradictedByHead(FloodError):
    """The store confirmed the upload, and HEAD shows something else."""


class TransportFailed(FloodError):
    """A request did not get through.

    `reason` names the row of the error table that tells what this means, `host` is the store,
    or the proxy on the way to it.
    """

    def __init__(self, reason: str, host: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason
        self.host = host


class SocksProxy(TransportFailed):
    """boto3 cannot speak to the proxy on the way, as libcurl can; `variable` names it."""

    def __init__(self, host: str, variable: str) -> None:
        words = (
            f"{variable} is a SOCKS proxy, to which boto3 cannot speak: set one that speaks HTTP"
        )
        super().__init__("proxy", host, words)
        self.variable = variable


class Unanswered(TransportFailed):
    """A connection that was used before ended without a byte of an answer, as it does where the
    store closes it in the very moment of the next request (RFC 9112, section 9.3.1)."""

    def __init__(self, host: str) -> None:
        super().__init__("connection_reset", host, "the connection ended without an answer")


class Unlisted(FloodError):
    """The store, or this access key, does not list unfinished multipart uploads."""


def not_s3(where: str) -> NotS3:
    """Return the error for an endpoint, which `where` names, that speaks something else."""
    return NotS3(
        f"what answers at {where} is no S3-compatible store: the address is wrong (correct"
        " AWS_ENDPOINT), or the network wants a login first"
    )


def endless(host: str) -> TransportFailed:
    """Return the error for an answer of which nobody reads on."""
    return TransportFailed("endless", host, f"it has more than {LONGEST // 1024**2} MiB")


def nonsense(host: str, words: str) -> TransportFailed:
    """Return the error for an answer that lacks what it was asked for."""
    return TransportFailed("nonsense", host, words)
