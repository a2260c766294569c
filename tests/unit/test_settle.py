"""Decisions written down, with deaths at every step of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from flood import models, records
from flood.columns import utc_moment, utc_text
from flood.door import Candidate
from flood.identity import Identity
from flood.record_values import Claimed, Reason
from flood.spool import Spool
from flood.states import INTERRUPTED, PERMANENT, TRANSIENT
from tests.spooling import START, House, deaths, full_database
from workers.agent import SCARCE_LEAST
from workers.decisions import Decision, GiveUp, LetGo, Missing, Prove, TryAgain
from workers.settle import MOVE_AGAIN, settle
from workers.transfer import Receipt

RECEIPT = Receipt(etag="etag", version_id="v", checksum="md5:00", bytes_sent=4)
BROKEN = Reason(TRANSIENT, "broken", "the connection broke")
REFUSED = Reason(PERMANENT, "refused", "the store refuses it")
STOPPED = Reason(INTERRUPTED, "stopped", "the worker was told to stop")


def claimed(house: House, *keys: str) -> list[Claimed]:
    house.admit(*keys)
    claims = house.claim()
    assert len(claims) == len(keys)
    return claims


@contextmanager
def proven(house: House, claim: Claimed) -> Iterator[Prove]:
    descriptor, _ = house.spool.open(claim.path)
    try:
        yield Prove(claim, RECEIPT, descriptor, os.fstat(descriptor).st_ctime_ns)
    finally:
        os.close(descriptor)


def replace_file(house: House, path: str, data: bytes) -> Identity:
    """Another file in the place of one."""
    identity = house.write(f"{path}.new", data)
    os.rename(house.spool.absolute(f"{path}.new"), house.spool.absolute(path))
    return identity


# --- each decision -----------------------------------------------------------------------------


def test_each_end_is_counted(house: House) -> None:
    agent = house.agent()
    good, bad, again = claimed(house, "good", "bad", "again")
    with proven(house, good) as proof:
        house.settle(
            proof,
            GiveUp(bad, Reason(PERMANENT, "AccessDenied", "it may not")),
            LetGo(again, STOPPED),
            agent=agent,
        )
    [alone] = house.claim(again.id)
    house.clock.advance(270.0)
    house.settle(LetGo(alone, STOPPED, 260.0), agent=agent)
    tally = agent.tally
    assert (tally.files, tally.size, tally.settled) == (1, 4, 2)
    [(cause, failures)] = tally.failures.items()
    assert (cause.code, failures.files, failures.examples) == ("AccessDenied", 1, [("bad", bad.id)])
    # What had not begun has had no chance.
    assert tally.stopped == [("p", "b", "again", again.id, 260.0)]


def test_s5_becomes_s8(house: House) -> None:
    [claim] = claimed(house, "dir/sub/key")
    with proven(house, claim) as decision:
        house.settle(decision)
    assert house.files() == {"completed/p/b/dir/sub/key": b"data"}
    assert house.spool.subdirectories("processing/p/b") == []
    row = house.row(claim.id)
    assert (row["current_state"], row["upload_outcome"], row["spool_path"], row["etag"]) == (
        "completed",
        "success",
        "completed/p/b/dir/sub/key",
        "etag",
    )
    assert len(house.attempts(claim.id)) == 1


def test_a_place_that_is_taken_gets_a_suffix(house: House) -> None:
    house.write("completed/p/b/key", b"older")
    [claim] = claimed(house, "key")
    with proven(house, claim) as decision:
        house.settle(decision)
    beside = f"completed/p/b/key.~{claim.id}~"
    assert house.files() == {"completed/p/b/key": b"older", beside: b"data"}
    assert house.row(claim.id)["spool_path"] == beside


def test_s5_becomes_s4(house: House) -> None:
    [claim] = claimed(house, "key")
    house.settle(TryAgain(claim, claim.identity, BROKEN, 30.0))
    row = house.row(claim.id)
    assert (row["current_state"], row["retry_count"], row["owner"]) == ("processing", 1, None)
    [(record_id, profile, bucket, due, left)] = house.scheduled
    assert (record_id, profile, bucket, left) == (claim.id, "p", "b", 9)
    assert utc_text(due) == row["next_attempt_at"]
    assert (due - START).total_seconds() == 30.0


def test_the_last_retry_has_none_left(house: House) -> None:
    [claim] = claimed(house, "key")
    models.execute("UPDATE file_records SET retry_count = 9")
    house.settle(TryAgain(claim._replace(retry_count=9), claim.identity, BROKEN, 30.0))
    assert house.row(claim.id)["retry_count"] == 10
    assert house.scheduled[0][4] == 0


def test_s5_becomes_s10(house: House) -> None:
    [claim] = claimed(house, "dir/key")
    house.settle(GiveUp(claim, REFUSED))
    assert house.files() == {"failed/p/b/dir/key": b"data"}
    row = house.row(claim.id)
    assert (row["current_state"], row["upload_outcome"], row["error_code"]) == (
        "failed",
        "failure",
        "refused",
    )
    assert house.spool.subdirectories("processing/p/b") == []


def test_s5_becomes_s3_again(house: House) -> None:
    [claim] = claimed(house, "key")
    house.settle(LetGo(claim, STOPPED))
    row = house.row(claim.id)
    assert (row["current_state"], row["retry_count"], row["owner"]) == ("processing", 0, None)
    assert [again.id for again in house.claim()] == [claim.id]
    assert house.scheduled == []


# --- files that are not where they were --------------------------------------------------------


def test_s11_a_file_that_is_nowhere(house: House) -> None:
    missing, proven_first = claimed(house, "missing", "proven")
    with proven(house, proven_first) as decision:
        for claim in (missing, proven_first):
            os.unlink(house.spool.absolute(claim.path))
        house.settle(Missing(missing), decision)
    for claim in (missing, proven_first):
        row = house.row(claim.id)
        assert (row["current_state"], row["error_code"]) == ("failed", "vanished")


@pytest.mark.parametrize(("state", "outcome"), [("completed", "success"), ("failed", "failure")])
@pytest.mark.parametrize("taken", [False, True])
def test_s7_and_s9_the_file_is_ahead_of_its_row(
    house: House, state: str, outcome: str, taken: bool
) -> None:
    [claim] = claimed(house, "dir/key")
    path = f"{state}/p/b/dir/key"
    if taken:
        house.write(path, b"older")
        path += f".~{claim.id}~"
    house.spool.move(claim.path, path)
    house.settle(Missing(claim))
    row = house.row(claim.id)
    assert (row["current_state"], row["upload_outcome"], row["spool_path"]) == (
        state,
        outcome,
        path,
    )
    assert house.files()[path] == b"data"


@pytest.mark.parametrize("times", [1, 3])
def test_s12_a_claimed_file_that_is_in_incoming_again(house: House, times: int) -> None:
    """Nobody is told that it vanished; flood-watch takes it, with the same row."""
    for number in range(times):
        [claim] = house.claim() if number else claimed(house, "dir/key")
        if not number:
            house.spool.move(claim.path, "incoming/p/b/dir/key")
        house.settle(Missing(claim))
        row = house.row(claim.id)
        due = utc_moment(row["next_attempt_at"])
        assert (row["current_state"], row["owner"]) == ("processing", None)
        assert due - house.clock.now() == timedelta(seconds=60 * 2**number)
        house.clock.advance(60.0 * 2**number if number < times - 1 else 1.0)
    assert {one["error_code"] for one in house.attempts(claim.id)} == {"went_back"}
    house.intake().admit([(Candidate("incoming/p/b/dir/key", closed=True), None)])
    assert house.states() == [("dir/key", "processing", None)]
    assert list(house.files()) == ["processing/p/b/dir/key"]
    [again] = house.claim()  # at once, however long it was to wait
    assert (again.id, again.retry_count) == (claim.id, 0)


def test_another_file_in_incoming_is_not_what_vanished(house: House) -> None:
    [claim] = claimed(house, "key")
    os.unlink(house.spool.absolute(claim.path))
    house.write("incoming/p/b/key", b"newer")
    house.settle(Missing(claim))
    assert house.row(claim.id)["error_code"] == "vanished"


def test_s9_given_up_after_it_had_changed(house: House) -> None:
    [claim] = claimed(house, "key")
    with open(house.spool.absolute(claim.path), "ab") as file:
        file.write(b"more")
    house.spool.move(claim.path, "failed/p/b/key")
    house.settle(Missing(claim))
    assert house.row(claim.id)["spool_path"] == "failed/p/b/key"


def test_another_file_in_completed_proves_nothing(house: House) -> None:
    house.write("completed/p/b/key")
    [claim] = claimed(house, "key")
    os.unlink(house.spool.absolute(claim.path))
    house.settle(Missing(claim))
    assert house.row(claim.id)["error_code"] == "vanished"


@pytest.mark.parametrize("how", ["prove", "give up"])
def test_another_file_in_its_place_is_not_moved(house: House, how: str) -> None:
    [claim] = claimed(house, "key")
    with proven(house, claim) as prove:
        replace_file(house, claim.path, b"another")
        house.settle(prove if how == "prove" else GiveUp(claim, REFUSED))
    assert house.files() == {claim.path: b"another"}
    assert house.row(claim.id)["error_code"] == "vanished"
    house.recover()
    assert house.in_processing("key") != claim.id


def test_a_change_between_the_upload_and_its_settling_is_noticed(house: House) -> None:
    [claim] = claimed(house, "key")
    with proven(house, claim) as decision:
        with open(house.spool.absolute(claim.path), "ab") as file:
            file.write(b"more")
        house.settle(decision)
    assert house.files() == {claim.path: b"datamore"}
    row = house.row(claim.id)
    assert (row["current_state"], row["owner"], row["retry_count"]) == ("processing", None, 0)
    assert house.attempts(claim.id)[0]["error_code"] == "changed"


# --- claims ------------------------------------------------------------------------------------


def test_a_claim_that_was_taken_away_moves_nothing(house: House) -> None:
    one, two, three = claimed(house, "one", "two", "three")
    assert records.lose(one, 30.0, START)
    assert records.lose(two, 30.0, START)
    before = [house.row(one.id), house.row(two.id)]
    with proven(house, one) as stale, proven(house, three) as standing:
        house.settle(stale, GiveUp(two, REFUSED), standing)
    assert set(house.files()) == {one.path, two.path, "completed/p/b/three"}
    assert [house.row(one.id), house.row(two.id)] == before
    assert house.row(three.id)["current_state"] == "completed"


# --- trouble -----------------------------------------------------------------------------------


class Full(Spool):
    """A spool whose disk has no room for another directory."""

    def move(self, source: str, target: str) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("how", ["prove", "give up"])
def test_a_file_that_cannot_be_moved_is_tried_again_at_no_cost(house: House, how: str) -> None:
    bad, good = claimed(house, "bad", "good")
    agent = house.agent(spool=Full(house.spool.root))
    with proven(house, bad) as prove:
        decision: Decision = prove if how == "prove" else GiveUp(bad, REFUSED)
        house.settle(decision, LetGo(good, STOPPED), agent=agent)
    assert house.files() == {bad.path: b"data", good.path: b"data"}
    assert [one.id for one in house.claim()] == [good.id]
    house.clock.advance(MOVE_AGAIN)
    [again] = house.claim()
    assert (again.id, again.retry_count) == (bad.id, 0)
    assert again.proof is None or again.proof[:4] == ("etag", "v", "md5:00", 4)
    assert (again.proof is not None) == (how == "prove")


class Scarce(Spool):
    """A spool for whose moves no descriptor is left."""

    def move(self, source: str, target: str) -> None:
        raise OSError(24, "Too many open files")


@pytest.mark.parametrize("how", ["prove", "give up"])
def test_a_move_without_descriptors_is_no_attempt(
    house: House, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    claims = claimed(house, "one", "two")
    agent = house.agent(spool=Scarce(house.spool.root))
    with proven(house, claims[0]) as first, proven(house, claims[1]) as second:
        decisions: list[Decision] = [first, second]
        if how == "give up":
            decisions = [GiveUp(claim, REFUSED) for claim in claims]
        house.settle(*decisions, agent=agent)
    assert [house.attempts(claim.id) for claim in claims] == [[], []]
    told = [each.getMessage() for each in caplog.records]
    assert told.count("short of descriptors or memory") == 1
    assert "cannot move" not in told
    assert house.claim() == []
    house.clock.advance(SCARCE_LEAST)
    again = house.claim()
    assert [one.id for one in again] == [claim.id for claim in claims]
    assert all((one.proof is not None) == (how == "prove") for one in again)
    assert all((one.verdict is not None) == (how == "give up") for one in again)


def test_a_file_that_gets_through_ends_the_growth_of_waits(house: House) -> None:
    one, two = claimed(house, "one", "two")
    agent = house.agent()
    agent.scarce_pause()
    house.clock.advance(20.0)
    house.settle(GiveUp(one, REFUSED), agent=agent)
    assert agent.scarce_pause() == 20.0
    with proven(house, two) as decision:
        house.settle(decision, agent=agent)
    assert agent.scarce_pause() == SCARCE_LEAST


def test_a_file_that_can_never_be_moved_is_tried_ever_less_often(house: House) -> None:
    [claim] = claimed(house, "key")
    agent = house.agent(spool=Full(house.spool.root))
    waits = []
    for _ in range(8):
        house.settle(GiveUp(claim, REFUSED), agent=agent)
        due = utc_moment(house.row(claim.id)["next_attempt_at"])
        waits.append((due - house.clock.now()).total_seconds())
        house.clock.advance(waits[-1])
        [claim] = house.claim()
    assert waits == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0]


def test_a_file_that_was_given_up_waits_for_its_move_only(house: House) -> None:
    [claim] = claimed(house, "key")
    house.settle(GiveUp(claim, REFUSED), agent=house.agent(spool=Full(house.spool.root)))
    row = house.row(claim.id)
    assert (row["current_state"], row["upload_outcome"], row["error_code"]) == (
        "processing",
        "failure",
        "refused",
    )
    [told] = house.attempts(claim.id)
    assert (told["kind"], told["error_code"]) == ("interrupted", "cannot_move")
    assert "the store refuses it" in told["error_message"]
    house.clock.advance(MOVE_AGAIN)
    [again] = house.claim()
    assert again.verdict == REFUSED
    house.settle(GiveUp(again, REFUSED))
    assert house.states() == [("key", "failed", "failure")]
    assert [each["kind"] for each in house.attempts(claim.id)] == ["interrupted", "permanent"]


@pytest.mark.parametrize("how", ["prove", "give up"])
def test_a_worker_that_dies_before_the_second_move_changes_no_verdict(
    house: House, how: str
) -> None:
    [claim] = claimed(house, "key")
    with proven(house, claim) as prove:
        decision: Decision = prove if how == "prove" else GiveUp(claim, REFUSED)
        house.settle(decision, agent=house.agent(spool=Full(house.spool.root)))
    house.clock.advance(MOVE_AGAIN)
    [second] = house.claim()  # and dies
    house.sweep()
    [third] = house.claim()
    assert (third.verdict, third.proof) == (second.verdict, second.proof)
    assert (third.retry_count, third.alone) == (0, False)
    lost = house.attempts(claim.id)[-1]
    assert (lost["kind"], lost["error_code"]) == ("interrupted", "worker_died")


def test_a_file_that_was_sent_again_is_no_mere_move(house: House) -> None:
    [claim] = claimed(house, "key")
    with proven(house, claim) as prove:
        house.settle(prove, agent=house.agent(spool=Full(house.spool.root)))
    os.chmod(house.spool.absolute(claim.path), 0o600)  # what the store has may be something else
    house.clock.advance(MOVE_AGAIN)
    assert len(house.claim()) == 1
    house.sweep()
    assert [one["kind"] for one in house.attempts(claim.id)] == ["interrupted", "lost"]


def test_a_file_that_is_taken_once_it_is_uploaded_was_uploaded(house: House) -> None:
    [claim] = claimed(house, "key")
    with proven(house, claim) as prove:
        os.unlink(house.spool.absolute(claim.path))
        house.settle(prove)
    row = house.row(claim.id)
    assert (row["current_state"], row["error_code"]) == ("failed", "vanished")
    assert "the object is in the bucket" in row["error_message"]


def test_what_stands_in_the_way_is_named(house: House) -> None:
    [claim] = claimed(house, "key")
    place = house.spool.absolute("completed/p/b")
    os.makedirs(os.path.dirname(place), exist_ok=True)
    os.close(os.open(place, os.O_CREAT))
    with proven(house, claim) as prove:
        house.settle(prove)
    [told] = house.attempts(claim.id)
    assert (
        "(completed/p/b is no directory): the move is tried again in 60 s"
        in (told["error_message"])
    )


@pytest.mark.parametrize("who", ["claim", "nobody", "sweep"])
@pytest.mark.parametrize("how", ["prove", "give up"])
def test_a_second_move_that_was_made_says_what_was_known(house: House, how: str, who: str) -> None:
    """S7, S9: whoever moved the file died before its row could say so."""
    [claim] = claimed(house, "key")
    with proven(house, claim) as prove:
        decision: Decision = prove if how == "prove" else GiveUp(claim, REFUSED)
        house.settle(decision, agent=house.agent(spool=Full(house.spool.root)))
    house.clock.advance(MOVE_AGAIN)
    state = "completed" if how == "prove" else "failed"
    if who == "claim":
        [again] = house.claim()
    elif who == "sweep":
        house.claim()
    house.spool.move(claim.path, f"{state}/p/b/key")
    if who == "claim":
        house.settle(Missing(again))
    elif who == "sweep":
        house.sweep()
    else:
        path = f"{state}/p/b/key"
        assert records.follow(claim.id, state, path, claim.identity.size, house.clock.now())
    row = house.row(claim.id)
    assert row["current_state"] == state
    if how == "give up":
        assert (row["error_code"], row["error_message"]) == REFUSED[1:]
    else:
        assert (row["etag"], row["version_id"]) == ("etag", "v")


def test_a_record_that_follows_its_file_counts_from_nothing(house: House) -> None:
    [claim] = claimed(house, "key")
    reason = Reason(TRANSIENT, "timeout", "no answer")
    records.retry(claim, claim.identity, reason, 30.0, house.clock.now())
    assert records.follow(claim.id, "completed", "completed/p/b/key", 4, house.clock.now())
    assert house.row(claim.id)["retry_count"] == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_content_that_changes_with_its_times_put_back_is_noticed(house: House, when: str) -> None:
    """Between the end of the transfer and the settlement, or the move that comes later."""
    [claim] = claimed(house, "key")
    path = house.spool.absolute(claim.path)

    def rewrite() -> None:
        times = os.stat(path)
        with open(path, "r+b") as file:
            file.write(b"atad")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    with proven(house, claim) as prove:
        if when == "before":
            rewrite()
            house.settle(prove)
        else:
            house.settle(prove, agent=house.agent(spool=Full(house.spool.root)))
            rewrite()
    house.clock.advance(MOVE_AGAIN)
    [again] = house.claim()
    assert house.spool.identify(again.path) == again.identity
    if when == "after":
        assert again.proof is not None
        assert again.proof.changed_ns != os.stat(path).st_ctime_ns  # so that it is sent once more


def test_a_proof_is_forgotten_with_the_file_that_it_was_of(house: House) -> None:
    [claim] = claimed(house, "key")
    with proven(house, claim) as prove:
        house.settle(prove, agent=house.agent(spool=Full(house.spool.root)))
    house.clock.advance(MOVE_AGAIN)
    [again] = house.claim()
    assert again.proof is not None
    changed = house.write(again.path, b"other")
    house.settle(TryAgain(again, changed, BROKEN, 30.0))
    house.clock.advance(30.0)
    [last] = house.claim()
    assert last.proof is None


def test_a_refused_transaction_is_made_good_by_the_sweep(house: House) -> None:
    """S7: files are in completed, the rows were undone with the retry of another."""
    done, again = claimed(house, "done", "again")

    def refuse(*_retry: object) -> None:
        raise OSError("the queue is gone")

    with proven(house, done) as decision, pytest.raises(OSError, match="queue"):
        settle(house.agent(), [decision, TryAgain(again, again.identity, BROKEN, 30.0)], refuse)
    assert set(house.files()) == {"completed/p/b/done", "processing/p/b/again"}
    assert {state for _, state, _ in house.states()} == {"processing"}
    house.sweep()
    assert house.states() == [
        ("done", "completed", "success"),
        ("again", "processing", None),
    ]


def test_why_a_file_was_given_up_is_told_where_it_cannot_be_recorded(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """S9, on a full disk: the file is in failed, its record says nothing; else the log tells only
    of what was committed."""
    first, second, last = claimed(house, "first", "second", "last")
    many = Reason(PERMANENT, "refused", "many words " * 2000)
    given_up = (GiveUp(first, REFUSED), GiveUp(second, many), GiveUp(last, many))
    with full_database(), pytest.raises(models.DatabaseError, match="disk is full"):
        house.settle(*given_up)
    assert set(house.files()) == {"failed/p/b/first", "failed/p/b/second", "processing/p/b/last"}
    told = [one for one in caplog.records if one.getMessage() == "not recorded"]
    assert [(one.facts["key"], one.facts["error"], one.facts["reason"]) for one in told] == [  # type: ignore[attr-defined]  # flood.log's own
        ("first", "refused", REFUSED.message),
        ("second", "refused", many.message),
    ]
    assert "failed" not in [one.getMessage() for one in caplog.records]
    house.sweep()
    row = house.row(first.id)
    assert (row["current_state"], row["error_code"]) == ("failed", "given_up")
    assert "not recorded" in row["error_message"]


# --- deaths ------------------------------------------------------------------------------------

STEPS = ("_prove", "_give_up", "_move", "_rename", "_try_again", "write")


def test_settling_may_die_at_any_line() -> None:
    """S5, S6, S7, S9: whatever was done by then, no file is lost and no row is stuck."""

    def arrange(house: House) -> None:
        for key in ("done", "refused", "broken", "stopped"):
            house.admit(f"dir/{key}", data=key.encode())
        house.claim()
        models.close()

    def call(house: House) -> None:
        done, refused, broken, stopped = house.claimed()
        with proven(house, done) as decision:
            house.settle(
                decision,
                GiveUp(refused, REFUSED),
                TryAgain(broken, broken.identity, BROKEN, 30.0),
                LetGo(stopped, STOPPED),
            )

    died = 0
    for house in deaths(call, arrange, STEPS):
        died += 1
        house.sweep()
        house.recover()
        assert_nothing_is_stuck(house)
        done = house.rows("filepath = 'dir/done'")[0]
        assert done["current_state"] in ("completed", "processing")
        house.clock.advance(3600.0)
        finish(house)
        assert [state for _, state, _ in house.states()] in (
            ["completed"] * 4,
            ["completed", "failed", "completed", "completed"],
        )
        assert set(house.files().values()) == {b"done", b"refused", b"broken", b"stopped"}
        assert house.spool.subdirectories("processing/p/b") == []
    assert died > 4


class Linking(Spool):
    """A spool on a filesystem that cannot rename without overwriting."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._linking = True


