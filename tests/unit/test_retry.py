"""Failed files go back, each as a new record, whoever dies, whoever is faster."""

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flood import (
    departures,
    models,
    queries,
    records,
    retry_choice,
    retry_report,
    story_text,
    versions,
)
from flood import story as stories
from flood.columns import utc_text
from flood.destination import Destination, of_files
from flood.door import Candidate
from flood.errors import SpoolError
from flood.intake import arrival_of
from flood.layout import Place
from flood.record_values import Proof, Reason
from flood.retry import Retried, Retry
from flood.retry_choice import Choice
from flood.retry_report import Report
from flood.states import PERMANENT, STATES, TRANSIENT
from tests.fscking import CLEAN, consistent, fsck, names
from tests.spooling import LARGE, START, House, deaths, full_database, meddlings, quick_house
from tests.unit.test_retention import DAY, REFUSED, complete, fail, left, prune
from tests.unit.test_settle import proven
from workers.decisions import GiveUp, TryAgain

PROOF = Proof("etag", None, None, 4)
AWAY = Reason(TRANSIENT, "timeout", "no answer")
OTHER = "failed/p/b/dir/other"
STEPS = {"put_back", "_obstacle", "_move", "retried", "leave", "admit", "move"}


def retry(house: House, *, overwrite: bool = False) -> Retry:
    return Retry(
        house.spool,
        overwrite=overwrite,
        large=LARGE,
        enqueue=lambda *task: house.enqueued.append(task),
        ring=house.ring,
        now=house.clock.now,
    )


def put_back(house: House, *ids: int, overwrite: bool = False) -> dict[int, str]:
    """What became of each record."""
    return {one.chosen.row.id: one.fate for one in retry(house, overwrite=overwrite).put_back(ids)}


def failing(house: House, key: str, times: int) -> list[int]:
    """Versions of one key that have failed one after the other."""
    found = []
    for _ in range(times):
        house.clock.advance(1.0)
        found += fail(house, key)
    return found


# --- back ----------------------------------------------------------------------------------------


def test_a_failed_file_goes_back_with_a_new_record(house: House) -> None:
    [old] = fail(house, "dir/key")
    before = house.row(old)
    house.enqueued.clear()
    house.clock.advance(60.0)
    [done] = retry(house).put_back([old])
    assert (done.fate, done.chosen.row.id) == ("retried", old)
    new = house.in_processing("dir/key")
    assert done.successor == new
    assert house.files() == {"processing/p/b/dir/key": b"data"}
    assert house.spool.subdirectories("failed/p/b") == []
    row = house.row(new)
    assert (row["retry_count"], row["origin"], row["owner"]) == (0, old, None)
    assert row["next_attempt_at"] == row["created_at"] > before["created_at"]
    assert house.enqueued == [("p", "b", [new])]
    changed = {"left_at": row["created_at"], "left_how": "retried"}
    assert house.row(old) == {**before, **changed}
    assert len(house.attempts(old)) == 1
    assert names(fsck(house))[:1] in (CLEAN, [("unrung", "S3")])


def test_a_file_that_lies_beside_another_gets_its_own_name_back(house: House) -> None:
    first, second = failing(house, "key", 2)
    assert house.row(second)["spool_path"] == f"failed/p/b/key.~{second}~"
    assert put_back(house, second) == {second: "retried"}
    assert set(house.files()) == {"failed/p/b/key", "processing/p/b/key"}
    assert left(house, first) is None


def test_a_file_that_was_mended_in_failed_goes_back(house: House) -> None:
    """Also by an editor that puts a new file in its place."""
    [old] = fail(house, "key")
    os.unlink(house.spool.absolute("failed/p/b/key"))
    identity = house.write("failed/p/b/key", b"mended")
    assert put_back(house, old) == {old: "retried"}
    assert house.row(house.in_processing("key"))["inode"] == identity.inode
    assert house.files() == {"processing/p/b/key": b"mended"}


def test_many_at_once_come_in_few_tasks(house: House) -> None:
    ids = fail(house, *(f"key{number}" for number in range(60)))
    house.enqueued.clear()
    assert set(put_back(house, *ids).values()) == {"retried"}
    assert [len(task[2]) for task in house.enqueued] == [60]


def test_what_goes_back_may_fail_and_go_back_again(house: House) -> None:
    [first] = fail(house, "key")
    put_back(house, first)
    second = house.in_processing("key")
    [claim] = house.claim()
    house.settle(TryAgain(claim, claim.identity, AWAY, 30.0))
    records.due(second, house.clock.now())
    [claim] = house.claim()
    records.fail(claim, "failed/p/b/key", AWAY, house.clock.now())
    house.spool.move("processing/p/b/key", "failed/p/b/key")
    assert put_back(house, second) == {second: "retried"}
    third = house.in_processing("key")
    assert [house.row(one)["origin"] for one in (first, second, third)] == [None, first, first]
    assert put_back(house, first, second) == {}


# --- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_old_version_does_not_go_over_a_newer_one(house: House, overwrite: bool) -> None:
    [old] = fail(house, "key")
    house.clock.advance(1.0)
    complete(house, "key")
    fate = "retried" if overwrite else "superseded"
    assert put_back(house, old, overwrite=overwrite) == {old: fate}


def test_an_old_version_does_not_go_over_one_that_retention_has_removed(house: House) -> None:
    [old] = fail(house, "key")
    [new] = complete(house, "key")
    os.unlink(house.spool.absolute("completed/p/b/key"))
    departures.leave([new], departures.REMOVED, house.clock.now())
    assert put_back(house, old) == {old: "superseded"}


