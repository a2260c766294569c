"""The errors that flood raises on purpose.

FloodError                  exit status 1
  ConfigError               2   a setting is missing or wrong
    CredentialsError        2   the credentials file is
  SpoolError                2   directories, database and settings do not belong together
  TryAgainError             75  nothing is wrong that time will not mend
    SpoolLockedError        75  another process needs the spool for itself
    NoRoomError             75  the filesystem has no room
  ReadOnlyError             1   a filesystem is mounted read-only
"""

from flood.states import EXIT_FAILED, EXIT_TRY_AGAIN, EXIT_USAGE


class FloodError(Exception):
    """What a command prints in one line before it ends with `exit_status`."""

    exit_status = EXIT_FAILED


class ConfigError(FloodError):
    """A setting is missing or wrong; the message says which and what to set."""

    exit_status = EXIT_USAGE


class CredentialsError(ConfigError):
    """The credentials file is missing, unreadable or incomplete; never quotes a secret."""


class SpoolError(FloodError):
    """The server directory, the database and the settings do not belong together. `seen` is what is
    wrong; `settings`, where one of them mends that, is which, as the end of the message."""

    exit_status = EXIT_USAGE

    def __init__(self, seen: str, settings: str = "") -> None:
        super().__init__(f"{seen}: {settings}" if settings else seen)
        self.seen = seen
        self.settings = settings


class TryAgainError(FloodError):
    """The same command may succeed later without any change."""

    exit_status = EXIT_TRY_AGAIN


class SpoolLockedError(TryAgainError):
    """Another flood-watch, or a repair, is at work on this spool."""


class NoRoomError(TryAgainError):
    """The spool's filesystem has no room for what was to be written."""


class ReadOnlyError(FloodError):
    """A filesystem takes no writes, as after an error of its disk, until a person sees to it."""
