"""What flood-status tells of a key where directories, or files of nobody, have its name."""

import json
import os
import time
from datetime import datetime, timedelta, timezone

import pytest

from flood import departures, models, records, retry_choice
from flood.door import Candidate
from flood.locks import CONSUMERS_LOCK, FileLock
from flood.record_values import Arrival, Reason
from flood.retry_choice import Choice
from flood.states import COMPLETED, FAILED, INCOMING_TMP, PERMANENT, PROCESSING, STATES
from flood.status import DUE
from flood.stored import utc_moment
from flood.story_text import as_json
from tests.fscking import fsck
from tests.spooling import START, House, quick_house
from tests.unit.test_fsck import done, given_up, move
from tests.unit.test_settle import Full, proven
from tests.unit.test_status import AWAY, a_watch, seen, told
from workers.decisions import GiveUp, Missing, TryAgain

DENIED = Reason(PERMANENT, "AccessDenied", "the access key may not write there; let it")
BEHIND = "waits for an earlier file of this key, in processing, which no record has there yet"


@pytest.mark.parametrize("state", STATES)
def test_a_directory_is_no_file(house: House, state: str) -> None:
    house.write(f"{state}/p/b/key/below")
    text, found = told(house)
    assert not found.known
    assert f"\n  {state}/p/b/key is a directory" in text
    assert "lies in" not in text
    assert "next" not in text
    program = json.loads(as_json(found))
    assert program["directories"] == [f"{state}/p/b/key"]
    assert (program["lies_in"], program["arriving"], program["strays"]) == ([], None, [])


def test_a_record_that_was_made_again_does_not_say_when_the_file_came(house: House) -> None:
    done(house, "done")
    given_up(house, "bad")
    models.close()
    os.unlink(house.database)
    # The files lie where they are by the kernel's clock: the repair is later.
    house.clock.moment = datetime.now(timezone.utc) + timedelta(hours=3)
    repaired = house.clock.now()
    fsck(house, repair=True)
    for key, state in (("done", "completed"), ("bad", "failed")):
        text, found = told(house, f"s3://p/b/{key}")
        [record] = [chapter.record for chapter in found.chapters]
        assert record.settled is not None
        assert record.settled < record.made == repaired
        shown = f"{repaired.astimezone():%Y-%m-%d %H:%M:%S %Z}"
        came = f"nobody knows when: flood-fsck made this record again at {shown}, the file is of "
        assert f"\n  came      {came}" in text
        assert f"\n  {state:<9} {record.settled.astimezone():%Y-%m-%d %H:%M:%S %Z}: its" in text
    [failure] = seen(house).failures
    [chosen] = retry_choice.failed(Choice(), house.clock.now())
    assert failure.newest == utc_moment(chosen.since) == record.settled


def test_a_file_that_waits_keeps_its_age_where_its_record_is_made_again(house: House) -> None:
    done(house, "done")
    for key in ("z", "a"):
        house.admit(key)
        time.sleep(0.05)  # the kernel's clock ticks
    models.close()
    os.unlink(house.database)
    came = [house.spool.changed_at(f"processing/p/b/{key}") for key in ("z", "a")]
    house.clock.moment = datetime.now(timezone.utc) + timedelta(hours=2)
    fsck(house, repair=True)
    rows = house.rows("current_state = 'processing'")
    assert [row["filepath"] for row in rows] == ["z", "a"]
    assert [utc_moment(row["created_at"]) for row in rows] == came
    [chapter] = told(house, "s3://p/b/a")[1].chapters
    assert chapter.record.made == came[1]
    found = seen(house)
    assert found.amounts["p", "b"][DUE].oldest == came[0]
    assert found.ages["p", "b"] == [0, 0, 0, 0, 2, 0, 0]  # three hours at most


def test_a_record_that_is_made_again_is_no_older_than_the_one_before(house: House) -> None:
    [lost] = house.admit("lost")
    house.clock.moment = datetime.now(timezone.utc) + timedelta(hours=1)
    [last] = house.admit("last")
    models.execute("DELETE FROM file_records WHERE id = ?", (lost,))
    house.clock.advance(60)
    house.recover()
    [again] = house.rows("filepath = 'lost'")
    assert again["created_at"] == house.row(last)["created_at"]


