"""Every change of a record's state, one at a time."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from flood import departures, due_queries, models, queries, records, versions
from flood.columns import utc_text
from flood.identity import Identity
from flood.record_values import AHEAD, Arrival, Claimed, Proof, Reason
from flood.states import INTERRUPTED, PERMANENT, TRANSIENT
from tests.spooling import NOBODY, START, House

FILE = Identity(1, 2, 3, 4)
OTHER = Identity(1, 99, 3, 4)
PROOF = Proof("etag", "version", "crc32:00", 3)
REASON = Reason(TRANSIENT, "code", "what to do")

#: Everything that settles a claim, with a value that tells that it did.
SETTLING: dict[str, Callable[[Claimed], object]] = {
    "complete": lambda claim: records.complete(claim, "completed/p/b/key", PROOF, START),
    "retry": lambda claim: records.retry(claim, FILE, REASON, 30.0, START),
    "fail": lambda claim: records.fail(claim, "failed/p/b/key", REASON, START),
    "release": lambda claim: records.release(claim, REASON, START),
    "lose": lambda claim: records.lose(claim, 30.0, START),
    "gone": lambda claim: records.gone(claim, START),
}


def arrival(key: str = "key", identity: Identity = FILE, state: str = "processing") -> Arrival:
    return Arrival("p", "b", key, f"{state}/p/b/{key}", identity, START)


def admitted(key: str = "key", identity: Identity = FILE) -> int:
    [record_id] = records.admit([arrival(key, identity)], START)
    return record_id


def claimed(house: House, owner: str = NOBODY) -> Claimed:
    admitted()
    [claim] = house.claim(owner=owner)
    return claim


def subset(row: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


# --- arriving ----------------------------------------------------------------------------------


def test_flood_put_goes_from_s0_to_s1(house: House) -> None:
    [record_id] = records.put_begun([arrival(state="incoming_tmp")], START)
    row = house.row(record_id)
    assert subset(row, "current_state", "next_attempt_at", "owner") == ("incoming_tmp", None, None)
    assert records.put_changed(record_id, OTHER, START)
    assert house.row(record_id)["inode"] == OTHER.inode
    later = START + timedelta(seconds=1)
    assert records.put_arrived(record_id, "incoming/p/b/key", later)
    row = house.row(record_id)
    assert subset(row, "current_state", "spool_path", "last_updated", "created_at") == (
        "incoming",
        "incoming/p/b/key",
        utc_text(later),
        utc_text(START),
    )
    assert not records.put_arrived(record_id, "incoming/p/b/key", START)
    assert not records.put_changed(record_id, FILE, START)


@pytest.mark.parametrize("arrived", [False, True])
def test_s3_adopts_the_row_of_flood_put(house: House, arrived: bool) -> None:
    """The watcher may be faster than flood-put is to say that its file has arrived."""
    [record_id] = records.put_begun([arrival(state="incoming_tmp")], START)
    if arrived:
        assert records.put_arrived(record_id, "incoming/p/b/key", START)
    assert admitted() == record_id
    row = house.row(record_id)
    assert subset(row, "current_state", "spool_path", "next_attempt_at", "owner") == (
        "processing",
        "processing/p/b/key",
        utc_text(START),
        None,
    )
    assert not records.put_arrived(record_id, "incoming/p/b/key", START)
    assert len(house.rows()) == 1


def test_a_row_of_another_file_is_not_adopted(house: House) -> None:
    [of_other] = records.put_begun([arrival(identity=OTHER)], START)
    [elsewhere] = records.put_begun([arrival("elsewhere")], START)
    record_id = admitted()
    assert record_id not in (of_other, elsewhere)
    assert house.row(of_other)["current_state"] == "incoming_tmp"


def test_admitting_again_changes_nothing(house: House) -> None:
    record_id = admitted()
    before = house.rows()
    assert admitted() == record_id
    assert house.rows() == before
    [claim] = house.claim()
    assert admitted() == record_id
    assert claim.id == record_id
    assert house.row(record_id)["owner"] == NOBODY


def test_a_file_in_the_place_of_one_that_was_taken_away(house: House) -> None:
    """S11: the earlier row has lost its file."""
    older = admitted()
    newer = admitted(identity=OTHER)
    assert newer != older
    assert subset(house.row(older), "current_state", "upload_outcome", "error_code") == (
        "failed",
        "failure",
        "vanished",
    )
    assert house.row(newer)["current_state"] == "processing"


def test_a_record_that_is_being_worked_on_is_not_ended_by_others(house: House) -> None:
    claim = claimed(house)
    with pytest.raises(models.DatabaseError, match="UNIQUE"):
        admitted(identity=OTHER)
    assert not records.vanish(claim.id, START)
    assert records.complete(claim, "completed/p/b/key", PROOF, START)


def test_many_arrive_at_once_in_order(house: House) -> None:
    known = records.put_begun(
        [arrival(f"key-{n}", Identity(1, n, 1, 1), "incoming_tmp") for n in range(0, 1000, 2)],
        START,
    )
    ids = records.admit([arrival(f"key-{n}", Identity(1, n, 1, 1)) for n in range(1000)], START)
    assert ids[::2] == known
    keys = {row["id"]: row["filepath"] for row in house.rows()}
    assert [keys[record_id] for record_id in ids] == [f"key-{n}" for n in range(1000)]


def test_one_file_under_two_names_is_two_records(house: House) -> None:
    ids = records.admit([arrival("one"), arrival("two")], START)
    assert len(set(ids)) == 2


@pytest.mark.parametrize("ended", ["complete", "fail"])
def test_s12_the_same_row_goes_back(house: House, ended: str) -> None:
    claim = claimed(house)
    assert not records.put_back(claim.id, claim.path, START)
    assert SETTLING[ended](claim)
    assert queries.settled("p", "b", "key", FILE, START + timedelta(days=1)) is None
    row = queries.settled("p", "b", "key", FILE, START)
    assert row is not None
    assert row.id == claim.id
    assert records.put_back(claim.id, "processing/p/b/key", START)
    assert not records.put_back(claim.id, "processing/p/b/key", START)
    [again] = house.claim()
    assert again.number == claim.number + 1
    assert subset(house.row(claim.id), "upload_outcome", "completed_at") == (None, None)
    assert not SETTLING[ended](claim)
    assert SETTLING[ended](again)


def test_only_the_latest_row_of_exactly_this_file_goes_back(house: House) -> None:
    claim = claimed(house)
    SETTLING["complete"](claim)
    assert queries.settled("p", "b", "key", OTHER, START) is None
    assert queries.settled("p", "b", "other", FILE, START) is None
    newer = admitted(identity=OTHER)
    [other] = house.claim(newer)
    SETTLING["complete"](other)
    for identity, row in ((FILE, claim), (OTHER, other)):
        found = queries.settled("p", "b", "key", identity, START)
        assert found is not None
        assert found.id == row.id
    admitted()  # the first one's file again
    assert queries.settled("p", "b", "key", FILE, START) is None


def test_s12_a_row_waits_for_its_turn_again(house: House) -> None:
    claim = claimed(house)
    assert not records.wait_again(claim.id, "incoming/p/b/key", START)
    records.retry(claim, FILE, REASON, 30.0, START)
    assert records.wait_again(claim.id, "incoming/p/b/key", START)
    assert not records.wait_again(claim.id, "incoming/p/b/key", START)
    row = house.row(claim.id)
    assert subset(row, "current_state", "spool_path") == ("incoming", "incoming/p/b/key")
    assert subset(row, "next_attempt_at", "retry_count") == (None, 1)
    newer = admitted(identity=OTHER)
    SETTLING["complete"](*house.claim(newer))
    assert [admitted()] == [claim.id]  # with the attempts that it had
    for one, other in ((claim.id, newer), (newer, None)):
        later = versions.newer(one)
        assert (later and later.record) == other
    assert subset(house.row(claim.id), "current_state", "retry_count") == ("processing", 1)


# --- settling ----------------------------------------------------------------------------------


def test_s8_completed(house: House) -> None:
    claim = replace_retries(house, claimed(house), 4)
    assert records.complete(claim, "completed/p/b/key", PROOF, START + timedelta(seconds=2))
    row = house.row(claim.id)
    done = utc_text(START + timedelta(seconds=2))
    assert subset(row, "current_state", "upload_outcome", "spool_path", "completed_at") == (
        "completed",
        "success",
        "completed/p/b/key",
        done,
    )
    assert subset(row, "etag", "version_id", "checksum", "bytes_sent", "changed_ns") == tuple(PROOF)
    assert subset(row, "retry_count", "next_attempt_at", "owner", "error_code") == (
        0,
        None,
        None,
        None,
    )
    [attempt] = house.attempts(claim.id)
    assert subset(attempt, "retry_number", "outcome", "kind", "started_at", "finished_at") == (
        4,
        "success",
        None,
        utc_text(START),
        done,
    )
    assert attempt["worker"] == NOBODY


def test_s4_waits_for_its_retry(house: House) -> None:
    claim = claimed(house)
    due = records.retry(claim, OTHER, REASON, 30.5, START)
    assert due == START + timedelta(seconds=30.5)
    row = house.row(claim.id)
    assert subset(row, "current_state", "retry_count", "owner", "next_attempt_at", "inode") == (
        "processing",
        1,
        None,
        utc_text(due),
        OTHER.inode,
    )
    assert subset(row, "error_code", "error_message") == ("code", "what to do")
    [attempt] = house.attempts(claim.id)
    assert subset(attempt, "retry_number", "outcome", "kind", "error_code", "delay_seconds") == (
        0,
        "failure",
        "transient",
        "code",
        30.5,
    )
    assert attempt["next_attempt_at"] == utc_text(due)
    assert house.claim(claim.id) == []
    house.clock.advance(30.5)
    [again] = house.claim(claim.id)
    assert (again.retry_count, again.identity) == (1, OTHER)


def test_s10_failed(house: House) -> None:
    claim = claimed(house)
    assert records.fail(claim, "failed/p/b/key", Reason(PERMANENT, "code", "words"), START)
    row = house.row(claim.id)
    assert subset(row, "current_state", "upload_outcome", "spool_path", "error_message") == (
        "failed",
        "failure",
        "failed/p/b/key",
        "words",
    )
    assert subset(row, "owner", "next_attempt_at") == (None, None)
    assert house.attempts(claim.id)[0]["kind"] == "permanent"


def test_letting_go_costs_nothing(house: House) -> None:
    claim = claimed(house)
    assert records.release(claim, Reason(INTERRUPTED, "stopped", "words"), START)
    [again] = house.claim()
    assert (again.id, again.retry_count, again.alone) == (claim.id, 0, False)
    assert house.attempts(claim.id)[0]["kind"] == "interrupted"


def test_s6_a_lost_attempt_in_company_costs_nothing_and_the_next_is_alone(house: House) -> None:
    records.admit([arrival("one"), arrival("two", OTHER)], START)
    claims = house.claim()
    assert [claim.company for claim in claims] == [2, 2]
    for claim in claims:
        assert records.lose(claim, 30.0, START)
    assert house.claim() == []
    house.clock.advance(30.0)
    for key in ("one", "two"):
        [again] = house.claim(owner=f"worker of {key}")
        assert (again.key, again.company, again.alone, again.retry_count) == (key, 1, True, 0)
        assert records.lose(again, 30.0, house.clock.now())
    assert [row["retry_count"] for row in house.rows()] == [1, 1]
    assert [row["kind"] for row in house.attempts(claims[0].id)] == ["lost", "lost"]


@pytest.mark.parametrize("state", ["incoming_tmp", "incoming", "processing"])
def test_s11_vanished(house: House, state: str) -> None:
    if state == "processing":
        record_id = admitted()
    else:
        [record_id] = records.put_begun([arrival(state="incoming_tmp")], START)
        if state == "incoming":
            records.put_arrived(record_id, "incoming/p/b/key", START)
    assert records.vanish(record_id, START)
    assert subset(house.row(record_id), "current_state", "upload_outcome", "error_code") == (
        "failed",
        "failure",
        "vanished",
    )
    assert not records.vanish(record_id, START)


@pytest.mark.parametrize("late", SETTLING)
@pytest.mark.parametrize(
    "first", ["complete", "retry", "fail", "release", "lose", "gone", "release and claim again"]
)
def test_a_claim_that_was_taken_away_writes_nothing(house: House, first: str, late: str) -> None:
    claim = claimed(house)
    assert SETTLING[first.partition(" ")[0]](claim)
    if "again" in first:
        assert len(house.claim()) == 1  # the same worker, another claim
    before = (house.rows(), house.attempts(claim.id))
    assert not SETTLING[late](claim)
    assert (house.rows(), house.attempts(claim.id)) == before


@pytest.mark.parametrize("settling", SETTLING)
def test_another_worker_or_number_writes_nothing(house: House, settling: str) -> None:
    claim = claimed(house)
    before = house.rows()
    assert not SETTLING[settling](claim._replace(owner="somebody else"))
    assert not SETTLING[settling](claim._replace(number=claim.number + 1))
    assert (house.rows(), house.attempts(claim.id)) == (before, [])
    assert SETTLING[settling](claim)


def replace_retries(house: House, claim: Claimed, count: int) -> Claimed:
    """As if so many attempts had failed before."""
    models.execute("UPDATE file_records SET retry_count = ? WHERE id = ?", (count, claim.id))
    return claim._replace(retry_count=count)


# --- questions ---------------------------------------------------------------------------------


def test_one_sweep_within_the_interval(house: House) -> None:
    assert queries.sweep_begins(START, 50.0)
    assert not queries.sweep_begins(START + timedelta(seconds=49), 50.0)
    assert queries.sweep_begins(START + timedelta(seconds=50), 50.0)
    queries.ask_for_sweep()
    assert queries.sweep_begins(START + timedelta(seconds=51), 50.0)


def test_a_clock_that_was_set_back_does_not_hold_the_sweep_up(house: House) -> None:
    assert queries.sweep_begins(START + timedelta(days=1), 50.0)
    assert queries.sweep_begins(START, 50.0)
    assert not queries.sweep_begins(START, 50.0)


def test_who_asked_a_moment_earlier_does_not_sweep_as_well(house: House) -> None:
    """The moment of who was faster is no sign of a clock that was set back."""
    for begins in (queries.sweep_begins, departures.prune_begins):
        assert begins(START, 50.0)
        assert not begins(START - AHEAD, 50.0)
        assert begins(START - AHEAD - timedelta(microseconds=1), 50.0)


def test_questions_about_many_records(house: House) -> None:
    ids = records.admit([arrival(f"{n}", Identity(1, n, 1, 1)) for n in range(900)], START)
    paths = [f"processing/p/b/{n}" for n in range(900)]
    assert set(queries.at_paths(paths, "processing")) == set(paths)
    assert queries.at_paths(paths, "completed") == {}
    assert len(queries.outcomes(ids)) == 900
    assert queries.outcomes([ids[0]]) == {ids[0]: ("processing", None, None)}
    assert due_queries.destinations(START) == [("p", "b")]
    assert due_queries.destinations(START - timedelta(microseconds=1)) == []


def test_what_is_on_its_way_comes_in_pages(house: House) -> None:
    ids = records.put_begun([arrival(f"{n}") for n in range(30)], START)
    records.admit([arrival("other")], START)
    found, after = [], queries.FIRST
    while page := queries.arriving(after, 7):
        found += [row.id for row in page]
        after = (page[-1].identity.inode, page[-1].id)
    assert sorted(found) == ids


def test_multipart_uploads_of_settled_records(house: House) -> None:
    from flood import claims as claiming

    claim = claimed(house)
    assert claiming.remember_multipart(claim, "upload")
    assert queries.leftover_multiparts() == []
    records.fail(claim, "failed/p/b/key", REASON, START)
    assert queries.leftover_multiparts() == [(claim.id, "p", "b", "key", "upload")]
    assert not claiming.remember_multipart(claim, "other")
    queries.multipart_gone(claim.id, "other")
    assert len(queries.leftover_multiparts()) == 1
    queries.multipart_gone(claim.id, "upload")
    assert queries.leftover_multiparts() == []
