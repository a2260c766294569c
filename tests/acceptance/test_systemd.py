"""What real processes tell systemd."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import PATIENCE, Flood, Running

Told = socket.socket


@pytest.fixture
def told(tmp_path: Path, flood: Flood) -> Iterator[Told]:
    """Where systemd would listen, with a watchdog of three seconds."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(PATIENCE)
        flood.environ |= {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "3000000"}
        yield listening


def next_word(told: Told) -> str:
    return told.recv(4096).decode().strip()


def start_watch(flood: Flood) -> Running:
    return flood.start_watch("--consumers", "1")


def start_consumer(flood: Flood) -> Running:
    environ = dict(flood.environ)
    del flood.environ["NOTIFY_SOCKET"]
    flood.start_watch()  # it makes the database
    flood.environ |= environ
    return flood.start_consumer()


@pytest.mark.parametrize("start", [start_watch, start_consumer])
def test_it_is_ready_once_then_shows_that_it_lives(
    start: Callable[[Flood], Running], flood: Flood, told: Told
) -> None:
    running = start(flood)
    assert [next_word(told) for _ in range(4)] == ["READY=1", *["WATCHDOG=1"] * 3]
    running.end()


def test_consumers_of_flood_watch_tell_systemd_nothing(flood: Flood, told: Told) -> None:
    watch = start_watch(flood)
    pid = watch.events("consumer started")[0]["pid"]
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"FLOOD_CONSUMERS=1" in variables
    assert not [each for each in variables if each.startswith((b"NOTIFY_", b"WATCHDOG_"))]
    assert next_word(told) == "READY=1"
