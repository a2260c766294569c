"""Every option that flood's commands share, as one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flood.kinds import (
    COMMAND,
    FOREVER,
    FRACTION,
    PATH,
    PATH_OF_SECRETS,
    PATTERN,
    YES_OR_NO,
    Kind,
    choices,
    counts,
    durations,
    keeping,
    sizes,
)
from flood.text import printable


@dataclass(frozen=True)
class Option:
    """One setting: how it is named, of which kind it is, what holds where nobody sets it.

    `default` is written as a user would write it; None where unset means something by itself,
    which `unset` tells. `commands` names the only commands that have this option.
    """

    name: str
    kind: Kind
    default: str | None
    help: str
    metavar: str = ""
    unset: str = "none"
    commands: tuple[str, ...] = ()
    repeatable: bool = False
    in_files: bool = True

    @property
    def key(self) -> str:
        """Its name in files."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        """Its name on a command line."""
        return f"--{self.key}"

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"FLOOD_{self.name.upper()}"


#: Shell patterns of the names that programs give to files while they write them. Narrow on
#: purpose, because a file that one of them matches is never uploaded under that name.
IGNORE: Final = (
    ".?*." + "[0-9A-Za-z]" * 6,  # rsync: .name.XXXXXX; with ?????? it would take .data.tar.gz
    ".~tmp~/",  # rsync --delay-updates
    ".rsync-partial/",  # rsync --partial-dir, as its manual names it
    "*.part",  # Firefox, yt-dlp, KDE
    "*.partial",  # rclone, Edge
    "*.filepart",  # WinSCP
    "*.crdownload",  # Chrome
    "*.tmp",
    ".nfs[0-9a-f]*",  # NFS: deleted but still open
    ".fuse_hidden*",  # FUSE: likewise
    ".goutputstream-*",  # GLib
    ".pureftpd-upload.*",  # Pure-FTPd
    ".in.*.",  # ProFTPD's HiddenStores
    "*.swp",  # Vim
    ".*.sw[nox]",
    ".#*",  # Emacs' locks
    ".~lock.*#",  # LibreOffice's
    "~$*",  # Microsoft Office's
)


def ignored(patterns: Sequence[str]) -> tuple[str, ...]:
    """Return IGNORE with `patterns` added, or taken back where they begin with `!`.

    `!*` takes back all that came before it. Raises ValueError where there is nothing to take back.
    """
    chosen = list(IGNORE)
    for pattern in patterns:
        if pattern == "!*":
            chosen = []
        elif not pattern.startswith("!"):
            chosen += [] if pattern in chosen else [pattern]
        elif pattern[1:] in chosen:
            chosen.remove(pattern[1:])
        else:
            raise ValueError(
                f"'{printable(pattern)}' takes back a pattern that is not there; "
                f"allowed: one of {printable(', '.join(chosen)) or 'none'}"
            )
    return tuple(chosen)


LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("text", "json")
TRANSFERS: Final = ("curl", "boto3")
#: How many consumers one flood-watch starts.
MOST_CONSUMERS: Final = 64
#: The commands that tell somebody, or look whether that would work.
_TELLING: Final = ("flood-watch", "flood-notify", "flood-check")
_DAY: Final = 86_400
_CENTURY: Final = 36_500 * _DAY
_MIB: Final = 1024**2
_GIB: Final = 1024**3

_TABLE: Final = (
    Option(
        "config",
        PATH,
        None,
        "settings in this file come before those in ./flood.conf, "
        "$XDG_CONFIG_HOME/flood/flood.conf, /etc/flood/flood.conf",
        metavar="FILE",
        in_files=False,
    ),
    Option(
        "credentials",
        PATH,
        None,
        "credentials file to take where the AWS CLI's own search finds none that is flood's",
        metavar="FILE",
    ),
    Option(
        "credentials_first",
        YES_OR_NO,
        "false",
        "look at the --credentials file before the AWS CLI's own search",
    ),
    Option(
        "server_directory",
        PATH,
        None,
        "the spool's main directory",
        metavar="DIR",
        unset="none, it must be set",
    ),
    Option("database", PATH, "./flood.db", "the spool's SQLite database", metavar="FILE"),
    Option(
        "retry_initial_delay",
        durations(0.001, _DAY),
        "30s",
        "wait before the first retry, doubled for each further one",
        metavar="DURATION",
    ),
    Option(
        "retry_max",
        counts(0, 10),
        "10",
        "retries after a failed first attempt before the file goes to failed",
        metavar="N",
    ),
    Option(
        "retry_jitter",
        FRACTION,
        "0.25",
        "the random part of a delay, as a fraction of it at most",
        metavar="FRACTION",
    ),
    Option(
        "rescan_interval",
        durations(0.1, _DAY),
        "5m",
        "time between two full scans of incoming",
        metavar="DURATION",
    ),
    Option(
        "min_free",
        sizes(0, 1024**5),
        "64MiB",
        "space to leave on the disks of server directory and database: with less nothing is taken "
        "in, nor put there by flood-put or flood-retry",
        metavar="SIZE",
    ),
    Option(
        "ignore",
        PATTERN,
        None,
        "leave files with such names alone, besides those of temporary files that flood knows; "
        "repeatable; !PATTERN takes one back, !* all",
        metavar="PATTERN",
        unset="names of temporary files",
        repeatable=True,
    ),
    Option(
        "multipart_threshold",
        sizes(5 * _MIB, 5 * _GIB),  # more does not go into one PUT: Amazon S3 "Uploading objects"
        "64MiB",
        "files of this size or more are sent in parts",
        metavar="SIZE",
    ),
    Option(
        "multipart_part_size",
        sizes(5 * _MIB, 5 * _GIB),  # Amazon S3 "Multipart upload limits"
        "8MiB",
        "size of one part, no more than the threshold",
        metavar="SIZE",
    ),
    Option(
        "connect_timeout",
        durations(0.001, 3600),
        None,
        "limit for connecting, also for each blocking write of a body",
        metavar="DURATION",
        unset="the provider's",
    ),
    Option(
        "read_timeout",
        durations(0.001, 3600),
        None,
        "limit for waiting for an answer",
        metavar="DURATION",
        unset="the provider's",
    ),
    Option(
        "bucket_cache_seconds",
        durations(0, _DAY),
        "5m",
        "how long a bucket that was seen is not looked up again",
        metavar="DURATION",
    ),
    Option(
        "transfer",
        choices(TRANSFERS),
        "curl",
        "who sends files: curl, which is fast, or boto3",
        metavar="LIBRARY",
    ),
    Option("concurrency", counts(1, 256), "16", "transfers at once in one worker", metavar="N"),
    Option(
        "keep_completed",
        keeping(0, _CENTURY),
        None,
        "delete files in completed this long after their upload was proven; 0 right after it",
        metavar="DURATION",
        unset=FOREVER,
    ),
    Option(
        "keep_failed",
        keeping(_DAY, _CENTURY),
        None,
        "delete files in failed this long after they were given up, though no store has them",
        metavar="DURATION",
        unset=FOREVER,
    ),
    Option(
        "keep_records",
        keeping(3600, _CENTURY),
        None,
        "delete the records of files that lie in the spool no more, this long after they ended",
        metavar="DURATION",
        unset=FOREVER,
    ),
    Option(
        "notify_command",
        COMMAND,
        None,
        "run this when files fail or wait for too long, with a digest on its standard input; no "
        "shell reads it",
        metavar="COMMAND",
        commands=_TELLING,
    ),
    Option(
        "notify_urls",
        PATH_OF_SECRETS,
        None,
        "send such digests to the services whose URLs, as apprise has them, are in this file",
        metavar="FILE",
        commands=_TELLING,
    ),
    Option(
        "notify_interval",
        durations(1, 30 * _DAY),
        "1h",
        "time between two digests, at the least",
        metavar="DURATION",
        commands=_TELLING,
    ),
    Option(
        "notify_age",
        keeping(1, _CENTURY),
        "1h",
        "how long a file may wait before that is told",
        metavar="DURATION",
        unset=FOREVER,
        commands=_TELLING,
    ),
    Option(
        "consumers",
        counts(0, MOST_CONSUMERS),
        "0",
        "consumer processes to start, restart, stop with this one",
        metavar="N",
        commands=("flood-watch",),
    ),
    Option(
        "log_level", choices(LOG_LEVELS), "info", "debug, info, warning or error", metavar="LEVEL"
    ),
    Option("log_format", choices(LOG_FORMATS), "text", "text or json", metavar="FORMAT"),
)

#: The options by the name of their field in `flood.config.Settings`.
OPTIONS: Final[Mapping[str, Option]] = {option.name: option for option in _TABLE}
