"""What nobody wants to keep goes, nothing else does, whatever dies or meddles meanwhile."""

import math
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flood import departures, models, records, versions
from flood.columns import utc_text
from flood.errors import SpoolError
from flood.hollow import REST, hollow
from flood.record_values import Reason
from flood.removal import BATCH, Pruned
from flood.retention import Keeping, Retention
from flood.states import PERMANENT
from tests.fscking import CLEAN, consistent, fsck, names
from tests.spooling import House, deaths, full_database, meddlings, quick_house
from tests.unit.test_settle import proven, replace_file
from workers.decisions import GiveUp

DAY = 86_400.0
#: The way to a directory from its profile: names that "/" sorts between.
WAY = st.lists(st.sampled_from(["a", "a b", "a0", "b"]), min_size=1, max_size=4).map(tuple)

REFUSED = Reason(PERMANENT, "refused", "no")

#: The functions in which a process may die, or somebody meddle.
STEPS = {"_take", "_settle", "_discard", "_removed", "_records", "discard", "leave", "forget"}


def retention(house: House, **changes: Any) -> Retention:
    keep = {"completed": None, "failed": None, "records": None}
    rest = {key: changes.pop(key) for key in list(changes) if key not in keep}
    usual = {
        "now": house.clock.now,
        "clock": house.clock.seconds,
        "stopping": lambda: False,
        "running": house.running,
    }
    return Retention(
        house.spool, house.database, Keeping(**{**keep, **changes}), **{**usual, **rest}
    )


def prune(house: House, **changes: Any) -> Pruned:
    return retention(house, **changes).run(math.inf)


def complete(house: House, *keys: str) -> list[int]:
    """Have files proven, each with its receipt."""
    house.admit(*keys)
    claims = house.claim()
    with ExitStack() as stack:
        house.settle(*(stack.enter_context(proven(house, claim)) for claim in claims))
    return [claim.id for claim in claims]


def fail(house: House, *keys: str) -> list[int]:
    house.admit(*keys)
    claims = house.claim()
    house.settle(*(GiveUp(claim, REFUSED) for claim in claims))
    return [claim.id for claim in claims]


def left(house: House, record_id: int) -> str | None:
    how: str | None = house.row(record_id)["left_how"]
    return how


# --- files -------------------------------------------------------------------------------------


def test_a_proven_file_goes_when_its_time_is_over(house: House) -> None:
    [old] = complete(house, "dir/old")
    house.clock.advance(2 * DAY)
    [young] = complete(house, "dir/young")
    before = house.row(old)
    house.clock.advance(DAY)

    pruned = prune(house, completed=3 * DAY)

    assert (pruned.files, pruned.size) == ({"completed": 1, "failed": 0}, 4)
    assert house.files() == {"completed/p/b/dir/young": b"data"}
    changed = {"left_how": "removed", "left_at": utc_text(house.clock.now())}
    assert house.row(old) == {**before, **changed}
    assert left(house, young) is None
    assert len(house.attempts(old)) == 1


def test_nothing_goes_that_nobody_has_set_a_time_for(house: House) -> None:
    complete(house, "one")
    fail(house, "two")
    house.clock.advance(36_500 * DAY)
    before = house.files()
    assert prune(house).files == {"completed": 0, "failed": 0}
    assert prune(house, failed=None, completed=None, records=3600.0).records == 0
    assert house.files() == before
    assert len(house.rows()) == 2


def test_what_lies_in_failed_goes_only_where_its_owner_says_so(house: House) -> None:
    [record_id] = fail(house, "key")
    house.clock.advance(90 * DAY)
    prune(house, completed=0.0)
    assert house.files() == {"failed/p/b/key": b"data"}
    prune(house, failed=90 * DAY)
    assert house.files() == {}
    assert left(house, record_id) == "removed"


def altered(house: House, record_id: int) -> None:
    replace_file(house, house.row(record_id)["spool_path"], b"other")


def touched(house: House, record_id: int) -> None:
    os.utime(house.spool.absolute(house.row(record_id)["spool_path"]), (1, 1))


def without_receipt(_house: House, record_id: int) -> None:
    models.execute("UPDATE file_records SET etag = NULL WHERE id = ?", (record_id,))


