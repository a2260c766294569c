"""What flood-notify tells, and that it tells nothing twice."""

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flood import digest, digest_records, digest_text, models, records, stall, status_view
from flood.columns import utc_text
from flood.digest import GATHER, Cause, Digest
from flood.locks import COMMANDS_LOCK, STARTING_LOCK, FileLock, held
from flood.messenger import Answer
from flood.notify import RETRY, Notify, Outcome
from flood.record_values import Claimed, Reason
from flood.retry import Retry
from flood.states import PERMANENT, TRANSIENT
from tests.spooling import LARGE, START, House
from tests.unit.test_retention import complete, fail
from tests.unit.test_retry import begin_put, break_off
from tests.unit.test_settle import Full, claimed, proven
from workers.decisions import GiveUp, LetGo, TryAgain

HOUR = 3600.0
AWAY = Reason(TRANSIENT, "connection_refused", "the store refuses connections")
DENIED = Reason(PERMANENT, "AccessDenied", "the access key may not write there; let it")


@dataclass
class Listener:
    """Somebody who is told what a spool has to tell, or who cannot be."""

    house: House
    settings: dict[str, Any] = field(default_factory=dict)
    reachable: bool = True
    heard: list[dict[str, Any]] = field(default_factory=list)

    def send(self, command: Sequence[str], message: bytes) -> Answer:
        assert command == ["tell"]
        assert models.database.is_closed()
        assert not held(self.house.spool.absolute(COMMANDS_LOCK))
        if not self.reachable:
            return Answer(False, "nobody is there")
        self.heard.append(json.loads(message))
        return Answer(True, "")

    def run(self, after: float = 0.0) -> Outcome:
        """What flood-notify does so many seconds later."""
        self.house.clock.advance(after)
        settings = self.house.settings(
            notify_command="tell", origins={"database": "flag"}, **self.settings
        )
        models.close()
        return Notify(
            settings,
            send=self.send,
            now=self.house.clock.now,
            clock=self.house.clock.seconds,
            stopping=lambda: False,
        ).run()

    def hears(self, after: float = 0.0) -> dict[str, Any] | None:
        """What is told so many seconds later."""
        before = len(self.heard)
        self.run(after)
        assert len(self.heard) <= before + 1
        return self.heard[-1] if len(self.heard) > before else None


@pytest.fixture
def listener(house: House) -> Listener:
    return Listener(house)


def put_back(house: House, *ids: int) -> list[int]:
    """As flood-retry does; the new records."""
    retry = Retry(
        house.spool,
        overwrite=False,
        large=LARGE,
        enqueue=lambda *task: house.enqueued.append(task),
        ring=house.ring,
        now=house.clock.now,
    )
    return [one.successor for one in retry.put_back(ids) if one.successor is not None]


def upload(house: House, *ids: int) -> None:
    finish(house, house.claim(*ids))


def upload_but(house: House, record: int) -> None:
    """Upload all that is due but one file, which is let go."""
    claims = house.claim()
    finish(house, [claim for claim in claims if claim.id != record])
    house.settle(*(LetGo(claim, AWAY) for claim in claims if claim.id == record))


def finish(house: House, claims: Sequence[Claimed]) -> None:
    for claim in claims:
        path = claim.path.replace("processing", "completed", 1)
        house.spool.move(claim.path, path)
        proof = records.Proof("etag", None, None, 4)
        assert records.complete(claim, path, proof, house.clock.now())


# --- failures ------------------------------------------------------------------------------------


def test_a_spool_in_order_has_nothing_to_tell(house: House, listener: Listener) -> None:
    complete(house, "done")
    house.admit("fresh")
    assert listener.hears(after=60.0) is None
    assert listener.run().why == "nothing to tell"


def test_failures_are_gathered_then_told_together_once(house: House, listener: Listener) -> None:
    first, second = fail(house, "a", "b")
    assert listener.hears(after=GATHER - 1) is None
    assert "2 files failed just now" in listener.run().why
    [third] = fail(house, "c")
    told = listener.hears(after=1.0)
    assert told is not None
    assert (told["kind"], told["version"], told["since"]) == ("trouble", 1, None)
    assert told["failed"]["files"] == told["failed"]["altogether"] == 3
    [cause] = told["failed"]["causes"]
    assert cause["named"] == [
        {"record": record, "key": key}
        for record, key in ((first, "a"), (second, "b"), (third, "c"))
    ]
    assert (cause["profile"], cause["bucket"], cause["error_code"]) == ("p", "b", "refused")
    assert (cause["hint"], cause["bytes"]) == ("no", 12)
    assert cause["oldest"] == told["trouble_since"] == utc_text(START)
    assert listener.hears(after=HOUR) is None
    assert {row["told_at"] for row in house.rows()} == {told["at"]}