def test_a_file_of_the_time_to_come_came_now(house: House) -> None:
    house.write("processing/p/b/key")
    house.recover()
    [row] = house.rows()
    assert utc_moment(row["created_at"]) == START < house.spool.changed_at("processing/p/b/key")


def test_a_directory_that_has_a_files_name(house: House) -> None:
    house.admit("key")
    house.settle(GiveUp(house.claim()[0], DENIED))
    os.unlink(house.spool.absolute("failed/p/b/key"))
    house.write("failed/p/b/key/below")
    house.write("incoming/p/b/key/below")
    text, found = told(house)
    assert found.known
    assert "incoming/p/b/key is a directory\n  failed/p/b/key is a directory" in text
    assert "next      nothing: its file is not in failed any more" in text
    assert [chapter.present for chapter in found.chapters] == [False]
    assert found.arriving is None


def test_what_a_directory_of_its_name_keeps_in_incoming(house: House) -> None:
    house.write("incoming/p/b/key")
    house.write("processing/p/b/key/below")
    text, found = told(house)
    assert "lies in incoming/p/b/key\n  processing/p/b/key is a directory" in text
    assert found.arriving is not None
    assert "until the directory of its name in processing is gone" in found.arriving


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("incoming_tmp", "the next start of flood-watch deletes it"),
        ("processing", "the next start of flood-watch takes it up; at once: flood-watch --once -"),
        ("completed", "nothing tells whether it was uploaded; to have it uploaded, move it to inc"),
        ("failed", "moves it to incoming, where flood-watch takes it as a new file, or has a rec"),
    ],
)
def test_a_file_without_a_record_has_a_story_too(house: House, state: str, words: str) -> None:
    house.write(f"{state}/p/b/key")
    text, found = told(house, config="/c")
    assert found.known
    heading, last = text.split("\n")[-2:]
    assert heading == f"in {state}, without a record of this key"
    assert last.startswith("  next      ")
    assert words in last
    [stray] = json.loads(as_json(found))["strays"]
    assert (stray["path"], f"  next      {stray['next']}") == (f"{state}/p/b/key", last)
    if state == INCOMING_TMP:
        return
    mends = "flood-watch --once" if state == PROCESSING else "flood-fsck --repair"
    assert last.endswith(f"{mends} --config /c")
    fsck(house, repair=True)
    assert told(house)[1].strays == []


def test_who_takes_up_a_file_without_a_record_is_told() -> None:
    # On a filesystem whose device has one number for the table of locks, for stat(2).
    with quick_house() as house, a_watch(house) as stop:
        house.write("processing/p/b/key")
        takes = (
            "flood-watch takes it up when it looks through processing again, as a rule within "
            "--rescan-interval"
        )
        [stray] = told(house)[1].strays
        assert stray.next == f"{takes}; at once: flood-fsck --repair"
        pid = stop(True)
        [stray] = told(house)[1].strays
        goes_on = f"once it goes on, as it is stopped: kill -CONT {pid}"
        assert stray.next == f"{takes}, {goes_on}; at once: flood-fsck --repair"


def test_a_newer_version_waits_for_a_file_without_a_record() -> None:
    with quick_house() as house:
        house.write("processing/p/b/key", b"old")
        house.write("incoming/p/b/key", b"newer")
        then = "it is taken once that has ended and flood-watch runs; to start it: flood-watch --"
        found = told(house)[1]
        assert found.arriving is not None
        assert found.arriving.startswith(f"{BEHIND}; {then}")
        assert [one.path for one in found.strays] == ["processing/p/b/key"]
        with a_watch(house):
            assert told(house)[1].arriving == f"{BEHIND}; it is taken as soon as that has ended"
        fsck(house, repair=True)
        [record] = house.rows()
        found = told(house)[1]
        assert found.arriving is not None
        assert found.arriving.startswith(f"waits for record {record['id']}, an earlier file")
        assert found.strays == []


