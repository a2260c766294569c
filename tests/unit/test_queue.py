"""The queue on flood's own database."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from huey.api import Task
from huey.registry import Message
from huey.signals import SIGNAL_INTERRUPTED
from hypothesis import given
from hypothesis import strategies as st

from flood import (
    binding,
    config,
    fsck_queries,
    models,
    queue_consumer,
    queue_storage,
    tasks,
)
from flood.bell import Bell
from flood.queue_messages import JsonSerializer
from flood.queue_storage import FloodStorage
from flood.record_values import TASK_FILES
from huey_config import FloodHuey, huey
from tests.servers import credentials_section
from tests.spooling import START, House, fork

names = st.binary(min_size=1, max_size=40).map(os.fsdecode)
messages = st.builds(
    Message,
    id=st.uuids().map(str),
    name=st.just("flood.tasks.upload"),
    eta=st.none() | st.datetimes(),
    retries=st.integers(0, 10),
    priority=st.none() | st.integers(0, 10),
    args=st.tuples(names, names, st.lists(st.integers(1, 2**62))),
    kwargs=st.dictionaries(st.just("ring"), st.booleans()),
)


UPLOAD = {"id": "x", "name": "flood.tasks.upload", "args": ["p", "b", [1]], "kwargs": {}}

#: Fields that look like those of flood's tasks, but for which huey has no use.
WRONG: list[tuple[str, Any]] = [
    ("id", [1]),
    ("id", 5),
    ("name", None),
    ("eta", "2020-01-01T00:00:00+00:00"),
    ("eta", "9999-12-31T23:59:59.999999-14:00"),
    *((name, x) for name in ("retries", "retry_delay", "priority") for x in ("x", -1, True, [1])),
    *((name, x) for name in ("retries", "retry_delay", "priority") for x in (1.5, 10**30)),
    ("args", {"p": 1, "b": 2, "c": 3}),
    ("args", ["p", "b", [2**63]]),
    ("kwargs", ["ring"]),
    ("kwargs", {"ring": "x"}),
    ("kwargs", {"context": True}),
]


@pytest.fixture
def queue(house: House) -> Iterator[FloodHuey]:
    """A queue of this test alone, as the bell of one belongs to one database."""
    made = FloodHuey(
        "test",
        storage_class=FloodStorage,
        serializer=JsonSerializer(),
        results=False,
        utc=True,
    )
    made.task(name="note", retries=10)(lambda *_arguments: None)
    yield made
    made.storage.close()


def note(queue: FloodHuey, *arguments: Any, **options: Any) -> Task:
    kind = queue._registry.string_to_task(f"{__name__}.note")
    return kind(arguments, **options)


# --- what a task looks like --------------------------------------------------------------------


@given(messages)
def test_tasks_come_back_as_they_were(message: Message) -> None:
    serializer = JsonSerializer()
    data = serializer.serialize(message)
    data.decode("ascii")
    again = serializer.deserialize(data)
    assert again._replace(args=tuple(again.args)) == message
    assert serializer.deserialize(memoryview(data)) == again


@given(st.binary())
def test_other_bytes_are_refused_not_run(data: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        JsonSerializer().deserialize(data)


def test_flood_tasks_have_what_they_were_given(house: House) -> None:
    name = os.fsdecode(b"caf\xe9")
    tasks.enqueue(name, name, [3, 1, 2])
    tasks.enqueue_ring("p", "b")
    first, second = huey.dequeue(), huey.dequeue()
    assert (first.args, first.kwargs, first.retries) == (["p", "b", []], {"ring": True}, 10)
    assert (second.args, second.kwargs, second.retries) == ([name, name, [3, 1, 2]], {}, 10)
    assert huey.storage.of_priority(tasks.RING_PRIORITY) == []


@pytest.mark.parametrize("left", [0, 9])
def test_a_retry_is_scheduled_with_what_is_left(house: House, left: int) -> None:
    due = START + timedelta(seconds=30.25)
    tasks.enqueue_retry(7, "p", "b", due, left)
    assert huey.read_schedule(naive(due) - timedelta(milliseconds=1)) == []
    [task] = huey.read_schedule(naive(due))
    assert (task.args, task.retries, task.eta) == (["p", "b", [7]], left, naive(due))
    assert huey.ready_to_run(task, naive(due))
    assert huey.storage.schedule_size() == 0


def test_what_is_due_together_shares_tasks(house: House) -> None:
    """After an outage thousands of files are due in one second."""
    last = 5 * TASK_FILES // 2
    for number in range(1, last):
        tasks.enqueue_retry(number, "p", "b" if number % 5 else "c", START, 9)
    for _ in range(3):
        tasks.enqueue_late_ring("p", "b", START)
    tasks.enqueue_retry(last, "p", "d", START, 9)
    found = huey.read_schedule(naive(START))
    assert sorted(
        (one.args[1], len(one.args[2]), bool(one.kwargs.get("ring"))) for one in found
    ) == [
        ("b", 0, True),
        ("b", last - 1 - (last - 1) // 5 - TASK_FILES, True),
        ("b", TASK_FILES, True),
        ("c", (last - 1) // 5, True),
        ("d", 1, False),
    ]
    named = [number for one in found for number in one.args[2]]
    assert sorted(named) == list(range(1, last + 1))
    counts = sorted(len(one.args[2]) for one in found)
    for one in found:
        huey.enqueue(one)
    assert sorted(len(huey.dequeue().args[2]) for _ in found) == counts


def test_nobody_waits_for_a_turn_that_finds_nothing(house: House) -> None:
    asked: list[str] = []
    models.connection().set_trace_callback(asked.append)
    assert huey.read_schedule(naive(START)) == []
    assert huey.storage.dequeue() is None
    models.connection().set_trace_callback(None)
    assert not [sql for sql in asked if not sql.lower().startswith("select")]


def naive(moment: datetime) -> datetime:
    """As huey has its times: UTC that does not say so."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None)


