"""Builds `huey`, the queue on flood's own database."""

import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from functools import partial
from logging import ERROR, INFO, getLogger
from typing import Any, Final, TypeVar

from huey import Huey
from huey.constants import WORKER_PROCESS, WORKER_THREAD
from huey.consumer import Consumer, ConsumerStopped, ProcessEnvironment
from huey.exceptions import HueyException
from huey.registry import Message
from huey.serializer import Serializer
from huey.storage import SqliteStorage

from flood import (
    binding,
    config,
    devices,
    log,
    models,
    parent,
    queries,
    schema,
    startup,
    syscalls,
)
from flood.bell import Bell, ring
from flood.config import Settings
from flood.credentials import Credentials
from flood.errors import ConfigError, FloodError, NoRoomError, SpoolError, SpoolLockedError
from flood.locks import CONSUMERS_LOCK, FileLock
from flood.record_values import TASK_FILES
from flood.rereading import Rereading
from flood.signals import Signals
from flood.spool import Spool
from flood.states import EXIT_INTERRUPTED
from flood.stop import Terminals
from flood.systemd import Systemd

#: How long an idle worker listens before it looks for work that nobody rang for, in seconds.
LISTEN: Final = 2.0

#: How often a consumer looks after its workers if no signal comes, in seconds; and where it is to
#: end by itself.
LOOK: Final = 1.0
LOOK_FOR_END: Final = 0.1

#: How long the signal that huey calls "interrupt" lets attempts end in order, in seconds. It is
#: less than the ten that container runtimes give a process before they kill it.
INTERRUPT_GRACE: Final = 8.0

#: What SQLite says of tables that are gone, or not huey's.
_BROKEN: Final = (
    *("no such table", "no such column", "has no column named"),
    *("because it is a view", "views may not be indexed"),  # as somebody made one of their names
)

#: How long a consumer waits whose database refuses it, in seconds.
TROUBLE_PAUSE: Final = 2.0

#: What flood's tasks consist of: other fields make huey do more than run them.
_FIELDS: Final = frozenset(
    {"id", "name", "eta", "retries", "retry_delay", "priority", "args", "kwargs"}
)
_TYPES: Final = {"id": str, "name": str, "eta": str, "args": list, "kwargs": dict}
_NUMBERS: Final = ("retries", "retry_delay", "priority")
_ARGUMENTS: Final = {"flood.tasks.upload": (str, str, list), "flood.tasks.sweep": ()}
_OPTIONS: Final = {"flood.tasks.upload": {"ring": bool}}

# No time that Python knows is later, nor anything due that SQLite takes for later than a number.
_NEVER: Final = 253402300800.0  # the year 10000

# How soon an interrupt that was lost comes once more, in seconds.
_SOON: Final = 0.1

logger = getLogger("flood.queue")

_T = TypeVar("_T")


def _together(tasks: Iterable[Any]) -> list[Any]:
    """The same tasks, those for one bucket as few as can be: after an outage thousands of files are
    due in one second, and each task takes a turn at the database to come, to go and to claim.

    What was put together rings as well: some of these files may have to go alone.
    """
    kept: list[Any] = []
    last: dict[tuple[str, str, bool], Any] = {}
    for task in tasks:
        if len(task.args) != len(_ARGUMENTS["flood.tasks.upload"]):
            kept.append(task)
            continue
        profile, bucket, ids = task.args
        kind = (profile, bucket, bool(task.kwargs.get("ring")))
        known = last.get(kind)
        if known is not None and len(known.args[2]) + len(ids) <= TASK_FILES:
            known.args = [profile, bucket, [*known.args[2], *ids]]
            known.kwargs = {**known.kwargs, "ring": True}
            continue
        last[kind] = task
        kept.append(task)
    return kept


class JsonSerializer(Serializer):
    """Tasks as JSON, so that reading what somebody put into the queue runs none of it."""

    def _serialize(self, data: Message) -> bytes:
        fields = {name: getattr(data, name) for name in _FIELDS}
        if data.eta is not None:
            fields["eta"] = data.eta.isoformat()
        # A zero is kept: for a task without retries huey's default would be ten of them.
        known = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(known, sort_keys=True).encode()

    def _deserialize(self, data: bytes) -> Message:
        if not isinstance(data, bytes | memoryview):
            raise ValueError("it is no JSON")  # SQLite keeps any type in any column
        try:
            fields = json.loads(bytes(data))
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(fields, dict):
            raise ValueError("it is no message")
        if any(value for name, value in fields.items() if name not in _FIELDS):
            raise ValueError("it asks for more than a task of flood's")
        _check_fields({name: value for name, value in fields.items() if value is not None})
        if fields.get("eta") is not None:
            fields["eta"] = _eta(fields["eta"])
        message = Message(**{name: fields.get(name) for name in _FIELDS})
        _check_arguments(message)
        return message


