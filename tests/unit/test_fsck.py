"""Each discrepancy is found, mended, and then gone."""

import os
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from flood import fsck_kinds as kinds
from flood import fsck_report, models, records
from flood.door import Candidate
from flood.errors import SpoolError
from flood.locks import CONSUMERS_LOCK, PUT_LOCK, WATCH_LOCK, FileLock, WorkerLocks
from flood.record_values import Arrival, Proof, Reason
from flood.states import INTERRUPTED, TRANSIENT
from flood.tasks import enqueue_ring
from tests.fscking import CLEAN, consistent, fsck, names
from tests.spooling import START, House, deaths, fork, garble, in_child, quick_house
from workers.decisions import GiveUp, Prove, TryAgain
from workers.transfer import Receipt

RECEIPT = Proof("etag", None, "md5:0", 4)
BROKEN = Reason(TRANSIENT, "broken", "the connection broke")
STOPPED = Reason(INTERRUPTED, "stopped", "the worker was told to stop")


def move(house: House, source: str, target: str) -> None:
    os.makedirs(os.path.dirname(house.spool.absolute(target)), exist_ok=True)
    os.rename(house.spool.absolute(source), house.spool.absolute(target))


def remove(house: House, path: str) -> None:
    os.unlink(house.spool.absolute(path))


def done(house: House, *keys: str) -> None:
    """S8: files that were uploaded."""
    house.admit(*keys)
    for claim in house.claim():
        move(house, claim.path, f"completed/p/b/{claim.key}")
        records.complete(claim, f"completed/p/b/{claim.key}", RECEIPT, house.clock.now())


def given_up(house: House, *keys: str) -> None:
    """S10: files that failed."""
    house.admit(*keys)
    for claim in house.claim():
        move(house, claim.path, f"failed/p/b/{claim.key}")
        records.fail(claim, f"failed/p/b/{claim.key}", BROKEN, house.clock.now())


def put(house: House, state: str) -> int:
    """The row of a flood-put, in `incoming_tmp` or `incoming`, with its copy."""
    path = "incoming_tmp/p/b/0123" if state == "incoming_tmp" else "incoming/p/b/key"
    identity = house.write("incoming_tmp/p/b/0123")
    arrival = Arrival("p", "b", "key", "incoming_tmp/p/b/0123", identity, START)
    [record] = records.put_begun([arrival], START)
    if state == "incoming":
        move(house, arrival.path, path)
        records.put_arrived(record, path, START)
    return record


# --- one after the other -------------------------------------------------------------------------


def s0_left_over(house: House) -> None:
    put(house, "incoming_tmp")


def s2_no_record(house: House) -> None:
    house.write("processing/p/b/key")


def s2_begun(house: House) -> None:
    put(house, "incoming_tmp")
    move(house, "incoming_tmp/p/b/0123", "processing/p/b/key")


def s2_arrived(house: House) -> None:
    put(house, "incoming")
    move(house, "incoming/p/b/key", "processing/p/b/key")


def s3_unrung(house: House) -> None:
    house.admit("key")


def s4_never_due(house: House) -> None:
    house.admit("key", "other")
    models.execute("UPDATE file_records SET next_attempt_at = NULL WHERE filepath = 'key'")
    models.execute(
        "UPDATE file_records SET next_attempt_at = '2999-01-01T00:00:00.000000Z' "
        "WHERE filepath = 'other'"
    )


def s6_dead(house: House) -> None:
    house.admit("key")
    house.claim()


def s6_by_hand(house: House) -> None:
    house.admit("key")
    models.execute("UPDATE file_records SET owner = 'ann'")


def s6_dead_for_good(house: House) -> None:
    house.admit("key")
    models.execute("UPDATE file_records SET retry_count = 10")
    models.execute(
        "INSERT INTO retry_attempts (record_id, retry_number, started_at, finished_at, outcome, "
        "kind, next_attempt_at) SELECT 1, value, created_at, created_at, 'failure', 'transient', "
        "created_at FROM json_each('[0,1,2,3,4,5,6,7,8,9]'), spool"
    )
    house.claim()


def s7_proven(house: House) -> None:
    house.admit("key", "due")
    house.claim(1)
    for key in ("key", "due"):
        move(house, f"processing/p/b/{key}", f"completed/p/b/{key}")


def s7_beside(house: House) -> None:
    done(house, "key")
    [record] = house.admit("key", data=b"newer")
    house.claim()
    move(house, "processing/p/b/key", f"completed/p/b/key.~{record}~")


def s9_given_up(house: House) -> None:
    house.admit("key")
    house.claim()
    move(house, "processing/p/b/key", "failed/p/b/key")