def test_what_fails_within_the_interval_is_in_the_next_digest(
    house: House, listener: Listener
) -> None:
    fail(house, "a")
    first = listener.hears(after=GATHER)
    assert first is not None
    fail(house, "b")
    assert listener.hears(after=HOUR - 1) is None
    assert listener.run().why == "no digest may be told for a second"
    fail(house, "c")
    second = listener.hears(after=1.0)
    assert second is not None
    assert second["since"] == first["at"]
    named = second["failed"]["causes"][0]["named"]
    assert [one["key"] for one in named] == ["b", "c"]
    assert second["failed"]["altogether"] == 3
    assert "Altogether 3 files in failed." in second["text"]


def test_causes_are_told_apart_the_most_frequent_first(house: House, listener: Listener) -> None:
    house.admit("a")
    house.settle(*(GiveUp(claim, DENIED) for claim in house.claim()))
    fail(house, *(f"key{number}" for number in range(5)))
    told = listener.hears(after=GATHER)
    assert told is not None
    codes = [(one["error_code"], one["files"]) for one in told["failed"]["causes"]]
    assert codes == [("refused", 5), ("AccessDenied", 1)]
    assert told["title"].endswith(": 6 files failed")
    assert "... 2 more" in told["text"]
    assert DENIED.message in told["text"]
    assert f"flood-status --server-directory {house.spool.root}" in told["text"]
    assert f"flood-retry --all --server-directory {house.spool.root}" in told["text"]


def test_flood_retry_is_advised_for_what_it_can_help(house: House, listener: Listener) -> None:
    misnamed = Reason(PERMANENT, "InvalidBucketName", "no such name; move the file")
    house.admit("a")
    house.settle(GiveUp(house.claim()[0], misnamed))
    told = listener.hears(after=GATHER)
    assert told is not None
    assert "    no such name; move the file\n" in told["text"]
    assert "flood-retry" not in told["text"]
    house.admit("b", "c", "d")
    refused = (misnamed, DENIED, Reason(PERMANENT, "NoSuchBucket", "there is none; create it"))
    house.settle(*(GiveUp(*each) for each in zip(house.claim(), refused, strict=True)))
    told = listener.hears(after=HOUR)
    assert told is not None
    assert "\n  flood-retry --error AccessDenied --error NoSuchBucket --server" in told["text"]


def test_a_file_that_vanished_is_told_of(house: House, listener: Listener) -> None:
    [record] = house.admit("a")
    os.unlink(house.spool.absolute("processing/p/b/a"))
    records.vanish(record, house.clock.now())
    told = listener.hears(after=GATHER)
    assert told is not None
    assert told["failed"]["causes"][0]["error_code"] == "vanished"
    assert told["failed"]["altogether"] == 0
    assert told["title"].endswith(": 1 file gone")
    assert "put it again" in told["text"]
    assert "flood-retry" not in told["text"]


def test_no_command_is_advised_for_a_file_that_vanished(house: House, listener: Listener) -> None:
    fail(house, "a")
    assert listener.hears(after=GATHER)
    [record] = house.admit("b")
    os.unlink(house.spool.absolute("processing/p/b/b"))
    records.vanish(record, house.clock.now())
    told = listener.hears(after=HOUR)
    assert told is not None
    assert told["title"].endswith(": 1 file gone")
    assert "Altogether 1 file in failed." in told["text"]
    assert "--error vanished" not in told["text"]
    assert "flood-retry --all" in told["text"]


def test_what_a_later_version_supersedes_is_no_failure(house: House, listener: Listener) -> None:
    """As flood-status counts, and flood-retry refuses."""
    fail(house, "a", "b")
    upload(house, *house.admit("a"))
    told = listener.hears(after=GATHER)
    assert told is not None
    assert (told["failed"]["files"], told["failed"]["altogether"]) == (1, 1)
    assert told["failed"]["superseded"] == 1
    assert [one["key"] for one in told["failed"]["causes"][0]["named"]] == ["b"]


