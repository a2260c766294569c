"""SQLite answers flood's questions from its indices, however many records have ended."""

import os
import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from flood import (
    binding,
    departures,
    destination,
    digest_records,
    due_queries,
    lost,
    models,
    queries,
    records,
    status_queries,
    status_view,
    story,
)
from flood.columns import utc_text
from flood.door import Candidate
from flood.identity import Identity
from flood.layout import Place
from flood.record_values import AHEAD, TASK_FILES, Arrival, Reason
from flood.retention import Keeping, Retention
from flood.retry import Retry
from flood.states import FAILED, INCOMING, INCOMING_TMP, PERMANENT, PROCESSING, TRANSIENT
from tests.spooling import LARGE, START, House
from workers.decisions import GiveUp, LetGo, TryAgain
from workers.rounds import LOOKS, Rounds

REFUSED = Reason(PERMANENT, "refused", "no")
AWAY = Reason(TRANSIENT, "timeout", "no answer")

#: Indices over what is under way only.
PARTIAL = (
    "file_records_due",
    "file_records_claimed",
    "file_records_arriving",
    "file_records_multipart",
    "file_records_large",
    "file_records_one_in_processing",
)


def course(house: House) -> None:
    """Everything that flood-watch, consumers, flood-put do to records."""
    house.admit("refused", "again", "let go", "lost", "gone", "followed")
    refused, again, let_go, lost, gone, followed = house.claim()
    house.settle(
        GiveUp(refused, REFUSED),
        TryAgain(again, again.identity, AWAY, 30.0),
        LetGo(let_go, AWAY),
    )
    os.unlink(house.spool.absolute(gone.path))
    house.spool.move(followed.path, "completed/p/b/followed")
    house.sweep()
    assert due_queries.anything(house.clock.now())
    assert queries.outcomes([lost.id])
    queries.left_to_sweep(START)
    due_queries.count(START)
    due_queries.upcoming(START)
    agent = house.agent()
    with models.write():
        assert agent.turns.claim([], ("p", "b"))
    agent.locks.disown()
    assert due_queries.profiles() == ["p"]
    assert due_queries.look("p", "a", None, START, 10) == (None, False, 2)
    due_queries.with_large(1, START, ["p"])
    house.spool.move(f"{FAILED}/p/b/refused", f"{INCOMING}/p/b/refused")
    house.write(f"{PROCESSING}/p/b/found")
    house.recover()
    house.clock.advance(-3600.0)
    house.sweep()
    path = f"{INCOMING_TMP}/p/b/put"
    arrival = Arrival("p", "b", "put", path, house.write(path), START)
    [put] = records.put_begun([arrival], START)
    records.put_arrived(put, f"{INCOMING}/p/b/put", START)
    records.vanish(put, START)
    house.clock.moment += timedelta(days=1)
    house.sweep()


def asked_by(call: Callable[[], object]) -> set[str]:
    """Every question that the call asks the database."""
    asked: set[str] = set()
    models.connection().set_trace_callback(asked.add)
    call()
    models.connection().set_trace_callback(None)
    # The tests' own ask for whole rows.
    return {sql for sql in asked if re.match(r"\s*(SELECT (?!\*)|UPDATE|DELETE|WITH)", sql)}


def kinds(asked: set[str]) -> set[str]:
    return {re.sub(r"'[^']*'|\d+", "?", sql) for sql in asked}


def slow(asked: set[str], allowed: tuple[str, ...] = PARTIAL) -> list[tuple[str, str]]:
    """Those of which a step reads all records, or a whole index but those that are `allowed`."""
    found = []
    for sql in asked:
        for *_, step in models.connection().execute(f"EXPLAIN QUERY PLAN {sql}").fetchall():
            whole = re.match(r"SCAN (file_records|retry_attempts)\b|SEARCH.*\(rowid>", step)
            if whole and not step.endswith(allowed) and not sql.endswith("ORDER BY id LIMIT 1"):
                found.append((step, sql))
    return found


def test_no_question_reads_all_records(house: House) -> None:
    asked = asked_by(lambda: course(house))
    assert len(kinds(asked)) > 20
    assert slow(asked) == []


BACKLOG = """
WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last)
INSERT INTO file_records (profile, bucket, filepath, file_creation_date, current_state,
    last_updated, device, inode, size, mtime_ns, spool_path, next_attempt_at, created_at)
SELECT 'p', :bucket, i, :at, 'processing', :at, 1, i, 9, i, i, :due, :at FROM n
"""


