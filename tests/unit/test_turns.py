"""Every destination has its turn, large files leave room for small ones."""

from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flood import models, records
from flood.door import Candidate
from flood.locks import WorkerLocks
from flood.record_values import TASK_FILES, Claimed, Proof
from flood.status_workers import able
from tests.spooling import LARGE, House, quick_house
from workers.rounds import LOOKS, Destination
from workers.turns import HEAVY, LONG, Turns

BURST = ("p", "burst")


@contextmanager
def workers(
    house: House,
    count: int = 1,
    profiles: Collection[str] = "pq",
    large: int = LARGE,
    stopped: int = 0,
    paused: Collection[Destination] = (),
) -> Iterator[list[Turns]]:
    """So many living workers, whose credentials have these profiles; of the first ones the process
    is stopped."""
    locks = [WorkerLocks(house.spool) for _ in range(count)]
    owners = [each.own() for each in locks]
    try:
        yield [
            Turns(
                each,
                able=lambda: able(house.spool) - set(owners[:stopped]),
                large=large,
                profiles=lambda: profiles,
                paused=lambda destination: destination in paused,
                now=house.clock.now,
            )
            for each in locks
        ]
    finally:
        for each in locks:
            each.disown()


@pytest.fixture
def worker(house: House) -> Iterator[Turns]:
    with workers(house) as [only]:
        yield only


def arrive(house: House, destination: Destination, count: int = 1, data: bytes = b"data") -> None:
    """Files are admitted for a destination."""
    profile, bucket = destination
    known = len(house.rows("profile = ? AND bucket = ?", profile, bucket))
    paths = [f"incoming/{profile}/{bucket}/{known + number}" for number in range(count)]
    for path in paths:
        house.write(path, data)
    intake = house.intake(profiles=lambda: set("pqrs"))
    assert intake.admit([(Candidate(path), None) for path in paths]).admitted == count


def claim(worker: Turns, asked: Destination) -> tuple[Destination, list[Claimed]]:
    with models.write():
        destination, claims = worker.claim([], asked)
    assert {(one.profile, one.bucket) for one in claims} <= {destination}
    return destination, claims


def deliver(house: House, one: Claimed) -> None:
    path = f"completed/{one.profile}/{one.bucket}/{one.key}"
    records.complete(one, path, Proof("e", None, None, 4), house.clock.now())


def finish(house: House, claims: list[Claimed]) -> None:
    for one in claims:
        records.gone(one, house.clock.now())


def test_one_worker_takes_turns(house: House, worker: Turns) -> None:
    arrive(house, BURST, 3 * TASK_FILES)
    finish(house, claim(worker, BURST)[1])
    arrive(house, ("p", "late"))
    arrive(house, ("q", "later"))
    went = []
    for _ in range(5):
        destination, claims = claim(worker, BURST)
        went.append(destination if claims else None)
        finish(house, claims)
    # Another profile's first, as its store may be another one.
    assert went == [("q", "later"), ("p", "late"), BURST, BURST, None]


def test_a_worker_goes_where_none_is(house: House) -> None:
    arrive(house, BURST, 2 * TASK_FILES)
    arrive(house, ("p", "other"), TASK_FILES)
    with workers(house, 3) as [first, second, third]:
        assert claim(first, BURST)[0] == BURST
        assert claim(second, BURST)[0] == ("p", "other")
        # Nothing else is due: then they share.
        assert claim(third, BURST)[0] == BURST


def test_a_burst_alone_is_worked_off(house: House, worker: Turns) -> None:
    arrive(house, BURST, 2 * TASK_FILES + 1)
    found = [len(claim(worker, BURST)[1]) for _ in range(4)]
    assert found == [TASK_FILES, TASK_FILES, 1, 0]


def go_on(worker: Turns, there: Destination, company: int = 1) -> int:
    with models.write():
        found = worker.more(there, company)
    assert {(one.profile, one.bucket) for one in found} <= {there}
    return len(found)


def test_a_worker_goes_on_until_another_destination_is_due(house: House, worker: Turns) -> None:
    arrive(house, BURST, 2 * TASK_FILES + 1)
    assert len(claim(worker, BURST)[1]) == TASK_FILES
    assert go_on(worker, BURST) == TASK_FILES
    arrive(house, ("p", "late"))
    assert go_on(worker, BURST) == 0
    assert claim(worker, BURST)[0] == ("p", "late")


