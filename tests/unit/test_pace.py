"""How many transfers go at once to a store that asks for fewer."""

import logging
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flood.states import TRANSIENT
from tests.faults import s3_error
from tests.spooling import LARGE, Clock
from tests.uploading import profile
from workers.classify_rule import Verdict
from workers.pace import REST, STEP, Pace, Steps
from workers.s3_answer import refusal
from workers.transfer import Receipt, Upload
from workers.volume import FIRST, LITTLE, Volume

USED = profile("http://127.0.0.1:9")


def refused(status: int, code: str) -> Exception:
    """What the store answered to a part."""
    return refusal("UploadPart", status, {}, s3_error(status, code).body)


DONE = Receipt(None, None, None, 4)
SLOW = Verdict(TRANSIENT, "SlowDown", "the store asks for fewer requests", None, "", fewer=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_answers_that_come_together_halve_it_once(clock: Clock) -> None:
    pace = Pace(USED, 64, clock.seconds)
    begun = [pace.begin(number + 1) for number in range(64)]
    for one in reversed(begun):
        pace.refused(one, None)
    assert pace.limit() == 32
    pace.refused(pace.begin(32), None)  # it began since, and it was still too many
    assert pace.limit() == 16


def test_it_is_half_of_what_was_under_way(clock: Clock) -> None:
    pace = Pace(USED, 256, clock.seconds)
    pace.refused(pace.begin(8), None)
    assert pace.limit() == 4


def test_it_is_raised_by_one_after_a_rest(clock: Clock) -> None:
    pace = Pace(USED, 16, clock.seconds)
    pace.refused(pace.begin(16), None)

    def succeed(times: int) -> None:
        for _ in range(times):
            pace.succeeded(8)

    succeed(20)
    assert pace.limit() == 8
    clock.advance(REST)
    succeed(1)
    assert pace.limit() == 9
    clock.advance(STEP)
    succeed(7)
    assert pace.limit() == 9
    succeed(1)
    assert pace.limit() == 10


def test_a_store_that_wants_to_be_left_alone_is(clock: Clock) -> None:
    pace = Pace(USED, 16, clock.seconds)
    assert pace.pause() == 0.0
    late = pace.begin(16)
    pace.refused(pace.begin(16), 30.0)
    pace.refused(late, 20.0)  # what it said first goes on
    assert (pace.limit(), pace.pause()) == (8, 30.0)
    clock.advance(29.0)
    assert pace.pause() == 1.0
    clock.advance(1.0)
    assert pace.pause() == 0.0


def test_the_log_tells_when_it_begins_then_when_it_is_over(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    pace = Pace(USED, 4, clock.seconds)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            pace.refused(pace.begin(4), None)
        while pace.slowed:
            clock.advance(REST)
            pace.succeeded(1)
        pace.refused(pace.begin(4), 7.0)
    assert [each.getMessage() for each in caplog.records] == [
        "store asks for fewer requests",
        "store takes all requests again",
        "store asks for fewer requests",
    ]
    facts = [each.__dict__["facts"] for each in caplog.records]
    assert [each["transfers"] for each in facts] == [2, 4, 2]
    assert (facts[2]["profile"], facts[2]["endpoint"], facts[2]["wait"]) == (
        "test",
        "http://127.0.0.1:9",
        7.0,
    )


def test_what_has_not_begun_is_left_where_the_store_wants_no_more(clock: Clock) -> None:
    pace = Pace(USED, 4, clock.seconds)
    steps = Steps(pace, LARGE)
    uploads = [Upload(number, "b", str(number), 0, 4) for number in range(5)]
    coming = steps.of(uploads)
    first, second = next(coming), next(coming)
    steps.ended(first, Verdict(TRANSIENT, "SlowDown", "", 9.0, "", fewer=True))
    assert list(coming) == []
    steps.ended(second, DONE)  # what was under way is still taken
    assert list(Steps(Pace(USED, 4, clock.seconds), LARGE).of(uploads)) == uploads


def test_other_failures_slow_nothing_down(clock: Clock) -> None:
    pace = Pace(USED, 4, clock.seconds)
    steps = Steps(pace, LARGE)
    for upload in steps.of([Upload(1, "b", "k", 0, 4)]):
        steps.ended(upload, Verdict(TRANSIENT, "InternalError", "", 60.0))
    assert (pace.slowed, pace.limit(), pace.pause()) == (False, 4, 0.0)


def test_parts_of_a_large_file_count_as_transfers(clock: Clock) -> None:
    pace = Pace(USED, 16, clock.seconds)
    steps = Steps(pace, LARGE)
    [upload] = steps.of([Upload(1, "b", "k", 0, 4)])
    endings = [steps.part(number + 1) for number in range(16)]
    slow = refused(503, "SlowDown")
    endings[15](slow, 16)
    endings[7](slow, 15)  # it began before, and says nothing new
    assert pace.limit() == 8
    clock.advance(REST)
    for end in endings[:7]:
        end(None, 7)
    assert pace.limit() == 9
    endings[8](refused(500, "InternalError"), 7)
    assert pace.limit() == 9
    steps.ended(upload, SLOW)
    assert pace.limit() == 9  # as the part said before


@given(
    most=st.integers(1, 256),
    bears=st.integers(1, 300),
    latency=st.floats(0.001, 3.0),
)
def test_it_settles_near_what_the_store_bears(most: int, bears: int, latency: float) -> None:
    """Rounds of as many transfers as may be under way, of which those beyond what it bears are
    refused."""
    clock = Clock()
    pace = Pace(USED, most, clock.seconds)
    settled = []
    for round_ in range(200):
        limit = pace.limit()
        assert 1 <= limit <= most
        begun = [pace.begin(number + 1) for number in range(limit)]
        clock.advance(latency)
        for number, one in enumerate(begun):
            if number >= bears:
                pace.refused(one, None)
            elif pace.slowed:
                pace.succeeded(limit - number)
        if round_ >= 20:
            settled.append(limit)
    # Never more than one too many once it has found out, seldom that.
    assert max(settled) <= min(most, bears + 1)
    beyond = sum(max(0, each - bears) for each in settled)
    assert beyond <= len(settled) / (1 + min(bears, most) / 2) + 1
    if bears >= most:
        assert set(settled) == {most}


def test_over_a_slow_line_files_go_one_after_another(clock: Clock) -> None:
    """Side by side all of them would end together, and none before the time is over."""
    steps = Steps(Pace(USED, 16, clock.seconds), LARGE)
    coming = steps.of([Upload(number, "b", str(number), 0, FIRST) for number in range(40)])
    for _ in range(3):
        upload = next(coming)
        assert steps.at_most() == 1
        clock.advance(20.0)
        assert steps.ended(upload, DONE) == 20.0
        assert steps.at_most() == 16
    # The line is another one, or has room again.
    for _ in range(10):
        upload = next(coming)
        clock.advance(0.1)
        steps.ended(upload, DONE)
    for _ in range(4):
        next(coming)
        assert steps.at_most() == 16


def test_while_the_store_is_left_alone_no_more_begins_yet_the_rest_does_then(clock: Clock) -> None:
    """A slow transfer must not keep others waiting for as long as it takes."""
    pace = Pace(USED, 16, clock.seconds)
    steps = Steps(pace, LARGE, bucket="b")
    coming = steps.of([Upload(number, "b", str(number), 0, 1) for number in range(8)])
    slow, *others, refused = [next(coming) for _ in range(4)]
    clock.advance(1.0)
    asked = replace(SLOW, retry_after=10.0)
    steps.ended(refused, asked)
    for upload in others:
        steps.ended(upload, DONE)
    assert (steps.pause(), steps.at_most(), steps.over) == (10.0, 1, False)
    clock.advance(10.0)
    assert (steps.pause(), steps.at_most()) == (0.0, 2)
    upload = next(coming)
    assert upload.record_id == 4
    # Whoever asks for more all the same gets nothing, and knows why.
    steps.ended(upload, asked)
    assert list(coming) == []
    assert steps.over
    assert steps.ended(slow, DONE) == 11.0


def test_what_is_little_goes_beside_whatever_takes_long(clock: Clock) -> None:
    sizes: list[int | None] = [LITTLE, LITTLE + 1, None]
    steps = Steps(Pace(USED, 16, clock.seconds), LARGE, lambda: sizes[0])
    next(steps.of([Upload(1, "b", "k", 0, FIRST)]))
    found = []
    while sizes:
        found.append(steps.at_most())
        del sizes[0]
    assert found == [16, 1, 1]


def test_what_the_store_has_leaves_room_for_others(clock: Clock) -> None:
    steps = Steps(Pace(USED, 16, clock.seconds), LARGE)
    upload = next(steps.of([Upload(1, "b", "k", 0, FIRST)]))
    clock.advance(1.0)
    assert steps.at_most() == 1
    steps.taken(upload)
    assert steps.at_most() == 16
    clock.advance(1.0)
    assert steps.ended(upload, DONE) == 2.0
    # A second is what it took, not two: ten files go together that take one each.
    coming = steps.of([Upload(number, "b", str(number), 0, FIRST) for number in range(20)])
    for _ in range(9):
        next(coming)
        assert steps.at_most() == 16
    next(coming)
    assert steps.at_most() == 10


def test_what_goes_in_parts_or_is_small_leaves_room(clock: Clock) -> None:
    steps = Steps(Pace(USED, 16, clock.seconds), LARGE)
    small = [Upload(number, "b", str(number), 0, 4096) for number in range(100)]
    for _ in steps.of([Upload(1000, "b", "large", 0, LARGE), *small]):
        assert steps.at_most() == 16


def test_what_an_attempt_left_behind_takes_no_room(clock: Clock) -> None:
    pace = Pace(USED, 16, clock.seconds)
    first = Steps(pace, LARGE)
    next(first.of([Upload(1, "b", "k", 0, FIRST)]))
    assert first.at_most() == 1
    assert Steps(pace, LARGE).at_most() == 16


def test_another_worker_has_room_of_its_own(clock: Clock) -> None:
    pace = Pace(USED, 16, clock.seconds)
    steps = Steps(pace, LARGE)
    next(steps.of([Upload(1, "b", "k", 0, FIRST)]))
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(Steps(pace, LARGE).at_most()))
    other.start()
    other.join()
    assert (steps.at_most(), found) == (1, [16])


def test_a_rest_does_not_make_a_line_slow(clock: Clock) -> None:
    volume = Volume(clock.seconds)
    volume.begins(1, FIRST)
    clock.advance(0.1)
    volume.ends(1, taken=True)
    clock.advance(3600.0)
    for number in range(50):
        volume.begins(number, FIRST)
        assert volume.has_room()
    clock.advance(100.0)  # of which nothing gets through
    assert not volume.has_room()
    for number in range(50):
        volume.ends(number, taken=False)
    volume.begins(1, FIRST)
    assert not volume.has_room()


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4 * FIRST), st.floats(0.0, 100.0), st.booleans(), st.integers(0, 3)
        )
    )
)
def test_whatever_happens_one_has_room(steps: list[tuple[int, float, bool, int]]) -> None:
    clock = Clock()
    volume = Volume(clock.seconds)
    under_way: dict[int, int] = {}
    for number, (size, seconds, taken, ending) in enumerate(steps):
        volume.begins(number, size)
        under_way[number] = size
        clock.advance(seconds)
        for ended in list(under_way)[:ending]:
            volume.ends(ended, taken=taken)
            del under_way[ended]
        if not sum(under_way.values()):
            assert volume.has_room()
    volume.clear()
    assert volume.has_room()