def test_what_a_file_in_incoming_supersedes_is_no_failure(house: House, listener: Listener) -> None:
    fail(house, "a")
    house.write("incoming/p/b/a")
    house.clock.moment = changed(house, "incoming/p/b/a")
    assert listener.hears(after=GATHER) is None


def test_a_later_version_that_fails_makes_the_earlier_one_news(
    house: House, listener: Listener
) -> None:
    [first] = fail(house, "a")
    [second] = house.admit("a")
    assert listener.hears(after=GATHER) is None
    house.settle(*(GiveUp(claim, DENIED) for claim in house.claim(second)))
    told = listener.hears(after=GATHER)
    assert told is not None
    named = [one["named"][0]["record"] for one in told["failed"]["causes"]]
    assert sorted(named) == [first, second]
    assert told["failed"]["altogether"] == 2


def test_all_is_well_though_superseded_files_lie_in_failed(
    house: House, listener: Listener
) -> None:
    fail(house, "a")
    assert listener.hears(after=GATHER)
    upload(house, *house.admit("a"))
    told = listener.hears(after=HOUR)
    assert told is not None
    assert (told["kind"], told["failed"]["superseded"]) == ("well", 1)
    assert "No file is in failed but 1 with a later version, none waits" in told["text"]


def test_all_is_not_well_while_a_later_version_is_only_copied(
    house: House, listener: Listener
) -> None:
    """Its flood-put may be dead."""
    fail(house, "a")
    assert listener.hears(after=GATHER)
    begin_put(house, "a")
    assert listener.hears(after=HOUR) is None


@pytest.mark.parametrize("stands", ["failed", "processing", "completed", "incoming"])
def test_what_was_gone_is_no_news_where_a_later_version_has_its_file(
    house: House, listener: Listener, stands: str
) -> None:
    gone = break_off(house, "a")
    if stands == "incoming":
        house.write("incoming/p/b/a")
        house.clock.moment = changed(house, "incoming/p/b/a")
    else:
        {"failed": fail, "processing": House.admit, "completed": complete}[stands](house, "a")
    told = listener.hears(after=GATHER)
    assert house.row(gone)["told_at"] is None
    assert (told is None) == (stands != "failed")
    if told is not None:
        assert told["title"].endswith(": 1 file failed")


def test_what_was_put_back_before_it_was_told_is_no_news(house: House, listener: Listener) -> None:
    put_back(house, *fail(house, "a"))
    assert listener.hears(after=HOUR) is None or listener.heard[-1]["failed"]["files"] == 0


def test_a_file_that_fails_again_is_told_again(house: House, listener: Listener) -> None:
    [old] = fail(house, "a")
    assert listener.hears(after=GATHER)
    [new] = put_back(house, old)
    house.settle(*(GiveUp(claim, DENIED) for claim in house.claim(new)))
    told = listener.hears(after=HOUR)
    assert told is not None
    assert told["failed"]["causes"][0]["named"] == [{"record": new, "key": "a"}]


def test_a_row_that_ran_ahead_is_told_again_once_it_fails(house: House, listener: Listener) -> None:
    [record] = fail(house, "a")
    assert listener.hears(after=GATHER)
    house.spool.move("failed/p/b/a", "processing/p/b/a")
    assert records.put_back(record, "processing/p/b/a", house.clock.now())
    house.settle(*(GiveUp(claim, DENIED) for claim in house.claim(record)))
    told = listener.hears(after=HOUR)
    assert told is not None
    assert told["failed"]["files"] == 1


def test_more_failures_than_one_statement_takes(house: House, listener: Listener) -> None:
    fail(house, *(f"{number:04}" for number in range(90)))
    house.clock.advance(1.0)
    with models.write():
        models.execute(
            "INSERT INTO file_records (profile, bucket, filepath, file_creation_date, "
            "current_state, last_updated, upload_outcome, device, inode, size, mtime_ns, "
            "spool_path, error_code, created_at, completed_at) "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
            "SELECT 'p', 'b', 'many' || i, created_at, 'failed', created_at, 'failure', "
            "1, i, 1, 1, 'failed/p/b/many' || i, error_code, created_at, completed_at "
            "FROM n, file_records WHERE id = 1"
        )
    told = listener.hears(after=GATHER)
    assert told is not None
    assert told["failed"]["files"] == 1090
    assert house.rows("told_at IS NULL") == []