def test_nobody_goes_on_where_others_are_needed(house: House) -> None:
    """What hangs has the one worker that is left."""
    arrive(house, ("q", "slow"), 3 * TASK_FILES)
    with workers(house, 2) as [first, second]:
        assert len(claim(first, ("q", "slow"))[1]) == TASK_FILES
        house.clock.advance(LONG.total_seconds())
        assert go_on(second, ("q", "slow")) == 0


def test_what_is_heavy_does_not_go_on(house: House, worker: Turns) -> None:
    arrive(house, BURST)
    assert len(claim(worker, BURST)[1]) == 1
    arrive(house, BURST, 1, bytes(HEAVY))
    assert go_on(worker, BURST) == 0
    arrive(house, BURST)
    assert go_on(worker, BURST) == 1


def test_what_is_not_due_or_without_credentials_has_no_turn(house: House, worker: Turns) -> None:
    arrive(house, BURST, 2 * TASK_FILES)
    arrive(house, ("p", "waits"))
    arrive(house, ("r", "unknown"))
    models.execute(
        "UPDATE file_records SET next_attempt_at = '2999-01-01T00:00:00.000000Z' "
        "WHERE bucket = 'waits'"
    )
    assert [claim(worker, BURST)[0] for _ in range(2)] == [BURST, BURST]


def wait(house: House, profile: str, count: int) -> None:
    """Files of so many buckets wait for their retries, since their store is down."""
    later = house.clock.now() + timedelta(hours=1)
    house.wait(later, *((profile, f"m{number:05}") for number in range(count)))


@pytest.mark.parametrize("down", ["p", "q"])
@pytest.mark.parametrize("late", [("p", "late"), ("p", "zz"), ("r", "later")])
def test_buckets_that_wait_for_their_retries_hold_up_nobody(
    house: House, down: str, late: Destination
) -> None:
    """Neither in the profile of the burst nor in another one."""
    arrive(house, BURST, 3 * TASK_FILES)
    wait(house, down, 200)
    with workers(house, profiles="pqr") as [worker]:
        assert claim(worker, BURST)[0] == BURST
        arrive(house, late)
        assert claim(worker, BURST)[0] == late
        assert claim(worker, BURST)[0] == BURST


def test_a_worker_does_not_go_on_before_what_is_behind_others_retries(
    house: House, worker: Turns
) -> None:
    arrive(house, BURST, 2 * TASK_FILES)
    wait(house, "p", 200)
    assert claim(worker, BURST)[0] == BURST
    arrive(house, ("p", "zz"))
    assert go_on(worker, BURST) == 0
    assert claim(worker, BURST)[0] == ("p", "zz")


def test_what_is_behind_thousands_of_retries_has_its_turn_a_few_later(
    house: House, worker: Turns
) -> None:
    """No look is longer than it may be, and each goes on where the last one ended."""
    arrive(house, BURST, 6 * TASK_FILES)
    wait(house, "p", 3 * LOOKS)
    arrive(house, ("p", "zz"))
    went = [claim(worker, BURST)[0] for _ in range(6)]
    assert went.count(("p", "zz")) == 1
    assert went.index(("p", "zz")) == 4


def test_thousands_of_retries_hide_nothing_where_others_are_at_work(
    house: House, worker: Turns
) -> None:
    """What waits there comes first, had it been looked for: nobody is at that profile."""
    arrive(house, BURST, 2 * TASK_FILES)
    wait(house, "q", 3 * LOOKS)
    arrive(house, ("p", "late"))
    assert [claim(worker, BURST)[0] for _ in range(2)] == [BURST, ("p", "late")]


def test_many_buckets_of_one_profile_do_not_hide_another_profile(
    house: House, worker: Turns
) -> None:
    arrive(house, BURST, 2 * TASK_FILES)
    house.wait(house.clock.now(), *(("p", f"m{number:05}") for number in range(200)))
    arrive(house, ("q", "other"))
    assert [claim(worker, BURST)[0] for _ in range(2)] == [BURST, ("q", "other")]


def test_others_backlogs_take_turns_too(house: House, worker: Turns) -> None:
    """While tasks of one only come up."""
    arrive(house, BURST, 4 * TASK_FILES)
    for bucket in ("c", "d", "e"):
        arrive(house, ("p", bucket), 2 * TASK_FILES)
    went = []
    for _ in range(8):
        (_, bucket), claims = claim(worker, BURST)
        went.append(bucket)
        finish(house, claims)
    assert went == ["burst", "c", "d", "e", "burst", "c", "d", "e"]


