"""The queue of writers, shown with real locks of other processes."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from flood import check_database, locks, models, schema, writers
from flood.errors import TryAgainError
from flood.writers import BRIEF, PATIENCE, Locked, Waiting, turn
from tests.spooling import House
from tests.uploading import wait_until

HOLD = """
import sys, sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


class Enough(Waiting):
    """Somebody who has waited so many times before it is enough."""

    def __init__(self, looks: int = 0) -> None:
        super().__init__(lambda: False)
        self.looks = looks

    def over(self) -> bool:
        self.looks -= 1
        return self.looks < 0


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "flood.db")
    writers.leave()


@contextmanager
def held(path: str, queue: str = "-writers") -> Iterator[None]:
    """As by a process that was stopped in the middle of a transaction."""
    descriptor = os.open(f"{path}{queue}", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def threads() -> int:
    """How many threads this process has, also those that Python's threading does not know."""
    return len(os.listdir("/proc/self/task"))


@contextmanager
def locked(database: str) -> Iterator[int]:
    """Another program's transaction; yield its process."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    try:
        yield process.pid
    finally:
        process.communicate()


def test_a_turn_comes_when_the_one_before_is_over(path: str) -> None:
    order: list[str] = []
    before = threads()

    def second() -> None:
        with turn(path, Enough(10_000)):
            order.append("second")
        writers.leave()

    thread = threading.Thread(target=second)
    with turn(path, Enough()):
        thread.start()
        wait_until(lambda: threads() > before + 1)  # the waiter, too
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_waiting_has_an_end(path: str) -> None:
    before = threads()
    with held(path), pytest.raises(Locked):
        turn(path, Enough()).__enter__()
    # Whoever gave up is not in the way of others, nor of itself.
    wait_until(lambda: threads() <= before)  # an earlier test's may have ended, too
    with turn(path, Enough()):
        pass


def free(path: str, queue: str) -> bool:
    """Whether nobody holds it."""
    return not locks.held(f"{path}{queue}")


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is one of workers."""
    monkeypatch.setattr(writers, "_behind", False)
    writers.stand_behind()


def test_workers_that_wait_are_in_nobodys_way(path: str) -> None:
    with held(path, "-workers"), turn(path, Enough()):
        assert not free(path, "-writers")


def test_a_worker_waits_for_workers_and_for_all_others(path: str, worker: None) -> None:
    for queue in writers.QUEUES:
        with held(path, queue), pytest.raises(Locked):
            turn(path, Enough()).__enter__()
        wait_until(lambda: all(free(path, each) for each in writers.QUEUES))  # it gave up both
    with turn(path, Enough()):
        assert not any(free(path, each) for each in writers.QUEUES)
    assert all(free(path, each) for each in writers.QUEUES)


def test_the_first_of_workers_keeps_the_others_out_while_it_waits(path: str, worker: None) -> None:
    came = threading.Event()

    def first() -> None:
        with turn(path, Enough(10_000)):
            came.set()
        writers.leave()

    thread = threading.Thread(target=first)
    with held(path):
        thread.start()
        wait_until(lambda: os.path.exists(f"{path}-workers") and not free(path, "-workers"))
        assert not came.is_set()
    thread.join()
    assert came.is_set()


@pytest.mark.parametrize("queue", writers.QUEUES)
def test_a_queue_that_cannot_be_opened_is_no_turn(path: str, worker: None, queue: str) -> None:
    os.mkdir(f"{path}{queue}")
    for _ in range(2):
        with pytest.raises(IsADirectoryError):
            turn(path, Enough()).__enter__()
    os.rmdir(f"{path}{queue}")
    with turn(path, Enough()):
        assert not any(free(path, each) for each in writers.QUEUES)


@pytest.mark.parametrize("queue", writers.QUEUES)
def test_a_queue_that_was_removed_is_begun_anew(path: str, worker: None, queue: str) -> None:
    with turn(path, Enough()):
        pass
    os.unlink(f"{path}{queue}")
    with turn(path, Enough()):
        assert not any(free(path, each) for each in writers.QUEUES)


def test_a_stop_shortens_the_waiting() -> None:
    told = threading.Event()
    waiting = Waiting(told.is_set)
    waiting._since -= BRIEF + 1
    assert not waiting.over()
    told.set()
    assert waiting.over()
    patient = Waiting(lambda: False)
    patient._since -= PATIENCE
    assert patient.over()


@pytest.fixture
def stopping() -> Iterator[None]:
    models.be_brief_when(lambda: True)
    yield
    models.be_brief_when(lambda: False)


def test_a_stop_ends_what_is_asked_in_one_view(house: House, stopping: None) -> None:
    """A question alone: what is written, and what ends by itself soon, goes on."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"
    with pytest.raises(models.OperationalError, match="interrupted"), models.reading():
        models.execute(endless).fetchone()
    ending = endless.replace("FROM n)", "FROM n WHERE i < 100000)")
    with models.write():
        assert models.execute(ending).fetchone() == (5000050000,)
    with models.reading():
        assert models.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("how", [held, locked])
def test_a_process_that_is_to_stop_gives_up_soon(
    house: House, stopping: None, how: Callable[[str], AbstractContextManager[object]]
) -> None:
    with how(house.database):
        begun = time.monotonic()
        with pytest.raises(models.DatabaseError, match="locked"), models.write():
            pass
        assert time.monotonic() - begun < 3 * BRIEF
    with models.write():
        assert models.execute("SELECT 1").fetchone() == (1,)


def test_a_start_that_waits_too_long_may_be_tried_again(house: House, stopping: None) -> None:
    with held(house.database), pytest.raises(TryAgainError, match="another program holds it"):
        schema.migrate(house.database, create=False)


def test_a_turn_that_is_lost_in_the_middle_of_a_start_may_be_tried_again(
    house: House, stopping: None
) -> None:
    """The lock file's own error, which began the wait, is nobody's reason."""

    def late() -> None:
        with held(house.database), models.write():
            pass

    with pytest.raises(TryAgainError, match="database is locked: another program holds it"):
        schema.migrate(house.database, create=False, check=late)


TURN = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: str, queue: str) -> Iterator[subprocess.Popen[bytes]]:
    """As `held`, by another process, which may be stopped."""
    with subprocess.Popen(
        [sys.executable, "-c", TURN, f"{path}{queue}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.send_signal(signal.SIGCONT)
        process.communicate()


def test_another_programs_transaction_is_told_of(house: House, stopping: None) -> None:
    """As of a shell of SQLite's that somebody has left open."""
    assert writers.foreign(house.database) is None
    with models.write():
        assert writers.foreign(house.database) is None
    begin = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN IMMEDIATE')"
    with subprocess.Popen(
        [sys.executable, "-c", f"{begin}; print('held', flush=True); input()", house.database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(models.OperationalError) as told, models.write():
            pass
        assert f"process {process.pid} holds it, none of flood's" in models.explain(told.value)
        models.close()
        settings = replace(house.settings(), origins={"database": "flag"})
        _, findings = check_database.look(house.spool, settings, house.clock.now())
        models.bind(house.database)
        assert findings[0].found == f"process {process.pid} holds it, which is none of flood's"
        assert findings[0].remedy.endswith(f"ps -fp {process.pid}")
        process.communicate(b"\n")
    assert writers.foreign(house.database) is None


def test_a_stopped_process_that_has_its_turn_is_named(house: House, stopping: None) -> None:
    with held_elsewhere(house.database, "-writers") as process:
        assert writers.stopped(house.database) is None
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: writers.stopped(house.database) == process.pid)
        with pytest.raises(models.OperationalError) as told, models.write():
            pass
        holder = f"process {process.pid} holds it, and is stopped"
        models.close()
        settings = replace(house.settings(), origins={"database": "flag"})
        _, findings = check_database.look(house.spool, settings, house.clock.now())
        models.bind(house.database)
        assert (findings[0].found, findings[0].remedy) == (holder, f"kill -CONT {process.pid}")
        remedy = f"process {process.pid} holds it, which is stopped: kill -CONT {process.pid}"
        assert models.explain(told.value) == f"database is locked: {remedy}"
        with pytest.raises(TryAgainError, match=re.escape(remedy)) as refused:
            schema.migrate(house.database, create=False)
        assert models.explain(refused.value) == str(refused.value), "once is enough"
    assert writers.stopped(house.database) is None


def test_a_stopped_worker_that_is_the_first_of_them_is_named(path: str) -> None:
    with held_elsewhere(path, "-workers") as process:
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: f"kill -CONT {process.pid}" in (writers.remedy(path) or ""))
        assert writers.stopped(path) is None, "others can write"