# --- what waits ----------------------------------------------------------------------------------


def test_a_file_that_waits_for_too_long_is_told_with_its_reason(
    house: House, listener: Listener
) -> None:
    [record] = house.admit("a")
    assert listener.hears(after=HOUR) is None
    told = listener.hears(after=1.0)
    assert told is not None
    assert told["failed"]["files"] == 0
    oldest = told["waiting"]["oldest"]
    assert (oldest["record"], oldest["key"], oldest["stage"]) == (record, "a", "due")
    assert (oldest["since"], oldest["age_seconds"]) == (utc_text(START), HOUR + 1)
    assert "no consumer runs" in oldest["reason"]
    assert told["title"].endswith(": 1 file waiting, for up to an hour")


def test_consumers_at_their_start_are_a_reason(house: House, listener: Listener) -> None:
    house.admit("a")
    lock = FileLock(house.spool.absolute(STARTING_LOCK))
    assert lock.try_shared()
    told = listener.hears(after=HOUR + 1)
    lock.release()
    assert told is not None
    reason = told["waiting"]["oldest"]["reason"]
    assert reason == f"no consumer takes files yet: {stall.STARTING}"


def test_a_retry_is_a_reason(house: House, listener: Listener) -> None:
    house.admit("a")
    [claim] = house.claim()
    house.settle(TryAgain(claim, claim.identity, AWAY, 2 * HOUR))
    told = listener.hears(after=HOUR + 1)
    assert told is not None
    oldest = told["waiting"]["oldest"]
    assert oldest["stage"] == "retry"
    assert oldest["reason"] == (
        "retry 1 is due in an hour; connection_refused: the store refuses connections"
    )


def test_a_move_that_is_left_is_a_reason(house: House, listener: Listener) -> None:
    [claim] = claimed(house, "a")
    with proven(house, claim) as prove:
        house.settle(prove, agent=house.agent(spool=Full(house.spool.root)))
    listener.settings["notify_age"] = 5.0
    told = listener.hears(after=30.0)
    assert told is not None
    assert told["waiting"]["oldest"]["reason"] == (
        "the move to completed is due in 30 seconds; cannot_move: the file cannot leave processing "
        "(No space left on device): the move is tried again in 60 s"
    )


def test_a_move_to_failed_that_is_left_has_its_own_reason(house: House, listener: Listener) -> None:
    [claim] = claimed(house, "a")
    house.settle(GiveUp(claim, DENIED), agent=house.agent(spool=Full(house.spool.root)))
    listener.settings["notify_age"] = 5.0
    told = listener.hears(after=30.0)
    assert told is not None
    assert told["waiting"]["oldest"]["reason"] == (
        "the move to failed is due in 30 seconds; cannot_move: it was given up "
        f"({DENIED.message}), and the file cannot leave processing (No space left on device): "
        "the move is tried again in 60 s"
    )


def test_a_file_in_incoming_is_told_of(house: House, listener: Listener) -> None:
    house.write("incoming/p/b/dir/a")
    listener.settings["notify_age"] = 5.0
    house.clock.moment = changed(house, "incoming/p/b/dir/a") + timedelta(seconds=6)
    told = listener.hears()
    assert told is not None
    oldest = told["waiting"]["oldest"]
    assert (oldest["key"], oldest["record"], oldest["stage"]) == ("dir/a", None, "incoming")
    assert "flood-watch does not run" in oldest["reason"]


def changed(house: House, path: str) -> datetime:
    [found] = [each for each in house.found("incoming") if each.path == path]
    return datetime.fromtimestamp(found.changed, timezone.utc)


def test_what_goes_on_waiting_is_told_as_its_age_doubles(house: House, listener: Listener) -> None:
    house.admit("a")
    told = [
        round(house.clock.seconds() - 1000.0) // 3600
        for _ in range(40)
        if listener.hears(after=HOUR)
    ]
    assert told == [2, 4, 8, 16, 32]


def test_the_next_one_that_waits_for_too_long_is_news(house: House, listener: Listener) -> None:
    fail(house, "failed")
    [record] = house.admit("a")
    assert listener.hears(after=6 * HOUR)
    upload(house, record)
    assert listener.hears(after=HOUR) is None
    house.admit("b")
    told = listener.hears(after=HOUR + 1)
    assert told is not None
    assert told["waiting"]["oldest"]["key"] == "b"


