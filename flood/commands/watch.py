"""flood-watch: takes files from a directory tree into the spool."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from logging import INFO, WARNING, getLogger
from typing import Final

from flood import (
    binding,
    config,
    devices,
    directories,
    locks,
    log,
    models,
    opening,
    schema,
    stall,
    startup,
    syscalls,
    systemd,
)
from flood.attendance import Attendance
from flood.command_line import Parser
from flood.config import Settings
from flood.consumers import Consumers
from flood.credentials import SEARCHED, Credentials
from flood.errors import FloodError, SpoolError, SpoolLockedError
from flood.fsck_kinds import REPAIR_COMMAND, as_given
from flood.home import Home
from flood.intake import Intake
from flood.notify_child import EVERY, NotifyChild
from flood.notify_lock import NotifyLock
from flood.once import Once
from flood.patience import TROUBLE_PAUSE, patiently
from flood.phrases import files
from flood.purge import purge
from flood.put_locks import consuming, start_consumers, start_stopped, starting
from flood.rereading import Rereading
from flood.room import Room
from flood.server import Server
from flood.spool import Spool
from flood.states import EXIT_INTERRUPTED, EXIT_OK
from flood.stop import Stop
from flood.systemd import Systemd
from flood.tasks import enqueue
from flood.terminal import Terminal, prepare
from huey_config import huey

logger = getLogger("flood.watch")


class _Stopped(Exception):
    """The stop came before flood-watch followed events; why it went no further then."""


_NAME: Final = "flood-watch"
_DESCRIPTION: Final = """\
Watches SERVER_DIRECTORY/incoming/PROFILE/BUCKET/ and takes every file that is
put there: it is moved to processing, recorded in the database and enqueued for
the consumers, which upload it to BUCKET under the rest of its path.
"""
_EPILOG: Final = """\
With --consumers N everything that flood needs runs under this one command;
otherwise start consumers yourself: huey_consumer flood.tasks.huey. SIGTERM or
SIGINT ends flood-watch in order. Where the credentials file has changed it is
read again, as it is on SIGHUP.

With --once it takes in what waits, then ends, as from cron: flood-drain
uploads it. It starts no consumers, and logs warnings only, unless a log level
is set. Where another flood-watch is at work it leaves everything to that one:
without a word, if no terminal is there to read it, status 75.

