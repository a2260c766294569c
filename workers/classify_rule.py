"""What a row of the error table consists of, with what comes of it."""

import errno
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from flood.states import INTERRUPTED


@dataclass(frozen=True)
class Rule:
    """One row: what is recorded and said of every error that meets all its conditions.

    A condition that is empty always holds. `exceptions` and `errnos` are looked for in the whole
    chain of causes, `codes` and `statuses` are the store's answer, `text` is a regular expression
    for the words of any error in the chain. `what` is None where the error's own message tells it
    all; `code` is None where the store's own code is recorded.
    """

    kind: str
    code: str | None
    what: str | None
    advice: str
    exceptions: tuple[type[BaseException], ...] = ()
    errnos: Collection[int] = ()
    codes: Collection[str] = ()
    statuses: Collection[int] = ()
    text: str = ""
    #: Whether the error's own words are quoted; some repeat headers that were sent.
    quote: bool = True
    #: The `reason` of a TransportFailed that this row is for, where that is not its code.
    reason: str = ""
    #: Whether the store has too much to do, rather than anything against this request.
    fewer: bool = False
    #: Whether it is the credentials that are refused, so that others may be taken.
    credentials: bool = False


@dataclass(frozen=True)
class Verdict:
    """What an error means.

    `kind` is TRANSIENT, PERMANENT or INTERRUPTED. `code` is short and stable, the store's own
    where it gave one. `message` says what happened and what to do, and holds no secret.
    `retry_after` is the seconds that the store asked to be left alone, an hour at most.
    """

    kind: str
    code: str
    message: str
    retry_after: float | None = None
    #: The part of the message that says what to do.
    advice: str = ""
    #: Whether the store asks for fewer requests.
    fewer: bool = False
    #: Whether it is the credentials that were refused.
    credentials: bool = False

    @property
    def cause(self) -> str:
        """The message without what to do, which is for whoever has sent the file."""
        return self.message.removesuffix(f"; {self.advice}") if self.advice else self.message


CONNECTION_ERRNOS: Final = frozenset(
    {
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.EHOSTDOWN,
        errno.ENOTCONN,
        errno.EADDRNOTAVAIL,
        errno.ENOBUFS,
        errno.EAGAIN,
    }
)
FILE_ERRNOS: Final = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EBADF,
        errno.ENXIO,
        errno.ENODEV,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.ELOOP,
        errno.EINVAL,
        errno.ESPIPE,
        errno.EREMOTEIO,
        errno.ENAMETOOLONG,
    }
)
SCARCE_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

# What a person can do, where several rows say the same.
AGAIN: Final = "it is tried again"
FILE: Final = "look at the file and its disk, then retry it"
KEYS: Final = "correct this profile in the credentials file, then retry the file"
ENDPOINT: Final = "correct AWS_ENDPOINT or AWS_REGION of this profile, then retry the file"
TRUST: Final = (
    "install its certificate with the system's tool (update-ca-certificates, update-ca-trust), or "
    "name it in AWS_CA_BUNDLE"
)
BUNDLE: Final = "correct AWS_CA_BUNDLE or REQUESTS_CA_BUNDLE, or else the system's certificates"
NAME: Final = "move the file to incoming under another name"

#: No fault of the file's, which need not pay for it with its retries.
SCARCE: Final = Rule(
    INTERRUPTED,
    "local_resources",
    "this machine ran out of descriptors or memory",
    f"{AGAIN}; raise the limit of open files (ulimit -n), or see what takes the memory",
    errnos=SCARCE_ERRNOS,
)
