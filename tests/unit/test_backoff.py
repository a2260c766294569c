"""When files are tried again, whatever chance says."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flood.states import INTERRUPTED, LOST, PERMANENT, TRANSIENT
from workers.backoff import Retry, decide, delay

RETRIES = st.integers(1, 60)
SECONDS = st.floats(0.001, 10_000.0)
JITTER = st.floats(0.0, 1.0)


def test_the_documented_delays() -> None:
    lowest = [delay(n, 30.0, 0.25, lambda low, _: low) for n in range(1, 11)]
    highest = [delay(n, 30.0, 0.25, lambda _, high: high) for n in range(1, 11)]
    assert lowest == [30, 60, 120, 240, 480, 960, 1920, 3840, 7680, 15360]
    assert highest == [each * 1.25 for each in lowest]


@given(RETRIES, SECONDS, JITTER, st.randoms(use_true_random=False))
def test_delays_lie_between_their_bounds(
    retry: int, initial: float, jitter: float, chance: random.Random
) -> None:
    base = initial * 2 ** (retry - 1)
    assert base <= delay(retry, initial, jitter, chance.uniform) <= base * (1 + jitter) * 1.000001


@given(RETRIES, SECONDS)
def test_without_jitter_they_double(retry: int, initial: float) -> None:
    first, second = (delay(n, initial, 0.0, random.uniform) for n in (retry, retry + 1))
    assert second == 2 * first


@given(st.integers(max_value=0))
def test_there_is_no_retry_before_the_first(retry: int) -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        delay(retry, 30.0, 0.25, random.uniform)


def decided(kind: str, count: int, retry_after: float | None = None, most: int = 10) -> object:
    return decide(
        kind,
        retry_after,
        count,
        retry_max=most,
        initial=30.0,
        jitter=0.25,
        uniform=lambda low, _: low,
    )


@pytest.mark.parametrize("kind", [TRANSIENT, LOST])
def test_ten_retries_then_no_more(kind: str) -> None:
    assert [decided(kind, count) for count in range(10)] == [
        Retry(number, 30.0 * 2 ** (number - 1)) for number in range(1, 11)
    ]
    assert decided(kind, 10) is None
    assert decided(kind, 11) is None


def test_no_retries_at_all() -> None:
    assert decided(TRANSIENT, 0, most=0) is None


def test_what_is_permanent_is_never_retried() -> None:
    assert decided(PERMANENT, 0, retry_after=1.0) is None


def test_a_store_can_ask_for_more_time_never_for_less() -> None:
    assert decided(TRANSIENT, 0, retry_after=45.5) == Retry(1, 75.5)
    assert decided(TRANSIENT, 0, retry_after=1.0) == Retry(1, 31.0)


@pytest.mark.parametrize("kind", [INTERRUPTED, "success", ""])
def test_only_failures_are_decided_about(kind: str) -> None:
    with pytest.raises(ValueError, match="no failure"):
        decided(kind, 0)
