"""The stop signal, with real signals."""

import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from flood.stop import Stop

WAITS = """
import select
from flood.stop import Stop
stop = Stop()
stop.install()
print("ready", flush=True)
poller = select.poll()
poller.register(stop.fileno(), select.POLLIN)
poller.poll(30000)
assert stop.is_set()
print("set", flush=True)
input()
poller.poll(30000)  # it stays set
stop.close()
"""


@pytest.fixture
def stop() -> Iterator[Stop]:
    made = Stop()
    yield made
    made.close()


def readable(stop: Stop, seconds: float) -> bool:
    poller = select.poll()
    poller.register(stop.fileno(), select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def test_it_is_set_once_and_for_all(stop: Stop) -> None:
    assert not stop.is_set()
    assert not readable(stop, 0.0)
    for _ in range(2):
        stop.set()
        assert stop.is_set()
        assert readable(stop, 0.0)


def test_it_wakes_who_waits(stop: Stop) -> None:
    timer = threading.Timer(0.05, stop.set)
    began = time.monotonic()
    timer.start()
    assert readable(stop, 30.0)
    assert time.monotonic() - began < 10.0
    timer.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_sets_it(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WAITS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, number)
    assert process.stdout.readline() == "set\n"
    os.kill(process.pid, number)  # an impatient person
    process.communicate("\n", timeout=30)
    assert process.returncode == 0


HANGS_UP = """
import sys
from flood.stop import Stop
stop = Stop()
stop.install(lambda: sys.stdout.write("hung up\\n") and sys.stdout.flush())
print("ready", flush=True)
while not stop.is_set():
    stop.wait(30)
print("set", flush=True)
"""


def test_a_hang_up_is_a_stop_once_the_terminal_is_closed() -> None:
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HANGS_UP],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    )
    os.close(terminal)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(2):
        os.kill(process.pid, signal.SIGHUP)
        assert process.stdout.readline() == "hung up\n"
    os.close(master)
    os.kill(process.pid, signal.SIGHUP)
    assert process.stdout.readline() == "set\n"
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_nohup_keeps_a_hang_up_away() -> None:
    process = subprocess.Popen(
        ["nohup", sys.executable, "-W", "error", "-c", WAITS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGHUP)
    assert not select.select([process.stdout], [], [], 0.2)[0]
    os.kill(process.pid, signal.SIGTERM)
    assert process.stdout.readline() == "set\n"
    process.communicate("\n", timeout=30)
    assert process.returncode == 0


def test_waiting_for_it_ends_with_it(stop: Stop) -> None:
    stop.wait(0.0)
    assert not stop.is_set()
    threading.Timer(0.05, stop.set).start()
    began = time.monotonic()
    stop.wait(30.0)
    assert stop.is_set()
    assert time.monotonic() - began < 15.0
