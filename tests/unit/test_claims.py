"""Claims, with workers that come late, die or work beside each other."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flood import claims as claiming
from flood import models, records
from flood.columns import utc_text
from flood.identity import Identity
from flood.record_values import TASK_BYTES, TASK_FILES, Arrival, Claimed, Proof, Reason
from flood.states import INTERRUPTED, PERMANENT, TRANSIENT
from tests import spooling
from tests.spooling import LARGE, START, House, fork

RETRY_MAX = 3


def arrive(house: House, key: str, size: int = 1, bucket: str = "b", inode: int = 1) -> int:
    identity = Identity(1, inode, size, 1)
    [record_id] = records.admit(
        [Arrival("p", bucket, key, f"processing/p/{bucket}/{key}", identity, START)],
        house.clock.now(),
    )
    return record_id


def ids(claims: Sequence[Claimed]) -> list[int]:
    return [claim.id for claim in claims]


# --- what is chosen ----------------------------------------------------------------------------


def test_a_task_is_topped_up_with_the_oldest_of_its_bucket(house: House) -> None:
    old = [arrive(house, f"old-{n}") for n in range(3)]
    other = arrive(house, "other", bucket="other")
    house.clock.advance(1)
    named = [arrive(house, f"named-{n}") for n in range(2)]
    claims = house.claim(*named)
    assert ids(claims) == [*named, *old]
    assert {claim.company for claim in claims} == {5}
    assert house.claim(*named) == []
    assert ids(claiming.claim([], "p", "other", owner="w", large=LARGE, now=START)) == [other]


def test_a_ring_takes_the_oldest(house: House) -> None:
    first = arrive(house, "first")
    house.clock.advance(1)
    second = arrive(house, "second")
    assert ids(house.claim()) == [first, second]


def test_what_is_not_due_is_not_taken(house: House) -> None:
    record_id = arrive(house, "key")
    house.clock.advance(-0.000001)
    assert house.claim(record_id) == []
    assert house.claim() == []


def test_a_task_has_its_bounds(house: House) -> None:
    many = [arrive(house, f"{n}") for n in range(TASK_FILES + 20)]
    assert ids(house.claim(*many)) == many[:TASK_FILES]
    assert ids(house.claim()) == many[TASK_FILES:]


def more(house: House, company: int) -> list[Claimed]:
    return claiming.more("p", "b", owner="w", large=LARGE, company=company, now=house.clock.now())


def test_what_goes_on_is_in_company(house: House) -> None:
    """A worker that dies then leaves no file that would look as if it had been alone."""
    first, second = (arrive(house, key) for key in ("first", "second"))
    house.clock.advance(1)
    later = arrive(house, "later")
    house.clock.advance(-0.5)
    assert [(one.id, one.company) for one in more(house, 7)] == [(first, 9), (second, 9)]
    house.clock.advance(0.5)
    [last] = more(house, 1)
    assert (last.id, last.company, last.number, last.owner) == (later, 2, 1, "w")
    assert more(house, 1) == []


def test_one_that_was_claimed_by_itself_gets_company(house: House) -> None:
    first = arrive(house, "first")
    [alone] = claiming.claim([first], "p", "b", owner="w", large=LARGE, now=START)
    assert alone.company == 1
    arrive(house, "second")
    other = arrive(house, "other", bucket="other")
    claiming.claim([other], "p", "other", owner="x", large=LARGE, now=START)
    assert [one.company for one in more(house, 1)] == [2]
    found = {row["filepath"]: row["claim_size"] for row in house.rows()}
    assert found == {"first": 2, "second": 2, "other": 1}


def test_what_had_not_begun_keeps_its_place(house: House) -> None:
    """However many come after it, it is the first again."""
    first = arrive(house, "first")
    for number in range(5):
        house.clock.advance(1.0)
        arrive(house, f"later-{number}")
        claims = house.claim()
        assert claims[0].id == first
        house.clock.advance(10.0)
        for one in claims:
            assert records.put_off(one, house.clock.now(), 0.0)
    assert house.row(first)["next_attempt_at"] == utc_text(START)


def test_only_small_files_go_on(house: House) -> None:
    arrive(house, "large", size=LARGE)
    suspect, fine = arrive(house, "suspect"), arrive(house, "fine")
    [lost] = house.claim(suspect)[:1]
    records.lose(lost, 0.0, house.clock.now())
    records.put_off(claiming.of_record(fine), house.clock.now(), 0.0)  # type: ignore[arg-type]  # claimed
    assert ids(more(house, 1)) == [fine]
    many = [arrive(house, f"{n}") for n in range(TASK_FILES + 20)]
    assert ids(more(house, 1)) == many[:TASK_FILES]


def test_a_task_has_its_bytes(house: House) -> None:
    part = LARGE - 1
    many = [arrive(house, f"{n}", size=part) for n in range(6)]
    fitting = TASK_BYTES // part
    assert ids(house.claim(*many)) == many[:fitting]
    assert ids(house.claim()) == many[fitting:]


def test_small_files_go_along_with_what_is_too_much_for_one_claim(house: House) -> None:
    part = LARGE - 1
    fitting = TASK_BYTES // part
    many = [arrive(house, f"{n}", size=part) for n in range(fitting + TASK_FILES)]
    small = [arrive(house, f"small{n}", size=claiming.SMALL) for n in range(TASK_FILES)]
    with_them = TASK_FILES - fitting
    assert ids(house.claim()) == many[:fitting] + small[:with_them]
    assert ids(more(house, 1)) == many[fitting : 2 * fitting] + small[with_them:]


def test_a_large_file_is_alone(house: House) -> None:
    large = arrive(house, "large", size=LARGE)
    small = arrive(house, "small")
    [claim] = house.claim(large)
    assert (claim.id, claim.company) == (large, 1)
    assert ids(house.claim()) == [small]


def test_small_files_are_not_topped_up_with_large_ones(house: House) -> None:
    large = arrive(house, "large", size=LARGE)
    house.clock.advance(1)
    small = arrive(house, "small")
    assert ids(house.claim(small)) == [small]
    assert ids(house.claim()) == [large]


def test_other_profiles_and_buckets_are_not_touched(house: House) -> None:
    record_id = arrive(house, "key", bucket="other")
    assert house.claim(record_id) == []


def test_names_that_are_no_text(house: House) -> None:
    name = os.fsdecode(b"\xff\xfe")
    identity = Identity(1, 1, 1, 1)
    path = f"processing/{name}/{name}/{name}"
    records.admit([Arrival(name, name, name, path, identity, START)], START)
    [claim] = claiming.claim([], name, name, owner="w", large=LARGE, now=START)
    assert (claim.profile, claim.bucket, claim.key, claim.path) == (name, name, name, path)
    assert claiming.of_owner("w") == [claim]


def test_workers_beside_each_other_share_without_doubles(house: House) -> None:
    """Three processes claim from overlapping tasks until nothing is left."""
    every = [arrive(house, f"{n}") for n in range(400)]
    models.execute("CREATE TABLE taken (id INTEGER)")
    children = []
    for worker in range(3):
        child = fork()
        if child == 0:
            try:
                while claims := house.claim(*every[:150], owner=f"worker-{worker}"):
                    with models.write():
                        for one in claims:
                            models.execute("INSERT INTO taken VALUES (?)", (one.id,))
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    taken = [row[0] for row in models.execute("SELECT id FROM taken").fetchall()]
    assert sorted(taken) == every


# --- any course of events ----------------------------------------------------------------------


@dataclass
class Expected:
    """What must be true of a record."""

    key: str
    retries: int = 0
    alone: bool = False
    #: Each settled attempt: its number, what it was.
    attempts: list[tuple[int, str | None]] = field(default_factory=list)
    claim: Claimed | None = None
    ended: bool = False


class TwoWorkers(RuleBasedStateMachine):
    """Two workers, who may settle claims that they have lost."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._context = spooling.house(Path(self._directory.name))
        self.house = self._context.__enter__()
        self.expected: dict[int, Expected] = {}
        self.stale: list[Claimed] = []
        self.inode = 0

    def teardown(self) -> None:
        self._context.__exit__(None, None, None)
        self._directory.cleanup()

    @rule(key=st.sampled_from("abc"), size=st.sampled_from([1, 1, LARGE]))
    def arrives(self, key: str, size: int) -> None:
        if any(one.key == key and not one.ended for one in self.expected.values()):
            return  # its place is taken, so it would wait in incoming
        self.inode += 1
        record_id = arrive(self.house, key, size, inode=self.inode)
        assert record_id not in self.expected
        self.expected[record_id] = Expected(key)

    @precondition(lambda self: self.expected)
    @rule(owner=st.sampled_from(["one", "two"]), data=st.data())
    def claims(self, owner: str, data: st.DataObject) -> None:
        hint = data.draw(st.lists(st.sampled_from(sorted(self.expected)), unique=True))
        claims = self.house.claim(*hint, owner=owner)
        for claim in claims:
            one = self.expected[claim.id]
            assert one.claim is None
            assert not one.ended
            assert (claim.owner, claim.retry_count, claim.alone) == (owner, one.retries, one.alone)
            assert claim.company == len(claims)
            if one.alone:
                assert len(claims) == 1
            one.claim = claim

    def standing(self) -> list[Claimed]:
        return [one.claim for one in self.expected.values() if one.claim]

    def ends(self, claim: Claimed, kind: str | None) -> Expected:
        one = self.expected[claim.id]
        one.attempts.append((claim.retry_count, kind))
        one.claim = None
        self.stale.append(claim)
        return one

    @precondition(lambda self: self.standing())
    @rule(data=st.data(), how=st.sampled_from(["success", TRANSIENT, PERMANENT, INTERRUPTED]))
    def settles(self, data: st.DataObject, how: str) -> None:
        claim = data.draw(st.sampled_from(self.standing()))
        if how == TRANSIENT and claim.retry_count >= RETRY_MAX:
            how = PERMANENT
        assert _settle(claim, how, self.house)
        one = self.ends(claim, None if how == "success" else how)
        one.ended = how in ("success", PERMANENT)
        one.retries = 0 if how == "success" else one.retries + (how == TRANSIENT)
        one.alone = one.alone and how != "success"

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), how=st.sampled_from(["success", TRANSIENT, PERMANENT, INTERRUPTED]))
    def settles_late(self, data: st.DataObject, how: str) -> None:
        claim = data.draw(st.sampled_from(self.stale))
        assert claiming.still_mine([claim]) == []
        assert not _settle(claim, how, self.house)
        assert not claiming.remember_multipart(claim, "late")

    @rule(owner=st.sampled_from(["one", "two"]))
    def dies(self, owner: str) -> None:
        """A sweep takes over what the worker had; the worker itself may come back late."""
        for claim in claiming.of_owner(owner):
            if claim.company == 1 and claim.retry_count >= RETRY_MAX:
                assert _settle(claim, "lost for good", self.house)
                self.ends(claim, "lost").ended = True
                continue
            assert records.lose(claim, 30.0, self.house.clock.now())
            one = self.ends(claim, "lost")
            one.retries += claim.company == 1
            one.alone = True

    @rule(seconds=st.sampled_from([0.0, 29.9, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.house.clock.advance(seconds)

    @invariant()
    def rows_are_as_expected(self) -> None:
        rows = self.house.rows()
        assert [row["id"] for row in rows] == sorted(self.expected)
        working = [row["filepath"] for row in rows if row["current_state"] == "processing"]
        assert len(working) == len(set(working))
        for row in rows:
            one = self.expected[row["id"]]
            assert (row["current_state"] != "processing") == one.ended
            assert row["owner"] == (one.claim.owner if one.claim else None)
            assert row["retry_count"] == one.retries <= RETRY_MAX
            assert row["multipart_upload_id"] is None
        assert claiming.still_mine(self.standing()) == self.standing()

    @invariant()
    def attempts_are_numbered_without_gaps(self) -> None:
        for record_id, one in self.expected.items():
            attempts = self.house.attempts(record_id)
            assert [(row["retry_number"], row["kind"]) for row in attempts] == one.attempts
            numbers = [number for number, _ in one.attempts]
            assert numbers[:1] in ([], [0])
            for (number, kind), following in zip(one.attempts, numbers[1:], strict=False):
                assert following - number in ((1,) if kind == TRANSIENT else (0, 1))


def _settle(claim: Claimed, how: str, house: House) -> bool:
    now = house.clock.now()
    reason = Reason(how, "code", "words")
    if how == "success":
        return records.complete(claim, "completed/p/b/x", Proof("e", None, None, 1), now)
    if how == TRANSIENT:
        return records.retry(claim, claim.identity, reason, 30.0, now) is not None
    if how == INTERRUPTED:
        return records.release(claim, reason, now)
    kind = "lost" if how.startswith("lost") else PERMANENT
    return records.fail(claim, "failed/p/b/x", Reason(kind, "code", "words"), now)


TestTwoWorkers = TwoWorkers.TestCase
TestTwoWorkers.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