def test_a_sweep_goes_first_then_rings_then_uploads(house: House) -> None:
    tasks.enqueue("p", "b", [1])
    tasks.enqueue_ring("p", "b")
    huey.enqueue(tasks.sweep.s())
    assert len(huey.storage.of_priority(tasks.RING_PRIORITY)) == 1
    assert [huey.dequeue().name for _ in range(3)] == ["sweep", "upload", "upload"]


# --- what is none of flood's -------------------------------------------------------------------


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"5",
        b'{"name": "os.system", "args": ["true"]}',
        b'{"name": ["upload"]}',
        b'{"name": "x", "eta": 5}',
        b'{"name": "flood.tasks.upload", "on_complete": {"name": "flood.tasks.upload"}}',
        b'{"name": "flood.tasks.upload", "eta": "tomorrow"}',
        b'{"name": "flood.tasks.sweep", "args": {}, "kwargs": []}',
        b'{"name": "flood.tasks.sweep", "kwargs": {"ring": true}}',
        *(json.dumps(UPLOAD | {name: value}).encode() for name, value in WRONG),
    ],
)
def test_foreign_tasks_are_dropped_with_a_line(
    house: House, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    huey.storage.enqueue(data, 0)
    tasks.enqueue("p", "b", [1])
    assert huey.dequeue() is None
    assert huey.dequeue().args == ["p", "b", [1]]
    assert [one.levelname for one in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("name_value", WRONG, ids=str)
def test_foreign_tasks_of_the_schedule_are_dropped_too(
    house: House, name_value: tuple[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    data = json.dumps(UPLOAD | dict([name_value])).encode()
    huey.storage.add_to_schedule(data, naive(START))
    assert huey.read_schedule(naive(START)) == []
    assert [one.getMessage() for one in caplog.records] == [
        "dropped a task that is none of flood's"
    ]


@pytest.mark.parametrize("moment", ["'abc'", "x'00'", "9e999"])
def test_what_is_scheduled_for_no_time_does_not_stay(house: House, moment: str) -> None:
    tasks.enqueue_retry(7, "p", "b", START + timedelta(days=1), 9)
    models.execute(
        "INSERT INTO schedule (queue, data, timestamp) "
        f"VALUES ('flood', x'00', {moment}), ('flood', CAST(? AS BLOB), {moment})",
        (json.dumps(UPLOAD),),
    )
    [task] = huey.read_schedule(naive(START))
    assert task.args == ["p", "b", [1]]
    assert huey.storage.schedule_size() == 1
    assert huey.read_schedule(naive(START)) == []


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff", 10**15, "text", b'{"name": 5}'])
def test_flood_fsck_counts_them_whatever_they_are(house: House, data: Any) -> None:
    models.execute("INSERT INTO task (queue, data, priority) VALUES ('flood', ?, 0)", (data,))
    assert fsck_queries.tasks(START).foreign == 1


def test_a_pickle_is_never_opened(house: House, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    bomb = pickle.dumps(Message(name="flood.tasks.upload", args=(Bomb(str(canary)),)))
    huey.storage.enqueue(bomb, 0)
    assert huey.dequeue() is None
    huey.storage.add_to_schedule(bomb, naive(START))
    assert huey.read_schedule(naive(START)) == []
    assert not canary.exists()
    pickle.loads(bomb)  # noqa: S301  it is one indeed
    assert canary.exists()


# --- transactions ------------------------------------------------------------------------------


def test_tasks_are_undone_with_their_rows(house: House) -> None:
    def write(fails: bool) -> None:
        with models.write():
            tasks.enqueue("p", "b", [1])
            tasks.enqueue_retry(1, "p", "b", START, 9)
            if fails:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(fails=True)
    assert (huey.storage.queue_size(), huey.storage.schedule_size()) == (0, 0)
    write(fails=False)
    assert (huey.storage.queue_size(), huey.storage.schedule_size()) == (1, 1)


def test_the_bell_rings_after_the_commit(house: House) -> None:
    bell = Bell(house.database)
    bell.listen()

    def rung() -> bool:
        began = time.monotonic()
        bell.wait(0.2)
        return time.monotonic() - began < 0.15

    try:
        with models.write():
            tasks.enqueue("p", "b", [1])
            assert not rung()
        assert rung()
        with pytest.raises(KeyboardInterrupt):
            _enqueue_then_fail()
        assert not rung()
    finally:
        bell.close()


def _enqueue_then_fail() -> None:
    with models.write():
        tasks.enqueue("p", "b", [1])
        raise KeyboardInterrupt


def test_every_task_is_taken_once(house: House, queue: FloodHuey) -> None:
    """By two processes with two threads each."""
    for number in range(120):
        queue.enqueue(note(queue, "p", "b", [number]))
    models.execute("CREATE TABLE taken (id INTEGER)")

    def work() -> None:
        while (data := queue.storage.dequeue()) is not None:
            task = queue.serializer.deserialize(data)
            with models.write():
                models.execute("INSERT INTO taken VALUES (?)", (task.args[2][0],))
        queue.storage.close()

    def work_twice() -> None:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    child = fork()
    if child == 0:
        try:
            work_twice()
        finally:
            os._exit(0)
    work_twice()
    os.waitpid(child, 0)
    taken = [row[0] for row in models.execute("SELECT id FROM taken").fetchall()]
    assert sorted(taken) == list(range(120))


def test_tables_that_somebody_altered_are_made_anew(queue: FloodHuey) -> None:
    tomorrow = START.replace(tzinfo=None) + timedelta(days=1)  # as huey has its times
    queue.storage.initialize_schema()
    for table in ("task", "schedule"):
        models.execute(f"DROP TABLE {table}")
        models.execute(f"CREATE TABLE {table} (x)")
    queue.enqueue(note(queue, 1))
    queue.add_schedule(note(queue, 2, eta=START.replace(tzinfo=None)))
    taken = queue.dequeue()
    assert taken is not None
    assert list(taken.args) == [1]
    assert len(queue.read_schedule(tomorrow)) == 1


@pytest.mark.parametrize("first", ["start", "enqueue"])
@pytest.mark.parametrize("where", ["elsewhere", "nowhere"])
def test_views_in_the_place_of_tables_are_replaced(
    queue: FloodHuey, first: str, where: str
) -> None:
    queue.storage.initialize_schema()
    models.execute("ALTER TABLE task RENAME TO elsewhere")
    models.execute(f"CREATE VIEW task AS SELECT * FROM {where}")
    if first == "start":
        queue.storage.initialize_schema()
    queue.enqueue(note(queue, 1))
    assert list(queue.dequeue().args) == [1]


def test_a_database_that_refuses_is_said_once(
    queue: FloodHuey, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    tomorrow = START.replace(tzinfo=None) + timedelta(days=1)
    queue.storage.initialize_schema()
    models.close()
    models.bind(os.path.dirname(house.database))  # a directory is no database
    for _ in range(3):
        assert queue.read_schedule(tomorrow) == []
    assert [one.getMessage() for one in caplog.records].count("cannot use the queue") == 1


def test_a_task_that_the_database_refuses_is_left_to_the_sweep_but_never_parted_from_its_rows(
    queue: FloodHuey, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    models.execute(
        "CREATE TRIGGER refuses BEFORE INSERT ON task BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    for number in range(2):
        assert queue.enqueue(note(queue, number)) is None
    assert [one.getMessage() for one in caplog.records] == ["cannot use the queue"]
    models.execute("CREATE TABLE rows (id)")

    def together() -> None:
        with models.write():
            models.execute("INSERT INTO rows VALUES (1)")
            queue.enqueue(note(queue, 3))

    with pytest.raises(models.DatabaseError, match="refused"):
        together()
    assert models.execute("SELECT count(*) FROM rows").fetchone() == (0,)
    models.execute("DROP TRIGGER refuses")
    queue.enqueue(note(queue, 4))
    assert list(queue.dequeue().args) == [4]


def test_tasks_that_go_together_all_do_or_none(
    queue: FloodHuey, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    models.execute(
        "CREATE TRIGGER refuses BEFORE INSERT ON task WHEN (SELECT count(*) FROM task) "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    both = [note(queue, number) for number in range(2)]
    for _ in range(2):
        queue.enqueue_together(both)
    assert queue.storage.queue_size() == 0
    assert [one.getMessage() for one in caplog.records] == ["cannot use the queue"]
    models.execute("DROP TRIGGER refuses")
    queue.enqueue_together(both)
    assert queue.storage.queue_size() == 2


def test_of_interrupted_tasks_is_told_once(queue: FloodHuey) -> None:
    """Who hears it may have to wait for another program, each time."""
    heard = []
    queue.signal(SIGNAL_INTERRUPTED)(lambda *told: heard.append(told))
    for number in range(3):
        queue._tasks_in_flight.add(note(queue, number))
    for _ in range(2):
        queue.notify_interrupted_tasks()
    assert len(heard) == 1
    assert not queue.busy()


@pytest.mark.parametrize("call", ["enqueue", "dequeue", "schedule", "read", "priority"])
def test_tables_that_were_dropped_are_made_anew(
    house: House, queue: FloodHuey, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    for table in ("kv", "schedule", "task", "counter"):
        models.execute(f"DROP TABLE {table}")
    if call == "enqueue":
        with models.write():
            queue.enqueue(note(queue, "a"))
        assert queue.dequeue().args == ["a"]
    elif call == "dequeue":
        assert queue.dequeue() is None
    elif call == "schedule":
        queue.add_schedule(note(queue, eta=naive(START)))
        assert queue.scheduled_count() == 1
    elif call == "read":
        assert queue.read_schedule(naive(START)) == []
    else:
        assert queue.storage.of_priority(1) == []
    assert [one.name for one in caplog.records if one.levelname == "WARNING"] == ["flood.queue"]


# --- waiting -----------------------------------------------------------------------------------


def test_an_idle_worker_hears_of_new_work_at_once(house: House, queue: FloodHuey) -> None:
    """huey's own polling would let ten seconds pass."""
    got: list[float] = []
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            if queue.dequeue() is not None:
                got.append(time.monotonic())
        queue.storage.close()

    thread = threading.Thread(target=work)
    thread.start()
    delays = []
    try:
        for number in range(5):
            time.sleep(0.05)  # by now it listens again
            sent = time.monotonic()
            queue.enqueue(note(queue, number))
            while len(got) == number:
                assert time.monotonic() - sent < 10.0
                time.sleep(0.001)
            delays.append(got[-1] - sent)
    finally:
        done.set()
        thread.join()
    assert min(delays) < 0.2
    assert sorted(delays)[2] < 0.5


def test_without_work_it_listens_then_comes_back(
    queue: FloodHuey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_storage, "LISTEN", 0.4)
    began = time.monotonic()
    assert queue.dequeue() is None
    assert 0.4 <= time.monotonic() - began < 5.0


def set_up(house: House, queue: FloodHuey, credentials: Path) -> None:
    credentials.write_text(credentials_section("one", "http://127.0.0.1:9"))
    credentials.chmod(0o600)
    environ = {
        "HOME": "/nowhere",
        "FLOOD_SERVER_DIRECTORY": house.spool.root,
        "FLOOD_DATABASE": house.database,
        "FLOOD_CREDENTIALS": str(credentials),
    }
    queue.set_up(config.from_environment(environ), environ)


def test_a_worker_without_work_learns_of_new_credentials(
    house: House, queue: FloodHuey, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    set_up(house, queue, file)
    file.write_text(credentials_section("two", "http://127.0.0.1:9"))
    deadline = time.monotonic() + 30
    while list(queue.credentials.profiles) != ["two"]:
        assert queue.dequeue() is None
        assert time.monotonic() < deadline


@pytest.mark.parametrize(("asked", "looks"), [(1, queue_consumer.SCHEDULE), (5, 5)])
def test_the_schedule_is_looked_at_as_often_as_short_pauses_need(
    house: House, queue: FloodHuey, tmp_path: Path, asked: int, looks: float
) -> None:
    set_up(house, queue, tmp_path / "credentials")
    consumer = queue_consumer.FloodConsumer(
        queue, rereading=queue.rereading, workers=1, scheduler_interval=asked
    )
    assert consumer._create_scheduler().interval == looks


# --- time zones --------------------------------------------------------------------------------

SCHEDULE = """
import sys
from datetime import datetime, timedelta, timezone
from flood import binding, models, tasks
from huey_config import huey
models.bind(sys.argv[1])
hour = timedelta(hours=1)
for change in (datetime(2026, 3, 29, 1), datetime(2026, 10, 25, 1)):
    for minutes in range(-180, 181, 20):
        naive = change + timedelta(minutes=minutes)
        due = naive.replace(tzinfo=timezone.utc)
        tasks.enqueue_retry(1, "p", "b", due, 5)
        assert huey.read_schedule(naive - timedelta(seconds=1)) == [], due
        [task] = huey.read_schedule(naive)
        assert task.eta == naive, due
        huey.add_schedule(task)
        [[stored]] = models.execute("SELECT timestamp FROM schedule").fetchall()
        assert stored == due.timestamp(), due
        huey.storage.flush_schedule()
models.close()
"""


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_retries_are_due_at_the_right_instant_around_clock_changes(house: House, zone: str) -> None:
    models.close()
    subprocess.run(
        [sys.executable, "-W", "error", "-c", SCHEDULE, house.database],
        env={**os.environ, "TZ": zone},
        check=True,
    )


# --- the start of a consumer -------------------------------------------------------------------


def consumer(directory: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    others = ("FLOOD", "AWS")
    clean = {name: text for name, text in os.environ.items() if not name.startswith(others)}
    return subprocess.run(
        [sys.executable, "-m", "huey.bin.huey_consumer", "flood.tasks.huey"],
        env={**clean, "HOME": str(directory), "XDG_CONFIG_HOME": str(directory), **variables},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "FLOOD_SERVER_DIRECTORY"),
        ({"FLOOD_SERVER_DIRECTORY": "spool", "FLOOD_RETRY_MAX": "many"}, "FLOOD_RETRY_MAX"),
        ({"FLOOD_SERVER_DIRECTORY": "spool"}, "credentials"),
        (
            {"FLOOD_SERVER_DIRECTORY": "spool", "FLOOD_CREDENTIALS": "credentials"},
            "start flood-watch first",
        ),
    ],
)
def test_a_wrong_setting_is_a_line_and_status_2(
    tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text(credentials_section("p", "http://127.0.0.1:9"))
    credentials.chmod(0o600)
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    ended = consumer(tmp_path, PYTHONPATH=root, **variables)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("huey_consumer: ")
    assert said in last
    assert sorted(os.listdir(tmp_path)) == ["credentials"]


def test_preparing_leaves_no_connection_open(house: House, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text(credentials_section("p", "http://127.0.0.1:9"))
    models.execute("DELETE FROM spool")
    binding.bind(house.spool, house.database, create=True, now=START)
    code = (
        "import os\nfrom huey_config import huey\nfrom flood import models\n"
        "huey.prepare(os.environ)\nassert models.database.is_closed()\n"
        "assert not any('flood.db' in os.readlink(f'/proc/self/fd/{n}')"
        " for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}'))\n"
        "assert not huey.stopping()\n"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={
            **os.environ,
            "FLOOD_SERVER_DIRECTORY": house.spool.root,
            "FLOOD_DATABASE": house.database,
            "FLOOD_CREDENTIALS": str(credentials),
            "HOME": str(tmp_path),
            "XDG_CONFIG_HOME": str(tmp_path),
        },
        check=True,
    )


LOST_INTERRUPT = """if True:
    import signal, sys, time
    from types import SimpleNamespace
    from flood.queue_consumer import TiedProcesses

    class Callback:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)  # whose handler raises KeyboardInterrupt

    busy = SimpleNamespace(huey=SimpleNamespace(_tasks_in_flight={"a task"}))
    TiedProcesses(signal.SIGINT, signal.SIGTERM).init_child(busy)
    callback = Callback()
    del callback
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_an_interrupt_that_is_lost_comes_again() -> None:
    """Python can raise nothing out of a callback of the garbage collector, nor of an import."""
    ended = subprocess.run(
        [sys.executable, "-c", LOST_INTERRUPT],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr) == ("interrupted\n", "")


ORPHAN = """if True:
    import multiprocessing, os, signal, time
    from types import SimpleNamespace
    from flood.queue_consumer import TiedProcesses

    environment = TiedProcesses(signal.SIGINT, signal.SIGTERM)
    consumer = os.getpid()

    def worker():
        while os.getppid() == consumer:
            time.sleep(0.01)
        environment.init_child(SimpleNamespace(huey=SimpleNamespace(_tasks_in_flight={})))
        print("it lives on", flush=True)

    environment.create_process(worker, "worker").start()
    os.kill(consumer, signal.SIGKILL)
"""


def test_a_worker_whose_consumer_is_killed_as_it_is_forked_does_not_live_on() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ORPHAN],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
        capture_output=True,  # up to the end of the worker, too
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGKILL, "", "")
