"""The way from incoming to processing, with deaths at every step of it."""

import json
import os
import socket
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flood import models, records, versions
from flood.columns import utc_moment, utc_text
from flood.door import FORGOTTEN, Candidate, Why
from flood.intake import BATCH, Intake, Result
from flood.log import JsonFormatter, TextFormatter
from flood.record_values import TASK_BYTES, TASK_FILES, Arrival, Proof
from flood.spool import Spool
from tests.spooling import LARGE, START, House, deaths, quick_house
from workers.decisions import Missing

#: Later than any rename of this run: as a power failure leaves rows that ran ahead.
AFTER = datetime.now(timezone.utc) + timedelta(hours=1)


def admit(house: House, *paths: str, intake: Intake | None = None, closed: bool = True) -> Result:
    return (intake or house.intake()).admit([(Candidate(path, closed), None) for path in paths])


def whys(result: Result) -> dict[str, Why]:
    return {candidate.path: why for candidate, why, _ in result.later}


# --- what is taken -----------------------------------------------------------------------------


def test_s1_becomes_s3(house: House) -> None:
    house.write("incoming/p/b/dir/key", b"content")
    assert admit(house, "incoming/p/b/dir/key").admitted == 1
    assert house.files() == {"processing/p/b/dir/key": b"content"}
    [row] = house.rows()
    assert (row["profile"], row["bucket"], row["filepath"]) == ("p", "b", "dir/key")
    assert (row["current_state"], row["owner"], row["retry_count"]) == ("processing", None, 0)
    assert row["next_attempt_at"] == row["created_at"] == utc_text(START)
    assert house.spool.identify(row["spool_path"]) == (
        row["device"],
        row["inode"],
        row["size"],
        row["mtime_ns"],
    )
    created = utc_moment(row["file_creation_date"])
    assert abs((datetime.now(timezone.utc) - created).total_seconds()) < 60
    assert house.enqueued == [("p", "b", [row["id"]])]


def test_the_row_of_flood_put_is_adopted(house: House) -> None:
    identity = house.write("incoming/p/b/key")
    [record_id] = records.put_begun(
        [Arrival("p", "b", "key", "incoming_tmp/x", identity, START)], START
    )
    admit(house, "incoming/p/b/key")
    assert [row["id"] for row in house.rows()] == [record_id]
    assert house.enqueued == [("p", "b", [record_id])]