def s11_removed(house: House) -> None:
    house.admit("claimed", "due")
    house.claim(1)
    put(house, "incoming")
    for path in ("processing/p/b/claimed", "processing/p/b/due", "incoming/p/b/key"):
        remove(house, path)


def s11_removed_copy(house: House) -> None:
    put(house, "incoming_tmp")
    remove(house, "incoming_tmp/p/b/0123")


def s11_replaced(house: House) -> None:
    house.admit("key")
    house.write("outside")
    house.write("new", b"another file")
    move(house, "new", "processing/p/b/key")


def undone(house: House, place: str) -> None:
    """A power failure undid the last renames of a file that is completed."""
    house.clock.moment = datetime.now(timezone.utc) + timedelta(hours=1)
    done(house, "key")
    move(house, "completed/p/b/key", f"{place}/p/b/key")


def s12_in_processing(house: House) -> None:
    undone(house, "processing")


def s12_in_incoming(house: House) -> None:
    undone(house, "incoming")


def s12_before_admission(house: House) -> None:
    house.admit("key")
    move(house, "processing/p/b/key", "incoming/p/b/key")


def s12_while_claimed(house: House) -> None:
    s12_before_admission(house)
    house.claim()


def second_record(house: House) -> None:
    """What flood-put announced is not what came: the row was not adopted."""
    put(house, "incoming_tmp")
    models.execute("UPDATE file_records SET size = 99")
    move(house, "incoming_tmp/p/b/0123", "incoming/p/b/key")
    house.recover()


def unrecorded(house: House) -> None:
    house.write("completed/p/b/dir/key")
    house.write("failed/p/b/key")
    given_up(house, "known")
    models.execute("DELETE FROM file_records WHERE filepath = 'known'")
    models.execute("DELETE FROM retry_attempts")


def older_copy(house: House) -> None:
    """Somebody put an older copy of the database back: records are behind by several steps."""
    put(house, "incoming")
    move(house, "incoming/p/b/key", "completed/p/b/key")


def no_directory(house: House) -> None:
    os.rmdir(house.spool.absolute("failed"))


def no_queue(house: House) -> None:
    models.execute("DROP TABLE schedule")


def no_indices(house: House) -> None:
    house.admit("key")
    for (name,) in models.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
        "AND tbl_name IN ('file_records', 'retry_attempts')"
    ).fetchall():
        models.execute(f"DROP INDEX {name}")


def other_queue(house: House) -> None:
    models.execute("ALTER TABLE task RENAME COLUMN data TO datum")


def queue_of_views(house: House) -> None:
    models.execute("ALTER TABLE task RENAME TO elsewhere")
    models.execute("CREATE VIEW Task AS SELECT * FROM elsewhere")


def queue_of_broken_views(house: House) -> None:
    models.execute("DROP TABLE task")
    models.execute("CREATE VIEW task AS SELECT * FROM nowhere")


def unbound(house: House) -> None:
    models.execute("DELETE FROM spool")


def moved_database(house: House) -> None:
    house.spool.keep(".flood/spool", '{"id": "%s", "database": "/gone/flood.db"}' % ("f" * 32))


MENDED: list[tuple[Callable[[House], None], list[tuple[str, str | None]]]] = [
    (s0_left_over, [("left_over", "S0")]),
    (s2_no_record, [("taken", "S2")]),
    (s2_begun, [("taken", "S2")]),
    (s2_arrived, [("taken", "S2")]),
    (s3_unrung, [("unrung", "S3")]),
    (s4_never_due, [("never_due", "S4")] * 2),
    (s6_dead, [("dead_claim", "S6")]),
    (s6_by_hand, [("dead_claim", "S6")]),
    (s6_dead_for_good, [("dead_claim", "S6")]),
    (s7_proven, [("proven", "S7")] * 2),
    (s7_beside, [("proven", "S7")]),
    (s9_given_up, [("given_up", "S9")]),
    (s11_removed, [("vanished", "S11")] * 3),
    (s11_removed_copy, [("vanished", "S11")]),
    (s11_replaced, [("taken", "S2"), ("vanished", "S11")]),
    (s12_in_processing, [("ran_ahead", "S12")]),
    (s12_in_incoming, [("ran_ahead", "S12")]),
    (s12_before_admission, [("ran_ahead", "S12")]),
    (s12_while_claimed, [("dead_claim", "S6")]),
    (second_record, [("second_record", None)]),
    (unrecorded, [("unrecorded", None)] * 3),
    (older_copy, [("proven", "S7")]),
    (no_directory, [("directory_missing", None)]),
    (no_queue, [("queue_tables", None)]),
    (no_indices, [("index_missing", None)] * 17),
    (other_queue, [("queue_tables", None)]),
    (queue_of_views, [("queue_tables", None)]),
    (queue_of_broken_views, [("queue_tables", None)]),
    (unbound, [("unbound", None)]),
    (moved_database, [("card_outdated", None)]),
]