@pytest.mark.parametrize("bursts", [[BURST, ("p", "b")], [BURST, ("q", "b")], [BURST, ("q", "z")]])
@pytest.mark.parametrize("late", [("p", "late"), ("q", "late")])
def test_bursts_whose_tasks_alternate_have_others_wait_no_longer(
    house: House, worker: Turns, bursts: list[Destination], late: Destination
) -> None:
    """A worker that comes from the one is at the other for the first time whenever it is asked."""
    for _ in range(6):
        for each in bursts:
            arrive(house, each, TASK_FILES)
    arrive(house, late)
    tasks = deque(house.enqueued)
    went: list[Destination] = []
    while late not in went:
        profile, bucket, ids = tasks.popleft()
        with models.write():
            destination, claims = worker.claim(ids, (profile, bucket))
        if destination != (profile, bucket):
            tasks.append((profile, bucket, ids))
        went += [destination] if claims else []
        finish(house, claims)
    # Profiles have as many turns each, then the buckets of one.
    assert len(went) <= 4


def test_tasks_of_many_buckets_are_not_passed_over_for_nothing(house: House, worker: Turns) -> None:
    """Each has its turn in the order of admission."""
    buckets = [("p", f"{number * 7 % 20:02}") for number in range(20)]
    for each in buckets:
        arrive(house, each)
    for each in buckets:
        destination, claims = claim(worker, each)
        assert destination == each
        finish(house, claims)


def test_what_cannot_go_hides_nothing_behind_it(house: House) -> None:
    """Large files whose turn it is, without room for them."""
    for bucket in ("a", "large"):
        arrive(house, ("p", bucket), data=b"x" * LARGE)
    arrive(house, ("p", "small"))
    arrive(house, BURST, 3 * TASK_FILES)
    with workers(house, 2, {"p"}) as [first, second]:
        assert claim(first, ("p", "a"))[0] == ("p", "a")
        went = [claim(second, BURST)[0][1] for _ in range(3)]
    assert went == ["burst", "burst", "small"]


def test_what_was_asked_for_comes_where_the_other_has_nothing_that_may_go(house: House) -> None:
    """A large file of a destination whose turn it is, while there is no room for it."""
    arrive(house, ("p", "a"), data=b"x" * LARGE)
    arrive(house, ("q", "b"), data=b"x" * LARGE)
    arrive(house, BURST, 2 * TASK_FILES)
    with workers(house, 2) as [first, second]:
        assert claim(first, ("p", "a"))[0] == ("p", "a")
        assert claim(second, BURST)[0] == BURST
        assert claim(second, BURST)[0] == BURST


def test_a_worker_is_left_for_small_files(house: House) -> None:
    for number in range(3):
        arrive(house, ("p", f"large{number}"), data=b"x" * LARGE)
    with workers(house, 3) as [first, second, third]:
        assert len(claim(first, ("p", "large0"))[1]) == 1
        [one] = claim(second, ("p", "large1"))[1]
        assert claim(third, ("p", "large2")) == (("p", "large2"), [])
        arrive(house, ("p", "large2"))  # a small one of the same bucket
        [small] = claim(third, ("p", "large2"))[1]
        assert small.identity.size == 4
        finish(house, [small, one])
        # As a large one has ended, there is room for another: somebody has to ring for it.
        assert second.passed_over([small]) == []
        assert second.passed_over([one]) == [("p", "large2")]
        assert len(claim(third, ("p", "large2"))[1]) == 1
        assert third.passed_over([one]) == []


def test_a_worker_that_stands_in_takes_what_it_asks_for_and_nothing_heavy(
    house: House, worker: Turns
) -> None:
    arrive(house, BURST, data=b"x" * LARGE)
    arrive(house, BURST, 2)
    arrive(house, ("q", "hangs"))
    worker.stands_in()
    assert [one.identity.size for one in claim(worker, BURST)[1]] == [4, 4]
    for _ in range(3):
        assert claim(worker, BURST)[1] == []


def test_a_worker_alone_takes_large_files(house: House, worker: Turns) -> None:
    arrive(house, BURST, 2, data=b"x" * LARGE)
    for _ in range(2):
        [one] = claim(worker, BURST)[1]
        finish(house, [one])