def test_another_file_that_waits_for_too_long_is_news_once_the_first_is_gone(
    house: House, listener: Listener
) -> None:
    first, second = house.admit("a", "b")
    told = listener.hears(after=2 * HOUR)
    assert told is not None
    assert told["waiting"]["oldest"]["record"] == first
    upload_but(house, second)
    told = listener.hears(after=HOUR)
    assert told is not None
    assert told["waiting"]["oldest"]["record"] == second
    assert listener.hears(after=HOUR) is None
    assert listener.hears(after=2 * HOUR)


def test_another_file_is_no_news_where_not_all_could_be_looked_at(
    house: House, listener: Listener
) -> None:
    """The one that was told of may be among those that were not counted."""
    _, second = house.admit("a", "b")
    assert listener.hears(after=2 * HOUR)
    known = digest_records.memory()
    upload_but(house, second)
    clock = house.clock
    found = status_view.look(
        house.spool, house.database, [], now=clock.now, clock=clock.seconds, seconds=60.0
    )
    assert found.first == second
    for whole, kind in ((True, digest.TROUBLE), (False, digest.NOTHING)):
        found.whole = whole
        assert digest.look(found, known, max_age=HOUR, gather=0.0).kind == kind


def test_nothing_is_told_of_what_waits_where_it_may(house: House, listener: Listener) -> None:
    listener.settings["notify_age"] = None
    house.admit("a")
    assert listener.hears(after=1000 * HOUR) is None


# --- all is well ---------------------------------------------------------------------------------


def test_all_is_well_again_is_told_once_after_trouble(house: House, listener: Listener) -> None:
    [old] = fail(house, "a")
    assert listener.hears(after=GATHER)
    [new] = put_back(house, old)
    assert listener.hears(after=HOUR - 1) is None  # the interval
    assert listener.hears(after=1.0) is None  # it is not there yet
    upload(house, new)
    told = listener.hears()
    assert told is not None
    assert (told["kind"], told["trouble_since"]) == ("well", utc_text(START))
    assert told["title"].endswith(": all is well again")
    assert "There was trouble since 2026-03-01 12:00 UTC." in told["text"]
    assert listener.hears(after=100 * HOUR) is None


def test_all_is_not_well_though_a_killed_flood_retry_has_moved_the_file(
    house: House, listener: Listener
) -> None:
    """It has no record until flood-watch finds it."""
    [old] = fail(house, "a")
    assert listener.hears(after=GATHER)
    path = house.spool.absolute("processing/p/b/a")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.rename(house.spool.absolute(str(house.row(old)["spool_path"])), path)
    assert listener.hears(after=HOUR) is None
    house.recover()
    assert listener.hears(after=HOUR) is None
    upload(house, house.in_processing("a"))
    told = listener.hears(after=HOUR)
    assert told is not None
    assert told["kind"] == "well"


def test_all_is_not_well_while_a_retry_is_to_come(house: House, listener: Listener) -> None:
    [record] = house.admit("a")
    assert listener.hears(after=HOUR + 1)
    [claim] = house.claim(record)
    house.settle(TryAgain(claim, claim.identity, AWAY, 30.0))
    listener.settings["notify_age"] = 10 * HOUR  # somebody has more patience since
    assert listener.hears(after=HOUR) is None
    upload(house, record)
    told = listener.hears()
    assert told is not None
    assert told["kind"] == "well"


def test_trouble_that_nobody_was_told_of_ends_without_a_word(
    house: House, listener: Listener
) -> None:
    [record] = house.admit("a")
    listener.reachable = False
    assert not listener.run(after=HOUR + 1).told
    upload(house, record)
    listener.reachable = True
    assert listener.hears(after=HOUR) is None


# --- never twice, never lost ---------------------------------------------------------------------


def test_what_nobody_could_be_told_is_tried_again(house: House, listener: Listener) -> None:
    fail(house, "a")
    listener.reachable = False
    assert not listener.run(after=GATHER).told
    fail(house, "b")
    listener.reachable = True
    assert listener.hears(after=RETRY - 1) is None
    told = listener.hears(after=1.0)
    assert told is not None
    assert told["failed"]["files"] == 2
    assert told["since"] is None


