"""What flood-watch deletes as it starts."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import pytest

from flood import records
from flood.locks import PUT_LOCK, FileLock
from flood.purge import YOUNG, purge
from flood.put_locks import put_lock
from flood.record_values import Arrival
from flood.spool import Spool
from tests.spooling import START, House, deaths, quick_house


def now() -> datetime:
    return datetime.now(timezone.utc)


def later() -> datetime:
    """When files that a test has just made are no longer young."""
    return now() + timedelta(seconds=YOUNG + 10)


def begun(house: House, key: str, data: bytes = b"half") -> int:
    """S0: what flood-put has before its copy is whole."""
    identity = house.write(f"incoming_tmp/p/b/{key}", data)
    arrival = Arrival("p", "b", key, f"incoming_tmp/p/b/{key}", identity, START)
    [record_id] = records.put_begun([arrival], START)
    return record_id


@contextmanager
def live_put(house: House) -> Iterator[None]:
    with put_lock(house.spool, pause=time.sleep, stopping=lambda: False):
        yield


def test_s0_of_a_dead_flood_put_is_deleted(house: House) -> None:
    record_id = begun(house, "dir/key")
    house.write("incoming_tmp/stray")
    house.write("incoming_tmp/p/b/.x7f3k2")
    house.write("incoming_tmp/p/b/deep/down/.x7f3k3")
    house.write("incoming/p/b/key", b"whole")
    shared = os.stat(house.spool.absolute("incoming_tmp/p/b"))
    assert purge(house.spool, now()) == 4
    assert house.files() == {"incoming/p/b/key": b"whole"}
    # Producers may have rights to it.
    assert os.stat(house.spool.absolute("incoming_tmp/p/b")).st_ino == shared.st_ino
    assert house.spool.subdirectories("incoming_tmp/p/b") == []
    row = house.row(record_id)
    assert (row["current_state"], row["error_code"]) == ("failed", "abandoned")
    assert purge(house.spool, now()) == 0


def test_each_record_that_ends_has_its_line(house: House, caplog: pytest.LogCaptureFixture) -> None:
    record_id = begun(house, "key")
    purge(house.spool, now())
    [told] = [one for one in caplog.records if one.getMessage() == "failed"]
    facts = told.facts  # type: ignore[attr-defined]  # flood's own
    assert (facts["record"], facts["from_"], facts["error"]) == (
        record_id,
        "incoming_tmp",
        "abandoned",
    )


def test_rows_of_files_that_arrived_stay(house: House) -> None:
    """S1 whose row is a step behind: its file is in incoming."""
    identity = house.write("incoming/p/b/key")
    arrival = Arrival("p", "b", "key", "incoming_tmp/p/b/key", identity, START)
    [record_id] = records.put_begun([arrival], START)
    purge(house.spool, now())
    assert house.row(record_id)["current_state"] == "incoming_tmp"


def test_what_is_no_file_goes_too(house: House) -> None:
    directory = house.spool.absolute("incoming_tmp/p/b")
    os.makedirs(directory)
    house.write("incoming/p/b/key")
    os.symlink(house.spool.absolute("incoming/p"), f"{directory}/link")
    os.mkfifo(f"{directory}/fifo")
    assert purge(house.spool, now()) == 2
    assert house.files() == {"incoming/p/b/key": b"data"}
    assert os.listdir(directory) == []


def test_s0_of_a_live_flood_put_is_spared_while_it_may_be_its(house: House) -> None:
    locked, young, old = (begun(house, key) for key in ("locked", "young", "old"))
    with live_put(house), open(house.spool.absolute("incoming_tmp/p/b/locked"), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert purge(house.spool, now()) == 0
        assert len(house.files()) == 3
        os.unlink(house.spool.absolute("incoming_tmp/p/b/young"))
        assert purge(house.spool, later()) == 1
        assert list(house.files()) == ["incoming_tmp/p/b/locked"]
    states = [house.row(one)["current_state"] for one in (locked, young, old)]
    assert states == ["incoming_tmp", "incoming_tmp", "failed"]
    assert purge(house.spool, now()) == 1


def test_the_lock_is_given_back(house: House) -> None:
    purge(house.spool, now())
    with live_put(house):
        purge(house.spool, now())
    lock = FileLock(house.spool.absolute(PUT_LOCK))
    assert lock.try_exclusive()
    lock.release()


def test_many_files_are_deleted_in_batches(house: House) -> None:
    for number in range(1100):
        house.write(f"incoming_tmp/p/b/{number}", b"")
    assert purge(house.spool, now()) == 1100


class Stubborn(Spool):
    """A spool in which one file was taken away and another cannot be."""

    def remove(self, path: str) -> None:
        if path.endswith("/taken"):
            os.unlink(self.absolute(path))
        if path.endswith("/denied"):
            raise PermissionError(1, "Operation not permitted")
        super().remove(path)


def test_what_cannot_be_deleted_is_named_and_the_rest_goes(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    ids = {key: begun(house, key) for key in ("taken", "denied", "other")}
    assert purge(Stubborn(house.spool.root), now()) == 1
    assert list(house.files()) == ["incoming_tmp/p/b/denied"]
    assert [one.facts["path"] for one in caplog.records if one.levelname == "WARNING"] == [  # type: ignore[attr-defined]  # flood.log's
        "incoming_tmp/p/b/denied"
    ]
    assert house.row(ids["other"])["current_state"] == "failed"
    assert house.row(ids["denied"])["current_state"] == "incoming_tmp"


def test_s0_purging_may_die_at_any_line() -> None:
    def arrange(house: House) -> None:
        begun(house, "one")
        begun(house, "two")

    died = 0
    for house in deaths(lambda house: purge(house.spool, now()), arrange, ("purge", "remove")):
        died += 1
        purge(house.spool, now())
        house.sweep()  # which finds the rows of files that were deleted without them
        assert house.files() == {}
        assert [state for _, state, _ in house.states()] == ["failed", "failed"]
    assert died > 6


def test_in_memory_as_on_disk() -> None:
    with quick_house() as house:
        begun(house, "key")
        assert purge(house.spool, now()) == 1