@pytest.mark.parametrize(("arrange", "expected"), MENDED, ids=lambda x: getattr(x, "__name__", ""))
def test_what_can_be_mended_is_found_mended_gone(
    house: House,
    arrange: Callable[[House], None],
    expected: list[tuple[str, str | None]],
) -> None:
    if arrange is not s3_unrung:
        enqueue_ring("p", "b")  # the test's own house only takes note of tasks
    arrange(house)
    before = house.files()
    report = fsck(house)
    assert names(report) == sorted(expected)
    assert not report.clean
    assert house.files() == before
    content = sorted(before.values()) if arrange is not s0_left_over else []

    report = fsck(house, repair=True)
    assert names(report) == CLEAN
    assert {x.kind.name for x in report.mended} >= {name for name, _ in expected}
    assert names(fsck(house)) == CLEAN
    assert sorted(house.files().values()) == content

    # Then flood itself goes on.
    house.recover()
    house.clock.advance(86_400.0)
    house.sweep()
    assert names(fsck(house)) == CLEAN
    consistent(house)
    assert sorted(house.files().values()) == content


def test_a_spool_in_order_is_left_as_it_is(house: House) -> None:
    done(house, "done")
    given_up(house, "given up")
    house.write("incoming/p/b/waits")
    house.write("incoming/p/b/half.part")
    enqueue_ring("p", "b")
    house.admit("due", "later", "emptied")
    claims = house.claim()
    records.retry(claims[1], claims[1].identity, BROKEN, 30.0, START)
    records.release(claims[0], STOPPED, START)
    move(house, "processing/p/b/emptied", "completed/p/b/emptied")
    records.complete(claims[2], "completed/p/b/emptied", RECEIPT, START)
    remove(house, "completed/p/b/emptied")  # whoever empties it
    before = house.files(), house.rows()
    report = fsck(house, repair=True)
    assert (report.found, report.mended, report.clean) == ([], [], True)
    assert (house.files(), house.rows()) == before
    assert (report.records, sum(report.files.values())) == (5, 6)


def test_the_history_of_a_file_that_was_tried_again_is_in_order(house: House) -> None:
    given_up(house, "key")
    move(house, "failed/p/b/key", "incoming/p/b/key")
    house.recover()
    claim = house.claim()[0]
    for number in range(3):
        records.release(claim, STOPPED, START)
        claim = house.claim()[0]
        due = records.retry(claim, claim.identity, BROKEN, 1.0, house.clock.now())
        assert due is not None, number
        house.clock.advance(1.0)
        claim = house.claim()[0]
    move(house, "processing/p/b/key", "completed/p/b/key")
    records.complete(claim, "completed/p/b/key", RECEIPT, START)
    assert names(fsck(house)) == CLEAN


# --- what a person must decide -------------------------------------------------------------------


def test_what_a_person_must_decide_is_told_and_left(house: House) -> None:
    done(house, "altered")
    house.write("completed/p/b/altered", b"other content")
    house.write("incoming/lost")
    house.write("completed/p/lost")
    os.symlink("/etc/passwd", house.spool.absolute("incoming/link"))
    os.mkfifo(house.spool.absolute("completed/fifo"))
    before = house.files()
    for repair in (False, True):
        report = fsck(house, repair=repair)
        assert names(report) == [
            ("altered", None),
            ("misplaced", None),
            ("misplaced", None),
            ("strange", None),
            ("strange", None),
        ]
        assert {x.kind.who for x in report.found} == {"person"}
        assert house.files() == before
    assert {x.detail for x in report.found if x.kind.name == "strange"} == {"symbolic link", "FIFO"}


