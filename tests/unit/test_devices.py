"""Records follow a filesystem whose device number has changed."""

import os

import pytest

from flood import devices, models, records
from flood.identity import identity_of
from flood.layout import CARD
from flood.record_values import Proof
from tests.fscking import CLEAN, fsck, names
from tests.spooling import House
from workers.decisions import Missing, TryAgain
from workers.upload import attempt


def remounted(house: House) -> None:
    """The device had another number when the records were written."""
    devices.follow(house.spool)
    models.execute("UPDATE file_records SET device = device + 1")
    models.execute("UPDATE spool SET device = device + 1")


def present(house: House) -> int:
    return identity_of(os.stat(house.spool.absolute(CARD))).device


def full(house: House) -> None:
    """A file in each of the three states that records tell of, one of them claimed."""
    house.admit("done", "failed", "claimed")
    for claim in house.claim():
        if claim.key == "done":
            house.spool.move(claim.path, f"completed/p/b/{claim.key}")
            proof = Proof("etag", None, None, 4)
            records.complete(claim, f"completed/p/b/{claim.key}", proof, house.clock.now())
        elif claim.key == "failed":
            house.spool.move(claim.path, f"failed/p/b/{claim.key}")
            records.fail(claim, f"failed/p/b/{claim.key}", records.GIVEN_UP, house.clock.now())
    house.admit("waiting")


def test_the_first_look_takes_the_number_down(house: House) -> None:
    house.admit("key")
    assert not devices.changed(house.spool)
    assert devices.follow(house.spool) == 0
    assert not devices.changed(house.spool)
    assert models.execute("SELECT device FROM spool").fetchone() == (present(house),)


def test_all_records_follow_as_flood_starts(house: House, caplog: pytest.LogCaptureFixture) -> None:
    full(house)
    before = house.states()
    remounted(house)
    assert devices.changed(house.spool)
    assert devices.follow(house.spool) == len(before)
    assert "device number has changed" in caplog.text
    assert {row["device"] for row in house.rows()} == {present(house)}
    assert not devices.changed(house.spool)
    house.recover()
    assert house.states() == before


def test_records_of_yet_another_device_are_left_alone(house: House) -> None:
    """As overlay filesystems have them: files of several devices in one directory."""
    house.admit("key", "other")
    remounted(house)
    models.execute("UPDATE file_records SET device = 7 WHERE filepath = 'other'")
    assert devices.follow(house.spool) == 1
    assert [row["device"] for row in house.rows()] == [present(house), 7]


def test_nothing_is_done_while_the_spool_is_away(house: House) -> None:
    house.admit("key")
    remounted(house)
    os.rename(house.spool.absolute(CARD), house.spool.absolute("elsewhere"))
    assert not devices.changed(house.spool)
    assert devices.follow(house.spool) == 0
    os.rename(house.spool.absolute("elsewhere"), house.spool.absolute(CARD))
    assert devices.follow(house.spool) == 1


def test_a_sweep_takes_no_file_for_vanished(house: House) -> None:
    full(house)
    remounted(house)
    before = house.states()
    house.sweep()
    assert house.states() == before
    assert {row["device"] for row in house.rows()} == {present(house)}


def test_flood_fsck_finds_it_before_all_else_and_mends_it(house: House) -> None:
    full(house)
    house.settle(*(TryAgain(x, x.identity, records.GIVEN_UP, 0.0) for x in house.claimed()))
    remounted(house)
    assert names(fsck(house)) == [("device_changed", None)]
    assert next(x.kind.name for x in fsck(house, repair=True).mended) == "device_changed"
    assert names(fsck(house)) == CLEAN


def test_an_attempt_takes_the_new_number_down(house: House) -> None:
    """A disk that went and came back so quickly that nobody noticed."""
    [record_id] = house.admit("key")
    remounted(house)
    for decisions in attempt(house.agent(), house.claim()):
        assert [type(one) for one in decisions] == [TryAgain]
        house.settle(*decisions)
    assert house.row(record_id)["device"] == present(house)
    assert house.row(record_id)["current_state"] == "processing"


def test_what_seems_missing_under_another_number_is_not(house: House) -> None:
    [record_id] = house.admit("key")
    remounted(house)
    [claim] = house.claim()
    house.settle(Missing(claim))
    assert house.row(record_id)["current_state"] == "processing"
    assert house.row(record_id)["owner"] is None
