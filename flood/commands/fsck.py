"""flood-fsck: compares directories, records, queue of a spool."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Final

from flood import config, fsck_database, fsck_report, lines, log, models, startup
from flood.command_line import Parser
from flood.config import Settings
from flood.errors import FloodError
from flood.fsck import Fsck
from flood.fsck_kinds import REPAIR_COMMAND, as_given
from flood.spool import Spool
from flood.states import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from flood.tasks import enqueue, enqueue_ring
from flood.terminal import Terminal, prepare
from huey_config import huey

_NAME: Final = "flood-fsck"
_DESCRIPTION: Final = """\
Compares the directories of a spool with its records and its queue, stopped or
at work, and says what each discrepancy means and what mends it. It changes
nothing without --repair.
"""
_EPILOG: Final = """\
With --repair the directory is right: records follow their files, lost records
are made anew, tasks are rung again. No file is overwritten, and none deleted
but copies of dead flood-puts. What a person must decide is left. A database
that is gone or broken is replaced, which needs flood-watch and all consumers
stopped; what is left of it is kept under a name with a time stamp.

Without --database the one is taken that flood-watch uses. No credentials are
read.

Exit status: 0 everything is in order, with --repair also if it is in order
now; 1 something is wrong, with --repair if some of it is left; 2 something
could not be checked, or wrong usage or configuration; 130 interrupted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run flood-fsck; return its exit status."""
    prepare()
    options, settings = config.load(_parser(), argv, os.environ)
    quiet_log = settings.origins["log_level"] == "default"
    log.configure("warning" if quiet_log else settings.log_level, settings.log_format)
    startup.announce(settings, os.environ)
    terminal = Terminal(_NAME, quiet=False)
    try:
        return _fsck(options, settings, terminal)
    except KeyboardInterrupt:
        terminal.problem("interrupted; what was mended stays mended")
        return EXIT_INTERRUPTED
    except FloodError as error:
        for line in as_given(str(error), settings).splitlines():
            terminal.problem(line)
        return EXIT_USAGE
    except (OSError, models.DatabaseError) as error:
        terminal.problem(as_given(f"cannot check this spool: {models.explain(error)}", settings))
        return EXIT_USAGE
    finally:
        models.close()


def _parser() -> Parser:
    parser = config.build_parser(_NAME, _DESCRIPTION, epilog=_EPILOG)
    parser.usage = f"{_NAME} [--repair] [--json] [--all] [settings]"
    parser.add_argument("--repair", action="store_true", help="mend what is safe to mend")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--all", action="store_true", help="show all of each kind, not ten")
    return parser


def _fsck(options: argparse.Namespace, settings: Settings, terminal: Terminal) -> int:
    spool = Spool(settings.server_directory)
    fsck = Fsck(
        spool,
        fsck_database.find(spool, settings),
        settings,
        now=partial(datetime.now, timezone.utc),
        clock=time.monotonic,
        sleep=time.sleep,
        bar=partial(terminal.files_bar, "comparing", None),
        enqueue=enqueue,
        ring=enqueue_ring,
        queue=huey.storage.make_anew,
    )
    report = fsck.run(repair=options.repair)
    report.repair = config.command(settings, *REPAIR_COMMAND)
    status = EXIT_OK if report.clean else EXIT_FAILED
    if not report.complete:
        status = EXIT_USAGE
    if options.json:
        for line in fsck_report.as_json(report, status).splitlines():
            terminal.show(line)
    else:
        lines.show(fsck_report.lines(report, everything=options.all), terminal)
    if terminal.unheard is not None:
        terminal.problem(f"cannot write to stdout: {terminal.unheard.strerror}")
        return EXIT_USAGE
    return status


if __name__ == "__main__":
    sys.exit(main())