Exit status: 0 ended by a signal, with --once all was taken in that could be; 1
the disk or the database failed; 2 wrong usage, configuration or credentials;
75 another flood-watch has this server directory, with --once also if the
database is locked or the disk full, for which it waits otherwise; 130 --once
was interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run flood-watch; return its exit status."""
    prepare()
    parser = _parser()
    options, settings = config.load(parser, argv, os.environ)
    _check(parser, options, settings)
    quiet_log = options.once and settings.origins["log_level"] == "default"
    log.configure("warning" if quiet_log else settings.log_level, settings.log_format)
    terminal = Terminal(_NAME, quiet=not (options.once and sys.stderr.isatty()))
    stop = Stop()
    # What a SIGHUP asks for, to read the credentials, is about to be done.
    stop.install(None if options.once else lambda: None)
    models.be_brief_when(stop.is_set)
    try:
        if options.once:
            return _take_in(settings, stop, terminal)
        _watch(settings, stop)
    except _Stopped as stopped:
        log.event(logger, INFO, "stopped while starting", reason=str(stopped))
        return EXIT_INTERRUPTED if options.once else EXIT_OK
    except FloodError as error:
        if options.once and isinstance(error, SpoolLockedError):
            terminal.notice(str(error))
        else:
            log.fatal(_NAME, as_given(str(error), settings))
        return error.exit_status
    except (OSError, models.DatabaseError) as error:
        log.fatal(_NAME, as_given(f"cannot go on: {models.explain(error)}", settings))
        return opening.exit_status(error)
    return EXIT_OK


def _parser() -> Parser:
    parser = config.build_parser(_NAME, _DESCRIPTION, epilog=_EPILOG)
    parser.usage = f"{_NAME} [--once] [settings]"
    parser.add_argument("--once", action="store_true", help="take in what waits, then end")
    return parser


def _check(parser: Parser, options: argparse.Namespace, settings: Settings) -> None:
    # A file may say how many there are where flood-watch keeps running.
    if options.once and settings.consumers and settings.origins["consumers"] == "flag":
        parser.error("--once starts no consumers: leave --consumers out, and run flood-drain")


def _take_in(settings: Settings, stop: Stop, terminal: Terminal) -> int:
    spool = Spool(settings.server_directory)
    home = Home(spool, settings.database, now=_now)
    try:
        with _starting(stop):
            profiles = _credentials(settings).profiles
            intake, check = _prepare(settings, spool, home, lambda: profiles)
            once = Once(spool, intake, check=check, pause=stop.wait, stopping=stop.is_set)
            once.run()
    finally:
        home.leave()
        models.close()
    waiting = f", {once.waiting} must wait" if once.waiting else ""
    terminal.say(f"{files(once.taken)} taken in{waiting}")
    return EXIT_INTERRUPTED if stop.is_set() else EXIT_OK


def _watch(settings: Settings, stop: Stop) -> None:
    spool = Spool(settings.server_directory)
    home = Home(spool, settings.database, now=_now)
    overseer = Systemd(clock=time.monotonic)
    try:
        with _starting(stop):
            credentials = _credentials(settings)
            rereading = Rereading(credentials, clock=time.monotonic, now=time.time)
            stop.install(rereading.ask)
            # The very file that was found: one that appears later is for the next start.
            told = replace(
                settings,
                credentials=os.path.abspath(credentials.path),
                credentials_first=True,
            )
            environ = {**systemd.without(os.environ), **config.environment(told), SEARCHED: ""}
            consumers = Consumers(settings.consumers, environ, clock=time.monotonic)
            notify = _notify(spool, settings, environ)

            def tick() -> None:
                overseer.alive()
                consumers.tick()
                attendance.tick()
                if notify is not None:
                    notify.tick()
                before = rereading.profiles
                if rereading.look().keys() != before.keys():
                    server.renew()

            def profiles() -> Collection[str]:
                return rereading.profiles

            def rest() -> None:
                home.leave()
                models.close()
                stop.wait(TROUBLE_PAUSE)

            intake, check = patiently(
                partial(_prepare, settings, spool, home, profiles),
                rest=rest,
                stopping=stop.is_set,
                logger=logger,
            )
            # Until now nobody could be there.
            attendance = Attendance(
                partial(consuming, spool),
                start_consumers(settings),
                own=settings.consumers,
                starting=partial(starting, spool),
                halted=partial(start_stopped, spool),
                stalled=partial(stall.look, spool),
                now=_now,
                clock=time.monotonic,
            )
            server = Server(
                spool,
                intake,
                check=check,
                profiles=profiles,
                rescan_interval=settings.rescan_interval,
                clock=time.monotonic,
                stop=stop,
                tick=tick,
            )
        try:
            consumers.start()
            if notify is not None:
                notify.announce()
            overseer.ready()
            log.event(logger, INFO, "ready", path=spool.root, consumers=settings.consumers)
            server.run()
            log.event(logger, INFO, "stopping")
        finally:
            consumers.stop()
            if notify is not None:
                notify.stop()
    finally:
        overseer.close()
        home.leave()


def _notify(spool: Spool, settings: Settings, environ: Mapping[str, str]) -> NotifyChild | None:
    """What tells somebody, if anybody is to be told."""
    if settings.notify_command is None and settings.notify_urls is None:
        return None
    every = min(EVERY, settings.notify_interval)
    lock = NotifyLock(spool, settings)
    return NotifyChild(every, environ, lock=lock, clock=time.monotonic)


@contextmanager
def _starting(stop: Stop) -> Iterator[None]:
    """Whoever was told to stop waits no longer, so that what he waited for is no failure then."""
    try:
        yield
    except (FloodError, OSError, models.DatabaseError) as error:
        if stop.is_set():
            # The first reason, without what to do about it or what follows.
            raise _Stopped(str(error.__cause__ or "") or str(error)) from error
        if isinstance(error, PermissionError):
            if isinstance(error.filename, str):
                directories.check_open(error.filename)
            raise SpoolError(
                f"cannot use {error.filename or 'the spool'}: {error.strerror}; "
                "give this user write access to it"
            ) from error
        raise


def _credentials(settings: Settings) -> Credentials:
    syscalls.raise_descriptor_limit()
    startup.announce(settings, os.environ)
    return startup.read_credentials(settings, os.environ)


def _prepare(
    settings: Settings, spool: Spool, home: Home, profiles: Callable[[], Collection[str]]
) -> tuple[Intake, Callable[[], None]]:
    """Lock the spool, bring it up to date; what takes files in, what tells whether it may."""
    home.enter()
    binding.check(spool.root, settings.database)
    lost = spool.present() and _is_empty(settings.database)
    compare = partial(binding.compare, spool.root, settings.database, create=True)
    schema.migrate(settings.database, create=True, server_directory=spool.root, check=compare)
    binding.bind(spool, settings.database, create=True, now=_now())
    devices.follow(spool)
    if lost:
        log.event(
            logger,
            WARNING,
            "made a new database",
            path=settings.database,
            reason="this spool had one, which is gone",
            next=f"to have records of the files in completed and failed: "
            f"{config.command(settings, *REPAIR_COMMAND)}",
        )
    huey.storage.initialize_schema()
    spool.prepare()
    locks.lay(spool)
    startup.warn(settings)
    purge(spool, _now())
    intake = Intake(
        spool,
        profiles=profiles,
        ignore=settings.ignore,
        large=settings.multipart_threshold,
        enqueue=enqueue,
        now=_now,
    )
    room = Room((spool.root, os.path.dirname(settings.database)), settings.min_free)

    def check() -> None:
        home.check()
        room.check()

    for path, reason in spool.prepare_destinations(profiles()):
        intake.door.leave(path, reason)
    return intake, check


def _is_empty(database: str) -> bool:
    """Whether nothing is there, or no more than a try that a full disk or a kill has ended."""
    try:
        return not os.stat(database).st_size
    except FileNotFoundError:
        return True


def _now() -> datetime:
    return datetime.now(timezone.utc)


if __name__ == "__main__":
    sys.exit(main())