def effort(call: Callable[[], object]) -> int:
    """How many tens of instructions SQLite's virtual machine takes for it."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    models.connection().set_progress_handler(tick, 10)
    call()
    models.connection().set_progress_handler(None, 0)
    return count


def test_a_worker_finds_its_turn_as_soon_behind_any_backlog(house: House) -> None:
    agent = house.agent()

    def take_turns() -> None:
        for asked in (("p", "b"), ("p", "c")):
            with models.write():
                _, claims = agent.turns.claim([], asked)
            assert len(claims) == TASK_FILES
        assert list(Rounds().due(due_queries.profiles(), START)) == [("p", "b"), ("p", "c")]
        assert due_queries.destinations(START) == [("p", "b"), ("p", "c")]
        assert due_queries.with_large(LARGE, START, ["p"]) is None
        assert not queries.delivered_since("p", "b", START)
        assert due_queries.anything(START)

    efforts = []
    for first, last in ((1, 400), (401, 8000)):
        for bucket, due in (("a", START + timedelta(days=1)), ("b", START), ("c", START)):
            values = {"first": first, "last": last, "bucket": bucket}
            times = {"at": utc_text(START), "due": utc_text(due)}
            models.connection().execute(BACKLOG, values | times)
        efforts.append(effort(take_turns))
    agent.locks.disown()
    assert efforts[1] < 1.2 * efforts[0], efforts


def test_no_search_for_a_turn_is_longer_than_another(house: House) -> None:
    """However many buckets wait for their retries, or are due and not to be had."""
    later = START + timedelta(days=1)
    efforts = []
    for due, profile in ((later, "p"), (START, "q")):
        for known in (0, 1, 3):
            house.wait(due, *((profile, f"{known}{number:04}") for number in range(LOOKS)))
            efforts.append(effort(lambda: list(Rounds().due([profile], START))))  # noqa: B023  at once
    assert max(efforts) < 1.1 * efforts[0], efforts


def test_a_clock_that_was_set_back_is_looked_for_among_what_waits_for_later(house: House) -> None:
    efforts = []
    for first, last in ((1, 400), (401, 8000)):
        values = {"first": first, "last": last, "bucket": "b"}
        times = {"at": utc_text(START), "due": utc_text(START)}
        models.connection().execute(BACKLOG, values | times)
        efforts.append(effort(lambda: due_queries.dated_ahead(START + AHEAD, 100)))
    assert max(efforts) < 20, efforts
    earlier = START - timedelta(days=1)
    assert [row[0] for row in due_queries.dated_ahead(earlier, 100)] == list(range(1, 101))


def test_a_page_of_what_is_on_its_way_in_is_read_as_soon_behind_any_other(house: House) -> None:
    efforts = []
    for first, last in ((1, 400), (401, 8000)):
        values = {"first": first, "last": last, "bucket": "b"}
        times = {"at": utc_text(START), "due": utc_text(START)}
        models.connection().execute(BACKLOG.replace("processing", "incoming"), values | times)
        efforts.append(effort(lambda: queries.arriving((200, 200), 100)))
    assert efforts[1] <= 1.2 * efforts[0], efforts


def test_flood_status_counts_through_indices(house: House) -> None:
    """What has ended is counted from an index that has nothing but what is counted."""

    def look() -> None:
        clock = house.clock
        status_view.look(
            house.spool, house.database, [], now=clock.now, clock=clock.seconds, seconds=60.0
        )
        place = destination.of_file("s3://p/b/again")
        story.tell(house.spool, place, [], house.advice(), now=clock.now)

    course(house)
    house.admit("waits", "held")
    [claim, *_] = house.claim()
    house.settle(TryAgain(claim, claim.identity, AWAY, 30.0))
    house.write(f"{INCOMING}/p/b/held")
    asked = asked_by(look)
    assert len(kinds(asked)) > 12
    assert slow(asked, (*PARTIAL, "file_records_completed", "file_records_failed")) == []
    assert [sql for step, sql in slow(asked) if step.endswith("file_records_completed")] != []
    gone = [(Place(INCOMING, "p", "b", str(key)), Identity(1, 2, 3, 4)) for key in range(1000)]
    assert slow(asked_by(lambda: status_queries.taken(gone))) == []


def test_retention_looks_for_earlier_versions_by_their_key(house: House) -> None:
    course(house)
    now = house.clock.now()
    page = departures.without_files(departures.START, now, 10)
    assert page
    assert slow(asked_by(lambda: departures.without_files(departures.START, now, 10))) == []
    assert slow(asked_by(lambda: departures.past([record_id for _, record_id in page]))) == []
    clock = house.clock
    keeping = Retention(
        house.spool,
        house.database,
        Keeping(1e9, 1e9, 1e9),
        now=clock.now,
        clock=clock.seconds,
        stopping=lambda: False,
    )
    keeping.run(0.0)  # which takes note of the clock
    asked = asked_by(keeping.due)
    assert len(asked) == 5
    assert slow(asked) == []


def test_flood_notify_looks_at_what_nobody_was_told_of(house: House) -> None:
    course(house)

    def look() -> None:
        known = digest_records.memory()
        ids = [one.id for one in digest_records.untold()]
        assert ids
        assert digest_records.failed_before()
        token = digest_records.claim(known, START, 60.0)
        assert token is not None
        digest_records.told(token, ids, START, after=START, trouble=START, age=None, oldest=None)
        digest_records.waiting(ids[0])

    allowed = (*PARTIAL, "file_records_untold")
    assert slow(asked_by(look), allowed) == []


# --- one key with a long history ------------------------------------------------------------------

HISTORY = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :files)
INSERT INTO file_records (profile, bucket, filepath, file_creation_date, current_state,
    last_updated, upload_outcome, device, inode, size, mtime_ns, spool_path, error_code,
    created_at, completed_at, left_at, left_how, etag, bytes_sent)
SELECT 'p', 'b', 'key', :at, :state, :at, 'failure', 1, i, 9, i, :place || i, :code, :at, :at,
    :left, CASE WHEN :left IS NOT NULL THEN 'removed' END, 'e', 9 FROM n
"""