@pytest.mark.parametrize("newer", [False, True])
def test_a_record_that_does_not_say_yet_that_its_file_was_taken(house: House, newer: bool) -> None:
    path = "incoming_tmp/p/b/0123"
    [put] = records.put_begun([Arrival("p", "b", "key", path, house.write(path), START)], START)
    move(house, path, "processing/p/b/key")
    if newer:
        house.write("incoming/p/b/key", b"newer")
    found = told(house)[1]
    [chapter] = found.chapters
    assert (chapter.record.id, chapter.present, found.strays) == (put, False, [])
    assert chapter.next == (
        "it is in processing, as who took it died before the record said so; the next start of "
        "flood-watch takes it up; at once: flood-watch --once"
    )
    assert (found.arriving or "").startswith(BEHIND) == newer
    fsck(house, repair=True)
    assert [one["id"] for one in house.rows() if one["current_state"] == "processing"] == [put]


def test_a_link_without_a_record(house: House) -> None:
    os.makedirs(house.spool.absolute("failed/p/b"))
    os.symlink("elsewhere", house.spool.absolute("failed/p/b/key"))
    [stray] = told(house)[1].strays
    assert stray.next == "left alone, as it is no regular file but a symbolic link: remove it"


@pytest.mark.parametrize("state", STATES)
def test_no_link_is_followed_to_a_file(house: House, state: str) -> None:
    house.write(f"{state}/p/b/dir/key")
    os.symlink("dir", house.spool.absolute(f"{state}/p/b/link"))
    assert told(house, "s3://p/b/dir/key")[1].known
    found = told(house, "s3://p/b/link/key")[1]
    assert not found.known
    assert (found.lying, found.strays, found.arriving) == ([], [], None)
    os.makedirs(house.spool.absolute(f"{state}/p/b/dir/below"))
    assert told(house, "s3://p/b/link/below")[1].directories == []
    # The link itself lies there.
    assert told(house, "s3://p/b/link")[1].lying == [f"{state}/p/b/link"]


def test_a_file_that_has_a_record_is_no_stray(house: House) -> None:
    given_up(house, "key")
    done(house, "key")
    house.admit("key")
    assert told(house)[1].strays == []


def test_a_file_whose_place_was_taken_is_told_by_its_own_name(house: House) -> None:
    for _ in range(2):
        house.admit("key")
        house.settle(GiveUp(house.claim()[0], DENIED))
    [stray] = told(house, "s3://p/b/key.~2~")[1].strays
    assert stray.next == "it is the file of record 2, whose place was taken: s3://p/b/key"
    assert told(house)[1].strays == []


@pytest.mark.parametrize("state", ["completed", "failed"])
def test_a_record_that_is_behind_its_file(house: House, state: str) -> None:
    [record] = house.admit("key")
    house.claim()
    move(house, "processing/p/b/key", f"{state}/p/b/key")
    [stray] = told(house)[1].strays
    assert stray.next.startswith(f"record {record} is about to say so, at the latest with a cons")
    house.sweep()
    assert told(house)[1].strays == []
    # Another file is none of that record's.
    house.admit("other")
    house.write(f"{state}/p/b/other")
    assert "about to say so" not in told(house, "s3://p/b/other")[0]
    assert len(told(house, "s3://p/b/other")[1].strays) == 1


def test_what_lies_where_a_file_vanished_is_a_newer_one(house: House) -> None:
    """Its record asks for nothing, as there is nothing to put back."""
    [vanished] = house.admit("key")
    records.vanish(vanished, house.clock.now())
    move(house, "processing/p/b/key", "aside")
    assert told(house)[0].endswith("next      nothing: its file is gone")
    [newer] = house.admit("key")
    text, found = told(house)
    assert "flood-retry" not in text
    assert [(one.record.id, one.present) for one in found.chapters] == [
        (vanished, False),
        (newer, True),
    ]
    assert found.chapters[0].next == "nothing: its file is gone"
    assert [one["present"] for one in json.loads(as_json(found))["records"]] == [False, True]


def test_a_vanished_file_that_is_there_again(house: House) -> None:
    [vanished] = house.admit("key")
    records.vanish(vanished, house.clock.now())
    text, found = told(house)
    assert [one.present for one in found.chapters] == [True]
    assert "next      nothing: its file is there again, as one without a record" in text
    assert [one.path for one in found.strays] == ["processing/p/b/key"]
    house.recover()
    text, found = told(house)
    assert [one.present for one in found.chapters] == [False, True]
    assert "nothing: its file is gone" in text