def test_a_file_may_have_two_names_when_it_dies() -> None:
    """S2, S7 where a move is a link with an unlink: at worst the file is uploaded twice."""

    def arrange(house: House) -> None:
        house.write("incoming/p/b/key", b"content")
        models.close()

    def call(house: House) -> None:
        linking = Linking(house.spool.root)
        paths = [each.path for each in house.found("incoming")]
        house.intake(linking).admit([(Candidate(path, closed=True), None) for path in paths])
        [claim] = house.claim()
        with proven(house, claim) as decision:
            house.settle(decision, agent=house.agent(spool=linking))

    doubles = 0
    for house in deaths(call, arrange, ("_rename_into",)):
        doubles += len(house.files()) == 2
        house.spool = Linking(house.spool.root)
        for _ in range(2):  # the second name has its own way to go
            house.sweep()
            house.recover()
            house.clock.advance(3600.0)
            finish(house)
        assert house.files() == {"completed/p/b/key": b"content"}
        assert {state for _, state, _ in house.states()} == {"completed"}
    assert doubles == 2


def assert_nothing_is_stuck(house: House) -> None:
    """Each file has a row at its place, and each row that waits can be claimed some day."""
    places = {row["spool_path"]: row for row in house.rows()}
    for path in house.files():
        assert path.startswith(f"{places[path]['current_state']}/")
    for row in house.rows("current_state = 'processing'"):
        assert row["spool_path"] in house.files()
        assert row["owner"] is None
        assert row["next_attempt_at"] is not None


def finish(house: House) -> None:
    """Prove everything that can be claimed."""
    while claims := house.claim():
        for claim in claims:
            with proven(house, claim) as decision:
                house.settle(decision)
