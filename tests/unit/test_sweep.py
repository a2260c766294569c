"""What a sweep finds, with deaths at every step of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import cast

import pytest

from flood import claims as claiming
from flood import due_queries, log, models, queries, records
from flood.columns import utc_moment, utc_text
from flood.door import Candidate
from flood.identity import Identity
from flood.layout import CARD
from flood.record_values import Arrival, Claimed, Proof, Reason
from flood.spool import Spool
from flood.states import TRANSIENT
from tests.spooling import LARGE, NOBODY, START, House, deaths
from workers.decisions import Missing
from workers.sweep import sweep, take_over
from workers.transfer import Uploader

WORKER = """
import sys
from flood.locks import WorkerLocks
from flood.spool import Spool
locks = WorkerLocks(Spool(sys.argv[1]))
print(locks.own(), flush=True)
sys.stdin.read()
"""


def lost(house: House, *keys: str) -> list[Claimed]:
    """S6: files whose worker is dead."""
    house.admit(*keys)
    claims = house.claim()
    assert len(claims) == len(keys)
    return claims


@contextmanager
def worker(house: House) -> Iterator["tuple[str, subprocess.Popen[bytes]]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, house.spool.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().decode().strip(), process
    finally:
        process.kill()
        process.communicate()


# --- claims of the dead ------------------------------------------------------------------------


def test_s5_is_left_alone_until_its_worker_is_dead_which_makes_it_s6(house: House) -> None:
    with worker(house) as (owner, process):
        [record_id] = house.admit("key")
        [claim] = house.claim(owner=owner)
        house.clock.advance(24 * 3600.0)  # no time-out: who is alive is not the clock's knowledge
        house.sweep()
        assert house.claimed(owner) == [claim]
        process.send_signal(signal.SIGSTOP)
        house.sweep()
        assert house.claimed(owner) == [claim]
    house.sweep()
    assert house.claimed(owner) == []
    assert house.row(record_id)["owner"] is None
    assert [row["kind"] for row in house.attempts(record_id)] == ["lost"]


def test_s6_in_company_waits_alone_at_no_cost(house: House) -> None:
    claims = lost(house, "one", "two")
    house.sweep()
    rows = [house.row(claim.id) for claim in claims]
    assert [(row["retry_count"], row["alone"], row["owner"]) for row in rows] == [(0, 1, None)] * 2
    due = utc_moment(rows[0]["next_attempt_at"])
    assert (due - START).total_seconds() == 30.0
    assert [(one[0], one[3], one[4]) for one in house.scheduled] == [
        (claim.id, due, 10) for claim in claims
    ]
    house.sweep()
    assert len(house.scheduled) == 2


def test_s6_by_a_persons_hand_holds_up_nobody(house: House) -> None:
    """An owner that somebody wrote into the row, without the time of any claim."""
    for claim in lost(house, "theirs", "key"):
        if claim.key == "theirs":
            models.execute(
                "UPDATE file_records SET owner = 'ann', claimed_at = NULL WHERE id = ?", (claim.id,)
            )
    house.sweep()
    assert [row["owner"] for row in house.rows()] == [None, None]
    for row in house.rows():
        [attempt] = house.attempts(row["id"])
        assert attempt["kind"] == "lost"
        assert utc_moment(attempt["started_at"]) == START


def test_s6_alone_pays_until_it_is_given_up(house: House) -> None:
    """A poisonous file kills eleven workers, and no more."""
    [claim] = lost(house, "key")
    for number in range(10):
        house.sweep()
        row = house.row(claim.id)
        assert (row["retry_count"], row["current_state"]) == (number + 1, "processing")
        due = utc_moment(row["next_attempt_at"])
        assert (due - house.clock.now()).total_seconds() == 30.0 * 2**number
        assert house.scheduled[-1][4] == 9 - number
        house.clock.moment = due
        assert len(house.claim()) == 1
    house.sweep()
    row = house.row(claim.id)
    assert (row["current_state"], row["error_code"]) == ("failed", "worker_died")
    assert list(house.files()) == ["failed/p/b/key"]
    assert [one["retry_number"] for one in house.attempts(claim.id)] == list(range(11))


def test_a_clock_that_was_ahead_holds_nothing_up(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """S3, S4: taken in, or put off, in what is a far future now."""
    house.clock.advance(24 * 3600.0)
    [waiting] = house.admit("waiting")
    [claim] = house.claim(waiting)
    reason = Reason(TRANSIENT, "timeout", "no answer")
    records.retry(claim, claim.identity, reason, 90.0, house.clock.now())
    [fresh] = house.admit("fresh")
    house.clock.advance(-23 * 3600.0)
    [early] = house.admit("early")
    before = house.row(early)
    house.sweep()
    now = house.clock.now()
    assert house.row(early) == before
    assert house.row(fresh)["next_attempt_at"] == utc_text(now)
    assert utc_moment(house.row(waiting)["next_attempt_at"]) == now + timedelta(seconds=90)
    assert house.row(waiting)["retry_count"] == 1
    assert [record.facts["files"] for record in caplog.records] == [2]  # type: ignore[attr-defined]  # flood.log's
    house.sweep()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("state", "outcome"), [("completed", "success"), ("failed", "failure")])
def test_s7_and_s9_are_brought_forward(house: House, state: str, outcome: str) -> None:
    [claim] = lost(house, "dir/key")
    house.spool.move(claim.path, f"{state}/p/b/dir/key")
    house.sweep()
    assert house.states() == [("dir/key", state, outcome)]
    assert house.row(claim.id)["spool_path"] == f"{state}/p/b/dir/key"
    assert house.scheduled == []


def test_s11_of_a_dead_worker(house: House) -> None:
    [claim] = lost(house, "key")
    os.unlink(house.spool.absolute(claim.path))
    house.sweep()
    assert house.row(claim.id)["error_code"] == "vanished"


def test_content_that_changed_meanwhile_is_no_other_file(house: House) -> None:
    [claim] = lost(house, "key")
    with open(house.spool.absolute(claim.path), "ab") as file:
        file.write(b"more")
    house.sweep()
    assert house.row(claim.id)["current_state"] == "processing"


def test_a_claim_that_ended_meanwhile_is_not_lost(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Two sweeps may look at the same dead worker."""
    [claim] = lost(house, "key")
    agent = house.agent()

    class Slow(type(agent.spool)):  # type: ignore[misc]  # the same spool, a little late
        def identify(self, path: str) -> object:
            records.lose(claim, 30.0, START)
            return super().identify(path)

    house.sweep(house.agent(spool=Slow(house.spool.root)))
    assert len(house.attempts(claim.id)) == 1
    assert house.scheduled == []
    assert [one for one in caplog.records if one.getMessage() == "attempt lost"] == []