def deep(house: House, length: int) -> str:
    """A file in incoming whose absolute path has so many bytes, made as no program does that names
    it by its path."""
    top = house.spool.absolute(f"incoming/p/b/L{length}")
    os.makedirs(top)
    names = []
    left = length - len(top) - 1
    while left > 201:
        names.append("d" * 200)
        left -= 201
    folder = os.open(top, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=folder)
        below = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("f" * left, os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    return "/".join([f"incoming/p/b/L{length}", *names, "f" * left])


def test_paths_that_are_too_long_are_for_a_person(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    # Moved to processing it would have two bytes more.
    fits, *others = [deep(house, length) for length in (4093, 4094, 4095, 4096, 4097)]
    deepest = deep(house, 5000)
    for repair in (False, True):
        report = fsck(house, repair=repair)
        assert names(report) == [("too_long", None)] * 5
        found = {str(each.path) for each in report.found}
        assert found >= set(others)
        assert any(deepest.startswith(path) for path in found)
    for _ in range(2):
        intake = house.intake()
        seen = [Candidate(each.path, closed=True) for each in house.found("incoming")]
        assert intake.admit([(one, None) for one in seen]).admitted == 1
        house.spool.move(f"processing/{fits.removeprefix('incoming/')}", fits)
        assert intake.admit([(one, None) for one in seen if one.path != fits]).admitted == 0
    told = [one for one in caplog.records if "shorten the names" in str(one.__dict__)]
    assert len(told) == 2 * len(others)


@pytest.mark.parametrize(
    "change",
    [
        "owner = 'x'",
        "next_attempt_at = '2026-01-01T00:00:00.000000Z'",
        "upload_outcome = 'failure'",
        "retry_count = 11",
        "current_state = 'failed'",
        "spool_path = 'elsewhere'",
    ],
)
def test_records_that_contradict_themselves_are_for_a_person(house: House, change: str) -> None:
    done(house, "key")
    models.execute(f"UPDATE file_records SET {change}")
    assert ("contradiction", None) in names(fsck(house, repair=True))


def test_attempts_that_do_not_count_up_are_found(house: House) -> None:
    done(house, "one", "two")
    models.execute("UPDATE retry_attempts SET retry_number = 2 WHERE record_id = 1")
    assert [(x.kind.name, x.record) for x in fsck(house).found] == [("attempts", 1)]
    models.execute("DELETE FROM retry_attempts")
    house.admit("three")
    for _ in range(3):
        claim = house.claim()[0]
        records.retry(claim, claim.identity, BROKEN, 1.0, house.clock.now())
        house.clock.advance(1.0)
    enqueue_ring("p", "b")
    assert names(fsck(house)) == CLEAN
    models.execute("DELETE FROM retry_attempts WHERE retry_number = 1")
    assert [(x.kind.name, x.detail) for x in fsck(house).found] == [("attempts", "2 after 0")]


def test_a_multipart_upload_that_is_left_is_for_the_consumers(house: House) -> None:
    done(house, "key")
    models.execute("UPDATE file_records SET multipart_upload_id = 'left'")
    report = fsck(house, repair=True)
    assert [(x.kind.name, x.kind.who, x.detail) for x in report.found] == [
        ("multipart_left", "consumers", "upload left")
    ]


def test_what_is_harmless_is_told_but_does_not_count(house: House) -> None:
    done(house, "key")
    models.execute("UPDATE file_records SET checksum = NULL, etag = NULL")
    models.execute("INSERT INTO task (queue, data, priority) VALUES ('flood', 'x', 0)")
    in_child(lambda: WorkerLocks(house.spool).own())
    report = fsck(house)
    assert report.clean
    expected = ["foreign_tasks", "lock_left", "receipt_missing"]
    assert sorted(x.kind.name for x in report.found) == expected
    fsck(house, repair=True)
    assert os.listdir(house.spool.absolute(".flood/workers")) == []


@pytest.mark.parametrize("what", ["link", "file"])
def test_directories_that_are_none_are_for_a_person(
    house: House, tmp_path: os.PathLike[str], what: str
) -> None:
    os.rmdir(house.spool.absolute("failed"))
    if what == "link":
        os.symlink(tmp_path, house.spool.absolute("failed"))
    else:
        house.write("failed")
    report = fsck(house, repair=True)
    assert names(report) == [("directory_foreign", None)]
    assert not report.clean


# --- one inode, two names ------------------------------------------------------------------------


def linked(house: House) -> None:
    house.admit("key")
    os.makedirs(house.spool.absolute("completed/p/b"))
    paths = [house.spool.absolute(f"{x}/p/b/key") for x in ("processing", "completed")]
    house.claim()
    os.link(*paths)


def test_half_a_move_is_finished_where_moves_are_links(house: House) -> None:
    linked(house)
    house.spool._linking = True  # as on a filesystem without renameat2's flag
    assert ("two_names", None) in names(fsck(house))
    assert names(fsck(house, repair=True)) == CLEAN
    assert house.states() == [("key", "completed", "success")]
    assert list(house.files()) == ["completed/p/b/key"]


def test_two_names_that_no_move_leaves_are_for_a_person(house: House) -> None:
    linked(house)
    enqueue_ring("p", "b")
    report = fsck(house, repair=True)
    assert names(report) == [("two_names", None)]
    assert all(each in report.reasons for each in report.found)
    assert len(house.files()) == 2


# --- in motion -----------------------------------------------------------------------------------


def test_a_living_worker_may_be_anywhere_with_its_file(house: House) -> None:
    house.admit("moved", "removed", "there")
    owner = WorkerLocks(house.spool)
    house.claim(owner=owner.own())
    move(house, "processing/p/b/moved", "completed/p/b/moved")
    remove(house, "processing/p/b/removed")
    assert names(fsck(house, repair=True)) == CLEAN
    assert len(house.claimed(owner.own())) == 3
    owner.disown()
    expected = [("dead_claim", "S6"), ("proven", "S7"), ("vanished", "S11")]
    assert names(fsck(house)) == expected


def test_copies_of_a_living_flood_put_are_no_left_overs(house: House) -> None:
    put(house, "incoming_tmp")
    removed = put_lock_held(house)
    try:
        assert names(fsck(house)) == CLEAN  # young
        remove(house, "incoming_tmp/p/b/0123")
        assert names(fsck(house, repair=True)) == CLEAN  # it ends its record next
        assert house.states() == [("key", "incoming_tmp", None)]
    finally:
        removed.release()
    assert names(fsck(house)) == [("vanished", "S11")]


def put_lock_held(house: House) -> FileLock:
    lock = FileLock(house.spool.absolute(PUT_LOCK))
    assert lock.try_shared()
    return lock


def test_what_comes_right_while_it_is_looked_at_is_not_reported(house: House) -> None:
    """A worker settles, the watcher admits, between the looks."""
    house.admit("proven", "vanished")
    house.claim()
    move(house, "processing/p/b/proven", "completed/p/b/proven")
    remove(house, "processing/p/b/vanished")
    house.write("processing/p/b/taken")
    enqueue_ring("p", "b")

    def goes_on() -> None:
        house.recover()
        house.sweep()

    models.close()
    assert names(fsck(house, waits=lambda: settle_in_child(house, goes_on))) == CLEAN


def settle_in_child(house: House, work: Callable[[], None]) -> None:
    def call() -> None:
        models.bind(house.database)
        work()

    assert in_child(call) == 0
    models.bind(house.database)
    models.execute("PRAGMA query_only = ON")


def test_what_keeps_changing_is_not_reported(house: House) -> None:
    """Always wrong, never the same."""
    house.admit("key")
    house.claim()
    remove(house, "processing/p/b/key")

    def change() -> None:
        with models.write():
            models.execute("UPDATE file_records SET claim_number = claim_number + 1")

    assert names(fsck(house, waits=lambda: settle_in_child(house, change))) == CLEAN


def test_a_writer_that_is_stopped_is_told(house: House) -> None:
    """What it has begun is in motion for as long as it takes."""
    enqueue_ring("p", "b")
    begun, ready = os.pipe()
    wait, go_on = os.pipe()
    child = fork()
    if child == 0:
        try:
            os.close(go_on)
            with models.write():
                house.write("processing/p/b/key")
                os.write(ready, b"!")
                os.read(wait, 1)
        finally:
            os._exit(0)
    try:
        os.read(begun, 1)
        assert names(fsck(house)) == [("writer_stuck", None)]
    finally:
        for descriptor in (begun, ready, wait, go_on):
            os.close(descriptor)
        os.waitpid(child, 0)
    assert names(fsck(house)) == [("taken", "S2")]


def test_another_programs_transaction_is_told() -> None:
    # On a filesystem whose device has one number for the table of locks, for stat(2).
    with quick_house() as house:
        enqueue_ring("p", "b")
        script = (
            "import sqlite3, sys; other = sqlite3.connect(sys.argv[1], isolation_level=None); "
            "other.execute('BEGIN IMMEDIATE'); print(flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", script, house.database]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, **pipes) as other:
            assert other.stdout is not None
            other.stdout.readline()
            [found] = fsck(house).found
            other.communicate()
        assert (found.kind.name, found.detail) == ("writer_foreign", f"process {other.pid}")
        assert names(fsck(house)) == CLEAN


# --- deaths --------------------------------------------------------------------------------------


def test_whoever_dies_at_whatever_line_fsck_mends_what_is_left() -> None:
    """Admission, settlement, sweep, each killed before each of its lines."""

    def arrange(house: House) -> None:
        house.admit("due", "proven", "given up", "lost")
        house.write("incoming/p/b/arrives", b"data")
        models.close()

    def work(house: House) -> None:
        house.recover()
        claims = {claim.key: claim for claim in house.claim()}
        descriptor, _ = house.spool.open("processing/p/b/proven")
        house.settle(
            Prove(
                claims["proven"],
                Receipt("e", None, None, 4),
                descriptor,
                os.fstat(descriptor).st_ctime_ns,
            ),
            GiveUp(claims["given up"], BROKEN),
            TryAgain(claims["due"], claims["due"].identity, BROKEN, 30.0),
        )
        house.sweep()

    steps = ("_transaction", "_move", "claim", "settle", "_prove", "_give_up", "_rename")
    died = 0
    for house in deaths(work, arrange, (*steps, "_take_over")):
        died += 1
        report = fsck(house, repair=True)
        states = {x.kind.name for x in report.mended}
        assert states <= {"unrung", "taken", "dead_claim", "proven", "given_up", "ran_ahead"}
        assert names(report) == CLEAN
        assert sorted(house.files().values()) == [b"data"] * 5
        house.recover()
        house.clock.advance(86_400.0)
        house.sweep()
        consistent(house)
        assert sorted(house.files().values()) == [b"data"] * 5
    assert died > 8


def test_a_repair_may_die_at_any_line() -> None:
    def arrange(house: House) -> None:
        house.admit("lost", "proven", "gone")
        house.claim()
        move(house, "processing/p/b/proven", "completed/p/b/proven")
        remove(house, "processing/p/b/gone")
        s2_arrived(house)
        unrecorded_files(house)
        models.close()

    steps = ("step", "_follow", "_take_over", "_take_up", "_make_records", "_purge")
    died = 0
    for house in deaths(lambda house: fsck(house, repair=True), arrange, steps):
        died += 1
        assert names(fsck(house, repair=True)) == CLEAN
        consistent(house)
        assert len(house.files()) == 5
    assert died > 5


def test_a_rebuild_may_die_at_any_line() -> None:
    def arrange(house: House) -> None:
        unrecorded_files(house)
        house.admit("key")
        models.close()
        os.unlink(house.database)

    steps = ("rebuild", "set_aside", "_rename_new", "migrate", "_upgrade", "bind", "make_anew")
    died = 0
    for house in deaths(lambda house: fsck(house, repair=True), arrange, steps):
        died += 1
        assert names(fsck(house, repair=True)) == CLEAN
        consistent(house)
        assert len(house.rows()) == 3
    assert died > 10


def unrecorded_files(house: House) -> None:
    house.write("completed/p/b/old")
    house.write("failed/p/b/old")


# --- databases -----------------------------------------------------------------------------------


def gone(house: House) -> None:
    os.unlink(house.database)


def garbage(house: House) -> None:
    Path(house.database).write_bytes(b"garbage" * 10_000)


def empty(house: House) -> None:
    Path(house.database).write_bytes(b"")


def holed(house: House) -> None:
    """Pages of zeros in the middle, behind a sound beginning."""
    size = os.path.getsize(house.database)
    with open(house.database, "r+b") as file:
        file.seek(4096 * 2)
        file.write(bytes(size - 4096 * 2))


def garbled(house: House) -> None:
    models.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    models.close()
    garble(Path(house.database))


def without_table(house: House) -> None:
    models.execute("DROP TABLE retry_attempts")
    models.close()


@pytest.mark.parametrize("seed", range(8))
def test_whatever_page_is_damaged_is_told_of(house: House, seed: int) -> None:
    rng = random.Random(seed)
    house.admit(*(f"some/longer/name/{number:03}" for number in range(150)))
    models.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    models.close()
    size = os.path.getsize(house.database)
    with open(house.database, "r+b") as file:
        file.seek(rng.randrange(4096, size, 512))
        file.write(rng.randbytes(rng.choice([16, 512, 2048])))
    found = [name for name, _ in names(fsck(house))]
    assert found
    fsck(house, repair=True)
    assert names(fsck(house)) == CLEAN


@pytest.mark.parametrize("lose", [gone, garbage, garbled, empty, holed, without_table])
def test_a_lost_database_is_made_anew_from_the_directories(
    house: House, lose: Callable[[House], None]
) -> None:
    done(house, "done")
    given_up(house, "given up")
    house.admit("due", "claimed", "dir/deep")
    house.claim()
    house.write("incoming/p/b/arrives")
    move(house, "completed/p/b/done", "completed/p/b/done.~1~")
    models.close()
    lose(house)
    before = house.files()
    broken = Path(house.database).read_bytes() if lose is not gone else b""
    report = fsck(house)
    kind = {gone: "database_gone", empty: "database_empty"}.get(lose, "database_broken")
    assert names(report) == [(kind, None)]
    assert not report.compared
    assert house.files() == before

    report = fsck(house, repair=True)
    assert names(report) == CLEAN
    assert house.files() == before
    if lose is gone:
        assert report.kept == []
    else:
        assert f"{house.database}.broken-20260301T120000Z" in report.kept
        assert Path(f"{house.database}.broken-20260301T120000Z").read_bytes() == broken
    assert os.stat(house.database).st_mode & 0o777 == 0o600
    rows = {row["filepath"]: row for row in house.rows()}
    assert {key: row["current_state"] for key, row in rows.items()} == {
        "done": "completed",
        "given up": "failed",
        "due": "processing",
        "claimed": "processing",
        "dir/deep": "processing",
    }
    completed, failed = rows["done"], rows["given up"]
    assert completed["spool_path"] == "completed/p/b/done.~1~"
    assert completed["upload_outcome"] is None
    assert failed["upload_outcome"] == "failure"
    for row in (completed, failed):
        assert row["error_code"] == "record_lost"
        assert (row["etag"], row["checksum"], row["bytes_sent"]) == (None, None, 0)
        assert row["completed_at"] is not None
    enqueued = models.execute("SELECT count(*) FROM task").fetchone()[0]
    assert enqueued == 1, "the three that are due ring"
    house.recover()
    house.clock.advance(86_400.0)
    house.sweep()
    assert names(fsck(house)) == CLEAN
    consistent(house)


INDICES = "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name"


def test_indices_are_made_again_as_they_were(house: House) -> None:
    before = models.execute(INDICES).fetchall()
    no_indices(house)
    rows = house.rows()
    report = fsck(house)
    assert {x.detail for x in report.found if x.kind.name == "index_missing"} == {
        name for name, table, _ in before if table in ("file_records", "retry_attempts")
    }
    fsck(house, repair=True)
    assert models.execute(INDICES).fetchall() == before
    assert house.rows() == rows


def test_an_index_of_another_kind_is_none(house: House) -> None:
    before = models.execute(INDICES).fetchall()
    models.execute(f"DROP INDEX {kinds.ONE}")
    models.execute(f"CREATE INDEX {kinds.ONE} ON file_records (profile, bucket, filepath)")
    assert [x.detail for x in fsck(house).found if x.kind is kinds.INDEX_MISSING] == [kinds.ONE]
    fsck(house, repair=True)
    assert models.execute(INDICES).fetchall() == before


def test_two_records_of_one_key_keep_the_index_away_that_forbids_them(house: House) -> None:
    no_indices(house)
    [second] = house.admit("other")
    models.execute("UPDATE file_records SET filepath = 'key'")
    report = fsck(house, repair=True)
    [(finding, reason)] = report.reasons.items()
    assert (finding.kind.name, finding.detail) == ("index_missing", kinds.ONE)
    assert "it allows one record of a key in processing, but there are records" in reason
    assert f"records 1 and {second} of p/b/key: let consumers" in reason
    models.execute("UPDATE file_records SET filepath = 'other' WHERE id = ?", (second,))
    assert names(fsck(house, repair=True)) == CLEAN


def test_some_of_many_keys_with_two_records_are_named(house: House) -> None:
    no_indices(house)
    for number in range(4):
        house.admit(f"a {number}", f"b {number}")
    models.execute("UPDATE file_records SET filepath = 'a' || substr(filepath, 2)")
    [reason] = fsck(house, repair=True).reasons.values()
    assert ", 1 more such key: let consumers" in reason


_AWAY = re.escape(models.AWAY)
LINKS = {
    "file": f"is a symbolic link that leads nowhere, to /nowhere/flood.db: {_AWAY}",
    "directory": f"there is no directory .* for the database .*: {_AWAY}",
}


@pytest.mark.parametrize("which", LINKS)
@pytest.mark.parametrize("repair", [False, True])
def test_a_link_that_leads_nowhere_is_told(
    house: House, tmp_path: Path, which: str, repair: bool
) -> None:
    """It may lead to a disk that is not mounted, whose database must not be made anew."""
    link = tmp_path / "link"
    link.symlink_to("/nowhere/flood.db" if which == "file" else "/nowhere")
    database = str(link if which == "file" else link / "flood.db")
    gone(house)
    with pytest.raises(SpoolError, match=LINKS[which]):
        fsck(replace(house, database=database), repair=repair)
    assert os.readlink(link).startswith("/nowhere")


def test_what_sqlite_keeps_beside_a_database_is_kept_with_it(house: House) -> None:
    """A stale write-ahead log must not be taken for the new database's own."""
    house.admit("key")
    models.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{house.database}{suffix}").write_bytes(suffix.encode() * 1000)
    os.unlink(house.database)
    kept = fsck(house, repair=True).kept
    assert [Path(path).read_bytes()[:4] for path in kept] == [b"-wal", b"-shm"]
    assert names(fsck(house)) == CLEAN


def test_nothing_is_overwritten_by_what_is_kept(house: House) -> None:
    garbage(house)
    Path(f"{house.database}.broken-20260301T120000Z").write_bytes(b"an earlier one")
    with pytest.raises(SpoolError, match="is there already"):
        fsck(house, repair=True)
    assert Path(house.database).read_bytes().startswith(b"garbage")
    house.clock.advance(1.0)
    assert names(fsck(house, repair=True)) == CLEAN


@pytest.mark.parametrize("lock", [WATCH_LOCK, CONSUMERS_LOCK, PUT_LOCK])
def test_a_database_is_not_replaced_while_anybody_works(house: House, lock: str) -> None:
    held = FileLock(house.spool.absolute(lock))
    assert held.try_exclusive() if lock == WATCH_LOCK else held.try_shared()
    garbage(house)
    report = fsck(house, repair=True)
    assert names(report) == [("database_broken", None)]
    assert "stop flood-watch" in next(iter(report.reasons.values()))
    assert Path(house.database).read_bytes().startswith(b"garbage")
    held.release()
    assert names(fsck(house, repair=True)) == CLEAN


def test_a_database_is_not_replaced_while_a_worker_lives(house: House) -> None:
    locks = WorkerLocks(house.spool)
    locks.own()
    garbage(house)
    assert names(fsck(house, repair=True)) == [("database_broken", None)]
    locks.disown()
    assert names(fsck(house, repair=True)) == CLEAN


@pytest.mark.parametrize(
    "statement", [None, "PRAGMA user_version = 1", "CREATE TABLE schema_migration (name TEXT)"]
)
def test_an_empty_database_is_no_broken_one(house: House, statement: str | None) -> None:
    """Somebody has only begun to make it, or has emptied it."""
    house.admit("key")
    models.close()
    for path in Path(house.database).parent.glob(f"{Path(house.database).name}*"):
        path.unlink()
    with closing(sqlite3.connect(house.database)) as made:
        made.execute(statement or "SELECT 1")
        made.commit()
    assert names(fsck(house)) == [("database_empty", None)]
    assert names(fsck(house, repair=True)) == CLEAN
    assert [row["current_state"] for row in house.rows()] == ["processing"]


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE mails (id INTEGER)"],
        # Another program's with the same library, and a step of the same name.
        [
            "CREATE TABLE mails (id INTEGER)",
            "CREATE TABLE schema_migration (id INTEGER PRIMARY KEY, name, applied)",
            "INSERT INTO schema_migration VALUES (1, '0001_initial', '2020-01-01')",
        ],
    ],
)
def test_another_programs_database_is_kept_aside(house: House, statements: list[str]) -> None:
    house.admit("key")
    models.close()
    os.unlink(house.database)
    with closing(sqlite3.connect(house.database)) as other:
        for statement in statements:
            other.execute(statement)
        other.commit()
    before = Path(house.database).read_bytes()
    report = fsck(house)
    assert names(report) == [("database_foreign", None)]
    assert report.found[0].detail == "it has tables such as mails"
    assert Path(house.database).read_bytes() == before
    report = fsck(house, repair=True)
    assert names(report) == CLEAN
    assert [Path(each).read_bytes() for each in report.kept] == [before]
    assert [row["current_state"] for row in house.rows()] == ["processing"]