def test_a_file_that_a_person_has_replaced_in_failed_goes_back(house: House) -> None:
    given_up(house, "key")
    house.write("failed/p/b/better")
    move(house, "failed/p/b/better", "failed/p/b/key")
    text, found = told(house)
    assert [one.present for one in found.chapters] == [True]
    assert text.endswith("then: flood-retry 1")


def test_a_file_that_came_back(house: House) -> None:
    given_up(house, "key")
    departures.leave([1], departures.GONE, house.clock.now())
    [stray] = told(house)[1].strays
    assert stray.next.startswith("record 1 says that it has left; to let it take it back: flood-f")
    fsck(house, repair=True)
    assert told(house)[1].strays == []


# --- what is only to be moved --------------------------------------------------------------------


def cannot_leave(house: House, *, uploaded: bool) -> str:
    """A file whose first attempt has failed, and that could not be moved after the next; where it
    lies."""
    house.admit("key")
    [claim] = house.claim()
    house.settle(TryAgain(claim, claim.identity, AWAY, 30.0))
    house.clock.advance(30.0)
    [claim] = house.claim()
    with proven(house, claim) as prove:
        ended = prove if uploaded else GiveUp(claim, DENIED)
        house.settle(ended, agent=house.agent(spool=Full(house.spool.root)))
    return claim.path


def next_of(house: House) -> tuple[str, str | None]:
    """What happens next to the one record of p/b/key, and where it has only to be moved to."""
    found = told(house)[1]
    [chapter] = found.chapters
    [record] = json.loads(as_json(found))["records"]
    assert (record["next"], record["move_to"]) == (chapter.next, chapter.move_to)
    return chapter.next, chapter.move_to


def test_what_is_uploaded_only_waits_for_its_move(house: House) -> None:
    path = cannot_leave(house, uploaded=True)
    at = (house.clock.now() + timedelta(seconds=60)).astimezone()
    words, move_to = next_of(house)
    said = (
        f"it is uploaded; the move to completed is tried again at {at:%Y-%m-%d %H:%M:%S %Z}, once"
    )
    assert words.startswith(said)
    assert move_to == COMPLETED
    [coming] = seen(house).retries
    assert (coming.move_to, coming.code) == (COMPLETED, "cannot_move")
    lock = FileLock(house.spool.absolute(CONSUMERS_LOCK))
    assert lock.try_shared()
    for seconds, taker in ((60, " whose credentials have the profile"), (61, "")):
        house.clock.advance(seconds)
        words, _ = next_of(house)
        assert words.startswith(
            f"it is uploaded; the next free worker{taker} moves it to completed"
        )
    lock.release()
    time.sleep(0.05)  # the kernel's clock ticks
    house.write(path, b"another")
    words, move_to = next_of(house)
    assert words.startswith("the next free worker whose credentials have the profile takes it")
    assert move_to is None


def test_what_was_given_up_only_waits_for_its_move(house: House) -> None:
    cannot_leave(house, uploaded=False)
    at = (house.clock.now() + timedelta(seconds=60)).astimezone()
    words, move_to = next_of(house)
    assert words.startswith(
        f"it was given up: {DENIED.message} (AccessDenied); the move to failed is tried again at "
        f"{at:%Y-%m-%d %H:%M:%S %Z}, once a consumer runs"
    )
    assert move_to == FAILED
    [coming] = seen(house).retries
    assert (coming.move_to, coming.code) == (FAILED, "cannot_move")
    assert coming.message == (
        f"it was given up ({DENIED.message}), and the file cannot leave processing "
        "(No space left on device): the move is tried again in 60 s"
    )
    assert house.row(1)["error_code"] == "AccessDenied"


def test_what_has_come_to_its_end_is_to_be_moved_nowhere(house: House) -> None:
    cannot_leave(house, uploaded=True)
    house.clock.advance(60)
    [claim] = house.claim()
    with proven(house, claim) as prove:
        house.settle(prove)
    assert next_of(house) == ("nothing: it is uploaded", None)
    assert house.row(claim.id)["error_code"] is None