# --- files that somebody removed ---------------------------------------------------------------


@pytest.mark.parametrize("state", ["incoming_tmp", "incoming"])
def test_s11_before_processing(house: House, state: str) -> None:
    identity = house.write(f"{state}/p/b/key")
    arrival = Arrival("p", "b", "key", f"{state}/p/b/key", identity, START)
    [record_id] = records.put_begun([arrival], START)
    if state == "incoming":
        records.put_arrived(record_id, arrival.path, START)
    house.sweep()
    assert house.row(record_id)["current_state"] == state
    # A step ahead of its row, or two.
    house.spool.move(f"{state}/p/b/key", "processing/p/b/key")
    house.sweep()
    assert house.row(record_id)["current_state"] == state
    os.unlink(house.spool.absolute("processing/p/b/key"))
    house.sweep()
    assert house.row(record_id)["error_code"] == "vanished"


def test_s11_another_file_of_its_name_is_not_the_file(house: House) -> None:
    identity = house.write("incoming_tmp/p/b/copy")
    arrival = Arrival("p", "b", "key", "incoming_tmp/p/b/copy", identity, START)
    [record_id] = records.put_begun([arrival], START)
    house.write("processing/p/b/key", b"another one's")
    house.sweep()
    assert house.row(record_id)["current_state"] == "incoming_tmp"
    house.spool.remove("incoming_tmp/p/b/copy")
    house.sweep()
    assert house.row(record_id)["error_code"] == "vanished"


def test_s11_among_many(house: House) -> None:
    arrivals = []
    for number in range(450):
        identity = house.write(f"incoming/p/b/{number}")
        path = f"incoming/p/b/{number}"
        arrivals.append(Arrival("p", "b", f"{number}", path, identity, START))
    ids = records.put_begun(arrivals, START)
    for number in (0, 199, 200, 449):
        os.unlink(house.spool.absolute(f"incoming/p/b/{number}"))
    house.sweep()
    failed = [row["id"] for row in house.rows("current_state = 'failed'")]
    assert failed == [ids[number] for number in (0, 199, 200, 449)]


def test_files_are_looked_for_while_nobody_waits_for_the_database(house: House) -> None:
    class Watched(type(house.spool)):  # type: ignore[misc]  # the same spool, under observation
        def exists(self, path: str) -> bool:
            assert not models.database.in_transaction()
            return bool(super().exists(path))

    identity = house.write("incoming/p/b/key")
    arrival = Arrival("p", "b", "key", "incoming/p/b/key", identity, START)
    [record_id] = records.put_begun([arrival], START)
    os.unlink(house.spool.absolute("incoming/p/b/key"))
    house.sweep(house.agent(spool=Watched(house.spool.root)))
    assert house.row(record_id)["error_code"] == "vanished"