def cut_short(_house: House, record_id: int) -> None:
    models.execute("UPDATE file_records SET bytes_sent = 3 WHERE id = ?", (record_id,))


def record_lost(_house: House, record_id: int) -> None:
    models.execute("UPDATE file_records SET upload_outcome = NULL WHERE id = ?", (record_id,))


def a_link(house: House, record_id: int) -> None:
    path = house.spool.absolute(house.row(record_id)["spool_path"])
    os.rename(path, f"{path}.real")
    os.symlink(f"{path}.real", path)


def a_directory(house: House, record_id: int) -> None:
    path = house.spool.absolute(house.row(record_id)["spool_path"])
    os.unlink(path)
    os.mkdir(path)


@pytest.mark.parametrize(
    "change",
    [altered, touched, without_receipt, cut_short, record_lost, a_link, a_directory],
)
def test_what_its_row_does_not_prove_stays(
    house: House, change: Callable[[House, int], None]
) -> None:
    [record_id, other] = complete(house, "key", "other")
    change(house, record_id)
    before = house.files()
    house.clock.advance(DAY)
    pruned = prune(house, completed=0.0)
    assert pruned.files["completed"] == 1
    assert sum(pruned.stay.values()) + len(pruned.failed) == 1
    del before["completed/p/b/other"]
    assert house.files() == before
    assert (left(house, record_id), left(house, other)) == (None, "removed")


def test_a_row_that_leads_out_of_the_spool_deletes_nothing(house: House) -> None:
    """Somebody has written into the database."""
    [record_id] = complete(house, "key")
    outside = house.spool.absolute("../outside")
    os.rename(house.spool.absolute("completed/p/b/key"), outside)
    for path in ("completed/../../outside", "completed/p/b/../../../../outside", outside, "x"):
        models.execute("UPDATE file_records SET spool_path = ?", (path,))
        house.clock.advance(DAY)
        assert prune(house, completed=0.0).files["completed"] == 0
    assert os.path.exists(outside)
    assert left(house, record_id) is None


def test_what_stays_is_in_nobodys_way(house: House) -> None:
    """Each run goes on where the last one has ended, with all that has to stay behind it."""
    stay = complete(house, *(f"stay{number}" for number in range(BATCH)))
    for record_id in stay:
        touched(house, record_id)
    house.clock.advance(1.0)
    go = complete(house, *(f"go{number}" for number in range(BATCH)))
    house.clock.advance(DAY)
    ticks = iter(range(1000))
    impatient = retention(house, completed=0.0, clock=lambda: next(ticks))
    for _ in range(3):
        impatient.run(3.0)
    assert {left(house, record_id) for record_id in go} == {"removed"}
    assert {left(house, record_id) for record_id in stay} == {None}


def test_a_run_ends_in_time_or_with_its_process(house: House) -> None:
    complete(house, *(f"{number}" for number in range(BATCH)))
    house.clock.advance(1.0)
    complete(house, *(f"more{number}" for number in range(BATCH)))
    assert prune(house, completed=0.0, stopping=lambda: True).files["completed"] == 0
    ticks = iter(range(1000))
    pruned = retention(house, completed=0.0, clock=lambda: next(ticks)).run(2.0)
    assert pruned.files["completed"] == BATCH


def test_a_file_that_was_taken_away_is_noted(house: House) -> None:
    [completed, failed] = [*complete(house, "completed"), *fail(house, "failed")]
    for path in list(house.files()):
        os.unlink(house.spool.absolute(path))
    prune(house)
    # Nobody asks for completed ones; those of failed are counted by people.
    assert (left(house, completed), left(house, failed)) == (None, "gone")
    prune(house, completed=0.0)
    assert left(house, completed) == "gone"


def test_a_file_in_whose_place_another_ones_lies_is_gone(house: House) -> None:
    [first] = fail(house, "key")
    os.unlink(house.spool.absolute("failed/p/b/key"))
    house.clock.advance(1.0)
    [second] = fail(house, "key")
    assert house.row(second)["spool_path"] == "failed/p/b/key"
    prune(house)
    assert (left(house, first), left(house, second)) == ("gone", None)
    assert house.files() == {"failed/p/b/key": b"data"}


