"""Builds `huey`, the queue on flood's own database."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import partial
from logging import ERROR, INFO, getLogger
from typing import Any

from huey import Huey
from huey.constants import WORKER_PROCESS, WORKER_THREAD
from huey.exceptions import HueyException
from huey.signals import SIGNAL_INTERRUPTED

from flood import (
    binding,
    config,
    devices,
    log,
    models,
    opening,
    parent,
    queries,
    read_only,
    schema,
    startup,
    syscalls,
)
from flood.config import Settings
from flood.credentials import Credentials
from flood.errors import ConfigError, FloodError, SpoolError, SpoolLockedError
from flood.fsck_kinds import as_given
from flood.locks import CONSUMERS_LOCK, STARTING_LOCK, FileLock
from flood.patience import TROUBLE_PAUSE, patiently
from flood.queue_consumer import FloodConsumer
from flood.queue_messages import JsonSerializer, together
from flood.queue_storage import FloodStorage
from flood.rereading import Rereading
from flood.spool import Spool
from flood.states import EXIT_INTERRUPTED
from flood.stop import Terminals

logger = getLogger("flood.queue")


class FloodHuey(Huey):
    """huey, which reads flood's settings when a consumer is created."""

    settings: Settings
    spool_id: str | None = None
    rereading: Rereading
    consumer: FloodConsumer | None = None
    _alive: FileLock | None = None
    #: Whether this process waits until a full disk has room again.
    waits_for_room = True
    #: Whether its sweeps abort what is left in stores; who ends by itself does so at its end.
    clears = True
    #: What was refused for want of room, for who does not wait.
    without_room: Exception | None = None
    #: What a consumer with so many worker threads calls once a second.
    look_after: Callable[[int], None] = staticmethod(lambda _workers: None)
    # What a worker does before it asks for a task, however long there is none.
    _look: Callable[[], object] = staticmethod(lambda: None)
    _in_trouble = False

    @property
    def credentials(self) -> Credentials:
        """Those that count now."""
        return self.rereading.credentials

    def create_consumer(self, **options: Any) -> FloodConsumer:
        """Check everything in the main thread, before any worker starts; a wrong setting is one
        line on stderr and exit status 2."""
        try:
            if options.get("worker_type") not in (None, WORKER_THREAD, WORKER_PROCESS):
                raise ConfigError("flood's workers are threads or processes: use -k thread")
            if options.get("workers", 1) < 1:
                raise ConfigError("a consumer without workers does nothing: give -w 1 or more")
            self.prepare(os.environ)
        except FloodError as error:
            log.fatal("huey_consumer", str(error))
            raise SystemExit(error.exit_status) from None
        except KeyboardInterrupt:
            log.fatal("huey_consumer", "interrupted while it was starting")
            raise SystemExit(EXIT_INTERRUPTED) from None
        self.consumer = FloodConsumer(self, rereading=self.rereading, **options)
        return self.consumer

    def prepare(self, environ: Mapping[str, str]) -> None:
        """Read settings, set logging up, then all that `set_up` does, once disk and database let
        it; raises FloodError."""
        parent.end_with(environ)
        settings = config.from_environment(environ, files=parent.VARIABLE not in environ)
        log.configure(settings.log_level, settings.log_format)
        self._read(settings, environ)
        models.be_brief_when(self.stopping)
        # The consumer heeds SIGHUP once it starts, for which disk or database may keep it waiting.
        terminals = Terminals()
        signal.signal(signal.SIGHUP, lambda *_: self._hung_up(terminals))
        try:
            with self._starting():
                patiently(
                    partial(self._open, sweeps=True),
                    rest=self._leave,
                    stopping=self.stopping,
                    logger=logger,
                )
        except SpoolError as error:
            raise SpoolError(as_given(str(error), config.from_flags(settings))) from error
        if parent.VARIABLE not in environ:  # flood-watch says it for its children
            startup.warn(settings)

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Inside, whoever misses consumers can see that this one has been started. Nothing depends
        on it but what they say, so that no failure of it is told."""
        spool = Spool(self.settings.server_directory)
        lock = FileLock(spool.absolute(STARTING_LOCK))
        with suppress(OSError):
            if spool.present():
                lock.patiently(lock.try_shared)
        try:
            yield
        finally:
            lock.release()

    def _hung_up(self, terminals: Terminals) -> None:
        if terminals.gone():
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.raise_signal(signal.SIGHUP)
        self.rereading.ask()

    def set_up(
        self, settings: Settings, environ: Mapping[str, str], *, sweeps: bool = True
    ) -> None:
        """Read the credentials, bring the database up to date, be known as a consumer; one that
        `sweeps` does so at once, whenever the last sweep was.

        Raises FloodError. Afterwards this thread has no connection open, so that huey may fork.
        """
        self._read(settings, environ)
        self._open(sweeps=sweeps)

    def _read(self, settings: Settings, environ: Mapping[str, str]) -> None:
        syscalls.raise_descriptor_limit()
        self.settings = settings
        startup.announce(settings, environ)
        found = startup.read_credentials(self.settings, environ)
        self.rereading = Rereading(found, clock=time.monotonic, now=time.time)
        self._look = self.rereading.look

    def _open(self, *, sweeps: bool) -> None:
        spool, database = Spool(self.settings.server_directory), self.settings.database
        compare = partial(binding.compare, spool.root, database, create=False)
        binding.check_there(spool.root, database)
        schema.migrate(database, create=False, server_directory=spool.root, check=compare)
        try:
            now = datetime.now(timezone.utc)
            self.spool_id = binding.bind(spool, database, create=False, now=now)
            devices.follow(spool)
            spool.check_workers()
            self._announce_itself()
            self.storage.initialize_schema()
            if sweeps:
                queries.ask_for_sweep()
        except (models.DatabaseError, OSError) as error:
            told = f"cannot write to the database {database}: {models.explain(error)}"
            raise opening.kind(error)(told) from error
        finally:
            models.close()

    def _announce_itself(self) -> None:
        """Hold the consumers' lock until this process ends, with all that it forks."""
        # Where the database is made anew, whoever still had the old one open would write to that.
        alive = FileLock(Spool(self.settings.server_directory).absolute(CONSUMERS_LOCK))
        try:
            free = alive.patiently(alive.try_shared)
        except OSError as error:
            if read_only.refused(error, alive.path):
                raise read_only.told(f"cannot lock {alive.path}") from error
            advice = "; give this user write access to it"
            told = f"{error.strerror}{advice if isinstance(error, PermissionError) else ''}"
            raise opening.kind(error)(f"cannot lock {alive.path}: {told}") from error
        if not free:
            raise SpoolLockedError(
                f"flood-fsck repairs {self.settings.server_directory}: start this again afterwards"
            )
        self._alive = alive

    def _leave(self) -> None:
        """Let a repair have the database, then wait for the next try to open it."""
        if self._alive is not None:
            self._alive.release()
        models.close()
        time.sleep(TROUBLE_PAUSE)

    def busy(self) -> bool:
        """Whether this process is at a task."""
        return bool(self._tasks_in_flight)

    def stopping(self) -> bool:
        """Whether the consumer was told to stop."""
        return self.consumer is not None and bool(self.consumer.stop_flag.is_set())

    def notify_interrupted_tasks(self) -> None:
        """Once for all of them: whoever hears it lets go of all that this process has claimed."""
        interrupted = list(self._tasks_in_flight)
        self._tasks_in_flight.clear()
        for task in interrupted[:1]:
            self._emit(SIGNAL_INTERRUPTED, task)

    def dequeue(self) -> Any:
        """The next task; one that flood did not write is dropped with a line in the log."""
        # Else an idle worker would miss good credentials that wrong ones have followed.
        self._look()
        try:
            data = self.storage.dequeue()
        except models.DatabaseError as error:
            self._trouble(error)
            return None
        if data is None:
            return None  # an empty queue can be read while it cannot be written to
        self._well()
        return self._task(data)

    def _task(self, data: Any) -> Any:
        try:
            return self.deserialize_task(data)
        except (ValueError, TypeError, AttributeError, HueyException) as error:
            log.event(logger, ERROR, "dropped a task that is none of flood's", reason=str(error))
            return None

    def enqueue(self, task: Any) -> Any:
        """Enqueue a task; one that the database refuses is left to the sweep, unless it was to
        commit together with rows."""
        try:
            return super().enqueue(task)
        except models.DatabaseError as error:
            if models.database.in_transaction():
                raise
            self._trouble(error)
            return None

    def enqueue_together(self, tasks: Sequence[Any]) -> None:
        """Enqueue tasks in one transaction; those that the database refuses may come again."""
        try:
            with models.write():
                for task in tasks:
                    super().enqueue(task)
        except models.DatabaseError as error:
            if not self.ends_with(error):
                self._tell_trouble(error)

    def read_schedule(self, timestamp: Any = None) -> Any:
        """The tasks whose time has come, those of one bucket together; none while the database
        refuses."""
        try:
            found = self.storage.read_schedule(timestamp or self._get_timestamp())
        except models.DatabaseError as error:
            self._trouble(error)
            return []
        return together([task for data in found if (task := self._task(data)) is not None])

    def _trouble(self, error: Exception) -> None:
        """Say once that the database refuses, then wait."""
        if not self.ends_with(error):
            self._tell_trouble(error)
            self.rest()

    def _tell_trouble(self, error: Exception) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            log.event(
                logger,
                ERROR,
                "cannot use the queue",
                reason=models.explain(error),
                next="tried again every two seconds",
            )

    def ends_with(self, error: Exception) -> bool:
        """Whether this process is to end, as it does not wait for the room that was lacking."""
        if self.waits_for_room or not models.no_room(error):
            return False
        self.without_room = error
        return True

    def rest(self, seconds: float = TROUBLE_PAUSE) -> None:
        """Wait before the next try at what disk or database have refused, or for the stop."""
        if self.consumer is not None:
            self.consumer.stop_flag.wait(seconds)

    def _well(self) -> None:
        if self._in_trouble:
            self._in_trouble = False
            log.event(logger, INFO, "the queue can be used again")

    # Nothing revokes flood's tasks, so the look-ups that huey makes for each are saved.
    def is_revoked(self, *_task: Any, **_options: Any) -> bool:
        return False

    def delete(self, *_key: Any) -> bool:
        return False


huey = FloodHuey(
    "flood",
    storage_class=FloodStorage,
    serializer=JsonSerializer(),
    results=False,
    store_none=False,
    utc=True,
)
