"""Lays out a new installation below one directory."""

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from shlex import quote
from typing import Final

from flood import binding, cards, config, credentials, directories, locks, models, schema, users
from flood.config import Settings
from flood.errors import ConfigError, FloodError, NoRoomError, ReadOnlyError, SpoolError
from flood.home import Home
from flood.layout import CARD, MAX_NAME_BYTES, PRIVATE, WORKERS
from flood.options import OPTIONS
from flood.spool import ALL_RIGHTS, Spool
from flood.states import STATES
from flood.text import printable
from flood.walk import kind_of

CONFIG: Final = "flood.conf"
CREDENTIALS: Final = "credentials"
SPOOL: Final = "spool"
DATABASE: Final = "flood.db"
#: Nobody makes it: it is for who wants to be told.
NOTIFY: Final = "notify"

_CHOOSE: Final = "choose a directory that this user may write to"
_AWAY: Final = "move away what is in the way there, or name another directory"

_CONFIG: Final = """\
# Settings of flood; docs/configuration.md has all of them. Flags and FLOOD_*
# variables come before what stands here.

server-directory  = {spool}
database          = {database}
credentials       = {credentials}
# That file, whatever ~/.aws/credentials has.
credentials-first = true

# Consumers that flood-watch runs besides: they upload. With 0 start them yourself:
# FLOOD_CONFIG={config} huey_consumer flood.tasks.huey
consumers         = 2

# What follows are the defaults.

# How long after a failed attempt the first retry comes; twice as long each time.
#retry-initial-delay = 30s
#retry-max           = 10

# Space to leave on the disk.
#min-free            = 64MiB

# Transfers at once in one worker.
#concurrency         = 16

# Names that are left alone in incoming, besides those of temporary files.
#ignore              = [*.bak, *.old]

# Who is told when files fail: a command that gets JSON, or a file with the URLs of
# services, for which apprise must be installed; docs/notifications.md.
#notify-command      = /usr/local/bin/tell
#notify-urls         = {notify}

#log-level           = info
#log-format          = text
"""

_CREDENTIALS: Final = """\
# Who uploads where, as the AWS CLI has it. Each section is a profile: its name is
# the first directory below incoming, and stands in s3://PROFILE/BUCKET/PATH. Take
# the one for your store, delete the # before each of its lines, fill it in. Comments
# need lines of their own. Nobody but you should be able to read this file.

# Amazon S3
#[archive]
#provider              = amazon
#AWS_ACCESS_KEY_ID     =
#AWS_SECRET_ACCESS_KEY =
#AWS_REGION            = eu-central-1

# Cloudflare R2: the account's endpoint, without a bucket at its end
#[media]
#provider              = cloudflare
#AWS_ACCESS_KEY_ID     =
#AWS_SECRET_ACCESS_KEY =
#AWS_REGION            = auto
#AWS_ENDPOINT          = https://ACCOUNT-ID.r2.cloudflarestorage.com

# Backblaze B2: an application key, not the master key; the region as in the endpoint
#[backup]
#provider              = backblaze
#AWS_ACCESS_KEY_ID     =
#AWS_SECRET_ACCESS_KEY =
#AWS_REGION            = us-west-004
#AWS_ENDPOINT          = https://s3.us-west-004.backblazeb2.com

# Any other S3-compatible server, such as MinIO, Ceph, Garage
#[lab]
#provider              = s3
#AWS_ACCESS_KEY_ID     =
#AWS_SECRET_ACCESS_KEY =
#AWS_REGION            = us-east-1
#AWS_ENDPOINT          = http://127.0.0.1:9000
"""

# Anything else may mean something in a settings file.
_PLAIN: Final = re.compile(r"[\w/.-]+")

#: Secrets are for their owner alone.
_MODES: Final = {CONFIG: 0o644, CREDENTIALS: 0o600}