def test_a_mended_file_in_failed_stays(house: House) -> None:
    [record_id] = fail(house, "key")
    altered(house, record_id)
    house.clock.advance(90 * DAY)
    prune(house, failed=DAY)
    assert left(house, record_id) is None
    assert house.files() == {"failed/p/b/key": b"other"}


def test_what_is_away_is_not_gone(house: House) -> None:
    """An unmounted disk leaves an empty directory behind."""
    [record_id] = complete(house, "key")
    house.clock.advance(DAY)
    root = house.spool.root
    os.rename(root, f"{root}.away")
    os.mkdir(root)
    with pytest.raises(SpoolError, match="is its disk mounted"):
        prune(house, completed=0.0, records=3600.0)
    assert left(house, record_id) is None
    os.rmdir(root)
    os.rename(f"{root}.away", root)
    house.sweep()
    assert prune(house, completed=0.0).files["completed"] == 1


def test_a_file_that_cannot_be_deleted_stays_and_is_told_of_once(
    house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    [record_id] = complete(house, "key")
    house.clock.advance(DAY)

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    once = retention(house, completed=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuse)  # root may delete whatever a test may make
        assert once.run(math.inf).failed == [("completed/p/b/key", "Operation not permitted")]
        once.run(math.inf)
    assert [line.getMessage() for line in caplog.records].count("cannot remove") == 1
    assert left(house, record_id) is None
    once.run(math.inf)
    assert left(house, record_id) == "removed"


def test_what_a_full_disk_cannot_note_is_told_and_noted_later(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    ids = complete(house, *(f"dir/{number}" for number in range(BATCH)))
    house.clock.advance(DAY)
    caplog.set_level("INFO", "flood.removal")
    pruned = Pruned()
    with full_database(), pytest.raises(models.DatabaseError, match="disk is full"):
        retention(house, completed=0.0).run(math.inf, pruned=pruned)
    assert house.files() == {}
    assert {left(house, record_id) for record_id in ids} == {None}
    assert (pruned.files["completed"], pruned.size, pruned.unnoted) == (BATCH, 4 * BATCH, BATCH)
    assert house.spool.subdirectories("completed/p/b") == []
    told = [one.getMessage() for one in caplog.records]
    assert told == ["removed"] * BATCH + ["not recorded"]
    assert caplog.records[-1].facts["files"] == BATCH  # type: ignore[attr-defined]  # flood.log's
    assert prune(house, completed=0.0).files["completed"] == 0
    assert {left(house, record_id) for record_id in ids} == {"gone"}


def test_the_sweep_deletes_what_is_due(house: House) -> None:
    complete(house, "key")
    house.clock.advance(DAY)
    agent = house.agent(settings=house.settings(keep_completed=DAY))
    house.sweep(agent)
    assert house.files() == {}


def test_right_after_the_proof(house: House) -> None:
    ids = complete(house, "one", "two")
    altered(house, ids[1])
    at_once = retention(house, completed=0.0)
    assert at_once.at_once
    at_once.remove(ids)
    assert house.files() == {"completed/p/b/two": b"other"}
    assert [left(house, record_id) for record_id in ids] == ["removed", None]
    at_once.remove([*ids, 4711])


def test_foreseeing_changes_nothing(house: House) -> None:
    [old, young] = [*complete(house, "dir/old"), *fail(house, "young")]
    house.clock.advance(DAY)
    os.makedirs(house.spool.absolute("failed/p/b/empty/below"))
    before, rows = house.files(), house.rows()
    seen: list[str] = []
    looking = retention(house, completed=DAY, records=DAY, told=seen.append)
    pruned = looking.foresee()
    assert pruned.files == {"completed": 1, "failed": 0}
    assert (pruned.size, pruned.records, pruned.directories) == (4, 1, 2)
    assert seen == ["completed/p/b/dir/old", "failed/p/b/empty/below/", "failed/p/b/empty/"]
    assert (house.files(), house.rows()) == (before, rows)
    done = looking.run(math.inf)
    assert (done.files, done.records, done.directories) == (pruned.files, 1, 2)
    assert [row["id"] for row in house.rows()] == [young]
    assert old < young


# --- records -----------------------------------------------------------------------------------


def test_a_record_goes_with_its_attempts_once_its_file_is_gone(house: House) -> None:
    [removed, lies] = complete(house, "removed", "lies")
    [gone, stays] = fail(house, "gone", "stays")
    os.unlink(house.spool.absolute("completed/p/b/removed"))
    os.unlink(house.spool.absolute("failed/p/b/gone"))
    house.clock.advance(3600.0)
    assert prune(house, records=3601.0).records == 0
    house.clock.advance(1.0)
    assert prune(house, records=3601.0).records == 2
    assert [row["id"] for row in house.rows()] == [lies, stays]
    assert house.attempts(removed) == house.attempts(gone) == []
    assert len(house.attempts(lies)) == len(house.attempts(stays)) == 1


def test_the_record_of_a_file_that_vanished_goes_too(house: House) -> None:
    [record_id] = house.admit("key")
    records.vanish(record_id, house.clock.now())
    os.unlink(house.spool.absolute("processing/p/b/key"))
    house.admit("key")  # another file has its place
    house.clock.advance(3600.0)
    prune(house, failed=DAY)
    assert left(house, record_id) is None, "it is a failure that nobody has seen to"
    assert prune(house, records=3600.0).records == 1
    assert house.rows("id = ?", record_id) == []


def test_a_record_stays_that_keeps_an_old_version_from_going_over_it(house: House) -> None:
    [old] = fail(house, "key")
    house.clock.advance(1.0)
    [new] = complete(house, "key")
    house.clock.advance(DAY)
    assert prune(house, completed=0.0, records=3600.0).records == 0
    assert versions.newer(old) == (new, "completed")
    os.unlink(house.spool.absolute("failed/p/b/key"))
    assert prune(house, completed=0.0, records=3600.0).records == 2
    assert old < new


@pytest.mark.parametrize("keep_failed", [None, 0.0])
def test_foreseeing_knows_which_records_stay(house: House, keep_failed: float | None) -> None:
    fail(house, "key", "away")
    house.clock.advance(1.0)
    complete(house, "key", "away", "other", "gone", "aborted")
    os.unlink(house.spool.absolute("failed/p/b/away"))
    os.unlink(house.spool.absolute("completed/p/b/gone"))
    models.execute("UPDATE file_records SET multipart_upload_id = 'u' WHERE filepath = 'aborted'")
    house.clock.advance(DAY)
    young = complete(house, "young")
    keep = {"completed": 0.0, "failed": keep_failed, "records": 3600.0}
    seen = retention(house, **keep).foresee()
    before = {row["id"] for row in house.rows()}
    assert prune(house, **keep) == seen
    after = {row["id"] for row in house.rows()}
    # The version that failed, and the later one that tells so, go together only.
    assert len(before - after) == seen.records == (4 if keep_failed is None else 6)
    assert set(young) < after


def test_a_stop_ends_what_is_foreseen(house: House) -> None:
    complete(house, "key")
    os.makedirs(house.spool.absolute("completed/p/b/one"))
    os.makedirs(house.spool.absolute("completed/p/b/two"))
    house.clock.advance(DAY)
    told: list[str] = []
    stopped = {"told": told.append, "stopping": lambda: bool(told)}
    assert retention(house, **stopped).foresee().directories == 1
    told[:] = ["a stop before"]
    assert retention(house, completed=0.0, **stopped).foresee() == Pruned()


def test_a_record_stays_whose_multipart_upload_is_still_to_be_aborted(house: House) -> None:
    [record_id] = complete(house, "key")
    models.execute("UPDATE file_records SET multipart_upload_id = 'left'")
    house.clock.advance(DAY)
    assert prune(house, completed=0.0, records=3600.0).records == 0
    models.execute("UPDATE file_records SET multipart_upload_id = NULL")
    assert prune(house, records=3600.0).records == 1
    assert house.rows("id = ?", record_id) == []


# --- whoever dies, whoever meddles ---------------------------------------------------------------


def arranged(house: House) -> None:
    complete(house, "dir/two")
    fail(house, "three")
    house.clock.advance(2 * DAY)


def wanted(house: House) -> None:
    prune(house, completed=DAY, failed=DAY, records=DAY)


def test_pruning_may_die_at_any_line() -> None:
    died = 0
    for made in deaths(wanted, arranged, STEPS):
        died += 1
        # A file goes only when the disk has its row with the receipt, and a row without its file
        # is what anybody may leave who empties a directory.
        assert made.rows("current_state NOT IN ('completed', 'failed')") == []
        for row in made.rows("left_at IS NOT NULL"):
            assert row["spool_path"] not in made.files()
        assert names(fsck(made)) == CLEAN
        wanted(made)
        assert (made.files(), made.rows()) == ({}, [])
        assert models.execute("SELECT count(*) FROM retry_attempts").fetchone() == (0,)
    assert died > 6


def move_away(house: House) -> None:
    path = house.spool.absolute("completed/p/b/dir/two")
    if os.path.exists(path):
        os.rename(path, house.spool.absolute("two"))


def replace_it(house: House) -> None:
    path = house.spool.absolute("failed/p/b/three")
    if os.path.exists(path):
        replace_file(house, "failed/p/b/three", b"mended")


def prune_too(house: House) -> None:
    if not models.database.in_transaction():
        wanted(house)


@pytest.mark.parametrize("meddle", [move_away, replace_it, prune_too])
def test_somebody_meddles_at_any_line(meddle: Callable[[House], None]) -> None:
    met = 0
    for made in meddlings(wanted, arranged, {"_settle", "_discard", "_removed"}, meddle):
        met += 1
        files = made.files()
        if meddle is move_away:
            assert set(files) <= {"two"}
        elif meddle is replace_it:
            assert files in ({}, {"failed/p/b/three": b"mended"})
        else:
            assert (files, made.rows()) == ({}, [])
        consistent(made)
    assert met > 25


# --- after a power failure -----------------------------------------------------------------------


def test_a_file_that_is_there_again_is_found_and_goes(house: House) -> None:
    """The row was on the disk, that the file is gone was not."""
    [record_id] = complete(house, "key")
    house.clock.advance(DAY)
    kept = house.spool.absolute("kept")
    os.link(house.spool.absolute("completed/p/b/key"), kept)
    prune(house, completed=0.0)
    assert names(fsck(house)) == CLEAN
    os.rename(kept, house.spool.absolute("completed/p/b/key"))
    assert names(fsck(house)) == [("returned", None)]
    assert names(fsck(house, repair=True)) == CLEAN
    assert left(house, record_id) is None
    prune(house, completed=0.0)
    assert house.files() == {}
    assert left(house, record_id) == "removed"


def test_a_row_goes_back_whose_file_has_left(house: House) -> None:
    """S12: neither that the file came to completed, nor that it was deleted, was on the disk."""
    [record_id] = complete(house, "key")
    kept = house.spool.absolute("kept")
    os.link(house.spool.absolute("completed/p/b/key"), kept)
    now = house.clock.now()
    departures.leave([record_id], departures.REMOVED, now)
    house.spool.discard(
        "completed/p/b/key",
        descriptor := os.open(house.spool.absolute("completed/p/b/key"), os.O_PATH),
        house.spool.identify("completed/p/b/key"),  # type: ignore[arg-type]  # it is there
    )
    os.close(descriptor)
    os.rename(kept, house.spool.absolute("processing/p/b/key"))
    assert records.put_back(record_id, "processing/p/b/key", now + timedelta(seconds=1))
    row = house.row(record_id)
    assert (row["current_state"], row["left_at"], row["left_how"]) == ("processing", None, None)
    assert names(fsck(house)) in (CLEAN, [("unrung", "S3")])


# --- directories ---------------------------------------------------------------------------------


def directories(house: House) -> set[str]:
    root = house.spool.root
    return {os.path.relpath(path, root) for path, _, _ in os.walk(root)}


def run_through(house: House, now: float) -> set[str]:
    return {path for path, gone in hollow(house.spool, now) if gone}


def test_directories_that_hold_nothing_go_below_their_buckets(house: House) -> None:
    for state in ("processing", "completed", "failed"):
        os.makedirs(house.spool.absolute(f"{state}/p/b/empty/below/deep"))
        house.write(f"{state}/p/b/full/below/key")
        os.makedirs(house.spool.absolute(f"{state}/p/b/full/empty"))
    os.makedirs(house.spool.absolute("incoming/p/b/young/below"))
    os.symlink("/", house.spool.absolute("completed/p/b/link"))
    os.makedirs(house.spool.absolute("completed/p/linked"))
    before = directories(house)
    gone = run_through(house, 0.0)
    assert gone == {
        f"{state}/p/b/{path}"
        for state in ("processing", "completed", "failed")
        for path in ("empty/below/deep", "empty/below", "empty", "full/empty")
    }
    assert directories(house) == before - gone


def test_directories_of_incoming_rest_for_a_day(house: House) -> None:
    """By their change times, which tar and rsync cannot set back."""
    path = house.spool.absolute("incoming/p/b/dir/below")
    os.makedirs(path)
    house.write("incoming/p/b/full/.keep.tmp")
    for each in (path, os.path.dirname(path)):
        os.utime(each, (1, 1))
    changed = os.stat(os.path.dirname(path)).st_ctime
    assert run_through(house, changed + REST - 1) == set()
    assert os.path.isdir(path)
    assert run_through(house, changed + REST + 1) == {"incoming/p/b/dir/below", "incoming/p/b/dir"}
    assert os.path.isdir(house.spool.absolute("incoming/p/b/full"))


def test_a_producer_that_comes_in_time_keeps_its_directory(house: House) -> None:
    os.makedirs(house.spool.absolute("incoming/p/b/dir/below"))
    soon = os.stat(house.spool.absolute("incoming/p/b/dir")).st_ctime + REST + 1
    steps = hollow(house.spool, soon)
    for path, gone in steps:
        if path == "incoming/p/b/dir/below":
            house.write("incoming/p/b/dir/key")
        assert not gone or path != "incoming/p/b/dir"
    assert house.files() == {"incoming/p/b/dir/key": b"data"}


def test_a_directory_that_was_used_since_it_was_looked_at_stays(house: House) -> None:
    """A look at very many directories goes on a minute later."""
    os.makedirs(house.spool.absolute("incoming/p/b/dir/below"))
    soon = os.stat(house.spool.absolute("incoming/p/b/dir")).st_ctime + REST + 1
    for path, gone in hollow(house.spool, soon):
        if path == "incoming/p/b/dir/below":
            assert gone
            house.write("incoming/p/b/dir/key")
            os.unlink(house.spool.absolute("incoming/p/b/dir/key"))
    assert os.path.isdir(house.spool.absolute("incoming/p/b/dir"))


def test_directories_are_looked_for_once_an_hour(house: House) -> None:
    prune(house)
    os.makedirs(house.spool.absolute("failed/p/b/empty"))
    house.clock.advance(3599.0)
    assert prune(house).directories == 0
    assert retention(house).run(math.inf, directories=True).directories == 1
    os.makedirs(house.spool.absolute("failed/p/b/empty"))
    house.clock.advance(1.0)
    assert prune(house).directories == 1


def test_a_run_is_due_when_something_may_go(house: House) -> None:
    def due(**keep: float) -> bool:
        return retention(house, **keep).due()

    assert due()  # nobody has looked at the directories yet
    prune(house)
    complete(house, "done")
    fail(house, "refused")
    house.clock.advance(DAY)
    with models.write():
        assert departures.prune_begins(house.clock.now(), 0.0)
        assert retention(house).due()  # that look goes on
        departures.prune_stops("", None)
    every = {"completed": 2 * DAY, "failed": 2 * DAY, "records": DAY}
    assert due()  # the clock is noted every hour
    prune(house)
    assert not due()
    assert not due(**every)
    for keep in ({"completed": DAY}, {"failed": DAY}):
        before = house.rows()
        assert due(**{**every, **keep}), keep
        assert house.rows() == before
        prune(house, **keep)
        assert not due(**keep)
        assert due(**keep, records=DAY)
    prune(house, records=DAY)
    assert not due(**every)
    house.clock.advance(3600.0)
    assert due()


def test_a_look_begins_when_its_turn_has_come(house: House) -> None:
    """Who waited long for the database must not take who was faster for a clock that is ahead."""
    inside: list[bool] = []

    def now() -> datetime:
        inside.append(models.database.in_transaction())
        return house.clock.now()

    retention(house, now=now).run(math.inf)
    assert inside.count(True) == 1


def test_a_look_that_takes_long_goes_on_with_the_next_run(house: House) -> None:
    for number in range(20):
        os.makedirs(house.spool.absolute(f"failed/p/b/empty{number}"))
    ticks = iter(range(1000))
    slow = retention(house, clock=lambda: next(ticks))
    runs = 0
    while len(os.listdir(house.spool.absolute("failed/p/b"))):
        assert slow.run(5.0).directories < 20
        runs += 1
    assert runs > 3


def test_a_look_goes_on_in_another_process_where_it_stopped(house: House) -> None:
    """One that ends after each run, as flood-drain does."""
    place = house.spool.absolute("failed/p/b")
    for number in range(20):
        os.makedirs(
            os.path.join(os.fsencode(f"{place}/dir {number % 3}"), b"empty \xff %d" % number)
        )
        house.write(f"completed/p/b/full {number}/key")
    runs = 0
    due = True
    while due:
        ticks = iter(range(1000))
        one = retention(house, clock=lambda ticks=ticks: next(ticks))
        assert one.run(8.0).directories < 8
        due = one.due()
        runs += 1
    assert 4 < runs < 20
    assert os.listdir(place) == []
    assert departures.prune_mark() is None
    os.makedirs(f"{place}/empty")
    assert prune(house).directories == 0, "the next look is due in an hour"
    house.clock.advance(3600.0)
    assert prune(house).directories == 1


@given(st.dictionaries(WAY, st.booleans(), max_size=12), st.lists(st.integers(1, 5)))
@settings(deadline=None, max_examples=50)
def test_looks_that_stop_anywhere_see_each_directory_once(
    tree: dict[tuple[str, ...], bool], steps: list[int]
) -> None:
    with quick_house() as house:
        kept = set()
        for way, full in tree.items():
            path = "/".join(("failed", "p", *way))
            os.makedirs(house.spool.absolute(path), exist_ok=True)
            if full:
                house.write(f"{path}/the key")
            held = len(way) if full else 1
            kept |= {"/".join(("failed", "p", *way[: n + 1])) for n in range(held)}
        seen = [""]
        for step in [*steps, 1000]:
            some = islice(hollow(house.spool, 0.0, after=seen[-1]), step)
            seen += [path for path, _ in some]
        assert len(seen) == len(set(seen))
        assert {path for path in directories(house) if path.startswith("failed/p/")} == kept


def test_a_look_that_was_overtaken_goes_on_behind_the_other_one(house: House) -> None:
    for number in range(9):
        os.makedirs(house.spool.absolute(f"failed/p/b/empty{number}"))
    ticks = iter(range(1000))
    slow = retention(house, clock=lambda: next(ticks))
    slow.run(6.0)
    prune(house)
    os.makedirs(house.spool.absolute("failed/p/b/later"))
    assert slow.run(math.inf).directories == 0, "there is no look to go on with"
    assert departures.prune_mark() is None


def test_a_look_is_not_at_its_end_where_the_spool_went_away(house: House) -> None:
    os.makedirs(house.spool.absolute("failed/p/b/empty"))
    with pytest.raises(SpoolError):
        retention(
            house, told=lambda _path: os.rename(house.spool.root, f"{house.spool.root}~")
        ).run(math.inf)
    os.rename(f"{house.spool.root}~", house.spool.root)
    assert departures.prune_mark() == ""


def test_a_second_run_leaves_it_to_the_first(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of two workers of one consumer that sweep at the same time."""
    os.makedirs(house.spool.absolute("failed/p/b/empty"))
    shared = retention(house)
    meanwhile: list[Pruned] = []
    remove = house.spool.remove_directory

    def removing(path: str) -> bool:
        meanwhile.append(shared.run(math.inf, directories=True))
        return remove(path)

    monkeypatch.setattr(house.spool, "remove_directory", removing)
    assert shared.run(math.inf, directories=True).directories == 1
    assert meanwhile == [Pruned()]
    assert shared.run(math.inf).directories == 0  # the first has let go


def test_a_deep_tree_is_no_trouble(house: House) -> None:
    path = house.spool.absolute("completed/p/b")
    os.makedirs(f"{path}/" + "/".join(["d"] * 700))
    assert len(run_through(house, 0.0)) == 700
    assert os.listdir(path) == []
    shutil.rmtree(path)