# --- what waits for a file that is gone ----------------------------------------------------------

GONE = "its file is gone: the record fails as vanished"
START_IT = ", once a consumer runs; to start one: flood-watch --consumers 2"
REPAIR = "; at once: flood-fsck --repair"


def take_away(house: House, path: str) -> None:
    os.unlink(house.spool.absolute(path))
    assert "\n  lies nowhere in the spool any more\n" in told(house)[0]


def test_a_retry_whose_file_is_gone_says_what_it_comes_to(house: House) -> None:
    [record] = house.admit("key")
    [claim] = house.claim()
    house.settle(TryAgain(claim, claim.identity, AWAY, 30.0))
    take_away(house, claim.path)
    at = (house.clock.now() + timedelta(seconds=30)).astimezone()
    assert (
        next_of(house)[0] == f"{GONE} with retry 1, at {at:%Y-%m-%d %H:%M:%S %Z}{START_IT}{REPAIR}"
    )
    house.clock.advance(30.0)
    lock = FileLock(house.spool.absolute(CONSUMERS_LOCK))
    assert lock.try_shared()
    taker = "by the next free worker whose credentials have the profile"
    assert next_of(house)[0] == f"{GONE} with retry 1, {taker}{REPAIR}"
    lock.release()
    [claim] = house.claim()
    assert (
        next_of(house)[0] == f"its worker died, and {GONE} with a consumer's next sweep{START_IT}"
    )
    house.settle(Missing(claim))
    assert house.row(record)["error_code"] == "vanished"
    assert next_of(house)[0] == "nothing: its file is gone"


@pytest.mark.parametrize("uploaded", [True, False])
def test_what_only_waits_for_its_move_may_be_gone_too(house: House, uploaded: bool) -> None:
    take_away(house, cannot_leave(house, uploaded=uploaded))
    at = (house.clock.now() + timedelta(seconds=60)).astimezone()
    done, to = ("it is uploaded", COMPLETED)
    if not uploaded:
        done, to = (f"it was given up: {DENIED.message} (AccessDenied)", FAILED)
    assert next_of(house)[0] == (
        f"{done}; {GONE} with the move to {to}, at {at:%Y-%m-%d %H:%M:%S %Z}{START_IT}{REPAIR}"
    )
    house.clock.advance(60.0)
    house.settle(Missing(house.claim()[0]))
    assert house.row(1)["error_code"] == "vanished"


def test_a_repair_ends_at_once_what_waits_for_a_file_that_is_gone(house: House) -> None:
    [record] = house.admit("key")
    take_away(house, "processing/p/b/key")
    assert next_of(house)[0].startswith(f"{GONE} with the first attempt, by the next free worker")
    fsck(house, repair=True)
    assert house.row(record)["error_code"] == "vanished"


def test_a_sweep_ends_what_was_gone_before_it_was_taken(house: House) -> None:
    path = "incoming/p/b/key"
    [put] = records.put_begun([Arrival("p", "b", "key", path, house.write(path), START)], START)
    records.put_arrived(put, path, START)
    assert next_of(house)[0].startswith("waits for flood-watch")
    take_away(house, path)
    assert next_of(house)[0] == f"{GONE} with a consumer's next sweep{START_IT}"
    house.sweep()
    assert house.row(put)["error_code"] == "vanished"


TAKEN = "as flood-watch takes the newer version"
TAKES = "flood-watch takes it once nobody has it open for writing"


def a_newer_one_waits(house: House) -> datetime:
    """Behind a retry whose file somebody moved away; when that is due."""
    house.admit("key")
    [claim] = house.claim()
    house.settle(TryAgain(claim, claim.identity, AWAY, 30.0))
    house.write("incoming/p/b/key", b"newer")
    assert str(told(house)[1].arriving).startswith("waits for record 1, an earlier file")
    os.unlink(house.spool.absolute(claim.path))
    return (house.clock.now() + timedelta(seconds=30)).astimezone()