class Founding:
    """A new installation in `directory`, an absolute path. `queue` makes the queue's tables, `now`
    answers aware times. What is there already stays as it is, so that a run which was broken off
    can be repeated."""

    def __init__(
        self, directory: str, *, queue: Callable[[], None], now: Callable[[], datetime]
    ) -> None:
        if not directory.isprintable():
            raise ConfigError(
                f"{printable(directory)} has characters that settings files cannot hold: choose "
                "another name"
            )
        if os.path.exists(f"{directory}/{CARD}"):
            raise ConfigError(
                f"{directory} is a spool itself, which is set up already: name another directory"
            )
        around = cards.around(directory)
        if around is not None:
            raise ConfigError(
                f"{directory} is inside the spool {around}, whose files flood takes away: name "
                "another directory"
            )
        self._directory = directory
        self._spool = Spool(self.path(SPOOL))
        self._queue = queue
        self._now = now

    def path(self, name: str) -> str:
        """Where one part of it lies."""
        return f"{self._directory}/{name}"

    def run(self) -> Iterator[tuple[str, bool]]:
        """Make each part; yield its path, with whether it is new.

        Raises SpoolError, SpoolLockedError while flood-watch runs there, NoRoomError.
        """
        try:
            for path, new in self._make():
                if not new:
                    self._check_usable(path)
                    self._check_own(path)
                yield path, new
        except OSError as error:
            raise self._refused(error, error.strerror or str(error), _advice(error)) from error
        except ReadOnlyError as error:
            raise SpoolError(str(error)) from error  # to this one any directory may be named
        except SpoolError as error:
            if not error.settings:
                raise
            raise SpoolError(f"{error.seen}: {_AWAY}") from error
        except models.DatabaseError as error:
            text, advice = models.explained(error)
            raise self._refused(error, text, advice or _CHOOSE) from error
        finally:
            models.close()

    def _check_usable(self, path: str) -> None:
        """Raise SpoolError for a part that was there, and is of no use to this user."""
        rights = ALL_RIGHTS if os.path.isdir(path) else os.R_OK
        if os.path.exists(path) and not os.access(path, rights, effective_ids=True):
            owner = users.owner(path)
            raise SpoolError(
                f"this user may not use {path}: run flood-init as {owner}, whose it is"
            )

    def _check_own(self, path: str) -> None:
        """Raise SpoolError where something else lies in the place of a part, or of what it consists
        of, as flood-watch would refuse it."""
        database = self.path(DATABASE)
        if path == self.path(SPOOL):
            binding.check(self._spool.root, database)
            wrong = self._spool.wrong_with(WORKERS)
            if wrong is not None:
                raise SpoolError(wrong, _AWAY)
        elif path == database:
            schema.open_of_any_age(database, self._spool.root)
            binding.compare(self._spool.root, database, create=False)
        elif os.path.exists(path) and not os.path.isfile(path):
            kind = kind_of(os.stat(path).st_mode)
            raise SpoolError(f"{path} must be a file, but a {kind} is in its place", _AWAY)

    def elsewhere(self, environ: Mapping[str, str]) -> Iterator[tuple[str, str | None, str]]:
        """Which settings of a flood.conf that was kept lead to other places than those made here:
        each with that place, and the one here. `environ` tells of other files that count.

        Raises ConfigError if settings there are wrong.
        """
        settings = self._kept(environ)
        parts = {"server_directory": SPOOL, "database": DATABASE, "credentials": CREDENTIALS}
        for name, part in parts.items():
            there = getattr(settings, name)
            if there is None or os.path.realpath(there) != os.path.realpath(self.path(part)):
                yield OPTIONS[name].key, there, self.path(part)

    def unread(self, environ: Mapping[str, str]) -> Sequence[str]:
        """The lines that a flood.conf that was kept lacks to have the keys read from here; none if
        they are, or another file for them is named on purpose. `environ`, and what it raises, as
        for `elsewhere`."""
        settings = self._kept(environ)
        first = OPTIONS["credentials_first"]
        before = [f"{first.key} = true"] * (settings.origins[first.name] == "default")
        if settings.credentials is None:
            return [self._line("credentials", CREDENTIALS), *before]
        return before if os.path.exists(credentials.aws_path(environ)) else ()

    def _kept(self, environ: Mapping[str, str]) -> Settings:
        others = {name: value for name, value in environ.items() if not name.startswith("FLOOD_")}
        variable = OPTIONS["config"].variable
        remedy = (
            f"write '{self._line('server_directory', SPOOL)}' into {self.path(CONFIG)}, or move "
            "that away, then run flood-init again"
        )
        return config.from_environment({**others, variable: self.path(CONFIG)}, remedy=remedy)

    def _line(self, name: str, part: str) -> str:
        return f"{OPTIONS[name].key} = {_value(self.path(part))}"

    def _make(self) -> Iterator[tuple[str, bool]]:
        # Whoever calls has named the links that lead there; behind them there is to be none.
        directories.make(os.path.realpath(self._directory))
        files = Spool(self._directory)
        text = _CONFIG.format(
            spool=_value(self.path(SPOOL)),
            database=_value(self.path(DATABASE)),
            credentials=_value(self.path(CREDENTIALS)),
            config=quote(self.path(CONFIG)),
            notify=_value(self.path(NOTIFY)),
        )
        for name, content in ((CONFIG, text), (CREDENTIALS, _CREDENTIALS)):
            yield self.path(name), files.lay(name, content, _MODES[name])
        cards.check_way(self._spool.root)
        spool_is_new = not self._spool.present()
        database_is_new = not os.path.exists(self.path(DATABASE))
        # Somebody may have removed a directory, or a run was broken off before it made all of them.
        lacks = any(self._spool.wrong_with(name) for name in (*STATES, PRIVATE))
        if lacks or spool_is_new or database_is_new:
            self._set_up()
        yield self.path(SPOOL), lacks or spool_is_new
        yield self.path(DATABASE), database_is_new

    def _set_up(self) -> None:
        """Make spool and database, as the first start of flood-watch does."""
        database = self.path(DATABASE)
        home = Home(self._spool, database, now=self._now)
        home.enter()
        try:
            compare = partial(binding.compare, self._spool.root, database, create=True)
            binding.check(self._spool.root, database)
            schema.migrate(database, create=True, server_directory=self._spool.root, check=compare)
            binding.bind(self._spool, database, create=True, now=self._now())
            self._queue()
            self._spool.prepare()
            locks.lay(self._spool)
        finally:
            home.leave()

    def _refused(self, error: BaseException, words: str, advice: str) -> FloodError:
        kind = NoRoomError if models.no_room(error) else SpoolError
        where = getattr(error, "filename", None) or self._directory
        return kind(f"cannot set up {self._directory}: {where}: {words}; {advice}")


def _advice(error: OSError) -> str:
    if models.no_room(error):
        return "make room there, then run flood-init again"
    if error.errno == errno.ENAMETOOLONG:
        return f"choose a shorter one: a name has {MAX_NAME_BYTES} bytes at most, a path 4095"
    return _CHOOSE


def _value(path: str) -> str:
    """A path as settings files hold it."""
    return path if _PLAIN.fullmatch(path) else f'"{path}"'
