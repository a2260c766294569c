"""Which files are looked at again, and when."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flood.door import BEGUN_STANDSTILL, STANDSTILL, Candidate, Why
from flood.identity import Identity
from flood.later import CAPACITY, Later

STILL = Identity(1, 2, 3, 4)
GROWN = Identity(1, 2, 4, 5)


def looks(later: Later, why: Why, identity: Identity | None, until: float) -> list[float]:
    """When a file is looked at that can never be taken."""
    times = []
    now = 100.0
    later.add(Candidate("key"), why, identity, now)
    while (look := later.next_look()) is not None and look < until:
        now = look
        assert later.due(now - 0.001) == []
        [(candidate, _)] = later.due(now)
        times.append(now - 100.0)
        later.add(candidate, why, identity, now)
    return times


@pytest.mark.parametrize(
    ("why", "first", "longest"),
    [
        (Why.WRITING, 0.5, 2.0),
        (Why.STANDSTILL, STANDSTILL, STANDSTILL),
        (Why.OCCUPIED, 0.1, 5.0),
        (Why.ERROR, 5.0, 60.0),
    ],
)
def test_looks_grow_rarer_up_to_a_bound(why: Why, first: float, longest: float) -> None:
    times = looks(Later(), why, STILL, 500.0)
    assert times[0] == pytest.approx(first)
    gaps = [two - one for one, two in pairwise(times)]
    assert gaps == pytest.approx(sorted(gaps))
    assert gaps[-1] == pytest.approx(longest)


def test_another_reason_begins_afresh() -> None:
    later = Later()
    looks(later, Why.ERROR, None, 300.0)
    later.add(Candidate("key"), Why.OCCUPIED, None, 300.0)
    assert later.next_look() == pytest.approx(300.1)


def test_standing_still_is_known_after_a_while() -> None:
    later = Later()
    later.add(Candidate("key"), Why.STANDSTILL, STILL, 10.0)
    assert later.still("key", 10.0 + STANDSTILL - 0.01) is None
    assert later.still("key", 10.0 + STANDSTILL) == STILL
    assert later.due(10.0 + STANDSTILL) == [(Candidate("key"), STILL)]


def test_a_file_that_grows_does_not_stand_still() -> None:
    later = Later()
    later.add(Candidate("key"), Why.STANDSTILL, STILL, 10.0)
    later.add(Candidate("key"), Why.STANDSTILL, GROWN, 10.0 + STANDSTILL)
    assert later.still("key", 11.0 + STANDSTILL) is None
    assert later.still("key", 10.0 + 2 * STANDSTILL) == GROWN


def test_what_was_taken_is_forgotten() -> None:
    later = Later()
    assert later.next_look() is None
    later.add(Candidate("key"), Why.WRITING, None, 1.0)
    assert "key" in later
    assert len(later) == 1
    later.forget("key")
    later.forget("key")
    assert "key" not in later
    assert later.due(1000.0) == []
    assert later.next_look() is None
    assert later.still("key", 1000.0) is None


def test_the_latest_candidate_counts() -> None:
    later = Later()
    later.add(Candidate("key", closed=False), Why.WRITING, None, 1.0)
    later.add(Candidate("key", closed=True), Why.WRITING, None, 2.0)
    assert [candidate for candidate, _ in later.due(1000.0)] == [Candidate("key", closed=True)]


def test_it_is_bounded_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    later = Later()
    for number in range(CAPACITY + 5):
        later.add(Candidate(f"{number}"), Why.WRITING, None, 1.0)
    assert len(later) == CAPACITY
    assert f"{CAPACITY}" not in later
    warnings = [one for one in caplog.records if one.levelname == "WARNING"]
    assert len(warnings) == 1
    later.add(Candidate("0"), Why.WRITING, None, 2.0)  # who is in stays in
    assert "0" in later
    later.forget("0")
    later.add(Candidate("new"), Why.WRITING, None, 2.0)
    assert "new" in later


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from(list(Why)),
            st.sampled_from([None, STILL, GROWN]),
            st.floats(0.0, 5.0),
        )
    )
)
def test_whatever_comes_the_next_look_is_within_a_minute(
    events: list[tuple[str, Why, Identity | None, float]],
) -> None:
    later = Later()
    now = 0.0
    for path, why, identity, seconds in events:
        now += seconds
        later.add(Candidate(path), why, identity, now)
        look = later.next_look()
        assert look is not None
        assert look <= now + 60.0
        assert later.still(path, now) in (identity, None)
        for candidate, _ in later.due(now):
            assert candidate.path in later
    everything = {candidate.path for candidate, _ in later.due(now + 60.0)}
    assert everything == {path for path, *_ in events}


def test_a_file_whose_close_is_still_to_come_stands_still_for_longer() -> None:
    later = Later()
    begun = Candidate("incoming/p/b/k", begun=True)
    later.add(begun, Why.STANDSTILL, STILL, 0.0)
    assert later.still(begun.path, STANDSTILL) is None
    assert later.still(begun.path, BEGUN_STANDSTILL) == STILL


def test_once_events_were_missed_nothing_is_expected_to_close() -> None:
    later = Later()
    begun = Candidate("incoming/p/b/k", begun=True)
    later.add(begun, Why.STANDSTILL, STILL, 0.0)
    later.doubt()
    assert later.still(begun.path, STANDSTILL) == STILL