def test_a_store_that_hangs_leaves_a_worker_for_others(house: House) -> None:
    arrive(house, BURST, 3 * TASK_FILES)
    with workers(house, 3) as [first, second, third]:
        _, hanging = claim(first, BURST)
        assert claim(second, BURST)[1]
        house.clock.advance(LONG.total_seconds())
        assert claim(third, BURST) == (BURST, [])
        assert list(third.crowded()) == [BURST]
        arrive(house, ("q", "other"))
        [other] = claim(third, ("q", "other"))[1]
        assert not third.crowded()
        deliver(house, other)
        finish(house, hanging)
        assert first.passed_over(hanging) == [BURST]
        assert claim(first, BURST)[1]


def waits(worker: Turns) -> bool:
    with models.write():
        return worker.waits()


def test_whoever_is_at_work_for_longest_goes_where_others_wait(house: House) -> None:
    """One is enough."""
    arrive(house, BURST, 4 * TASK_FILES)
    with workers(house, 3) as [first, second, third]:
        assert not first.may_yield(), "it is at nothing"
        for worker in (second, first):
            claim(worker, BURST)
            house.clock.advance(1.0)
        assert [each.may_yield() for each in (first, second, third)] == [False, True, False]
        house.clock.advance(LONG.total_seconds() - 1.5)
        assert [each.may_yield() for each in (first, second, third)] == [True, False, False]


def test_nobody_counts_on_a_worker_that_cannot_go_elsewhere(house: House) -> None:
    arrive(house, BURST, data=b"x" * LARGE)
    arrive(house, BURST, 2 * TASK_FILES)
    with workers(house, 3, stopped=1) as [stopped, heavy, light]:
        with models.write():
            stopped.claim([2], BURST)
        claims = claim(heavy, BURST)[1]
        assert [one.identity.size for one in claims] == [LARGE]
        house.clock.advance(1.0)
        claim(light, BURST)
        assert [each.may_yield() for each in (stopped, heavy, light)] == [False, False, True]


@pytest.mark.parametrize("other", [("q", "other"), ("p", "bucket of the same store")])
def test_what_waits_where_nobody_is_is_waited_for(
    house: House, worker: Turns, other: Destination
) -> None:
    arrive(house, BURST, 2 * TASK_FILES)
    claim(worker, BURST)
    house.clock.advance(1.0)
    assert not waits(worker), "more of the same is no reason"
    arrive(house, other)
    assert not waits(worker), "somebody may be about to take it"
    house.clock.advance(1.0)
    assert waits(worker)


def test_nobody_is_waited_for_where_somebody_is(house: House, worker: Turns) -> None:
    arrive(house, BURST)
    arrive(house, ("q", "other"), 2 * TASK_FILES)
    claim(worker, BURST)
    with workers(house) as [another]:
        assert claim(another, ("q", "other"))[1]
        house.clock.advance(1.0)
        assert not waits(worker)


@pytest.mark.parametrize(
    "changes", [{"paused": [("q", "other")]}, {"profiles": "p"}], ids=["paused", "unknown"]
)
def test_nobody_is_waited_for_by_what_cannot_go(house: House, changes: dict[str, Any]) -> None:
    arrive(house, BURST)
    arrive(house, ("q", "other"))
    with workers(house, **changes) as [worker]:
        claim(worker, BURST)
        house.clock.advance(1.0)
        assert not waits(worker)


def test_several_stores_that_hang_leave_a_worker_for_others(house: House) -> None:
    for destination in (BURST, ("q", "burst")):
        arrive(house, destination, 3 * TASK_FILES)
    with workers(house, 4, profiles="pqr") as [first, second, third, fourth]:
        for one, destination in ((first, BURST), (second, ("q", "burst")), (third, BURST)):
            assert claim(one, destination)[0] == destination
        for destination in (BURST, ("q", "burst")):
            assert claim(fourth, destination)[1] == []
            assert fourth.refused()
        arrive(house, ("r", "other"))
        assert len(claim(fourth, ("r", "other"))[1]) == 1


def test_a_store_that_has_hung_is_tried_by_no_last_worker(house: House) -> None:
    """Nobody is there; but so it was the last time."""
    for destination in (BURST, ("q", "burst")):
        arrive(house, destination, 3 * TASK_FILES)
    with workers(house, 2, profiles="pqr") as [first, second]:
        _, hanging = claim(second, BURST)
        house.clock.advance(LONG.total_seconds())
        finish(house, hanging)
        second.ended(hanging, delivered=False)
        assert claim(first, ("q", "burst"))[1]
        assert claim(second, BURST)[1] == []
        assert second.refused()
        arrive(house, ("r", "other"))
        _, others = claim(second, ("r", "other"))
        assert [one.profile for one in others] == ["r"]
        finish(house, others)
        second.ended(hanging, delivered=True)
        assert claim(second, BURST)[1]