def test_a_record_that_went_on_meanwhile_has_not_vanished(house: House) -> None:
    """Between the look for its file and the update its row may have followed."""
    identity = house.write("incoming/p/b/key")
    arrival = Arrival("p", "b", "key", "incoming/p/b/key", identity, START)
    [record_id] = records.put_begun([arrival], START)

    class Slow(type(house.spool)):  # type: ignore[misc]  # the same spool, a little late
        def identify(self, path: str) -> Identity | None:
            if path.startswith("incoming/") and self.exists(path):
                house.intake().admit([(Candidate("incoming/p/b/key"), None)])
                house.spool.move("processing/p/b/key", "completed/p/b/key")
            found: Identity | None = super().identify(path)
            return found

    house.sweep(house.agent(spool=Slow(house.spool.root)))
    assert house.row(record_id)["current_state"] == "processing"


def test_nothing_is_judged_while_another_spool_is_in_its_place(house: House) -> None:
    [claim] = lost(house, "claimed")
    spool = Spool(house.spool.root)
    spool.expect("f" * 32)
    agent = house.agent(spool=spool)
    os.rename(spool.root, f"{spool.root}-mine")
    Spool(spool.root).keep(CARD, json.dumps({"id": "e" * 32, "database": "/elsewhere"}))
    house.sweep(agent)
    house.settle(Missing(claim), agent=agent)
    assert house.row(claim.id)["current_state"] == "processing"
    shutil.rmtree(spool.root)
    os.rename(f"{spool.root}-mine", spool.root)
    house.sweep(agent)
    assert house.row(claim.id)["owner"] is None
    assert agent.at_home()