@pytest.mark.parametrize("path", ["incoming/key", "incoming/p/key"])
def test_outside_a_bucket_it_stays(
    house: House, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.write(path)
    intake = house.intake()
    for _ in range(2):
        assert admit(house, path, intake=intake) == Result()
    assert [record.facts["path"] for record in caplog.records] == [path]  # type: ignore[attr-defined]  # flood.log's
    assert list(house.files()) == [path]


def test_the_database_is_not_taken_in_under_another_name(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.write("incoming/p/b/key")
    os.link(house.database, house.spool.absolute("incoming/p/b/linked"))
    for _ in range(2):
        house.recover()
    assert [row["filepath"] for row in house.rows()] == ["key"]
    told = [vars(one) for one in caplog.records if one.getMessage() == "left alone"]
    assert told
    assert all("flood's own database" in str(each) for each in told)


def test_an_unknown_profile_stays_until_the_credentials_have_it(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.write("incoming/new/b/key")
    profiles = {"p"}
    intake = house.intake(profiles=lambda: profiles)
    for _ in range(2):
        assert admit(house, "incoming/new/b/key", intake=intake) == Result()
    assert len(caplog.records) == 1
    assert "have no profile 'new': add it to their file" in TextFormatter().format(
        caplog.records[0]
    )
    profiles.add("new")
    assert admit(house, "incoming/new/b/key", intake=intake).admitted == 1


def test_a_profile_that_cannot_be_is_told_of_as_its_name_is(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.write("incoming/bad\udcff/b/key")
    assert admit(house, "incoming/bad\udcff/b/key") == Result()
    [told] = caplog.records
    reason = "have no profile 'bad{}': no profile can have that name, move it below one"
    assert reason.format(r"\udcff") in TextFormatter().format(told)
    assert reason.format(r"\xff") in json.loads(JsonFormatter().format(told))["reason"]


def test_what_is_no_regular_file_is_left_with_one_warning(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.write("completed/p/b/secret")
    bucket = house.spool.absolute("incoming/p/b")
    os.makedirs(f"{bucket}/directory")
    os.symlink(house.spool.absolute("completed/p/b/secret"), f"{bucket}/link")
    os.symlink("nowhere", f"{bucket}/dangling")
    os.mkfifo(f"{bucket}/fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(bucket, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    names = ["directory", "link", "dangling", "fifo", "socket"]
    intake = house.intake()
    for _ in range(3):
        assert admit(house, *(f"incoming/p/b/{name}" for name in names), intake=intake) == Result()
    assert [record.facts["path"] for record in caplog.records] == [  # type: ignore[attr-defined]  # flood.log's
        f"incoming/p/b/{name}" for name in names
    ]
    assert sorted(os.listdir(bucket)) == sorted(names)
    assert house.rows() == []


def test_temporary_names_wait_for_their_final_one(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    intake = house.intake(now=lambda: datetime.now(timezone.utc))
    house.write("incoming/p/b/movie.part")
    house.write("incoming/p/b/x.part/file")  # only the last component counts
    result = admit(house, "incoming/p/b/movie.part", "incoming/p/b/x.part/file", intake=intake)
    assert result == Result(admitted=1)
    assert caplog.records == []
    old = datetime.now(timezone.utc).timestamp() - FORGOTTEN - 10
    os.utime(house.spool.absolute("incoming/p/b/movie.part"), (old, old))
    for _ in range(2):
        admit(house, "incoming/p/b/movie.part", intake=intake)
    assert len(caplog.records) == 1
    assert "incoming/p/b/movie.part" in house.files()


def test_what_vanishes_is_no_news(house: House, caplog: pytest.LogCaptureFixture) -> None:
    assert admit(house, "incoming/p/b/gone", "incoming/p/b/gone/too") == Result()
    assert caplog.records == []


def test_an_open_file_waits(house: House) -> None:
    house.write("incoming/p/b/key")
    with open(house.spool.absolute("incoming/p/b/key"), "ab"):
        assert whys(admit(house, "incoming/p/b/key")) == {"incoming/p/b/key": Why.WRITING}
    assert admit(house, "incoming/p/b/key").admitted == 1


def test_an_earlier_version_holds_a_newer_one_back(house: House) -> None:
    house.admit("key", data=b"old")
    house.write("incoming/p/b/key", b"new")
    house.write("incoming/p/b/other", b"other")
    result = admit(house, "incoming/p/b/key", "incoming/p/b/other")
    assert result.admitted == 1
    assert whys(result) == {"incoming/p/b/key": Why.OCCUPIED}
    assert house.files() == {
        "processing/p/b/key": b"old",
        "processing/p/b/other": b"other",
        "incoming/p/b/key": b"new",
    }


@pytest.mark.parametrize(("first", "second"), [("x", "x/y"), ("x/y", "x"), ("x/y/z", "x")])
def test_a_file_where_a_directory_is_needed_waits(house: House, first: str, second: str) -> None:
    house.admit(first)
    house.write(f"incoming/p/b/{second}.tmp")
    os.rename(
        house.spool.absolute("incoming/p/b"), house.spool.absolute("incoming/p/aside")
    )  # what the first left in incoming is in the way there, too
    os.makedirs(os.path.dirname(house.spool.absolute(f"incoming/p/b/{second}")))
    house.write(f"incoming/p/b/{second}")
    path = f"incoming/p/b/{second}"
    assert whys(admit(house, path)) == {path: Why.OCCUPIED}


def test_empty_directories_in_processing_are_in_nobodys_way(house: House) -> None:
    """They are left where somebody took the file in them away."""
    house.admit("x/y/z")
    os.unlink(house.spool.absolute("processing/p/b/x/y/z"))
    house.spool.remove_empty("incoming")
    assert house.admit("x")
    assert list(house.files()) == ["processing/p/b/x"]


@pytest.mark.parametrize("seconds", [-(2**31), 2**33, 253370764800])
def test_odd_times_are_no_trouble(house: House, seconds: int) -> None:
    house.write("incoming/p/b/key")
    os.utime(house.spool.absolute("incoming/p/b/key"), (seconds, seconds))
    assert admit(house, "incoming/p/b/key").admitted == 1
    [claim] = house.claim()
    assert claim.identity == house.spool.identify(claim.path)
    house.recover()
    assert len(house.rows()) == 1


def test_a_name_that_fits_only_incoming_fails_alone(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Below processing the whole path is two bytes longer."""
    top = len(os.fsencode(house.spool.absolute("incoming/p/b/")))
    parts = "d" * 200
    left = 4095 - top
    deep = "/".join([parts] * (left // 201 - 1))
    deep += "/" + "f" * (left - len(deep) - 1)
    name = deep.rpartition("/")[2]
    if len(name) > 255:
        deep = f"{deep[: -len(name)]}{name[:150]}/{name[151:]}"
    house.write(f"incoming/p/b/{deep}")
    house.write("incoming/p/b/neighbour")
    result = admit(house, f"incoming/p/b/{deep}", "incoming/p/b/neighbour")
    assert result.admitted == 1
    assert whys(result) == {}, "it is told of, and the next scan looks again"
    assert any("more than 4095 bytes" in record.facts["reason"] for record in caplog.records)  # type: ignore[attr-defined]  # flood.log's


# --- tasks -------------------------------------------------------------------------------------


def test_what_arrives_together_is_enqueued_together(house: House) -> None:
    keys = [f"{n}" for n in range(TASK_FILES + 1)]
    ids = house.admit(*keys)
    assert [task[2] for task in house.enqueued] == [ids[:TASK_FILES], ids[TASK_FILES:]]


def test_large_files_and_other_buckets_have_tasks_of_their_own(house: House) -> None:
    sizes = {"b/small-1": 1, "b/large": LARGE, "b/small-2": 1, "c/small-3": 1}
    for key, size in sizes.items():
        house.write(f"incoming/p/{key}")
        os.truncate(house.spool.absolute(f"incoming/p/{key}"), size)
    admit(house, *(f"incoming/p/{key}" for key in sizes))
    names = {row["id"]: f"{row['bucket']}/{row['filepath']}" for row in house.rows()}
    tasks = [(bucket, [names[one] for one in ids]) for _, bucket, ids in house.enqueued]
    assert sorted(tasks) == [
        ("b", ["b/large"]),
        ("b", ["b/small-1", "b/small-2"]),
        ("c", ["c/small-3"]),
    ]


def test_a_task_has_its_bytes(house: House) -> None:
    fitting = TASK_BYTES // (LARGE - 1)
    keys = [f"{n}" for n in range(fitting + 2)]
    for key in keys:
        house.write(f"incoming/p/b/{key}")
        os.truncate(house.spool.absolute(f"incoming/p/b/{key}"), LARGE - 1)
    admit(house, *(f"incoming/p/b/{key}" for key in keys))
    assert [len(ids) for _, _, ids in house.enqueued] == [fitting, 2]


def test_a_full_batch_is_a_transaction(house: House) -> None:
    keys = [f"{n}" for n in range(BATCH + 1)]
    assert len(house.admit(*keys)) == BATCH + 1
    assert len(house.rows()) == BATCH + 1


# --- what recovery finds -----------------------------------------------------------------------


@pytest.mark.parametrize("state", [None, "incoming_tmp", "incoming"])
def test_s2_taken_then_a_crash(house: House, state: str | None) -> None:
    identity = house.write("processing/p/b/key")
    known = []
    if state:
        arrival = Arrival("p", "b", "key", f"{state}/p/b/key", identity, START)
        known = records.put_begun([arrival], START)
        if state == "incoming":
            records.put_arrived(known[0], arrival.path, START)
    house.recover()
    [row] = house.rows()
    assert (row["current_state"], row["spool_path"]) == ("processing", "processing/p/b/key")
    assert known in ([], [row["id"]])
    assert house.enqueued == [("p", "b", [row["id"]])]
    house.recover()
    assert house.rows() == [row]
    assert len(house.enqueued) == 1


@pytest.mark.parametrize("place", ["processing", "incoming"])
@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_s12_the_row_ran_ahead_of_its_file(
    house: House, place: str, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    [record_id] = house.admit("key")
    [claim] = house.claim()
    if outcome == "completed":
        records.complete(claim, "completed/p/b/key", Proof("e", None, None, 4), AFTER)
    else:
        records.fail(claim, "failed/p/b/key", records.VANISHED, AFTER)
    if place == "incoming":
        house.spool.move("processing/p/b/key", "incoming/p/b/key")
    house.recover()
    assert [(row["id"], row["current_state"]) for row in house.rows()] == [
        (record_id, "processing")
    ]
    assert list(house.files()) == ["processing/p/b/key"]
    [line] = [JsonFormatter().format(one) for one in caplog.records if one.msg == "went back"]
    assert f'"event": "went back", "record": {record_id},' in line  # as `tests.invariants` has it
    assert f'"from": "{outcome}", "to": "processing"' in line


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_what_somebody_moved_back_gets_a_new_row(house: House, outcome: str) -> None:
    """Unlike S12, its change time is later than its row's."""
    house.admit("key")
    [claim] = house.claim()
    if outcome == "completed":
        records.complete(claim, "completed/p/b/key", Proof("e", None, None, 4), START)
    else:
        records.fail(claim, "failed/p/b/key", records.VANISHED, START)
    house.spool.move("processing/p/b/key", "incoming/p/b/key")
    house.recover()
    assert [row["current_state"] for row in house.rows()] == [outcome, "processing"]


@pytest.mark.parametrize(("state", "outcome"), [("completed", "success"), ("failed", "failure")])
def test_s7_and_s9_come_to_light_when_the_next_version_arrives(
    house: House, state: str, outcome: str
) -> None:
    [first] = house.admit("key")
    house.claim()
    house.spool.move("processing/p/b/key", f"{state}/p/b/key")
    [second] = house.admit("key", data=b"second")
    assert house.row(first)["current_state"] == state
    assert house.row(first)["upload_outcome"] == outcome
    assert house.row(first)["spool_path"] == f"{state}/p/b/key"
    assert house.row(second)["current_state"] == "processing"
    assert len(house.attempts(first)) == 1


def test_s12_the_older_file_that_the_newer_one_waits_for_is_taken_up(house: House) -> None:
    """The scan passed over it, as the newer version's claim was a dead worker's yet."""
    [older] = house.admit("key", data=b"old")
    [claim] = house.claim()
    house.spool.move("processing/p/b/key", "completed/p/b/key")
    records.complete(claim, "completed/p/b/key", Proof("e", None, None, 3), AFTER)
    [newer] = house.admit("key", data=b"new")
    [claim] = house.claim()
    house.spool.move("processing/p/b/key", "incoming/p/b/key")
    house.spool.move("completed/p/b/key", "processing/p/b/key")
    house.recover()
    intake = house.intake()
    assert house.row(older)["current_state"] == "completed"
    house.settle(Missing(claim))
    candidate = Candidate("incoming/p/b/key", ahead=True)
    intake.admit([(candidate, None)])
    intake.take_up_stranded()
    assert house.files() == {"processing/p/b/key": b"old", "incoming/p/b/key": b"new"}
    assert [state for _, state, _ in house.states()] == ["processing", "incoming"]
    [claim] = house.claim()
    house.spool.move("processing/p/b/key", "completed/p/b/key")
    records.complete(claim, "completed/p/b/key", Proof("e", None, None, 3), AFTER)
    intake.admit([(candidate, None)])
    assert house.states()[1] == ("key", "processing", None)
    assert [claim.id for claim in house.claim()] == [newer]


def test_s12_a_row_that_goes_back_twice_keeps_its_place(house: House) -> None:
    """A quick version came, and was uploaded, while flood-put copied a large one of its key."""

    def complete(name: str) -> None:
        [claim] = house.claim()
        house.spool.move("processing/p/b/key", f"completed/p/b/{name}")
        records.complete(claim, f"completed/p/b/{name}", Proof("e", None, None, 3), AFTER)

    identity = house.write("incoming_tmp/p/b/key", b"large")
    put = Arrival("p", "b", "key", "incoming_tmp/p/b/key", identity, START)
    [large] = records.put_begun([put], house.clock.now())
    [quick] = house.admit("key", data=b"quick")
    complete("key")
    house.spool.move("incoming_tmp/p/b/key", "incoming/p/b/key")
    records.put_arrived(large, "incoming/p/b/key", house.clock.now())
    house.intake().admit([(Candidate("incoming/p/b/key"), None)])
    place = house.row(large)["arrival"]
    assert place is not None
    house.spool.move("processing/p/b/key", "incoming/p/b/key")
    house.spool.move("completed/p/b/key", "processing/p/b/key")
    house.recover()
    assert house.states() == [("key", "incoming", None), ("key", "processing", None)]
    complete("key.~2~")
    house.intake().admit([(Candidate("incoming/p/b/key", ahead=True), None)])
    assert house.row(large)["arrival"] == place
    newer = versions.newer(quick)
    assert newer is not None
    assert newer.record == large


def test_s12_a_row_in_processing_whose_file_is_in_incoming(house: House) -> None:
    [record_id] = house.admit("key")
    house.spool.move("processing/p/b/key", "incoming/p/b/key")
    house.recover()
    assert [row["id"] for row in house.rows()] == [record_id]
    assert list(house.files()) == ["processing/p/b/key"]


@pytest.mark.parametrize("incoming_first", [True, False])
@pytest.mark.parametrize("newer", ["processing", "completed"])
def test_s12_both_rows_go_back_where_a_newer_versions_ran_ahead_too(
    house: House, newer: str, incoming_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def complete(key: str = "key") -> None:
        [claim] = house.claim()
        records.complete(claim, f"completed/p/b/{key}", Proof("e", None, None, 3), AFTER)

    [first] = house.admit("key", data=b"old")
    house.spool.move("processing/p/b/key", "completed/p/b/key")
    complete()
    [second] = house.admit("key", data=b"new")
    if newer == "completed":
        complete("key.~2~")
    house.spool.move("processing/p/b/key", "incoming/p/b/key")
    house.spool.move("completed/p/b/key", "processing/p/b/key")
    caplog.clear()
    house.recover(incoming_first=incoming_first)
    assert house.files() == {"processing/p/b/key": b"old", "incoming/p/b/key": b"new"}
    waits = "incoming" if newer == "processing" else "completed"
    assert [state for _, state, _ in house.states()] == ["processing", waits]
    complete()
    house.spool.move("processing/p/b/key", "completed/p/b/key")
    house.intake().admit([(Candidate("incoming/p/b/key", ahead=True), None)])
    assert [row["id"] for row in house.rows()] == [first, second]
    assert [state for _, state, _ in house.states()] == ["completed", "processing"]
    assert house.files() == {"processing/p/b/key": b"new", "completed/p/b/key": b"old"}
    told = [record.getMessage() for record in caplog.records]
    assert told.count("went back") == 2
    assert "failed" not in told


def test_a_file_that_enters_again_gets_a_new_row(house: House) -> None:
    [first] = house.admit("key")
    [claim] = house.claim()
    records.complete(claim, "completed/p/b/key", Proof("e", None, None, 4), START)
    house.spool.move("processing/p/b/key", "completed/p/b/key")
    house.write("incoming/p/b/key")
    house.recover()
    assert [row["current_state"] for row in house.rows()] == ["completed", "processing"]
    assert house.row(first)["upload_outcome"] == "success"


def test_content_that_changed_in_processing_keeps_its_row(house: House) -> None:
    [record_id] = house.admit("key")
    with open(house.spool.absolute("processing/p/b/key"), "ab") as file:
        file.write(b"more")
    house.recover()
    assert [row["id"] for row in house.rows()] == [record_id]


@pytest.mark.parametrize("how", ["incoming", "processing"])
def test_a_newer_file_waits_until_the_upload_of_one_that_was_taken_away_has_ended(
    house: House, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Else two workers were at one key, and the older version might arrive last."""
    [record_id] = house.admit("key")
    [claim] = house.claim()
    os.rename(house.spool.absolute("processing/p/b/key"), f"{house.spool.root}/aside")
    house.write(f"{how}/p/b/key", b"newer")
    for _ in range(2):
        house.recover()
        assert [row["id"] for row in house.rows()] == [record_id]
        assert house.claimed() == [claim]
    assert list(house.files()) == ["aside", f"{how}/p/b/key"]
    house.settle(Missing(claim))
    house.recover()
    assert house.states() == [("key", "failed", "failure"), ("key", "processing", None)]
    assert len(house.attempts(record_id)) == 1
    told = [one for one in caplog.records if one.getMessage() == "failed"]
    assert [one.name for one in told] == ["workers.settle"]


def test_the_end_of_a_record_whose_file_was_taken_away_is_told(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    [record_id] = house.admit("key")
    os.rename(house.spool.absolute("processing/p/b/key"), f"{house.spool.root}/aside")
    house.admit("key", data=b"newer")
    [told] = [one for one in caplog.records if one.getMessage() == "failed"]
    facts = told.facts  # type: ignore[attr-defined]  # flood's own
    assert (facts["record"], facts["error"], facts["to"]) == (record_id, "vanished", "failed")


def test_what_is_no_file_in_processing_is_named_to_those_who_wait_for_it(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    os.makedirs(house.spool.absolute("processing/p/b"))
    os.mkfifo(house.spool.absolute("processing/p/b/key"))
    house.write("incoming/p/b/key")
    house.write("incoming/p/b/taken")
    intake = house.intake()
    assert admit(house, "incoming/p/b/taken", intake=intake).admitted == 1
    caplog.clear()
    result = admit(house, "incoming/p/b/key", intake=intake)
    assert [why for _, why, _ in result.later] == [Why.OCCUPIED]
    for key in ("key", "taken"):
        intake.door.tell_of_oddity(f"incoming/p/b/{key}")
    [told] = caplog.records
    facts = told.facts  # type: ignore[attr-defined]  # flood's own
    assert facts["path"] == "processing/p/b/key"
    assert "FIFO" in facts["reason"]


def test_a_file_in_processing_that_belongs_to_no_bucket_is_named(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.write("processing/top")
    intake = house.intake()
    for _ in range(2):
        intake.take_up(house.found("processing"))
    assert [one.facts["path"] for one in caplog.records] == ["processing/top"]  # type: ignore[attr-defined]  # flood's own


def test_another_file_in_processing_gets_a_row(house: House) -> None:
    [record_id] = house.admit("key")
    os.rename(
        house.spool.absolute("processing/p/b/key"), house.spool.absolute("processing/p/b/aside")
    )
    house.write("processing/p/b/key", b"another")
    house.recover()
    assert house.row(record_id)["error_code"] == "vanished"
    assert [row["filepath"] for row in house.rows("current_state = 'processing'")] == [
        "aside",
        "key",
    ] or [row["filepath"] for row in house.rows("current_state = 'processing'")] == ["key", "aside"]


def test_a_name_that_is_left_alone_in_incoming_is_a_file_as_any_other_in_processing(
    house: House,
) -> None:
    """It may have been taken before the patterns were others: to leave it would be to lose it."""
    for state in ("incoming", "processing"):
        house.write(f"{state}/p/b/dir/.keep.part")
    house.recover()
    [row] = house.rows()
    assert (row["current_state"], row["filepath"]) == ("processing", "dir/.keep.part")
    os.unlink(house.spool.absolute("processing/p/b/dir/.keep.part"))
    assert admit(house, "incoming/p/b/dir/.keep.part") == Result()
    assert set(house.files()) == {"incoming/p/b/dir/.keep.part"}


def test_a_refused_transaction_is_made_good_by_the_second_try(house: House) -> None:
    def refuse(*_task: object) -> None:
        raise OSError("no room")

    for key in ("one", "two"):
        house.write(f"incoming/p/b/{key}")
    intake = house.intake(enqueue=refuse)
    with pytest.raises(OSError, match="no room"):
        admit(house, "incoming/p/b/one", "incoming/p/b/two", intake=intake)
    assert house.rows() == []
    assert intake.stranded == ["processing/p/b/one", "processing/p/b/two"]
    with pytest.raises(OSError, match="no room"):
        intake.take_up_stranded()
    os.unlink(house.spool.absolute("processing/p/b/two"))
    working = house.intake()
    working.stranded = intake.stranded
    working.take_up_stranded()
    assert working.stranded == []
    assert [row["filepath"] for row in house.rows()] == ["one"]
    assert len(house.enqueued) == 1


# --- deaths ------------------------------------------------------------------------------------

STEPS = ("_transaction", "_move", "_rename", "_record", "take_up", "_back", "put_back", "write")
TWO = ("incoming/p/b/dir/one", "incoming/p/b/two")


def assert_whole(house: House, contents: set[bytes]) -> None:
    """Every file is in processing, with exactly one row that waits for it."""
    files = house.files()
    assert set(files.values()) == contents
    assert all(path.startswith("processing/") for path in files)
    rows = house.rows()
    assert sorted(row["spool_path"] for row in rows) == sorted(files)
    for row in rows:
        assert (row["current_state"], row["owner"]) == ("processing", None)
        assert house.spool.identify(row["spool_path"]) == (
            row["device"],
            row["inode"],
            row["size"],
            row["mtime_ns"],
        )


def test_admitting_may_die_at_any_line() -> None:
    """S1, S2, S3: wherever it dies, the next start brings rows to where the files are."""

    def arrange(house: House) -> None:
        house.write("incoming/p/b/dir/one", b"1")
        identity = house.write("incoming/p/b/two", b"2")
        arrival = Arrival("p", "b", "two", "incoming/p/b/two", identity, START)
        records.put_begun([arrival], START)
        models.close()

    died = 0
    for house in deaths(lambda house: admit(house, *TWO), arrange, STEPS):
        house.recover()
        assert_whole(house, {b"1", b"2"})
        assert len(house.rows()) == 2
        died += 1
    assert died > 5


def test_recovering_may_die_at_any_line() -> None:
    """S2, S12: recovery is as mortal as what it recovers from."""

    def arrange(house: House) -> None:
        house.write("processing/p/b/dir/one", b"1")
        house.admit("two", data=b"2")
        [claim] = house.claim()
        records.complete(claim, "completed/p/b/two", Proof("e", None, None, 1), AFTER)
        models.close()

    for house in deaths(House.recover, arrange, STEPS):
        house.recover()
        assert_whole(house, {b"1", b"2"})
        assert len(house.rows()) == 2


def test_a_newer_version_overtakes_no_file_without_a_record_whoever_dies() -> None:
    """S2, while its newer version is looked at before it."""

    def arrange(house: House) -> None:
        house.write("processing/p/b/key", b"old")
        house.write("incoming/p/b/key", b"new")
        models.close()

    died = 0
    for house in deaths(lambda house: house.recover(incoming_first=True), arrange, STEPS):
        house.recover(incoming_first=True)
        assert house.files() == {"processing/p/b/key": b"old", "incoming/p/b/key": b"new"}
        [row] = house.rows()
        identity = house.spool.identify("processing/p/b/key")
        assert identity is not None
        assert (row["current_state"], row["inode"]) == ("processing", identity.inode)
        died += 1
    assert died > 3


class Interrupted(Spool):
    """A spool whose process is told to end in the middle of a batch."""

    moves = 0

    def move(self, source: str, target: str) -> None:
        self.moves += 1
        if self.moves == 2:
            raise KeyboardInterrupt
        super().move(source, target)


def test_an_interrupt_in_the_middle_of_a_batch_loses_nothing(house: House) -> None:
    """S2: rows are undone while the first file has been moved already."""
    for path in TWO:
        house.write(path, path.encode())
    intake = house.intake(Interrupted(house.spool.root))
    with pytest.raises(KeyboardInterrupt):
        admit(house, *TWO, intake=intake)
    assert house.rows() == []
    assert sorted(house.files()) == ["incoming/p/b/two", "processing/p/b/dir/one"]
    house.recover()
    assert_whole(house, {path.encode() for path in TWO})


# --- names -------------------------------------------------------------------------------------

parts = st.binary(min_size=1, max_size=60).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


@settings(max_examples=60, deadline=None)
@given(st.lists(parts, min_size=1, max_size=3).map(b"/".join))
def test_any_name_is_admitted_and_claimed_as_it_is(name: bytes) -> None:
    key = os.fsdecode(name)
    with quick_house() as house:
        intake = house.intake(ignore=[])
        house.write(f"incoming/p/b/{key}", name)
        assert admit(house, f"incoming/p/b/{key}", intake=intake).admitted == 1
        [claim] = house.claim()
        assert claim.key == key
        descriptor, identity = house.spool.open(claim.path)
        os.close(descriptor)
        assert identity == claim.identity
        house.recover()
        assert len(house.rows()) == 1