def test_an_old_version_that_failed_again_keeps_the_record_of_the_newer_one(house: House) -> None:
    """Its own record is the later one, but it is the earlier version."""
    [old] = fail(house, "key")
    house.clock.advance(1.0)
    [new] = complete(house, "key")
    assert put_back(house, old, overwrite=True) == {old: "retried"}
    [claim] = house.claim()
    house.settle(GiveUp(claim, REFUSED))
    house.clock.advance(DAY)
    prune(house, completed=3600.0, records=7200.0)
    assert left(house, new) == "removed"
    assert put_back(house, claim.id) == {claim.id: "superseded"}
    assert put_back(house, claim.id, overwrite=True) == {claim.id: "retried"}
    assert prune(house, records=7200.0).records == 1
    assert left(house, new) == "removed", "the old version may fail once more"
    [claim] = house.claim()
    with proven(house, claim) as decision:
        house.settle(decision)
    assert prune(house, records=7200.0).records == 1
    assert house.rows("id = ?", new) == []


def test_a_newer_version_that_arrives_comes_first(house: House) -> None:
    [old] = fail(house, "key")
    house.write("incoming/p/b/key", b"newer")
    assert put_back(house, old) == {old: "superseded"}
    house.admit("key", data=b"newer")
    assert put_back(house, old) == {old: "superseded"}
    # Two workers would be at one key.
    assert put_back(house, old, overwrite=True) == {old: "occupied"}
    assert set(house.files()) == {"failed/p/b/key", "processing/p/b/key"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_several_failed_versions_the_newest_goes(house: House, overwrite: bool) -> None:
    """No older one waits to go over it, either."""
    ids = failing(house, "key", 3)
    foreseen = {
        one.chosen.row.id: one.fate for one in retry(house, overwrite=overwrite).foresee(ids)
    }
    assert foreseen == {ids[0]: "outdated", ids[1]: "outdated", ids[2]: "retried"}
    assert put_back(house, *ids, overwrite=overwrite) == foreseen
    assert put_back(house, *ids[:2]) == {ids[0]: "superseded", ids[1]: "superseded"}


def test_a_retried_version_stays_as_old_as_it_was(house: House) -> None:
    """Its new record is younger than that of the version which came after it."""
    old, new = failing(house, "key", 2)
    assert put_back(house, old) == {old: "retried"}
    [claim] = house.claim()
    records.complete(claim, "completed/p/b/key", PROOF, house.clock.now())
    house.spool.move("processing/p/b/key", "completed/p/b/key")
    assert put_back(house, new) == {new: "retried"}


def remade(house: House, *lost: int) -> list[int]:
    """The records that flood-fsck makes anew of those that are lost; some may have had no file."""
    known = {row["id"] for row in house.rows()}
    with models.write():
        for record_id in lost:
            departures.erase(record_id)
    fsck(house, repair=True)
    return sorted({row["id"] for row in house.rows()} - known)


def is_superseded(record_id: int) -> bool:
    row = models.execute(
        f"SELECT {versions.VERSION} FROM file_records AS one WHERE id = ?", (record_id,)
    )
    [(_, answer)] = versions.Newest().of(row)
    return answer


@pytest.mark.parametrize("lost", ["old", "new", "both"])
@pytest.mark.parametrize("first", ["fails", "is uploaded"])
def test_versions_whose_order_is_lost_wait_for_a_person(
    house: House, first: str, lost: str
) -> None:
    """The number of a record that was made from the directory does not tell how old its file is:
    neither does it go over another version, nor do others count as outdated by it."""
    kinds = [fail, complete] if first == "fails" else [complete, fail]
    ids = [kind(house, "key")[0] for kind in kinds]
    gone = {"old": ids[:1], "new": ids[1:], "both": ids}[lost]
    made = remade(house, *gone)
    assert len(made) == len(gone)
    rows = {row["current_state"]: row["id"] for row in house.rows()}
    failed, uploaded = rows["failed"], rows["completed"]
    # Of two that were not both lost the order is known where the later is not the remade one.
    assert max(rows.values()) in made
    [foreseen] = retry(house).foresee([failed])
    assert (foreseen.fate, foreseen.reason) == (
        "unordered",
        f"record {uploaded}, in completed, may be a newer version: a record was lost",
    )
    assert put_back(house, failed) == {failed: "unordered"}
    assert not is_superseded(failed), "nobody may rely on that it was uploaded later"
    text, _ = told(house, "key")
    assert f"a person decides: record {uploaded}, in completed, may be a later version" in text
    assert f"to let this one go: flood-retry {failed} --overwrite-newer" in text
    assert put_back(house, failed, overwrite=True) == {failed: "retried"}


def test_both_reasons_say_that_a_record_was_made_anew() -> None:
    assert {records.RECORD_LOST.code, records.PROOF_LOST.code} == {versions.REMADE}


def test_of_failed_versions_whose_order_is_lost_none_goes_by_itself(house: House) -> None:
    ids = failing(house, "key", 2)
    [made] = remade(house, ids[0])
    assert put_back(house, ids[1], made) == {ids[1]: "unordered", made: "unordered"}
    assert put_back(house, ids[1], overwrite=True) == {ids[1]: "retried"}


@pytest.mark.parametrize("aside", [True, False])
def test_a_version_that_was_put_beside_another_is_one_of_its_key(house: House, aside: bool) -> None:
    """Its name has an ending, from which its record is made anew."""
    if aside:
        complete(house, "dir/key")
    [old] = fail(house, "dir/key")
    [new] = complete(house, "dir/key")
    [made] = remade(house, new)
    lies = f"completed/p/b/dir/key.~{new}~" if aside else "completed/p/b/dir/key"
    row = house.row(made)
    assert (row["filepath"], row["spool_path"]) == ("dir/key", lies)
    assert put_back(house, old) == {old: "unordered"}


def test_of_failed_versions_beside_each_other_none_goes_by_itself(house: House) -> None:
    """One of them would come into the bucket under the name that it has in failed."""
    old, new = failing(house, "key", 2)
    [made] = remade(house, new)
    assert house.row(made)["filepath"] == f"key.~{new}~"
    assert put_back(house, old, made) == {old: "unordered", made: "unordered"}
    assert "may be a later version" in told(house, "key")[0]
    # A name that only looks like one is not in the way, nor is one whose file is gone.
    fail(house, "k.~x~", "k.~5.1~", "other.~7~")
    [other] = fail(house, "other")
    os.unlink(house.spool.absolute(f"failed/p/b/key.~{new}~"))
    departures.leave([made], departures.GONE, house.clock.now())
    assert put_back(house, old, other) == {old: "retried", other: "retried"}


def test_the_only_version_goes_back_though_its_record_was_lost(house: House) -> None:
    [lost] = fail(house, "key")
    complete(house, "other")
    [made] = remade(house, lost)
    assert put_back(house, made) == {made: "retried"}
    [claim] = house.claim()
    house.settle(GiveUp(claim, REFUSED))
    assert put_back(house, claim.id) == {claim.id: "retried"}


def test_what_comes_after_a_repair_is_newer(house: House) -> None:
    [lost] = fail(house, "key")
    [made] = remade(house, lost)
    house.clock.advance(1.0)
    [new] = complete(house, "key")
    assert put_back(house, made) == {made: "superseded"}
    assert versions.newer(made) == (new, "completed")


def test_an_unknown_order_is_remembered_as_long_as_it_matters(house: House) -> None:
    """Also once the version that was made anew has failed again, under another record."""
    house.clock.moment = datetime.now(timezone.utc)  # as the file's times, which fsck reads
    [lost] = fail(house, "key")
    [uploaded] = complete(house, "key")
    [made] = remade(house, lost)
    assert put_back(house, made, overwrite=True) == {made: "retried"}
    [claim] = house.claim()
    house.settle(GiveUp(claim, REFUSED))
    house.clock.advance(DAY)
    prune(house, completed=3600.0, records=7200.0)
    assert {row["id"] for row in house.rows()} == {uploaded, made, claim.id}
    assert put_back(house, claim.id) == {claim.id: "unordered"}
    assert put_back(house, claim.id, overwrite=True) == {claim.id: "retried"}
    [claim] = house.claim()
    with proven(house, claim) as decision:
        house.settle(decision)
    house.clock.advance(DAY)
    prune(house, completed=3600.0, records=7200.0)
    assert house.rows() == []


@pytest.mark.parametrize(("old", "new"), [("key", "key/below"), ("key/below", "key")])
def test_something_in_the_way_is_waited_for(house: House, old: str, new: str) -> None:
    [record_id] = fail(house, old)
    house.spool.remove_empty("incoming/p/b")
    house.admit(new)
    before = house.files()
    assert put_back(house, record_id) == {record_id: "occupied"}
    assert house.files() == before


# --- what is not there -------------------------------------------------------------------------


def moved_away(house: House, record_id: int) -> None:
    os.rename(house.spool.absolute(house.row(record_id)["spool_path"]), house.spool.absolute("x"))


def a_link(house: House, record_id: int) -> None:
    moved_away(house, record_id)
    os.symlink(house.spool.absolute("x"), house.spool.absolute(house.row(record_id)["spool_path"]))


def a_directory(house: House, record_id: int) -> None:
    moved_away(house, record_id)
    os.mkdir(house.spool.absolute(house.row(record_id)["spool_path"]))


@pytest.mark.parametrize("change", [moved_away, a_link, a_directory])
def test_what_does_not_lie_in_failed_is_left(
    house: House, change: Callable[[House, int], None]
) -> None:
    [gone, there] = fail(house, "gone", "there")
    change(house, gone)
    assert put_back(house, gone, there) == {gone: "gone", there: "retried"}
    assert left(house, gone) is None


def test_a_record_that_vanished_is_gone(house: House) -> None:
    [vanished] = house.admit("key")
    records.vanish(vanished, house.clock.now())
    assert put_back(house, vanished) == {vanished: "gone"}
    assert house.files() == {"processing/p/b/key": b"data"}


def test_a_place_belongs_to_its_latest_record(house: House) -> None:
    [first] = fail(house, "key")
    os.unlink(house.spool.absolute("failed/p/b/key"))
    [second] = fail(house, "key")
    assert put_back(house, first) == {}
    # Two records of one place, as somebody's own hand can make them.
    models.execute("UPDATE file_records SET left_at = NULL, left_how = NULL WHERE id = ?", (first,))
    assert put_back(house, first) == {first: "gone"}
    assert put_back(house, second) == {second: "retried"}


def test_what_was_not_asked_of_a_failed_record_is_nothing(house: House) -> None:
    [completed] = complete(house, "completed")
    [waits] = house.admit("waits")
    assert put_back(house, completed, waits, 4711) == {}


def test_a_spool_that_is_away_is_left_alone(house: House) -> None:
    [old] = fail(house, "key")
    os.rename(house.spool.root, f"{house.spool.root}.away")
    os.mkdir(house.spool.root)
    with pytest.raises(SpoolError):
        put_back(house, old)
    assert left(house, old) is None


# --- what waits ----------------------------------------------------------------------------------


def waiting(house: House, *keys: str) -> list[int]:
    house.admit(*keys)
    claims = house.claim()
    house.settle(*(TryAgain(claim, claim.identity, AWAY, 3600.0) for claim in claims))
    return [claim.id for claim in claims]


def test_what_waits_is_due_at_once(house: House) -> None:
    ids = waiting(house, "one", "two")
    [due] = house.admit("due")
    assert [claim.id for claim in house.claim(*ids)] == [due]
    before = [house.row(record_id)["retry_count"] for record_id in ids]
    done = retry(house).hasten([*ids, due, 4711])
    assert sorted(one.chosen.row.id for one in done) == ids
    assert {one.fate for one in done} == {"retried"}
    assert house.rung == [("p", "b")]
    assert sorted(claim.id for claim in house.claim()) == ids
    assert [house.row(record_id)["retry_count"] for record_id in ids] == before == [1, 1]


def test_what_is_due_is_rung_for_once_and_no_pause_keeps_it(house: House) -> None:
    [waits] = waiting(house, "three")
    ids = house.admit("one", "two")
    before = queries.hastened_at()
    run = retry(house)
    assert {one.fate for one in run.foresee_haste(ids)} == {"due"}
    assert (house.rung, queries.hastened_at()) == ([], before)
    for record_id in ids:
        assert [(one.chosen.row.id, one.fate) for one in run.hasten([record_id])] == [
            (record_id, "due")
        ]
    assert house.rung == [("p", "b")]
    assert queries.hastened_at() != before
    assert [one.fate for one in run.hasten([waits])] == ["retried"]
    assert house.rung == [("p", "b"), ("p", "b")]


# --- who is chosen -----------------------------------------------------------------------------


def chosen(house: House, choice: Choice, what: Any = retry_choice.failed) -> set[str]:
    return {one.row.key for one in what(choice, house.clock.now())}


def test_each_option_takes_what_fits_it(house: House) -> None:
    [a, b, c] = fail(house, "2025/a.jpg", "2026/b.jpg", "2026/more/c.txt")
    models.execute("UPDATE file_records SET error_code = 'other' WHERE id = ?", (c,))
    house.clock.advance(3600.0)
    fail(house, "late")
    waiting(house, "2026/waits")
    house.admit("2026/due")
    every = {"2025/a.jpg", "2026/b.jpg", "2026/more/c.txt", "late"}
    assert chosen(house, Choice()) == every
    for choice, wanted in {
        Choice(ids=frozenset({a, 4711})): {"2025/a.jpg"},
        Choice(destinations=(of_files("s3://p/bu/2026/"),)): set(),
        Choice(ids=frozenset({b}), profiles=("q",)): set(),
        Choice(ids=frozenset({b}), profiles=("p",), buckets=("b",)): {"2026/b.jpg"},
        Choice(keys=("*.jpg", "lat?")): {"2025/a.jpg", "2026/b.jpg", "late"},
        Choice(keys=("2026/*",)): {"2026/b.jpg", "2026/more/c.txt"},
        Choice(keys=("A*",)): set(),
        Choice(errors=("refused",)): every - {"2026/more/c.txt"},
        Choice(errors=("refused", "other"), keys=("*c.txt",)): {"2026/more/c.txt"},
        Choice(older=60.0): every - {"late"},
        Choice(newer=60.0): {"late"},
        Choice(older=3601.0): set(),
        Choice(older=36_500 * 86_400.0): set(),
    }.items():
        assert chosen(house, choice) == wanted, choice
    both = {"2026/waits", "2026/due"}
    assert chosen(house, Choice(), retry_choice.unclaimed) == both
    assert chosen(house, Choice(keys=("*waits",)), retry_choice.unclaimed) == {"2026/waits"}
    assert chosen(house, Choice(errors=("refused",)), retry_choice.unclaimed) == set()


def test_a_destination_means_a_file_or_all_below(house: House) -> None:
    ids = fail(house, "dir/a", "dir/b/c", "dir2/a")
    models.execute("UPDATE file_records SET bucket = 'bucket'")
    rows = retry_choice.still_failed(ids)
    for uri, keys in {
        "s3://p/bucket": ["dir/a", "dir/b/c", "dir2/a"],
        "s3://p/bucket/dir/": ["dir/a", "dir/b/c"],
        "s3://p/bucket/dir/b/c": ["dir/b/c"],
        "s3://p/bucket/dir": [],
        "s3://q/bucket/dir/": [],
    }.items():
        choice = Choice(destinations=(of_files(uri),))
        fit = [one.row.key for one in rows if choice.fits(one, house.clock.now())]
        assert fit == keys, uri


@pytest.mark.parametrize("key", ["\udcff\udcfe", "dir/" * 255 + "longer", "n" * 255, "a\nb"])
def test_a_file_is_named_however_odd_its_name_is(house: House, key: str) -> None:
    """As in a bucket that no store has, and under a key that none can have."""
    [record] = fail(house, key)
    [failed] = retry_choice.still_failed([record])
    for uri in (f"s3://p/b/{key}", "s3://p/b/"):
        choice = Choice(destinations=(of_files(uri),))
        assert choice.naming(failed) == {of_files(uri)}
    assert of_files(f"s3://p/b/{key}").uri() == f"s3://p/b/{key}"


def test_a_name_that_no_file_can_have_is_no_failed_files(house: House) -> None:
    for uri in (f"s3://p/b/{'n' * 256}", f"s3://p/b/{'dir/' * 2000}", "s3://p/\udcff/\udcff"):
        assert unmet(house, of_files(uri)) == [f"{uri}: no files that lie in failed fit this"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.booleans())
def test_the_newest_version_of_each_key_goes(keys: list[str], overwrite: bool) -> None:
    """Whatever failed before or after what."""
    with quick_house() as house:
        ids = [fail(house, key)[0] for key in keys]
        fates = put_back(house, *ids, overwrite=overwrite)
        newest = {ids[len(keys) - 1 - keys[::-1].index(key)] for key in set(keys)}
        assert {one for one, fate in fates.items() if fate == "retried"} == newest
        assert len(house.files()) == len(keys)
        consistent(house)


# --- whoever dies, whoever is faster -------------------------------------------------------------


def arranged(house: House) -> None:
    fail(house, "dir/one")
    house.clock.advance(1.0)


def wanted(house: House) -> list[Retried]:
    ids = [one.row.id for one in retry_choice.failed(Choice(), house.clock.now())]
    return retry(house).put_back(ids)


def test_putting_back_may_die_at_any_line() -> None:
    died = 0
    for made in deaths(wanted, arranged, STEPS):
        died += 1
        assert len(made.files()) == 1
        assert set(names(fsck(made))) <= {("taken", "S2"), ("unrung", "S3")}
        wanted(made)
        made.recover()
        assert made.files() == {"processing/p/b/dir/one": b"data"}
        assert [claim.key for claim in made.claim()] == ["dir/one"]
        assert len(made.rows()) == 2
    assert died > 4


@pytest.mark.parametrize("state", ["processing", "incoming"])
def test_one_that_was_moved_back_without_a_word_then_failed_again(house: House, state: str) -> None:
    """By a flood-retry that died, or by somebody."""
    [old] = fail(house, "dir/one")
    house.clock.advance(60.0)
    back = house.spool.absolute(f"{state}/p/b/dir/one")
    os.makedirs(os.path.dirname(back), exist_ok=True)
    os.rename(house.spool.absolute("failed/p/b/dir/one"), back)
    house.recover()
    [claim] = house.claim()
    assert claim.id != old
    house.settle(GiveUp(claim, REFUSED))
    assert house.files() == {"failed/p/b/dir/one": b"data"}
    how = {"processing": "retried", "incoming": "gone"}[state]
    assert house.row(old)["left_how"] == how
    assert house.row(claim.id)["origin"] == (old if how == "retried" else None)
    assert house.row(claim.id)["left_at"] is None
    consistent(house)


def begin_put(house: House, key: str) -> Callable[[], int]:
    """A flood-put that has made its record, and copies; what it returns has the copy arrive, be
    admitted, and answers its record."""
    name = f"incoming_tmp/p/b/{len(house.rows())}"
    house.write(name)
    identity = house.spool.identify(name)
    assert identity is not None
    made = arrival_of(Place("incoming_tmp", "p", "b", key), identity, None)
    [record] = records.put_begun([made], house.clock.now())

    def arrive() -> int:
        path = f"incoming/p/b/{key}"
        os.makedirs(os.path.dirname(house.spool.absolute(path)), exist_ok=True)
        os.rename(house.spool.absolute(name), house.spool.absolute(path))
        house.clock.advance(1.0)
        assert house.intake().admit([(Candidate(path), None)]).admitted == 1
        assert house.in_processing(key) == record
        return record

    return arrive


def test_versions_are_in_the_order_in_which_they_arrived(house: House) -> None:
    """Whichever of them flood-put began to copy first."""
    large, slow = begin_put(house, "key"), begin_put(house, "key")
    [small] = fail(house, "key")
    first = large()
    with proven(house, house.claim()[0]) as decision:
        house.settle(decision)
    assert put_back(house, small) == {small: "superseded"}
    assert versions.newer(first) is None
    second = slow()
    house.settle(GiveUp(house.claim()[0], REFUSED))
    # It came last, so that nothing that was completed makes it outdated.
    assert put_back(house, small, second) == {small: "outdated", second: "retried"}
    [claim] = house.claim()
    third = claim.id
    house.settle(GiveUp(claim, REFUSED))
    [latest] = fail(house, "key")
    assert put_back(house, third, latest) == {third: "outdated", latest: "retried"}


def test_a_copy_that_flood_put_makes_keeps_no_earlier_version(house: House) -> None:
    """Its flood-put may be dead, and what it makes is no version before it has arrived."""
    [old] = fail(house, "key")
    arrive = begin_put(house, "key")
    assert versions.newer(old) is None
    assert f"a person mends the cause, then: flood-retry {old}" in told(house, "key")[0]
    assert put_back(house, old) == {old: "retried"}
    [claim] = house.claim()
    house.settle(GiveUp(claim, REFUSED))
    newer = arrive()
    assert versions.newer(claim.id) == (newer, "processing")
    assert put_back(house, claim.id) == {claim.id: "superseded"}


@pytest.mark.parametrize("lost", ["key", "key.~1~"])
def test_a_copy_is_no_version_either_where_a_record_was_lost(house: House, lost: str) -> None:
    begin_put(house, "key")
    made = remade(house, *fail(house, lost))
    assert put_back(house, *made) == dict.fromkeys(made, "retried")


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records of one key, in the order of their ids from 1 on, as they may be, or as a repair may
    have left them."""
    rows: list[dict[str, Any]] = []
    for number in range(1, draw(st.integers(1, 8)) + 1):
        ended = st.sampled_from(["completed", "failed"])
        states = st.sampled_from([*STATES, "failed", "failed", "completed"])
        busy = any(row["current_state"] == "processing" for row in rows)
        row = {"id": number, "current_state": draw(ended if busy else states)}
        before = draw(st.sampled_from([None, None, *rows]))
        if before is not None:
            row["origin"] = before.get("origin", before["id"])
            row["arrival"] = before.get("arrival")
        elif draw(st.booleans()):
            row["arrival"] = (number + draw(st.integers(0, 3))) * 2**20 + draw(st.integers(1, 2))
        row["error_code"] = draw(st.sampled_from([None, None, versions.REMADE]))
        row["left_at"] = draw(st.sampled_from([None, utc_text(START)]))
        where = ["failed", "processing", "incoming"] if row["current_state"] == "failed" else ["x"]
        row["spool_path"] = f"{draw(st.sampled_from(where))}/p/b/key.~{number}~"
        rows.append(row)
    return rows


def place_of(row: dict[str, Any]) -> int:
    return row["arrival"] or (row["origin"] or row["id"]) * 2**20


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(histories())
def test_what_is_asked_of_a_long_history_is_what_all_of_it_tells(
    made: list[dict[str, Any]],
) -> None:
    with quick_house() as house:
        house.admit("key")
        [first] = house.rows()
        models.execute("DELETE FROM file_records")
        for row in made:
            columns = {**first, **row}
            marks = ", ".join("?" * len(columns))
            models.execute(
                f"INSERT INTO file_records ({', '.join(columns)}) VALUES ({marks})",
                tuple(columns.values()),
            )
        rows = house.rows()
        cursor = models.execute(f"SELECT {versions.VERSION} FROM file_records AS one ORDER BY id")
        asked = cursor.fetchall()
        kept = [x for x in rows if x["current_state"] in ("processing", "failed")]
        kept = [x for x in kept if x["left_at"] is None]
        remade = {x["id"] for x in rows if x["error_code"] == versions.REMADE}
        for row, guarded in zip(rows, versions.guarded(asked), strict=True):
            assert is_superseded(row["id"]) == (versions.newer(row["id"]) is not None)
            # Of records of one file only one can have it.
            answers = versions.Newest().newer(row["id"]), versions.newer(row["id"])
            first, second = (one and place_of(house.row(one.record)) for one in answers)
            assert first == second
            assert versions.Newest().unordered(row["id"]) == versions.unordered(row["id"])
            assert guarded == any(
                place_of(x) < place_of(row) or (x["origin"] or x["id"]) in remade for x in kept
            )
            arrived = [
                place_of(x)
                for x in rows
                if x["current_state"] not in ("incoming_tmp", "incoming")
                and not (x["current_state"] == "failed" and x["spool_path"].startswith("incoming"))
            ]
            last = max(arrived, default=0)
            expected = None if last < place_of(row) else last + 1
            assert versions.arrival(row["id"]) == (row["arrival"] or expected)


# --- versions without a file ---------------------------------------------------------------------


def break_off(house: House, key: str) -> int:
    """A flood-put of this key that was interrupted; its record."""
    copy = house.spool.absolute(f"incoming_tmp/p/b/{len(house.rows())}")
    begin_put(house, key)
    os.unlink(copy)
    record: int = house.rows()[-1]["id"]
    reason = Reason(PERMANENT, "put_interrupted", "flood-put was interrupted: put it again")
    assert records.vanish(record, house.clock.now(), reason=reason)
    return record


def fates(house: House, *ids: int, named: set[int] | None = None) -> tuple[int, list[str]]:
    """The exit status of flood-retry for these records where their key, or those `named` by their
    numbers, were named, with what it says."""
    report = Report(keep=False, ids=named or set())
    for one in retry(house).put_back(ids):
        report.add(one)
    return report.status((), {"its key"}), list(report.problems(named=True))


def test_a_version_without_a_file_is_no_failure_where_a_later_one_goes_back(house: House) -> None:
    gone = break_off(house, "key")
    [later] = fail(house, "key")
    assert [one.fate for one in retry(house).foresee([gone, later])] == ["retried", "overtaken"]
    assert fates(house, gone, later) == (
        0,
        [
            f"record {gone}, s3://p/b/key: its file is gone (put_interrupted), but a newer version "
            "goes back"
        ],
    )


@pytest.mark.parametrize("stands", ["failed", "processing", "completed", "incoming"])
def test_a_version_without_a_file_is_no_failure_however_a_later_one_stands(
    house: House, stands: str
) -> None:
    gone = break_off(house, "key")
    words = "but a newer version waits in incoming"
    if stands == "incoming":
        house.write("incoming/p/b/key")
    else:
        arrive = {"failed": fail, "processing": House.admit, "completed": complete}[stands]
        [later] = arrive(house, "key")
        words = f"but record {later} is a newer version, and in {stands}"
    status, problems = fates(house, gone)
    assert (status, len(problems)) == (0, 1)
    assert problems[0].endswith(f"its file is gone (put_interrupted), {words}")
    # Who names it by its number has asked for that one.
    assert fates(house, gone, named={gone})[0] == 1


def test_a_version_without_a_file_that_came_last_is_to_be_put_again(house: House) -> None:
    [old] = fail(house, "key")
    gone = break_off(house, "key")
    assert fates(house, old, gone) == (
        1,
        [f"record {gone}, s3://p/b/key: its file is gone (put_interrupted): put it again"],
    )
    assert house.in_processing("key"), "the earlier one goes back all the same"
    # Nor has what had begun before it, and arrives after its end, its content.
    house.settle(GiveUp(house.claim()[0], REFUSED))
    arrive = begin_put(house, "other")
    gone = break_off(house, "other")
    arrive()
    assert fates(house, gone)[0] == 1


def test_a_version_without_a_file_is_none_of_those_whose_order_is_lost(house: House) -> None:
    [lost] = fail(house, "key")
    break_off(house, "key")
    [made] = remade(house, lost)
    assert put_back(house, made) == {made: "retried"}


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.permutations(range(5)), st.integers(0, 5))
def test_whoever_arrives_last_is_the_newest(order: list[int], puts: int) -> None:
    with quick_house() as house:
        begun = [begin_put(house, "key") for _ in range(puts)]
        arrived = []
        for number in order:
            if number < puts:
                arrived.append(begun[number]())
            else:
                arrived += house.admit("key")
            house.settle(GiveUp(house.claim()[0], REFUSED))
        places = [one.version for one in retry_choice.still_failed(sorted(arrived))]
        by_record = dict(zip(sorted(arrived), places, strict=True))
        assert [by_record[record] for record in arrived] == sorted(set(places))
        fates = put_back(house, *arrived)
        assert [record for record, fate in fates.items() if fate == "retried"] == [arrived[-1]]


def test_a_version_that_a_killed_flood_retry_has_moved_keeps_its_place(house: House) -> None:
    [old, new] = failing(house, "key", 2)
    path = house.row(old)["spool_path"]
    os.makedirs(house.spool.absolute("processing/p/b"), exist_ok=True)
    os.rename(house.spool.absolute(str(path)), house.spool.absolute("processing/p/b/key"))
    assert put_back(house, old) == {old: "gone"}
    house.recover()
    [claim] = house.claim()
    assert house.row(claim.id)["origin"] == old
    with proven(house, claim) as decision:
        house.settle(decision)
    assert put_back(house, new) == {new: "retried"}


def test_one_that_somebody_moves_to_incoming_is_new_whoever_dies(house: House) -> None:
    """As flood-retry tells people to do; the disk looks as if it had done that itself."""
    [old] = fail(house, "key")
    house.clock.advance(1.0)
    complete(house, "key")
    os.makedirs(house.spool.absolute("processing/p/b"), exist_ok=True)
    path = house.spool.absolute(str(house.row(old)["spool_path"]))
    os.rename(path, house.spool.absolute("processing/p/b/key"))
    house.recover()
    [claim] = house.claim()
    house.settle(GiveUp(claim, REFUSED))
    assert versions.newer(claim.id) is None
    assert put_back(house, claim.id) == {claim.id: "retried"}


def again(house: House) -> None:
    if not models.database.in_transaction():
        wanted(house)


def recover(house: House) -> None:
    if not models.database.in_transaction():
        house.recover()
        house.sweep()


def take_away(house: House) -> None:
    path = house.spool.absolute("failed/p/b/dir/one")
    if os.path.exists(path):
        os.unlink(path)


def a_newer_one(house: House) -> None:
    if not models.database.in_transaction() and not house.rows("filepath = 'dir/one' AND id > 1"):
        house.admit("dir/one", data=b"newer")


@pytest.mark.parametrize("meddle", [again, recover, take_away, a_newer_one])
def test_somebody_is_faster_at_any_line(meddle: Callable[[House], None]) -> None:
    for made in meddlings(wanted, arranged, {"put_back"}, meddle):
        files = made.files()
        if meddle is take_away:
            assert set(files) <= {"processing/p/b/dir/one"}
        elif meddle is a_newer_one:
            assert files in (
                {"processing/p/b/dir/one": b"newer", "failed/p/b/dir/one": b"data"},
                {"processing/p/b/dir/one": b"data", "incoming/p/b/dir/one": b"newer"},
                {"processing/p/b/dir/one": b"data"},
            )
        else:
            assert files == {"processing/p/b/dir/one": b"data"}
        consistent(made)


def test_on_a_full_disk_files_stay_in_failed(house: House) -> None:
    ids = fail(house, *(f"dir/{number}-{'x' * 200}" for number in range(60)))
    [*_, beside] = failing(house, "key", 2)
    before, rows = house.files(), house.rows()
    with full_database(), pytest.raises(models.DatabaseError, match="disk is full"):
        put_back(house, *ids, beside)
    assert (house.files(), house.rows()) == (before, rows)
    assert house.spool.subdirectories("processing/p/b") == []
    assert names(fsck(house)) == CLEAN
    assert set(put_back(house, *ids, beside).values()) == {"retried"}


def refused(house: House, meddle: Callable[[], object] = lambda: None) -> None:
    """A transaction that breaks off as late as it can."""

    def refuse(*_task: object) -> None:
        meddle()
        raise models.DatabaseError("database or disk is full")

    once = Retry(
        house.spool,
        overwrite=False,
        large=LARGE,
        enqueue=refuse,
        ring=house.ring,
        now=house.clock.now,
    )
    ids = [one.row.id for one in retry_choice.failed(Choice(), house.clock.now())]
    with pytest.raises(models.DatabaseError):
        once.put_back(ids)


def test_what_cannot_go_back_to_failed_is_left_to_flood_watch(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is overwritten that somebody put there meanwhile."""
    [old] = fail(house, "key")
    refused(house, lambda: house.write("failed/p/b/key", b"mended"))
    assert house.files() == {"processing/p/b/key": b"data", "failed/p/b/key": b"mended"}
    assert [one.getMessage() for one in caplog.records][-1] == "left in processing"
    assert ("taken", "S2") in names(fsck(house))
    house.recover()
    assert house.row(house.in_processing("key"))["id"] > old


def test_moving_back_may_die_at_any_line() -> None:
    died = 0
    for made in deaths(refused, arranged, {"_undo", "move"}):
        died += 1
        assert set(names(fsck(made))) <= {("taken", "S2")}
        made.recover()
        wanted(made)
        assert made.files() == {"processing/p/b/dir/one": b"data"}
        assert [claim.key for claim in made.claim()] == ["dir/one"]
    assert died > 3


def watch_is_faster(house: House) -> None:
    if not models.database.in_transaction():
        house.recover()


def test_flood_watch_is_faster_at_any_line() -> None:
    met = 0
    for made in meddlings(refused, arranged, {"put_back", "_undo"}, watch_is_faster):
        met += 1
        assert set(made.files()) in ({"processing/p/b/dir/one"}, {"failed/p/b/dir/one"})
        consistent(made)
    assert met > 10


def test_what_is_chosen_tells_its_facts(house: House) -> None:
    [old] = fail(house, "key")
    [one] = retry_choice.failed(Choice(), house.clock.now())
    assert (one.row.id, one.error_code) == (old, "refused")
    assert one.since == utc_text(START)


def test_what_was_put_back_already_is_told_with_its_record(house: House) -> None:
    [first, stays, removed] = fail(house, "key", "stays", "removed")
    put_back(house, first)
    later = house.in_processing("key")
    departures.leave([removed], departures.REMOVED, house.clock.now())
    told = unmet(house, first, stays, removed)
    assert told == [
        f"record {first}: its file was put back already, as record {later}",
        f"record {stays} does not fit the other options",
        f"record {removed}: its file was deleted, as --keep-completed or --keep-failed wants it",
    ]


def unmet(house: House, *named: int | Destination) -> list[str]:
    """What is told of records, of files, of directories that are not retried."""
    return list(
        retry_report.unmet(
            named,
            waiting=False,
            stray=partial(retry_choice.stray, house.spool),
            repair=house.advice(config="/c").repair(),
        )
    )


def test_what_a_record_is_about_to_say_is_told(house: House) -> None:
    """As of a consumer that was killed between the move to failed and the row."""
    [first] = fail(house, "dir/key")
    later = house.admit("dir/key", "dir/other")
    house.claim()
    os.rename(house.spool.absolute("processing/p/b/dir/other"), house.spool.absolute(OTHER))
    move = house.spool.move_beside
    beside = move("processing/p/b/dir/key", Place("failed", "p", "b", "dir/key"), later[0])
    assert beside.key == f"dir/key.~{later[0]}~"
    for key, record, path in (
        ("dir/other", later[1], OTHER),
        (beside.key, later[0], beside.path),
    ):
        assert unmet(house, Destination("p", "b", key, into=False)) == [
            f"s3://p/b/{key}: record {record} is about to say that {path} has failed, at the "
            "latest with the next sweep of a consumer or of flood-drain; try again then; at once: "
            "flood-fsck --repair --config /c"
        ]
        assert unmet(house, record) == [
            f"record {record} is about to say that {path} has failed, at the latest with the "
            "next sweep of a consumer or of flood-drain; try again then; at once: "
            "flood-fsck --repair --config /c"
        ]
    house.sweep()
    assert [one.row.id for one in retry_choice.failed(Choice(), START)] == [first, *later]
    # What has the place of a record is not its file.
    house.admit("dir/third")
    house.write("failed/p/b/dir/third", b"another")
    [text] = unmet(house, Destination("p", "b", "dir/third", into=False))
    assert "no record knows failed/p/b/dir/third: " in text


def test_what_was_renamed_in_failed_is_told_with_what_to_do(house: House) -> None:
    [old, other] = fail(house, "dir/key", "dir/other")
    os.makedirs(house.spool.absolute("failed/p/right/dir"))
    house.spool.move("failed/p/b/dir/key", "failed/p/right/dir/key")
    lost = "no record knows failed/p/right/dir/key: move it to incoming, or have one made of it: "
    for uri in ("s3://p/right/dir/key", "s3://p/right/dir/", "s3://p/right/"):
        assert unmet(house, of_files(uri)) == [f"{uri}: {lost}flood-fsck --repair --config /c"]
    # What only a link leads to, flood-fsck would not find either.
    os.symlink("dir", house.spool.absolute("failed/p/right/link"))
    for uri in ("s3://p/right/link/key", "s3://p/right/link/"):
        assert unmet(house, of_files(uri)) == [f"{uri}: no files that lie in failed fit this"]
    # Whatever has a record just does not fit what else was asked for.
    house.write("processing/p/b/dir/third")
    for key, into in (("dir/other", False), ("dir", True), ("", True), ("dir/third", False)):
        [text] = unmet(house, Destination("p", "b", key, into))
        assert text.endswith(": no files that lie in failed fit this")
    [done] = retry(house).foresee([old])
    assert done.reason is not None
    assert done.reason.startswith("failed/p/b/dir/key: it is not there any more; if it was renamed")
    house.sweep()
    [text] = unmet(house, old)
    assert "move it to incoming, where flood-watch takes it as a new file" in text
    fsck(house, repair=True)
    [made] = retry_choice.failed(Choice(destinations=[of_files("s3://p/right/dir/key")]), START)
    assert put_back(house, made.row.id, other) == {made.row.id: "retried", other: "retried"}


def told(house: House, key: str) -> tuple[str, list[dict[str, Any]]]:
    """The story of a file, to a person and a program."""
    place = Place("failed", "p", "b", key)
    story = stories.tell(house.spool, place, (), house.advice(), now=house.clock.now)
    return "\n".join(story_text.lines(story)), json.loads(story_text.as_json(story))["records"]


def test_the_story_goes_on_where_flood_retry_put_the_file_back(house: House) -> None:
    [first] = fail(house, "key")
    put_back(house, first)
    later = house.in_processing("key")
    text, rows = told(house, "key")
    assert f": put back as record {later}" in text
    assert f"next      nothing: it goes on as record {later}" in text
    assert [(x["left_how"], x["successor"], x["origin"]) for x in rows] == [
        ("retried", later, first),
        (None, None, first),
    ]


def test_the_story_tells_what_retention_deleted(house: House) -> None:
    [record] = fail(house, "key")
    os.unlink(house.spool.absolute("failed/p/b/key"))
    departures.leave([record], departures.REMOVED, house.clock.now())
    text, [row] = told(house, "key")
    assert ": deleted by retention" in text
    assert (row["left_how"], row["left"]) == ("removed", utc_text(house.clock.now()))


def test_the_story_of_an_old_version_says_how_it_goes_over_a_newer_one(house: House) -> None:
    [old] = fail(house, "key")
    assert f"then: flood-retry {old}" in told(house, "key")[0]
    [new] = house.admit("key")
    text, _ = told(house, "key")
    assert f"record {new} is a later version, and in processing" in text
    assert f"flood-retry {old} --overwrite-newer" in text
