"""What systemd is told, on a real socket of its kind."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flood.systemd import VARIABLES, Systemd, without
from tests.spooling import Clock

#: A watchdog's time-out, in microseconds as systemd says it.
MINUTE = "60000000"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd would listen at; reading never waits."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        monkeypatch.setenv("WATCHDOG_USEC", MINUTE)
        yield listening


def heard(told: socket.socket) -> list[str]:
    """Everything that systemd has been told since the last call."""
    messages = []
    while True:
        try:
            messages.append(told.recv(4096).decode().strip())
        except BlockingIOError:
            return messages


@pytest.fixture
def systemd(told: socket.socket, clock: Clock) -> Iterator[Systemd]:
    with closing(Systemd(clock=clock.seconds)) as made:
        yield made


def test_readiness_is_told(systemd: Systemd, told: socket.socket) -> None:
    systemd.ready()
    assert heard(told) == ["READY=1"]


def test_three_signs_of_life_come_within_the_time(
    systemd: Systemd, told: socket.socket, clock: Clock
) -> None:
    for _ in range(60):
        clock.advance(1)
        systemd.alive()
    assert heard(told) == ["WATCHDOG=1"] * 3


def test_who_is_silent_gives_no_sign_of_life(
    systemd: Systemd, told: socket.socket, clock: Clock
) -> None:
    clock.advance(3600)
    assert heard(told) == []
    systemd.alive()
    assert heard(told) == ["WATCHDOG=1"]


@pytest.mark.parametrize(("name", "value"), [("WATCHDOG_USEC", None), ("WATCHDOG_PID", "1")])
def test_without_a_watchdog_for_this_process_there_are_no_signs(
    name: str,
    value: str | None,
    told: socket.socket,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with closing(Systemd(clock=clock.seconds)) as systemd:
        clock.advance(3600)
        systemd.alive()
        systemd.ready()
    assert heard(told) == ["READY=1"]


def test_without_systemd_nothing_happens(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    systemd = Systemd(clock=clock.seconds)
    systemd.ready()
    clock.advance(3600)
    systemd.alive()
    systemd.close()


def test_that_nobody_listens_is_a_warning_once(
    systemd: Systemd, told: socket.socket, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    told.close()
    for _ in range(3):
        clock.advance(3600)
        systemd.alive()
    systemd.ready()
    assert [record.getMessage() for record in caplog.records] == ["cannot tell systemd"]


def test_children_are_not_told_where_systemd_listens(told: socket.socket) -> None:
    assert "NOTIFY_SOCKET" in os.environ
    environ = without(os.environ)
    assert set(os.environ) - set(environ) == set(VARIABLES)