def test_who_dies_while_telling_loses_nothing(house: House, listener: Listener) -> None:
    fail(house, "a")
    house.clock.advance(GATHER)
    known = digest_records.memory()
    assert digest_records.claim(known, house.clock.now(), HOUR)
    assert listener.hears(after=HOUR) is None
    told = listener.hears(after=digest_records.LEASE.total_seconds())
    assert told is not None
    assert told["failed"]["files"] == 1


def test_of_several_runs_that_see_the_same_one_tells(house: House, listener: Listener) -> None:
    fail(house, "a")
    house.clock.advance(GATHER)
    known = digest_records.memory()
    now = house.clock.now()
    token = digest_records.claim(known, now, HOUR)
    assert token is not None
    assert digest_records.claim(known, now, HOUR) is None
    after = now + timedelta(seconds=1.0)
    assert digest_records.told(token, [1], now, after=after, trouble=now, age=None, oldest=None)
    # The interval is over, yet what this run has seen is told.
    later = now + timedelta(seconds=2.0)
    assert digest_records.claim(known, later, HOUR) is None
    assert digest_records.claim(digest_records.memory(), later, HOUR)


def test_runs_at_the_same_moment_tell_once(house: House, listener: Listener) -> None:
    fail(house, "a")
    house.clock.advance(GATHER)
    together = threading.Barrier(4)

    def run() -> None:
        together.wait()
        try:
            listener.run()
        finally:
            models.close()

    listener.send = lambda _command, message: (  # type: ignore[method-assign]  # others' connections are open
        listener.heard.append(json.loads(message)) or Answer(True, "")
    )
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(listener.heard) == 1


def test_who_has_lost_the_right_writes_nothing(house: House) -> None:
    [record] = fail(house, "a")
    now = house.clock.now()
    token = digest_records.claim(digest_records.memory(), now, HOUR)
    assert token is not None
    digest_records.give_back(token, now)
    assert not digest_records.told(
        token, [record], now, after=now, trouble=None, age=None, oldest=None
    )
    assert house.row(record)["told_at"] is None


@pytest.mark.parametrize("back", [10.0, 10 * HOUR, 10_000 * HOUR])
def test_a_clock_that_was_set_back_keeps_nobody_for_long(
    house: House, listener: Listener, back: float
) -> None:
    fail(house, "a")
    assert listener.hears(after=GATHER)
    house.clock.advance(-back)
    fail(house, "b")
    waited = 0.0
    while not listener.hears(after=60.0):
        waited += 60.0
        assert waited <= HOUR + 2 * GATHER + digest_records.LEASE.total_seconds()


# --- words ---------------------------------------------------------------------------------------

hostile = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=20)


@given(hostile, hostile, hostile, hostile)
def test_whatever_a_file_is_named_each_line_prints(
    profile: str, key: str, hint: str, code: str
) -> None:
    cause = Cause((profile, profile), code, 1, 1, START, START, hint, ((1, key),))
    found = Digest(
        digest.TROUBLE, START, "host", "/srv", "/srv/flood.db", causes=(cause,), failed=1
    )
    lines = digest_text.text(found).split("\n")
    assert all(line.isprintable() for line in lines)
    assert len(lines) == len(digest_text.text(plain()).split("\n"))
    assert json.loads(digest_text.as_json(found))["failed"]["causes"][0]["named"][0]["key"] == key


def plain(causes: int = 1) -> Digest:
    cause = Cause(("p", "b"), "code", 1, 1, START, START, "hint", ((1, "key"),))
    every = (cause,) * causes
    return Digest(digest.TROUBLE, START, "host", "/srv", "/db", causes=every, failed=causes)


@pytest.mark.parametrize(
    ("causes", "more"),
    [(11, "1 file more, for 1 other cause"), (12, "2 files more, for 2 other causes")],
)
def test_more_causes_than_are_named_are_counted(causes: int, more: str) -> None:
    assert more in digest_text.text(plain(causes)).split("\n")


def test_names_that_are_no_text_can_be_told(house: House, listener: Listener) -> None:
    fail(house, "caf\udce9\n")
    told = listener.hears(after=GATHER)
    assert told is not None
    assert told["failed"]["causes"][0]["named"][0]["key"] == "caf\udce9\n"
    assert "caf\\udce9\\n, record 1" in told["text"]