def test_tasks_that_are_refused_keep_nobody_from_where_he_was_last(house: House) -> None:
    arrive(house, BURST, 3 * TASK_FILES)
    with workers(house, 3, profiles="pr") as [first, second, third]:
        assert claim(first, BURST)[1]
        assert claim(second, BURST)[1]
        for number in range(3):
            arrive(house, ("r", "other"))
            _, [other] = claim(third, BURST)
            assert other.profile == "r"
            assert third.refused() == bool(number)
            deliver(house, other)
        assert claim(third, BURST) == (BURST, [])


def test_of_several_that_have_hung_the_one_that_was_asked_longest_ago_is_tried_next(
    house: House,
) -> None:
    """However often the other worker of the process, which is left for others, asks meanwhile."""
    names = "pqrs"
    for name in names:
        arrive(house, (name, "burst"), 9 * TASK_FILES)
    with workers(house, profiles=names) as [both], ThreadPoolExecutor(1) as other:
        other.submit(both._locks.own).result()
        tried = []
        for number in range(3 * len(names)):
            where, hanging = claim(both, (names[number % 2], "burst"))
            tried.append(where[0])
            house.clock.advance(LONG.total_seconds())
            for each in range(number if number >= len(names) else 0):
                asked = (names[each % 3], "burst")
                assert other.submit(claim, both, asked).result()[1] == []
            finish(house, hanging)
            both.ended(hanging, delivered=False)
        other.submit(both._locks.disown).result()
        other.submit(models.close).result()
    for start in range(len(tried) - 6):
        assert set(tried[start : start + 6]) == set(names)


def test_a_store_that_fails_at_once_is_not_taken_for_one_that_hangs(house: House) -> None:
    for destination in (BURST, ("q", "burst")):
        arrive(house, destination, 3 * TASK_FILES)
    with workers(house, 2) as [first, second]:
        _, refused = claim(second, BURST)
        finish(house, refused)
        second.ended(refused, delivered=False)
        assert claim(first, ("q", "burst"))[1]
        assert claim(second, BURST)[1]


def test_what_is_not_due_is_refused_to_nobody(house: House) -> None:
    """Else it would be rung for as long as a slow upload takes."""
    arrive(house, BURST, 2 * TASK_FILES)
    with workers(house, 3) as [first, second, third]:
        assert claim(first, BURST)[1]
        assert claim(second, BURST)[1]
        house.clock.advance(LONG.total_seconds())
        assert claim(third, BURST) == (BURST, [])
        assert not third.crowded()


def test_a_store_that_has_shown_nothing_yet_does_not_get_every_worker(house: House) -> None:
    """A burst for it would else have claimed them all before anybody knows that it hangs."""
    arrive(house, BURST, 4 * TASK_FILES)
    with workers(house, 3) as [first, second, third]:
        _, [one, *_] = claim(first, BURST)
        assert claim(second, BURST)[1]
        assert not second.refused()
        assert claim(third, BURST) == (BURST, [])
        assert third.refused()
        arrive(house, ("q", "other"))
        _, others = claim(third, BURST)
        assert [each.profile for each in others] == ["q"]
        assert not third.refused()
        finish(house, others)
        deliver(house, one)
        assert claim(third, BURST)[1]


def test_large_files_of_a_profile_leave_its_small_ones_a_worker(house: House) -> None:
    """For however long they take."""
    arrive(house, BURST, data=b"x" * LARGE)
    with workers(house, 2) as [first, second]:
        assert claim(first, BURST)[1]
        house.clock.advance(LONG.total_seconds())
        arrive(house, BURST)
        [small] = claim(second, BURST)[1]
        assert small.identity.size == 4


def test_a_store_that_hangs_with_large_files_leaves_a_worker_for_others(house: House) -> None:
    arrive(house, BURST, 2, data=b"x" * LARGE)
    with workers(house, 4) as [first, second, third, fourth]:
        for one in (first, second):
            assert claim(one, BURST)[1][0].identity.size == LARGE
        arrive(house, BURST, 2 * TASK_FILES)
        assert claim(third, BURST)[1]
        assert claim(fourth, BURST) == (BURST, [])
        arrive(house, ("q", "other"))
        assert len(claim(fourth, ("q", "other"))[1]) == 1


