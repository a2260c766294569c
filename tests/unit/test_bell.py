"""The bell between threads of one process, as between processes."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flood.bell import Bell, bell_path, ring
from tests.spooling import in_child


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "flood.db")


@pytest.fixture
def bell(database: str) -> Iterator[Bell]:
    made = Bell(database)
    yield made
    made.close()


def waited(bell: Bell, seconds: float) -> float:
    began = time.monotonic()
    bell.wait(seconds)
    return time.monotonic() - began


def test_a_ring_between_listening_and_waiting_is_heard(bell: Bell, database: str) -> None:
    bell.listen()
    ring(database)
    assert waited(bell, 30.0) < 10.0


def test_a_ring_while_waiting_is_heard(bell: Bell, database: str) -> None:
    bell.listen()
    timer = threading.Timer(0.05, ring, [database])
    timer.start()
    assert 0.04 < waited(bell, 30.0) < 10.0
    timer.join()


def test_without_a_ring_it_waits(bell: Bell) -> None:
    bell.listen()
    assert waited(bell, 0.1) > 0.09


def test_a_ring_is_heard_once(bell: Bell, database: str) -> None:
    bell.listen()
    for _ in range(100):
        ring(database)
    bell.wait(30.0)
    assert waited(bell, 0.1) > 0.09


def test_every_thread_hears_each_ring(bell: Bell, database: str) -> None:
    times: list[float] = []
    ready = threading.Barrier(4)

    def listen() -> None:
        bell.listen()
        ready.wait()
        times.append(waited(bell, 30.0))
        bell.close()

    threads = [threading.Thread(target=listen) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait()
    ring(database)
    for thread in threads:
        thread.join()
    assert len(times) == 3
    assert max(times) < 10.0


def test_another_process_hears(bell: Bell, database: str) -> None:
    bell.listen()
    ring(database)

    def child() -> None:
        bell.listen()  # a watch of its own, which has not heard the parent's ring
        assert waited(bell, 0.1) > 0.09
        ring(database)
        assert waited(bell, 30.0) < 10.0
        bell.close()

    assert in_child(child) == 0
    assert waited(bell, 30.0) < 10.0


def test_a_bell_that_was_removed_is_made_anew(bell: Bell, database: str) -> None:
    bell.listen()
    os.unlink(bell_path(database))
    assert waited(bell, 30.0) < 10.0
    bell.listen()
    ring(database)
    assert waited(bell, 30.0) < 10.0


def test_a_bell_that_cannot_be_rung_harms_nobody(tmp_path: Path) -> None:
    """What it announces is committed already."""
    ring(str(tmp_path / "no such directory" / "flood.db"))


def test_without_inotify_it_sleeps_in_short_steps(tmp_path: Path) -> None:
    bell = Bell(str(tmp_path / "no such directory" / "flood.db"))
    bell.listen()
    assert 0.15 < waited(bell, 30.0) < 10.0
    bell.close()
