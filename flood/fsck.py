"""One run of flood-fsck: looks, mends, looks again."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from typing import Final

from flood import fsck_database, fsck_tables, layout, locks, models, put_locks, schema, writers
from flood import fsck_kinds as kinds
from flood.config import Settings
from flood.errors import SpoolLockedError
from flood.fsck_judge import Directories, Judge
from flood.fsck_kinds import Finding
from flood.fsck_mend import Mend, latest
from flood.fsck_motion import Calm
from flood.fsck_queries import count
from flood.fsck_rebuild import alone, rebuild
from flood.fsck_report import Report
from flood.fsck_survey import Survey
from flood.intake import Enqueue
from flood.locks import WorkerLocks
from flood.purge import in_use
from flood.spool import Spool
from flood.states import STATES

#: So often what was mended is looked at again, as one thing may lie behind another.
_ROUNDS: Final = 4

_LOST: Final = (
    kinds.DATABASE_GONE,
    kinds.DATABASE_FOREIGN,
    kinds.DATABASE_BROKEN,
    kinds.DATABASE_EMPTY,
)


class Fsck:
    """Looks over one spool with its `database`. `now` answers aware times, `clock` monotonic
    seconds; `bar` shows that work goes on; `enqueue` enqueues a task for records, `ring` one for
    whatever is due, `queue` makes the queue's tables anew.

    What it does raises SpoolError, what the database raises, OSError.
    """

    def __init__(
        self,
        spool: Spool,
        database: str,
        settings: Settings,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        bar: Callable[[], AbstractContextManager[Callable[[int], None]]],
        enqueue: Enqueue,
        ring: Callable[[str, str], None],
        queue: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._database = database
        self._settings = settings
        self._now = now
        self._clock = clock
        self._sleep = sleep
        self._bar = bar
        self._queue = queue
        self._workers = WorkerLocks(spool)
        self._alone = False
        self._report = Report(spool.root, database)
        self._mend = Mend(
            spool,
            settings,
            database=database,
            judge=self._judge,
            locks=self._workers,
            enqueue=enqueue,
            ring=ring,
            queue=queue,
            now=now,
        )

    def run(self, *, repair: bool) -> Report:
        """Look; with `repair` mend what can be mended, then look again."""
        begun = self._clock()
        report = self._report
        report.at_work = self._at_work()
        self._look()
        if repair:
            with ExitStack() as stack:
                if not any(each.kind in _LOST for each in report.found) or self._rebuild(stack):
                    self._repair()
        report.seconds = self._clock() - begun
        return report

    # --- looking ---------------------------------------------------------------------------------

    def _look(self) -> None:
        report = self._report
        report.found = fsck_database.look(self._spool, self._database, self._now())
        report.compared = not fsck_database.hides(report.found)
        if not report.compared:
            return
        report.found += self._directories() + self._writers()
        with self._bar() as advance:
            survey = Survey(
                self._spool,
                judge=self._judge,
                calm=Calm(clock=self._clock, sleep=self._sleep),
                ignore=self._settings.ignore,
                still=self._alone,
                advance=advance,
            )
            report.found += survey.run()
        self._spool.check_present()  # else every file seems to have vanished
        report.files, report.records = survey.counts.files, count()
        report.found += fsck_tables.look(
            self._now(),
            consumers=self._held(locks.CONSUMERS_LOCK),
            locks=self._workers,
            sleep=self._sleep,
        )

    def _directories(self) -> list[Finding]:
        found = []
        for name in (*STATES, layout.WORKERS):
            wrong = self._spool.wrong_with(name)
            if wrong is not None:
                missing = not self._spool.exists(name)
                kind = kinds.DIRECTORY_MISSING if missing else kinds.DIRECTORY_FOREIGN
                found.append(Finding(kind, name, detail=wrong))
        return found

    def _writers(self) -> list[Finding]:
        holder = writers.staying(self._database, self._sleep)
        return [Finding(kinds.WRITER_FOREIGN, detail=f"process {holder}")] if holder else []

    def _judge(self, directories: Directories) -> Judge:
        now = self._now()
        putting = self._held(locks.PUT_LOCK)
        return Judge(
            directories,
            dead=_once(self._workers.dead),
            putting=putting,
            abandoned=lambda path: not putting or not in_use(self._spool, path, now),
            latest=latest(self._settings, now),
        )

    def _held(self, lock: str) -> bool:
        """Whether somebody else holds this lock."""
        return not self._alone and locks.held(self._spool.absolute(lock))

    def _at_work(self) -> list[str]:
        present = {
            "flood-watch": put_locks.watching(self._spool),
            "consumers": self._held(locks.CONSUMERS_LOCK),
            "flood-put": self._held(locks.PUT_LOCK),
        }
        return [name for name, alive in present.items() if alive]

    # --- mending ---------------------------------------------------------------------------------

    def _repair(self) -> None:
        report = self._report
        for _ in range(_ROUNDS):
            schema.allow_writing()
            mended = self._mend.run(report.found)
            models.close()
            report.mended += [each for each in mended.done if each.kind.counts]
            self._look()
            report.reasons = dict(mended.left)
            if not mended.done or report.clean:
                return

    def _rebuild(self, stack: ExitStack) -> bool:
        """Replace the database, if nobody else is at work; keep everybody away from then on."""
        report = self._report
        try:
            stack.enter_context(alone(self._spool, self._workers))
        except SpoolLockedError as error:
            report.reasons = dict.fromkeys(report.found, str(error))
            return False
        self._alone = True
        self._spool.prepare()
        report.kept = rebuild(self._spool, self._database, self._queue, self._now())
        report.mended += report.found
        self._look()
        return True


def _once(question: Callable[[str], bool]) -> Callable[[str], bool]:
    """The same question, asked once for each name."""
    answers: dict[str, bool] = {}

    def ask(name: str) -> bool:
        if name not in answers:
            answers[name] = question(name)
        return answers[name]

    return ask