def _check_fields(fields: Mapping[str, Any]) -> None:
    """Raise ValueError for what would break huey later, with a traceback, or the queue itself."""
    for name, kind in _TYPES.items():
        if not isinstance(fields.get(name, kind()), kind):
            raise ValueError(f"its {name} is none")
    for name in _NUMBERS:
        number = fields.get(name, 0)
        if type(number) is not int or not 0 <= number < 2**31:
            raise ValueError(f"its {name} is none")


def _eta(text: str) -> datetime:
    eta = datetime.fromisoformat(text)
    if eta.tzinfo is not None:
        raise ValueError("its eta has a zone")  # huey compares it with UTC that does not say so
    return eta


def _check_arguments(message: Message) -> None:
    kinds = _ARGUMENTS.get(message.name)
    if kinds is None:
        return  # no task of flood's: the registry of tasks refuses it
    arguments, options = message.args or (), message.kwargs or {}
    fits = len(arguments) == len(kinds) and all(map(isinstance, arguments, kinds))
    allowed = _OPTIONS.get(message.name, {})
    fits = fits and all(isinstance(each, allowed.get(name, ())) for name, each in options.items())
    if not fits:
        raise ValueError("it has other arguments than flood's")
    for ids in arguments[2:]:
        if not all(type(one) is int and 0 < one < 2**63 for one in ids):
            raise ValueError("it names no records")


class FloodStorage(SqliteStorage):
    """Huey's tables, read and written on the connection of flood's own models.

    Whatever is enqueued inside `models.write()` commits with it, and rings the bell after that.
    """

    blocking = True  # dequeue waits by itself; no worker needs to poll

    def __init__(self, name: str = "flood", **options: Any) -> None:
        super().__init__(name, create_tables=False, **options)
        self._bell: Bell | None = None

    @contextmanager
    def db(  # huey's signature; the connection outlives a statement whatever `close` says
        self,
        commit: bool = False,
        close: bool = False,  # noqa: ARG002
    ) -> Iterator[Any]:
        with models.write() if commit else nullcontext():
            cursor = models.connection().cursor()
            try:
                yield cursor
            except sqlite3.DatabaseError as error:
                raise models.DatabaseError(str(error)) from error
            finally:
                cursor.close()

    def close(self) -> None:
        if self._bell is not None:
            self._bell.close()
        models.close()

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        with models.write():
            self._mended(lambda: super(FloodStorage, self).enqueue(data, priority))
            models.database.after_commit(lambda: ring(models.path()))

    def dequeue(self) -> Any:
        if self._bell is None:
            self._bell = Bell(models.path())
        self._bell.listen()
        data = self._mended(super().dequeue)
        if data is None:
            self._bell.wait(LISTEN)  # whoever asked asks again
        return data

    def add_to_schedule(self, data: bytes, ts: datetime) -> None:
        self._mended(lambda: super(FloodStorage, self).add_to_schedule(data, _utc(ts)))

    def read_schedule(self, ts: datetime) -> Any:
        due = self._mended(lambda: self._read_schedule(_utc(ts)))
        return [*due, *self._never_due()]

    def _read_schedule(self, ts: datetime) -> Any:
        # Every consumer asks each second: no turn is waited for that finds nothing.
        due = "select 1 from schedule where queue = ? and timestamp <= ? limit 1"
        if not self.sql(due, (self.name, ts.timestamp()), results=True):
            return []
        return super().read_schedule(ts)

    def _never_due(self) -> list[Any]:
        """What somebody put into the schedule for no time at all, which would stay for ever."""
        never = (self.name, _NEVER)
        where = "queue = ? and timestamp > ?"
        if not self.sql(f"select 1 from schedule where {where} limit 1", never, results=True):
            return []
        with self.db(commit=True) as cursor:
            found = cursor.execute(f"select data from schedule where {where}", never).fetchall()
            cursor.execute(f"delete from schedule where {where}", never)
        return [row[0] for row in found]

    def of_priority(self, priority: float) -> list[bytes]:
        """The tasks of exactly this priority that wait in the queue."""
        rows = self._mended(
            lambda: self.sql(
                "select data from task where queue = ? and priority = ?",
                (self.name, priority),
                results=True,
            )
        )
        return [row[0] for row in rows]

    def _mended(self, call: Callable[[], _T]) -> _T:
        """The call's result, after making the queue's tables anew if somebody broke them: nothing
        that they hold is needed."""
        try:
            return call()
        except models.DatabaseError as error:
            if not any(words in str(error) for words in _BROKEN):
                raise
            logger.warning("the queue's tables are made anew: %s", error)
        self.make_anew()
        return call()

    def initialize_schema(self) -> None:
        """Make the queue's tables where they are missing."""
        self._mended(super().initialize_schema)

    def make_anew(self) -> None:
        """Replace the queue's tables, and views of their names, by empty ones."""
        with self.db(commit=True) as cursor:
            found = cursor.execute(
                "select type, name from sqlite_master where type in ('table', 'view')"
                " and name collate nocase in ('task', 'schedule', 'kv', 'counter')"
            ).fetchall()
            for kind, name in found:
                cursor.execute(f"drop {kind} {name}")
        super().initialize_schema()