def test_a_worker_that_is_stopped_is_not_waited_for(house: House) -> None:
    """Neither with what is heavy nor at the store of one profile: for all that is known it stays so
    for ever."""
    arrive(house, BURST, data=b"x" * LARGE)
    arrive(house, ("p", "others"), TASK_FILES)
    with workers(house, 3, stopped=2) as [first, second, third]:
        assert len(claim(first, BURST)[1]) == 1
        assert claim(second, ("p", "others"))[1]
        arrive(house, BURST, data=b"x" * LARGE)
        assert len(claim(third, BURST)[1]) == 1
        house.clock.advance(LONG.total_seconds())
        arrive(house, ("p", "others"))
        assert len(claim(third, ("p", "others"))[1]) == 1


def test_a_suspect_goes_where_there_is_no_room_for_what_is_heavy(house: House) -> None:
    """A file that goes alone since its worker died; nobody names it any more."""
    arrive(house, BURST, 2, data=b"x" * LARGE)
    with workers(house, 2) as [first, second]:
        assert claim(first, BURST)[1]
        arrive(house, BURST)
        models.execute("UPDATE file_records SET alone = 1 WHERE size = 4")
        [suspect] = claim(second, BURST)[1]
        assert suspect.identity.size == 4


def test_a_heavy_file_of_an_unknown_profile_is_rung_for_by_nobody(house: House) -> None:
    arrive(house, ("r", "gone"), data=b"x" * LARGE)
    arrive(house, BURST, 2, data=b"x" * LARGE)
    with workers(house, 2) as [first, _]:
        [one] = claim(first, BURST)[1]
        finish(house, [one])
        assert first.passed_over([one]) == [BURST]


def test_what_may_take_long_leaves_a_worker_for_what_does_not(house: House) -> None:
    """Also below the size from which on files are sent in parts."""
    arrive(house, BURST, 6, data=b"x" * HEAVY)
    arrive(house, BURST, 2)
    with workers(house, 2, large=64 * HEAVY) as [first, second]:
        sizes = [one.identity.size for one in claim(first, BURST)[1]]
        assert sizes == [HEAVY] * 6 + [4] * 2
        arrive(house, BURST, data=b"x" * HEAVY)
        arrive(house, BURST, 2)
        assert [one.identity.size for one in claim(second, BURST)[1]] == [4, 4]
        assert claim(second, BURST)[1] == []


def test_a_claim_by_a_persons_hand_holds_up_nobody(house: House, worker: Turns) -> None:
    arrive(house, ("p", "theirs"))
    models.execute("UPDATE file_records SET owner = 'ann'")
    arrive(house, BURST)
    assert len(claim(worker, BURST)[1]) == 1


def test_there_is_nobody_to_leave_a_worker_for_with_one_profile(house: House) -> None:
    arrive(house, BURST, 2 * TASK_FILES)
    with workers(house, 2, {"p"}) as [first, second]:
        claim(first, BURST)
        house.clock.advance(LONG.total_seconds())
        assert claim(second, BURST)[1]


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("pq"), st.sampled_from("ab"), st.sampled_from([1, 101])),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 3),
)
def test_nobody_waits_for_anothers_backlog(bursts: list[tuple[str, str, int]], count: int) -> None:
    """Whatever came before, and all is done in the end. Profiles have as many turns each, then the
    buckets of one."""
    with quick_house() as house, workers(house, count) as crew:
        for profile, bucket, files in bursts:
            arrive(house, (profile, bucket), files)
        arrive(house, ("q", "last"))
        tasks = deque(house.enqueued)
        attempts = waited = 0
        while tasks:
            profile, bucket, ids = tasks.popleft()
            with models.write():
                destination, claims = crew[attempts % count].claim(ids, (profile, bucket))
            if destination != (profile, bucket):
                tasks.append((profile, bucket, ids))
            finish(house, claims)
            attempts += bool(claims)
            waited = waited or (attempts if destination == ("q", "last") else 0)
        assert not house.rows("current_state = 'processing'")
        assert 0 < waited <= 2 * count * (1 + len({each[:2] for each in bursts}))


def test_what_its_store_has_wait_is_not_claimed_and_others_go(house: House) -> None:
    one, other = ("p", "one"), ("p", "other")
    paused = {one}
    arrive(house, one, 3)
    with workers(house, paused=paused) as [worker]:
        assert worker.claim([], one) == (one, [])
        arrive(house, other)
        destination, claims = worker.claim([], one)
        assert (destination, len(claims)) == (other, 1)
        assert worker.claim([], one) == (one, [])
        paused.clear()
        destination, claims = worker.claim([], one)
        assert (destination, len(claims)) == (one, 3)