def versions_of_key(
    files: int,
    state: str,
    *,
    code: str | None = None,
    place: str = "failed/p/b/key.~",
    left: bool = False,
) -> list[int]:
    """So many more records of one key, each of a file of its own."""
    at = utc_text(START)
    first = models.execute("SELECT COALESCE(max(id), 0) FROM file_records").fetchone()[0] + 1
    values = {"files": files, "state": state, "code": code, "place": place}
    models.connection().execute(HISTORY, values | {"at": at, "left": at if left else None})
    return list(range(first, first + files))


def efforts(call: Callable[[], object], *more: Callable[[], object]) -> list[int]:
    """What the call takes after each of these has made more records."""
    found = []
    for make in more:
        make()
        found.append(effort(call))
    return found


def test_failed_versions_of_one_key_take_no_longer_than_those_of_many(house: House) -> None:
    """As of a file that is written every minute, while the keys of its profile are wrong."""
    paths: list[str] = []

    def fail() -> None:
        for name in ("failed/p/b/key.~", "processing/p/b/key.~"):
            before = len(paths)
            made = versions_of_key(2000, FAILED, code="vanished", place=f"{name}{before}~")
            paths.extend(f"{name}{before}~{number + 1}" for number in range(len(made)))

    def look() -> None:
        assert len(status_queries.failed_at(paths)) == len(paths)
        assert len(list(status_queries.gone_before())) > 0
        assert len(list(digest_records.untold())) == len(paths)

    once, twice, thrice = efforts(look, fail, fail, fail)
    assert thrice - twice < 1.1 * (twice - once), (once, twice, thrice)


@pytest.mark.parametrize("later", [0, 1])
def test_the_story_and_the_retry_of_many_versions_ask_for_the_last_one_once(
    house: House, later: int
) -> None:
    ids: list[int] = []
    walks: list[str] = []

    def fail() -> None:
        name = f"failed/p/b/key.{len(ids)}~"
        ids.extend(versions_of_key(300, FAILED, code="refused", place=name))
        for number in range(1, 301):
            house.write(f"{name}{number}")

    def tell() -> int:
        place = destination.of_file("s3://p/b/key")
        walks.clear()
        models.connection().set_trace_callback(walks.append)
        found = story.tell(house.spool, place, [], house.advice(), now=house.clock.now)
        models.connection().set_trace_callback(None)
        assert len(found.chapters) == len(ids) + later
        return sum("later.filepath = " in sql for sql in walks)

    def foresee() -> None:
        retry = Retry(
            house.spool,
            overwrite=False,
            large=LARGE,
            enqueue=lambda *_: None,
            ring=house.ring,
            now=house.clock.now,
        )
        assert len(retry.foresee(ids)) == len(ids)

    fail()
    if later:
        house.admit("key")
    once = effort(foresee)
    fail()
    second, twice = tell(), effort(foresee)
    fail()
    assert tell() == second < 5
    thrice = effort(foresee)
    assert thrice - twice < 1.1 * (twice - once), (once, twice, thrice)