def _utc(moment: datetime) -> datetime:
    # huey hands over naive UTC, whose timestamp() would be taken as local time.
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


class TiedProcesses(ProcessEnvironment):
    """Worker processes that end when the consumer that forked them is killed."""

    def init_child(self, process: Any) -> None:
        # SIGTERM would not do: huey's handler ignores it in a worker that is idle.
        consumer = multiprocessing.parent_process()
        parent.tie(str(consumer.pid if consumer else os.getppid()), signal.SIGKILL)
        super().init_child(process)
        sys.unraisablehook = partial(_interrupt_again, self.interrupt, sys.unraisablehook)


def _interrupt_again(number: int, otherwise: Callable[[Any], None], unraisable: Any) -> None:
    """An interrupt that came while no exception could be raised, as in a callback of the garbage
    collector, is lost with a traceback: let it come once more, a moment later."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        otherwise(unraisable)
        return
    again = threading.Timer(_SOON, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


class FloodConsumer(Consumer):
    """huey's consumer, whose interrupting signal lets attempts end in order too, and which reads
    the credentials again on SIGHUP, where huey's would start itself anew.

    `over` is asked every LOOK_FOR_END seconds whether the consumer is to end by itself.
    """

    def __init__(
        self, huey: "FloodHuey", *, over: Callable[[], bool] | None = None, **options: Any
    ) -> None:
        super().__init__(huey, **options)
        self._over = over
        self._tick = LOOK if over is None else LOOK_FOR_END
        # huey wakes ten times a second to see whether a signal came.
        self._stop_flag_timeout = 0.0
        self._signals = Signals()
        self._terminals = Terminals()
        # What ends by itself ends with it; so does what was started in a terminal that is closed.
        self._signal_actions[signal.SIGHUP] = (False, False)
        self._systemd = Systemd(clock=time.monotonic)

    @property
    def interrupted(self) -> bool:
        """Whether a signal has ended it."""
        return self._signum is not None

    def get_environment(self, worker_type: str) -> Any:
        if worker_type == WORKER_PROCESS:
            return TiedProcesses(self._graceful_sig, self._interrupt_sig)
        return super().get_environment(worker_type)

    def _handle_signal(self, signum: int, frame: Any) -> None:
        if signum == signal.SIGHUP and self._over is None and not self._terminals.gone():
            self.huey.rereading.ask()
        else:
            super()._handle_signal(signum, frame)

    def start(self) -> None:
        # huey sets its handlers last; until then a signal would end in a traceback.
        self._set_signal_handlers()
        self._signals.heed()
        super().start()
        self._systemd.ready()
        log.event(
            logger, INFO, "ready", pid=os.getpid(), workers=self.workers, kind=self.worker_type
        )

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._signals.close()

    def loop(self, health_check_ts: float | None = None) -> float | None:
        self._systemd.alive()
        self._signals.wait(self._tick)
        checked: float | None = super().loop(health_check_ts)
        if self.huey.rereading.asked:
            self.huey.rereading.look()
        if self._over is not None and self._over():
            self.stop()
            raise ConsumerStopped
        return checked

    def stop(self, graceful: bool = False) -> None:
        self.stop_flag.set()
        ring(models.path())  # whoever is idle listens for as long as LISTEN
        if not graceful and not self.environment.forks:
            self.shutdown_timeout = INTERRUPT_GRACE
            self._join_workers()
        super().stop(graceful)


class FloodHuey(Huey):
    """huey, which reads flood's settings when a consumer is created."""

    settings: Settings
    spool_id: str | None = None
    rereading: Rereading
    consumer: FloodConsumer | None = None
    _alive: FileLock | None = None
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
        self.consumer = FloodConsumer(self, **options)
        return self.consumer

    def prepare(self, environ: Mapping[str, str]) -> None:
        """Read settings, set logging up, then all that `set_up` does; raises FloodError."""
        parent.end_with(environ)
        settings = config.from_environment(environ, files=parent.VARIABLE not in environ)
        log.configure(settings.log_level, settings.log_format)
        self.set_up(settings, environ)
        if parent.VARIABLE not in environ:  # flood-watch says it for its children
            startup.warn(settings)

    def set_up(
        self, settings: Settings, environ: Mapping[str, str], *, sweeps: bool = True
    ) -> None:
        """Read the credentials, bring the database up to date, be known as a consumer; one that
        `sweeps` does so at once, whenever the last sweep was.

        Raises FloodError. Afterwards this thread has no connection open, so that huey may fork.
        """
        syscalls.raise_descriptor_limit()
        self.settings = settings
        startup.announce(settings, environ)
        found = startup.read_credentials(self.settings, environ)
        self.rereading = Rereading(found, clock=time.monotonic, now=time.time)
        models.be_brief_when(self.stopping)
        spool, database = Spool(self.settings.server_directory), self.settings.database
        compare = partial(binding.compare, spool.root, database, create=False)
        schema.migrate(database, create=False, check=compare)
        try:
            now = datetime.now(timezone.utc)
            self.spool_id = binding.bind(spool, database, create=False, now=now)
            devices.follow(spool)
            self._announce_itself()
            self.storage.initialize_schema()
            if sweeps:
                queries.ask_for_sweep()
        except (models.DatabaseError, OSError) as error:
            kind = NoRoomError if models.no_room(error) else SpoolError
            raise kind(
                f"cannot write to the database {database}: {models.explain(error)}"
            ) from error
        finally:
            models.close()

    def _announce_itself(self) -> None:
        """Hold the consumers' lock until this process ends, with all that it forks."""
        # Where the database is made anew, whoever still had the old one open would write to that.
        alive = FileLock(Spool(self.settings.server_directory).absolute(CONSUMERS_LOCK))
        try:
            free = alive.patiently(alive.try_shared)
        except OSError as error:
            kind = NoRoomError if models.no_room(error) else SpoolError
            advice = "; give this user write access to it"
            told = f"{error.strerror}{advice if isinstance(error, PermissionError) else ''}"
            raise kind(f"cannot lock {alive.path}: {told}") from error
        if not free:
            raise SpoolLockedError(
                f"flood-fsck repairs {self.settings.server_directory}: start this again afterwards"
            )
        self._alive = alive

    def busy(self) -> bool:
        """Whether this process is at a task."""
        return bool(self._tasks_in_flight)

    def stopping(self) -> bool:
        """Whether the consumer was told to stop."""
        return self.consumer is not None and bool(self.consumer.stop_flag.is_set())

    def dequeue(self) -> Any:
        """The next task; one that flood did not write is dropped with a line in the log."""
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

    def read_schedule(self, timestamp: Any = None) -> Any:
        """The tasks whose time has come, those of one bucket together; none while the database
        refuses."""
        try:
            found = self.storage.read_schedule(timestamp or self._get_timestamp())
        except models.DatabaseError as error:
            self._trouble(error)
            return []
        return _together([task for data in found if (task := self._task(data)) is not None])

    def _trouble(self, error: Exception) -> None:
        """Say once that the database refuses, then wait."""
        if not self._in_trouble:
            self._in_trouble = True
            log.event(
                logger,
                ERROR,
                "cannot use the queue",
                reason=models.explain(error),
                next="tried again every two seconds",
            )
        self.rest()

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
