"""flood-watch: takes files from a directory tree into the spool."""

import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from logging import INFO, WARNING, getLogger

from systemd_watchdog.systemd_watchdog import WatchDog

from flood import binding, config, log, models, schema, startup
from flood.config import Settings
from flood.consumers import Consumers
from flood.errors import FloodError
from flood.home import Home
from flood.intake import Intake
from flood.purge import purge
from flood.room import Room
from flood.server import Server
from flood.spool import Spool
from flood.states import EXIT_FAILED, EXIT_OK, EXIT_TRY_AGAIN
from flood.stop import Stop
from flood.tasks import enqueue
from huey_config import huey

logger = getLogger("flood.watch")

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
    except FloodError as error:
        log.fatal("flood-watch", str(error))
        return error.exit_status
    except (OSError, models.DatabaseError) as error:
        log.fatal("flood-watch", f"cannot go on: {models.explain(error)}")
        return EXIT_TRY_AGAIN if models.no_room(error) else EXIT_FAILED
    return EXIT_OK


def _watch(settings: Settings, stop: Stop) -> None:
    startup.announce(settings)
    profiles = set(startup.read_credentials(settings, os.environ).profiles)
    now = partial(datetime.now, timezone.utc)
    spool = Spool(settings.server_directory)
    home = Home(spool, settings.database, now=now)
    home.enter()
    try:
        binding.check(spool.root, settings.database)
        schema.migrate(settings.database, create=True)
        binding.bind(spool, settings.database, create=True, now=now())
        huey.storage.initialize_schema()
        spool.prepare()
        startup.warn(settings)
        purge(spool, now())
        consumers = Consumers(
            settings.consumers,
            {**os.environ, **config.environment(settings)},
            clock=time.monotonic,
        )
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
            tick=consumers.tick,
        )
        server.prepare()
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


def _tell_systemd() -> None:
    try:
        WatchDog().ready()  # does nothing without NOTIFY_SOCKET
    except OSError as error:
        log.event(logger, WARNING, "cannot tell systemd", error=error.strerror)


if __name__ == "__main__":
    sys.exit(main())
