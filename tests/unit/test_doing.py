"""What workers say in their lock files, and how it is read."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flood.doing import Doing, decode, encode
from flood.locks import WORKERS, WorkerLocks
from flood.status_workers import able, said
from tests.spooling import START, Clock, House
from workers.progress import STILL, Progress

sizes = st.integers(0, 2**63)
doings = st.builds(
    Doing,
    pid=st.integers(1, 2**22),
    at=st.just(START),
    since=st.none() | st.just(START - timedelta(seconds=5)),
    files=st.integers(0, 100),
    files_done=st.integers(0, 100),
    size=sizes,
    sent=sizes,
    rate=st.none() | st.floats(0, 1e12),
    still=st.floats(0, 1e6),
)


@given(doings, st.integers(0, 10**9))
def test_what_is_written_is_read(doing: Doing, number: int) -> None:
    assert decode(encode(doing, number)) == doing


@given(doings, doings, st.data())
def test_a_note_that_is_being_written_is_no_note(
    one: Doing, two: Doing, data: st.DataObject
) -> None:
    before, after = encode(one, 1), encode(two, 2)
    assert len(before) == len(after)
    cut = data.draw(st.integers(10, len(before) - 2))
    assert decode(after[:cut] + before[cut:]) is None


@given(st.binary(max_size=600))
def test_whatever_lies_there_is_read_without_an_error(content: bytes) -> None:
    decode(content)


class Worker:
    """This thread as a worker, whose clock stands still until it is told to go on."""

    def __init__(self, house: House) -> None:
        self.clock = Clock()
        self.locks = WorkerLocks(house.spool)
        self.progress = Progress(self.locks, now=self.clock.now, clock=self.clock.seconds)
        self._house = house

    def said(self) -> Doing:
        doing = said(self._house.spool, self.locks.own())
        assert doing is not None
        return doing


@pytest.fixture
def worker(house: House) -> Iterator[Worker]:
    made = Worker(house)
    made.locks.own()
    yield made
    made.locks.disown()


def test_a_worker_says_how_far_it_is_once_a_second(worker: Worker) -> None:
    worker.progress.begin([1000, 3000])
    assert worker.said() == Doing(os.getpid(), START, START, files=2, size=4000)
    worker.clock.advance(0.5)
    worker.progress.done(1000)
    assert worker.said().files_done == 0
    worker.clock.advance(0.5)
    worker.progress.sending(lambda: 500)
    told = worker.said()
    assert (told.files_done, told.sent, told.rate) == (1, 1500, 1500.0)
    worker.clock.advance(1.0)
    worker.progress.sending(lambda: 0)  # a part is sent again
    assert worker.said().rate == 500.0


def test_a_worker_says_that_it_is_there_before_its_store_answers(worker: Worker) -> None:
    worker.progress.end()
    worker.clock.advance(60.0)
    worker.progress.claimed("p")
    assert worker.said() == Doing(os.getpid(), START + timedelta(seconds=60))


def test_a_worker_says_for_how_long_its_store_has_taken_nothing(worker: Worker) -> None:
    worker.progress.begin([1000, 3000])
    told = []
    for sent in (0, 500, 500, 500, 1000):
        worker.clock.advance(2.0)
        worker.progress.sending(lambda sent=sent: sent)  # type: ignore[misc]  # bound at once
        told.append(worker.said().still)
    assert told == [2.0, 0.0, 2.0, 4.0, 0.0]
    worker.clock.advance(2.0)
    worker.progress.done(1000)
    worker.clock.advance(2.0)
    worker.progress.sending(lambda: 0)
    assert worker.said().still == 2.0


def test_a_worker_that_stands_in_says_so_and_is_not_counted_on(
    house: House, worker: Worker
) -> None:
    assert able(house.spool) == {worker.locks.own()}
    worker.progress.stands_in()
    assert worker.said() == Doing(os.getpid(), START, stands_in=True)
    assert able(house.spool) == set()
    worker.clock.advance(1.0)
    worker.progress.begin([10])
    assert worker.said().stands_in


def test_where_workers_hang_is_known_once_none_of_them_is_free(worker: Worker) -> None:
    progress = worker.progress

    def hanging(workers: int = 2, but: int = 0) -> set[str]:
        return progress.hanging(workers, but)

    with ThreadPoolExecutor(1) as other:
        progress.claimed("p")
        worker.clock.advance(STILL)
        assert hanging() == set()  # the other one is free
        other.submit(progress.claimed, "q").result()
        assert hanging() == set()  # it has just begun
        worker.clock.advance(STILL)
        assert hanging() == {"p", "q"}
        worker_of_q = other.submit(threading.get_ident).result()
        assert hanging(1, worker_of_q) == {"p"}
        assert hanging(2, worker_of_q) == set()
        other.submit(progress.sending, lambda: 100).result()
        assert hanging() == {"p"}  # the other one will be busy for a while
        progress.done(1)
        assert hanging() == set()  # none hangs
        worker.clock.advance(STILL)
        assert hanging() == {"p", "q"}
        progress.end()
        assert hanging() == set()


def test_nothing_is_counted_between_two_notes(worker: Worker) -> None:
    worker.progress.begin([10])
    worker.progress.sending(lambda: 1 // 0)


def test_the_end_of_an_attempt_is_said_once_a_second_is_over(worker: Worker) -> None:
    worker.progress.begin([10])
    worker.clock.advance(0.5)
    worker.progress.end()
    assert worker.said().since is not None
    worker.clock.advance(0.5)
    worker.progress.end()
    assert worker.said() == Doing(os.getpid(), START + timedelta(seconds=1))


def test_a_note_that_cannot_be_written_ends_nothing(house: House) -> None:
    class Full(WorkerLocks):
        def note(self, content: bytes) -> None:
            raise OSError(28, "No space left on device", content)

    progress = Progress(Full(house.spool), now=Clock().now, clock=Clock().seconds)
    progress.begin([10])
    progress.end()


def test_who_has_no_lock_says_nothing(house: House) -> None:
    locks = WorkerLocks(house.spool)
    Progress(locks, now=Clock().now, clock=Clock().seconds).begin([10])
    assert not Path(house.spool.absolute(WORKERS)).exists()
