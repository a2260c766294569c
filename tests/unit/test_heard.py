"""Whose turn it is at the door among destinations that events told of."""

import sys
from collections import defaultdict
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flood.heard import SHARE, Heard

BATCH = 5 * SHARE


def bucket_of(path: str) -> str:
    return path.split("/")[2]


def burst(bucket: str, count: int, first: int = 0) -> dict[str, bool]:
    return {f"incoming/p/{bucket}/{n}": True for n in range(first, first + count)}


def batches(heard: Heard) -> Iterator[list[str]]:
    while heard:
        yield list(heard.take(BATCH))


def test_those_of_one_destination_fill_whole_batches_in_their_order() -> None:
    heard = Heard()
    files = burst("b", 3 * BATCH + 7)
    heard.add(files)
    taken = list(batches(heard))
    assert [len(batch) for batch in taken] == [BATCH, BATCH, BATCH, 7]
    assert [path for batch in taken for path in batch] == list(files)


@pytest.mark.parametrize("bursts", [1, 2, 1000])
def test_a_file_behind_bursts_goes_with_the_next_batch(bursts: int) -> None:
    heard = Heard()
    for number in range(bursts):
        heard.add(burst(f"large-{number}", BATCH if bursts < 3 else SHARE))
    for _ in range(2 * bursts // BATCH):
        heard.take(BATCH)
    heard.add({"incoming/p/small/key": False})
    assert "incoming/p/small/key" in heard.take(BATCH)


def test_a_file_behind_bursts_that_begin_waits_for_a_few_files_of_each() -> None:
    heard = Heard()
    for number in range(2 * BATCH):
        heard.add(burst(f"large-{number}", SHARE))
    heard.add({"incoming/p/small/key": False})
    waited = next(n for n, batch in enumerate(batches(heard)) if "incoming/p/small/key" in batch)
    assert waited <= 4


def test_bursts_share_each_batch() -> None:
    heard = Heard()
    for name in ("a", "b"):
        heard.add(burst(name, 4 * BATCH))
    heard.take(BATCH)
    for _ in range(6):
        buckets = [bucket_of(path) for path in heard.take(BATCH)]
        assert buckets.count("a") == buckets.count("b") == BATCH // 2


def test_profiles_with_a_bucket_of_one_name_are_two_destinations() -> None:
    heard = Heard()
    heard.add(burst("b", 4 * BATCH))
    heard.add({"incoming/q/b/key": True})
    assert "incoming/q/b/key" in heard.take(BATCH)


def test_thousands_that_come_with_a_file_each_stop_no_burst() -> None:
    heard = Heard()
    heard.add(burst("large", 4 * BATCH))
    heard.take(BATCH)
    for turn in range(5):
        for number in range(2 * BATCH):
            heard.add(burst(f"small-{turn}-{number}", 1))
        buckets = [bucket_of(path) for path in heard.take(BATCH)]
        assert buckets.count("large") == BATCH // 2


def test_what_comes_anew_goes_once_as_it_came_last() -> None:
    heard = Heard()
    heard.add({"incoming/p/b/one": True, "incoming/p/b/other": False})
    heard.add({"incoming/p/b/one": False})
    assert list(heard.take(BATCH).items()) == [
        ("incoming/p/b/other", False),
        ("incoming/p/b/one", False),
    ]
    assert not heard


def test_what_is_forgotten_may_come_again() -> None:
    heard = Heard()
    for name in ("a", "b"):
        heard.add(burst(name, BATCH))
    heard.take(BATCH)
    heard.clear()
    assert not heard
    assert heard.take(BATCH) == {}
    heard.add(burst("a", 1))
    assert list(heard.take(BATCH)) == ["incoming/p/a/0"]


@pytest.mark.parametrize("path", ["incoming/file", "incoming/p/file", "incoming"])
def test_what_lies_in_no_bucket_goes_as_well(path: str) -> None:
    heard = Heard()
    heard.add({path: True})
    assert heard.take(BATCH) == {path: True}


@example([[(0, 0), (1, 0), (2, 0), (2, 1), (3, 0)], 5])
@given(
    st.lists(
        st.one_of(
            st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=20),
            st.integers(0, 12),
        )
    )
)
def test_each_goes_once_in_the_order_of_its_destination(
    course: list[list[tuple[int, int]] | int],
) -> None:
    heard = Heard()
    waiting: dict[str, list[str]] = defaultdict(list)
    for step in [*course, 10**6]:
        if isinstance(step, int):
            taken = list(heard.take(step))
            assert len(taken) == min(step, sum(map(len, waiting.values())))
            for path in taken:
                assert waiting[bucket_of(path)].pop(0) == path
            continue
        came = {f"incoming/p/{bucket}/{key}": True for bucket, key in step}
        for path in came:
            there = waiting[bucket_of(path)]
            if path in there:
                there.remove(path)
            there.append(path)
        heard.add(came)
    assert not heard


def lines_for(destinations: int) -> int:
    """How many lines run until a file of each has come and gone."""
    heard, lines = Heard(), 0
    files = {f"incoming/p/{number}/key": True for number in range(destinations)}

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace if frame.f_code.co_filename.endswith("/flood/heard.py") else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        heard.add(files)
        taken = [path for batch in batches(heard) for path in batch]
    finally:
        sys.settrace(before)
    assert sorted(taken) == sorted(files)
    return lines


def test_what_a_file_costs_does_not_depend_on_how_many_destinations_there_are() -> None:
    few, many = BATCH, 20 * BATCH
    assert lines_for(many) / many < 1.2 * lines_for(few) / few
