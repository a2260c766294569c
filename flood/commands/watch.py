"""flood-watch: takes files from a directory tree into the spool."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from logging import INFO, WARNING, getLogger

from systemd_watchdog.systemd_watchdog import WatchDog

from flood import binding, config, log, models, schema, startup
from flood.attendance import Attendance
from flood.config import Settings
from flood.consumers import Consumers
from flood.errors import FloodError, SpoolError
from flood.home import Home
from flood.intake import Intake
from flood.purge import purge
from flood.put_locks import consuming
from flood.room import Room
from flood.server import Server
from flood.spool import Spool
from flood.states import EXIT_FAILED, EXIT_OK, EXIT_TRY_AGAIN
from flood.stop import Stop
from flood.tasks import enqueue
from huey_config import huey

logger = getLogger("flood.watch")


class _Stopped(Exception):
    """The stop came while flood-watch was starting; why the start went no further then."""


_DESCRIPTION = """\
Watches SERVER_DIRECTORY/incoming/PROFILE/BUCKET/ and takes every file that is put there: it is
moved to processing, recorded in the database and enqueued for the consumers, which upload it to
BUCKET under the rest of its path.
"""
_EPILOG = """\
With --consumers N everything that flood needs runs under this one command; otherwise start
consumers yourself: huey_consumer flood.tasks.huey. SIGTERM or SIGINT ends flood-watch in order.
Exit status: 0 ended by a signal, 1 the disk or the database failed, 2 wrong usage, configuration or
credentials, 75 another flood-watch has this server directory, or the disk is full.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run flood-watch; return its exit status."""
    parser = config.build_parser("flood-watch", _DESCRIPTION, epilog=_EPILOG)
    _, settings = config.load(parser, argv, os.environ)
    log.configure(settings.log_level, settings.log_format)
    stop = Stop()
    stop.install()
    models.be_brief_when(stop.is_set)
    try:
        _watch(settings, stop)
    except _Stopped as stopped:
        log.event(logger, INFO, "stopped while starting", reason=str(stopped))
    except FloodError as error:
        log.fatal("flood-watch", str(error))
        return error.exit_status
    except (OSError, models.DatabaseError) as error:
        log.fatal("flood-watch", f"cannot go on: {models.explain(error)}")
        return EXIT_TRY_AGAIN if models.no_room(error) else EXIT_FAILED
    return EXIT_OK


def _watch(settings: Settings, stop: Stop) -> None:
    now = partial(datetime.now, timezone.utc)
    spool = Spool(settings.server_directory)
    home = Home(spool, settings.database, now=now)
    attendance = Attendance(partial(consuming, spool), now=now, clock=time.monotonic)
    try:
        with _starting(stop):
            startup.announce(settings, os.environ)
            credentials = startup.read_credentials(settings, os.environ)
            # The very file that was found: one that appears later is for the next start.
            told = replace(
                settings,
                credentials=os.path.abspath(credentials.path),
                credentials_first=True,
            )
            consumers = Consumers(
                settings.consumers,
                {**os.environ, **config.environment(told)},
                clock=time.monotonic,
            )

            def tick() -> None:
                consumers.tick()
                attendance.tick()

            profiles = set(credentials.profiles)
            server = _prepare(settings, stop, spool, home, now, profiles, tick)
        try:
            consumers.start()
            _tell_systemd()
            log.event(logger, INFO, "ready", path=spool.root, consumers=settings.consumers)
            server.run()
            log.event(logger, INFO, "stopping")
        finally:
            consumers.stop()
    finally:
        home.leave()


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
            raise SpoolError(
                f"cannot use {error.filename or 'the spool'}: {error.strerror}; "
                "give this user write access to it"
            ) from error
        raise


def _prepare(
    settings: Settings,
    stop: Stop,
    spool: Spool,
    home: Home,
    now: Callable[[], datetime],
    profiles: set[str],
    tick: Callable[[], None],
) -> Server:
    home.enter()
    binding.check(spool.root, settings.database)
    compare = partial(binding.compare, spool.root, settings.database, create=True)
    schema.migrate(settings.database, create=True, check=compare)
    binding.bind(spool, settings.database, create=True, now=now())
    huey.storage.initialize_schema()
    spool.prepare()
    startup.warn(settings)
    purge(spool, now())
    intake = Intake(
        spool,
        profiles=lambda: profiles,
        ignore=settings.ignore,
        large=settings.multipart_threshold,
        enqueue=enqueue,
        now=now,
    )
    room = Room((spool.root, os.path.dirname(settings.database)), settings.min_free)

    def check() -> None:
        home.check()
        room.check()

    server = Server(
        spool,
        intake,
        check=check,
        profiles=lambda: profiles,
        rescan_interval=settings.rescan_interval,
        clock=time.monotonic,
        stop=stop,
        tick=tick,
    )
    server.prepare()
    return server


def _tell_systemd() -> None:
    try:
        WatchDog().ready()  # does nothing without NOTIFY_SOCKET
    except OSError as error:
        log.event(logger, WARNING, "cannot tell systemd", error=error.strerror)


if __name__ == "__main__":
    sys.exit(main())