def test_nothing_is_judged_while_the_spool_is_away(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    [claim] = lost(house, "claimed")
    house.admit("due")
    identity = house.write("incoming/p/b/key")
    records.put_begun([Arrival("p", "b", "key", "incoming/p/b/key", identity, START)], START)
    before = house.rows()
    agent = house.agent()
    os.rename(house.spool.root, f"{house.spool.root}-away")
    for _ in range(3):
        house.sweep(agent)
    house.settle(Missing(claim), agent=agent)  # by a worker that was at it
    assert [row["current_state"] for row in house.rows()] == [
        row["current_state"] for row in before
    ]
    assert not os.path.exists(house.spool.root)
    os.rename(f"{house.spool.root}-away", house.spool.root)
    house.sweep(agent)
    told = [one.getMessage() for one in caplog.records if one.name == "workers.agent"]
    assert told == ["spool is away", "spool is back"]
    assert house.rung == [("p", "b")]


# --- rings -------------------------------------------------------------------------------------


def test_one_ring_for_each_bucket_with_something_due(house: House) -> None:
    house.admit("one", "two")
    for profile, bucket in (("p", "other"), ("p", "later"), ("gone", "b")):
        identity = house.write(f"processing/{profile}/{bucket}/key")
        path = f"processing/{profile}/{bucket}/key"
        records.admit([Arrival(profile, bucket, "key", path, identity, START)], START)
    claims = claiming.claim([], "p", "later", owner=NOBODY, large=LARGE, now=START)
    records.retry(claims[0], claims[0].identity, Reason(TRANSIENT, "c", "m"), 30.0, START)
    agent = house.agent()
    sweep(agent, house.ring, {("p", "other")}, house.schedule)
    assert house.rung == [("p", "b")]
    house.clock.advance(30.0)
    sweep(agent, house.ring, (), house.schedule)
    assert sorted(house.rung[1:]) == [("p", "b"), ("p", "later"), ("p", "other")]


def test_files_without_a_profile_are_named(house: House, caplog: pytest.LogCaptureFixture) -> None:
    identity = house.write("processing/gone/b/key")
    records.admit([Arrival("gone", "b", "key", "processing/gone/b/key", identity, START)], START)
    house.sweep()
    assert house.rung == []
    [waiting] = [one for one in caplog.records if one.getMessage() == "waiting"]
    assert log.TextFormatter().format(waiting).count("gone") == 1


def test_locks_of_the_dead_go_once_their_claims_are_taken_over(house: House) -> None:
    directory = house.spool.absolute(".flood/workers")
    os.makedirs(directory, exist_ok=True)
    lost(house, "key")
    for name in (NOBODY, "1" * 32):
        with open(f"{directory}/{name}", "xb"):
            pass
    house.sweep()
    assert os.listdir(directory) == []
    assert house.claimed() == []


def test_an_uploader_that_cannot_be_made_does_not_stop_the_sweep(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    [claim] = lost(house, "key")
    claiming.remember_multipart(claim, "upload")
    records.complete(claim, "completed/p/b/key", Proof(None, None, None, 1), START)
    models.execute("UPDATE file_records SET multipart_upload_id = 'left'")
    house.admit("other")
    house.sweep()
    assert house.rung == [("p", "b")]
    assert "multipart upload stays" in [one.getMessage() for one in caplog.records]


# --- deaths ------------------------------------------------------------------------------------


def test_taking_over_may_die_at_any_line() -> None:
    """S6, S7, S9, S11: the next sweep takes over from the one that died."""

    def arrange(house: House) -> None:
        for key in ("lost", "given up", "completed", "failed", "vanished"):
            house.admit(key, data=key.encode())
            house.claim()  # each alone
        models.execute("UPDATE file_records SET retry_count = 10 WHERE filepath = 'given up'")
        house.spool.move("processing/p/b/completed", "completed/p/b/completed")
        house.spool.move("processing/p/b/failed", "failed/p/b/failed")
        os.unlink(house.spool.absolute("processing/p/b/vanished"))
        models.close()

    steps = ("take_over", "_take_over", "_missing", "_give_up", "_rename", "write")
    died = 0
    for house in deaths(lambda house: take_over(house.agent(), house.schedule), arrange, steps):
        died += 1
        house.sweep()
        assert house.states() == [
            ("lost", "processing", None),
            ("given up", "failed", "failure"),
            ("completed", "completed", "success"),
            ("failed", "failed", "failure"),
            ("vanished", "failed", "failure"),
        ]
        assert house.files() == {
            "processing/p/b/lost": b"lost",
            "failed/p/b/given up": b"given up",
            "completed/p/b/completed": b"completed",
            "failed/p/b/failed": b"failed",
        }
        assert house.claimed() == []
        for row in house.rows():
            assert len(house.attempts(row["id"])) == 1
            assert row["current_state"] == "processing" or row["next_attempt_at"] is None
    assert died > 3


class Aborts:
    """An uploader of which nothing is asked but to abort; that can be done twice."""

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        assert (bucket, key, upload_id) == ("b", "key", "upload")


def test_clearing_parts_away_may_die_at_any_line() -> None:
    def arrange(house: House) -> None:
        house.admit("key")
        [claim] = house.claim()
        claiming.remember_multipart(claim, "upload")
        house.spool.move(claim.path, "failed/p/b/key")
        records.fail(claim, "failed/p/b/key", records.GIVEN_UP, START)
        models.close()

    def sweep_once(house: House) -> None:
        house.sweep(house.agent(cast(Uploader, Aborts())))

    died = 0
    steps = ("sweep", "clear", "_gone", "multipart_gone", "forget_dead", "_find_vanished")
    for house in deaths(sweep_once, arrange, steps):
        died += 1
        sweep_once(house)
        assert house.rows()[0]["multipart_upload_id"] is None
    assert died > 3


def test_what_only_a_sweep_finds_is_known_beforehand(house: House) -> None:
    assert not queries.left_to_sweep(START)
    first, second = house.admit("first", "second")
    assert not queries.left_to_sweep(START)

    # Somebody has set the clock back.
    assert queries.left_to_sweep(START - timedelta(hours=1))

    # A file on its way in may be taken away.
    path = "incoming_tmp/p/b/put"
    [put] = records.put_begun([Arrival("p", "b", "put", path, house.write(path), START)], START)
    assert queries.left_to_sweep(START)
    records.vanish(put, START)
    assert not queries.left_to_sweep(START)

    # A multipart upload is its worker's business until its record has ended.
    [claim, _] = house.claim(first, second)
    claiming.remember_multipart(claim, "upload")
    assert not queries.left_to_sweep(START)
    models.execute("UPDATE file_records SET current_state = 'failed', owner = NULL")
    assert queries.left_to_sweep(START)


def test_what_waits_for_its_time_is_counted(house: House) -> None:
    assert (due_queries.count(START), due_queries.upcoming(START)) == (0, (0, None))
    house.admit("first", "second", "third")
    assert (due_queries.count(START), due_queries.upcoming(START)) == (3, (0, None))
    first, second, _third = house.claim()
    records.retry(first, first.identity, Reason(TRANSIENT, "timeout", "no answer"), 60.0, START)
    records.retry(second, second.identity, Reason(TRANSIENT, "timeout", "no answer"), 30.0, START)
    soon = START + timedelta(seconds=30)
    assert (due_queries.count(START), due_queries.upcoming(START)) == (0, (2, soon))
    assert (due_queries.count(soon), due_queries.upcoming(soon)[0]) == (1, 1)


def test_what_a_sweep_ends_is_counted(house: House) -> None:
    path = "incoming/p/b/gone"
    records.put_begun([Arrival("p", "b", "gone", path, house.write(path), START)], START)
    os.unlink(house.spool.absolute(path))
    agent = house.agent()
    house.sweep(agent)
    [(cause, failures)] = agent.tally.failures.items()
    assert cause == ("p", "b", "vanished")
    assert failures.examples == [("gone", 1)]
