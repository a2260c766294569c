"""What takes long takes a share of the time, what is done in no time waits for nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flood.seldom import Seldom


def test_it_may_be_done_at_once() -> None:
    assert Seldom(0.05).may_begin(0.0)


@given(st.floats(0.01, 1.0), st.lists(st.floats(0.0, 1e4), min_size=1, max_size=9))
def test_it_takes_no_more_than_its_share(share: float, durations: list[float]) -> None:
    seldom = Seldom(share)
    now = spent = 0.0
    for seconds in durations:
        while not seldom.may_begin(now):
            now += 1e3
        seldom.begins(now)
        now += seconds
        spent += seconds
        seldom.ends(now)
    while not seldom.may_begin(now):
        now += 1e3
    assert spent <= share * now + 1e-6


def test_it_rests_no_longer_than_it_must() -> None:
    seldom = Seldom(0.05)
    seldom.begins(100.0)
    seldom.ends(101.0)
    assert not seldom.may_begin(119.9)
    assert seldom.may_begin(120.1)
    seldom.begins(130.0)
    seldom.ends(130.0)
    assert seldom.may_begin(130.0)


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_what_is_broken_off_counts_from_its_last_beginning(share: float) -> None:
    seldom = Seldom(share)
    seldom.begins(0.0)
    seldom.begins(50.0)
    seldom.ends(51.0)
    assert seldom.may_begin(50.0 + 1.0 / share)
