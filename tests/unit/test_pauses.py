"""For whom a store's wish to be left alone counts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.spooling import Clock
from workers.pauses import Pauses

#: When a request began, to which no other was under way that was refused.
NOW = math.inf


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pauses(clock: Clock) -> Pauses:
    return Pauses(clock.seconds)


def left(pauses: Pauses) -> dict[str | None, float]:
    return {bucket: pauses.left(bucket) for bucket in (None, "a", "b")}


def test_at_first_all_is_left_alone(pauses: Pauses, clock: Clock) -> None:
    assert not pauses.any()
    pauses.asked("a", 30.0, NOW, again=False)
    pauses.asked("b", 20.0, NOW, again=False)  # what was said first goes on
    assert left(pauses) == {None: 30.0, "a": 30.0, "b": 30.0}
    clock.advance(29.0)
    assert (pauses.left("b"), pauses.any()) == (1.0, True)
    clock.advance(1.0)
    assert (pauses.left("b"), pauses.any()) == (0.0, False)


def test_a_bucket_that_nothing_gets_into_waits_alone_then(pauses: Pauses, clock: Clock) -> None:
    pauses.asked("a", 30.0, NOW, again=False)
    clock.advance(31.0)
    for wait in (30.0, 40.0):  # the second was under way as well
        pauses.asked("a", wait, clock.seconds() - 0.5, again=False)
        clock.advance(0.1)
        assert left(pauses) == {None: 0.0, "a": pytest.approx(wait - 0.1), "b": 0.0}
    # The store refuses another one, too: it may be about all of them.
    pauses.asked("b", 10.0, NOW, again=False)
    assert (pauses.left("b"), pauses.left(None)) == (10.0, 10.0)


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_is_refused_again_waits_alone(
    pauses: Pauses, clock: Clock, known: bool
) -> None:
    """Also where another process was the one that it was refused to at first."""
    if known:
        pauses.asked("a", 30.0, NOW, again=False)
        clock.advance(31.0)
    pauses.got_through("a")
    clock.advance(1.0)
    begun = clock.seconds()
    clock.advance(1.0)
    for again in (True, True, False):  # all of which were under way together
        pauses.asked("a", 30.0, begun, again=again)
        clock.advance(0.1)
        assert left(pauses) == {None: 0.0, "a": 0.0, "b": 0.0}
    # Nothing got through since: it is no matter of this file.
    pauses.asked("a", 30.0, clock.seconds(), again=True)
    assert left(pauses) == {None: 0.0, "a": 30.0, "b": 0.0}


def test_where_nothing_is_known_also_a_file_that_failed_before_has_all_wait(pauses: Pauses) -> None:
    pauses.asked("a", 30.0, NOW, again=True)
    assert pauses.left("b") == 30.0


def test_a_new_file_that_is_refused_has_all_wait(pauses: Pauses, clock: Clock) -> None:
    for _ in range(3):
        pauses.got_through("a")
        pauses.got_through("b")
        clock.advance(1.0)
        pauses.asked("a", 30.0, clock.seconds(), again=False)
        assert pauses.left("b") == 30.0
        clock.advance(31.0)
    pauses.asked("a", 30.0, clock.seconds(), again=False)
    pauses.end()
    assert left(pauses) == {None: 0.0, "a": 0.0, "b": 0.0}


events = st.tuples(
    st.sampled_from(["asked", "again", "through", "time"]),
    st.sampled_from(["a", "b"]),
    st.floats(0.0, 100.0),
)


@given(st.lists(events, max_size=30))
def test_no_pause_outlasts_what_was_asked_for(course: list[tuple[str, str, float]]) -> None:
    clock = Clock()
    pauses = Pauses(clock.seconds)
    latest = -1.0
    for what, bucket, seconds in course:
        if what == "through":
            pauses.got_through(bucket)
        elif what == "time":
            clock.advance(seconds)
        else:
            pauses.asked(bucket, seconds, clock.seconds(), again=what == "again")
            latest = max(latest, clock.seconds() + seconds)
        longest = max(0.0, latest - clock.seconds())
        assert all(0.0 <= pauses.left(each) <= longest + 1e-6 for each in (None, "a", "b"))
        assert pauses.any() == any(pauses.left(each) for each in ("a", "b"))
