"""flood-notify as a child of flood-watch: one at a time, never for ever."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from flood import config, digest_records, models
from flood.notify_child import EVERY, NotifyChild
from flood.notify_lock import NotifyLock
from tests.acceptance.harness import CHECKOUT, gone
from tests.spooling import House, without_descriptors
from tests.unit.test_retention import fail


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    """Where a command that hangs notes its process."""
    return tmp_path / "pids"


@pytest.fixture
def child(house: House, pids: Path) -> Iterator[NotifyChild]:
    """For a spool of which somebody is to be told, by a command that hangs."""
    fail(house, "a")
    models.close()
    settings = house.settings(
        notify_command=f"sh -c 'echo $$ $PPID >> {pids}; exec sleep 1000'", min_free=0
    )
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT), **config.environment(settings)}
    lock = NotifyLock(house.spool, settings)
    made = NotifyChild(EVERY, environ, lock=lock, clock=house.clock.seconds)
    yield made
    made.stop()
    if pids.exists():
        for pid in noted(pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def noted(pids: Path) -> list[int]:
    return [int(pid) for pid in pids.read_text().split()] if pids.exists() else []


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_that_hangs_is_ended_and_no_other_is_started_before(
    house: House, child: NotifyChild, pids: Path
) -> None:
    child.tick()
    assert noted(pids) == []
    house.clock.advance(EVERY)
    child.tick()
    wait_for(lambda: len(noted(pids)) == 2)
    command, flood_notify = noted(pids)
    for _ in range(4):
        house.clock.advance(EVERY)
        assert not gone(flood_notify)
        child.tick()
    house.clock.advance(EVERY)
    child.tick()  # which kills it
    wait_for(lambda: gone(flood_notify) and gone(command))
    assert len(noted(pids)) == 2


def test_a_stop_ends_it_in_order(house: House, child: NotifyChild, pids: Path) -> None:
    house.clock.advance(EVERY)
    child.tick()
    wait_for(lambda: len(noted(pids)) == 2)
    child.stop()
    assert all(map(gone, noted(pids)))
    assert house.rows("told_at IS NOT NULL") == []
    # Nobody was told: the next run may try at once.
    now = datetime.now(timezone.utc)
    assert digest_records.may_tell(digest_records.memory(), now, 3600.0)


def test_one_that_cannot_be_started_is_told_of_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    lock = NotifyLock(house.spool, house.settings())
    child = NotifyChild(1.0, os.environ, lock=lock, clock=house.clock.seconds)
    with without_descriptors():
        for _ in range(3):
            house.clock.advance(1.0)
            child.tick()
    assert [record.getMessage() for record in caplog.records] == ["cannot start flood-notify"]
    child.stop()