def test_a_newer_version_ends_what_waits_for_a_file_that_is_gone(house: House) -> None:
    at = a_newer_one_waits(house)
    retry = f"{GONE} with retry 1, at {at:%Y-%m-%d %H:%M:%S %Z}, or {TAKEN}"
    start = "to start it: flood-watch --consumers 2"
    assert next_of(house)[0] == f"{retry}, once it runs; {start}"
    assert told(house)[1].arriving == f"waits for flood-watch, which does not run; {start}"
    with a_watch(house) as stop:
        assert next_of(house)[0] == f"{GONE} {TAKEN}"
        assert str(told(house)[1].arriving).startswith(TAKES)
        pid = stop(True)
        stopped = f"once it goes on, as it is stopped: kill -CONT {pid}"
        assert next_of(house)[0] == f"{retry}, {stopped}"
        stop(False)
    [newer] = house.admit("key", data=b"newer")
    assert house.row(1)["error_code"] == "vanished"
    assert house.in_processing("key") == newer


def test_a_newer_version_with_a_record_ends_it_as_well(house: House) -> None:
    a_newer_one_waits(house)
    path = "incoming/p/b/key"
    newer = Arrival("p", "b", "key", path, house.write(path), START)
    [put] = records.put_begun([newer], START)
    records.put_arrived(put, path, START)
    with a_watch(house):
        first, second = (chapter.next for chapter in told(house)[1].chapters)
        assert first == f"{GONE} {TAKEN}"
        assert second.startswith(TAKES)


def test_what_is_not_taken_ends_nothing(house: House) -> None:
    at = a_newer_one_waits(house)
    retry = f"{GONE} with retry 1, at {at:%Y-%m-%d %H:%M:%S %Z}{START_IT}{REPAIR}"
    path = house.spool.absolute("incoming/p/b/key")
    os.rename(path, f"{path}.away")
    os.symlink(f"{path}.away", path)
    assert next_of(house)[0] == retry
    os.unlink(path)
    assert next_of(house)[0] == retry
    # A dead worker's record is ended by a sweep before.
    os.rename(f"{path}.away", path)
    house.clock.advance(30.0)
    house.claim()
    with a_watch(house):
        died = f"its worker died, and {GONE} with a consumer's next sweep"
        assert next_of(house)[0].startswith(died)
        assert str(told(house)[1].arriving).startswith("waits for record 1, an earlier file")


def test_a_newer_version_under_a_temporary_name_ends_nothing(house: House) -> None:
    """--ignore may be another one since the first was taken."""
    for data in (b"data", b"newer"):
        house.write("incoming/p/b/key.part", data)
        house.intake(ignore=[]).admit([(Candidate("incoming/p/b/key.part"), None)])
    os.unlink(house.spool.absolute("processing/p/b/key.part"))
    with a_watch(house):
        found = told(house, "s3://p/b/key.part")[1]
    assert str(found.arriving).startswith("left alone, as names like '*.part'")
    assert found.chapters[0].next.startswith(f"{GONE} with the first attempt, by")


def test_another_file_in_its_place_is_not_the_records(house: House) -> None:
    house.admit("key")
    house.write("processing/p/b/other")
    move(house, "processing/p/b/other", "processing/p/b/key")
    replaced = "another file lies in its place: the record fails as vanished with the first attempt"
    assert next_of(house)[0].startswith(f"{replaced}, by")
    house.write("incoming/p/b/key", b"newer")
    with a_watch(house):
        assert next_of(house)[0].startswith(f"{replaced}, by")
        assert str(told(house)[1].arriving).startswith("waits for record 1, an earlier file")
    os.unlink(house.spool.absolute("incoming/p/b/key"))
    fsck(house, repair=True)
    assert house.row(1)["error_code"] == "vanished"


@pytest.mark.parametrize(
    "path", ["incoming/p/b/key", "completed/p/b/key", "failed/p/b/key", "failed/p/b/key.~1~"]
)
def test_what_lies_elsewhere_is_not_gone(house: House, path: str) -> None:
    """A crash, or a power failure, may have left it there."""
    house.admit("key")
    move(house, "processing/p/b/key", path)
    assert "is gone" not in told(house)[0]
    os.utime(house.spool.absolute(path), ns=(1, 1))
    # A file of incoming is the record's only as a whole: the next one may have got its inode.
    assert ("is gone" in told(house)[0]) == path.startswith("incoming")