def test_what_completed_of_a_key_is_not_read_to_judge_what_failed(house: House) -> None:
    """Nor to judge whether a record is to be deleted."""
    [lies] = versions_of_key(1, FAILED, code="refused")
    [old] = versions_of_key(1, "completed", place="completed/p/b/key.~", left=True)

    def look() -> None:
        assert status_queries.failed_at(["failed/p/b/key.~1"])["failed/p/b/key.~1"].superseded
        assert [(one.id, one.superseded) for one in digest_records.untold()] == [(lies, True)]
        assert departures.past([old]) == []

    def complete() -> None:
        versions_of_key(2000, "completed", place="completed/p/b/key.~")

    once, twice = efforts(look, complete, complete)
    assert twice < 1.1 * once, (once, twice)


def test_a_version_is_admitted_as_soon_behind_any_others(house: House) -> None:
    def put() -> None:
        path = f"{INCOMING_TMP}/p/b/key"
        made = Arrival("p", "b", "key", path, house.write(path), START)
        [put] = records.put_begun([made], START)
        house.spool.move(path, f"{INCOMING}/p/b/key")
        records.put_arrived(put, f"{INCOMING}/p/b/key", START)
        assert house.intake().admit([(Candidate(f"{INCOMING}/p/b/key"), None)]).admitted == 1
        assert queries.outcomes([put])[put][0] == PROCESSING
        os.unlink(house.spool.absolute(f"{PROCESSING}/p/b/key"))
        departures.erase(put)

    def complete() -> None:
        versions_of_key(2000, "completed", place="completed/p/b/key.~")

    once, twice = efforts(put, complete, complete)
    assert twice < 1.1 * once, (once, twice)


def test_records_of_one_key_are_foreseen_to_go_at_once(house: House) -> None:
    before = START + timedelta(days=1)

    def leave() -> None:
        versions_of_key(2000, "completed", place="completed/p/b/key.~", left=True)
        versions_of_key(2000, FAILED, code="refused")

    found = efforts(lambda: departures.past_without([], before), leave, leave, leave)
    once, twice, thrice = found
    assert thrice - twice < 1.1 * (twice - once), found


def test_no_writer_waits_for_the_choice_of_what_goes(house: House) -> None:
    """However many records stay, as earlier versions of their keys lie in failed."""
    house.write("failed/p/b/key.~1")
    versions_of_key(1, FAILED, code="refused")
    versions_of_key(1200, "completed", place="completed/p/b/key.~", left=True)
    clock = house.clock
    clock.advance(10.0)
    keeping = Retention(
        house.spool,
        house.database,
        Keeping(None, None, 1.0),
        now=clock.now,
        clock=clock.seconds,
        stopping=lambda: False,
    )
    chosen = []

    def note(sql: str) -> None:
        if "FROM file_records" in sql:
            chosen.append(models.database.in_transaction())

    models.connection().set_trace_callback(note)
    assert keeping.run(60.0).records == 0
    models.connection().set_trace_callback(None)
    assert len(chosen) > 3
    assert not any(chosen)
    os.unlink(house.spool.absolute("failed/p/b/key.~1"))
    assert keeping.run(60.0).records == 1201


def test_a_page_of_what_goes_is_judged_by_what_lies_in_failed(house: House) -> None:
    """While it is, no writer waits."""
    page = versions_of_key(400, "completed", place="completed/p/b/key.~", left=True)
    versions_of_key(1, FAILED, code="refused")

    def complete() -> None:
        versions_of_key(2000, "completed", place="completed/p/b/key.~", left=True)

    def judge() -> None:
        assert departures.past(page) == page

    once, twice = efforts(judge, complete, complete)
    assert twice < 1.1 * once, (once, twice)


def test_what_a_lost_spool_lacks_is_found_without_sorting_what_has_failed(house: House) -> None:
    house.admit("key")
    house.settle(*(GiveUp(claim, REFUSED) for claim in house.claim()))
    spool_id = binding.bind(house.spool, house.database, create=True, now=START)
    root = house.spool.root
    asked = asked_by(lambda: lost.look(root, house.database, spool_id, root))
    [sql] = [one for one in asked if "'failed'" in one]
    plan = models.connection().execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
    assert [step for *_, step in plan] == ["SCAN file_records USING INDEX file_records_in_failed"]
