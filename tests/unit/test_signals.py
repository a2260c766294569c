"""A wait that signals end."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from flood.signals import Signals


@pytest.fixture
def received() -> Iterator[list[int]]:
    """The numbers of the signals whose handler has run."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def signals() -> Iterator[Signals]:
    made = Signals()
    made.heed()
    yield made
    made.close()


def waited(signals: Signals, seconds: float) -> float:
    began = time.monotonic()
    signals.wait(seconds)
    return time.monotonic() - began


def test_a_signal_ends_the_wait(signals: Signals, received: list[int]) -> None:
    timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1])
    timer.start()
    assert waited(signals, 30.0) < 10.0
    assert received == [signal.SIGUSR1]
    timer.join()


def test_so_does_one_that_came_before(signals: Signals, received: list[int]) -> None:
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert len(received) == 3
    assert waited(signals, 30.0) < 10.0
    assert waited(signals, 0.1) > 0.09  # they end one wait


def test_more_signals_than_can_be_noted_do_no_harm(
    signals: Signals, received: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(70_000):  # a pipe holds 65,536
        signal.raise_signal(signal.SIGUSR1)
    assert len(received) == 70_000
    assert waited(signals, 30.0) < 10.0
    assert capfd.readouterr().err == ""


def test_closed_it_leaves_signals_alone(received: list[int]) -> None:
    made = Signals()
    made.heed()
    made.close()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert received == [signal.SIGUSR1]