def test_a_newer_floods_database_is_refused(house: House) -> None:
    house.admit("key")
    enqueue_ring("p", "b")
    models.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_new', '2999-01-01')")
    models.close()
    with pytest.raises(SpoolError, match="newer flood"):
        fsck(house)


def test_what_is_no_database_of_floods_is_left_alone(house: House, tmp_path: Path) -> None:
    """A mistyped --database must not be moved away."""
    other = tmp_path / "letter.txt"
    other.write_bytes(b"Dear Ann, " * 1000)
    gone(house)
    with pytest.raises(SpoolError, match="no database of flood's"):
        fsck(replace(house, database=str(other)), repair=True)
    assert os.listdir(tmp_path) == ["letter.txt"]


def test_another_spools_database_is_refused(house: House) -> None:
    models.execute("UPDATE spool SET spool_id = 'other'")
    with pytest.raises(SpoolError, match="does not belong"):
        fsck(house, repair=True)
    models.execute("UPDATE spool SET spool_id = ?", ("f" * 32,))
    os.unlink(house.spool.absolute(".flood/spool"))
    with pytest.raises(SpoolError, match="is its disk mounted"):
        fsck(house, repair=True)


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
def test_what_is_to_be_copied_stands_at_the_end(kind: kinds.Kind) -> None:
    """A command in the middle of a sentence takes more of it along."""
    command = "flood-fsck --repair"
    assert kind.remedy.count(command) == kind.remedy.endswith(f": {command}")


def test_what_is_to_be_copied_has_a_line_of_its_own(house: House) -> None:
    """No terminal breaks it."""
    os.unlink(house.database)
    report = fsck(house)
    report.repair = "flood-fsck --repair --config '/a b/flood.conf'"
    told = list(fsck_report.lines(report, everything=False))
    [line] = [each for each in told if report.repair in each.text]
    assert (line.text, line.whole) == (report.repair, True)
    assert told[told.index(line) - 1].text.endswith("with a time stamp: ")
