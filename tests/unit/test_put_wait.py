"""What flood-put --wait says while its files wait."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from flood import records, stall
from flood.layout import Place
from flood.locks import CONSUMERS_LOCK, STARTING_LOCK, WATCH_LOCK, FileLock, WorkerLocks
from flood.put_locks import idle
from flood.put_plan import Stopped
from flood.put_wait import Wait, held_up
from flood.record_values import Reason
from flood.states import INTERRUPTED, TRANSIENT
from tests.spooling import House
from tests.unit.test_records import arrival
from tests.unit.test_settle import Full, claimed, proven
from tests.unit.test_status import told
from workers.decisions import PutOff, TryAgain

GOES_ON = "the files are safe in the spool, their upload goes on"


@dataclass
class Waiting:
    """A wait for one record, that of the key "key", for so many seconds."""

    house: House
    record: int
    seconds: float
    notices: list[str] = field(default_factory=list)

    def interrupted(self) -> str:
        """What it says as it is interrupted after that time."""
        clock = self.house.clock
        until = clock.seconds() + self.seconds
        wait = Wait(
            clock=clock.seconds,
            pause=clock.advance,
            stopping=lambda: clock.seconds() >= until,
            idle=lambda: idle(self.house.spool, self.house.settings()),
            held_up=self._held_up,
            advance=lambda _count: None,
            problem=pytest.fail,
            notice=self.notices.append,
        )
        with pytest.raises(Stopped) as stopped:
            wait.run({self.record: "s3://p/b/key"})
        return str(stopped.value)

    def _held_up(self, record: int) -> str | None:
        house = self.house
        place = Place("incoming", "p", "b", "key")
        return held_up(house.spool, place, record, (), house.advice(), now=house.clock.now)


@contextmanager
def at_work(house: House, *which: str) -> Iterator[None]:
    """Somebody holds these locks, as flood-watch and consumers do."""
    with ExitStack() as stack:
        for path in which:
            lock = FileLock(house.spool.absolute(path))
            assert lock.try_exclusive() if path == WATCH_LOCK else lock.try_shared()
            stack.callback(lock.release)
        yield


@pytest.fixture
def arrived(house: House) -> int:
    """The record of a file that flood-put has put, which nobody has taken yet."""
    identity = house.write("incoming/p/b/key")
    [record] = records.put_begun([arrival("key", identity, "incoming_tmp")], house.clock.now())
    assert records.put_arrived(record, "incoming/p/b/key", house.clock.now())
    return record


def test_what_flood_watch_does_not_take_is_told_of_once(house: House, arrived: int) -> None:
    with at_work(house, WATCH_LOCK, CONSUMERS_LOCK):
        waiting = Waiting(house, arrived, 60.0)
        said = waiting.interrupted()
    [notice] = waiting.notices
    assert notice.startswith("s3://p/b/key: flood-watch takes it once nobody has it open")
    assert "as where its credentials lack the profile, its log says why" in notice
    assert said == f"the files are safe in the spool; {notice}"


def test_a_file_that_is_on_its_way_is_not_told_of(house: House, arrived: int) -> None:
    with at_work(house, WATCH_LOCK, CONSUMERS_LOCK):
        waiting = Waiting(house, arrived, 9.0)
        assert "flood-watch takes it once nobody has it open" in waiting.interrupted()
        assert waiting.notices == [], "it has just come"
        [record] = house.admit("another")
        waiting = Waiting(house, record, 50.0)
        assert waiting.interrupted() == GOES_ON, "a worker may take it at any time"
        waiting = Waiting(house, record, 3600.0)
        house.claim(record, owner=(locks := WorkerLocks(house.spool)).own())
        assert waiting.interrupted() == GOES_ON, "it is being uploaded"
        locks.disown()
        assert waiting.notices == []


def test_what_no_worker_takes_is_told_of(house: House) -> None:
    [record] = house.admit("key")
    with at_work(house, WATCH_LOCK, CONSUMERS_LOCK):
        waiting = Waiting(house, record, 90.0)
        said = waiting.interrupted()
    assert len(waiting.notices) == 1
    assert "as where its credentials lack the profile, the consumers' log says why" in said
    assert ", and so does: flood-check" in said


def with_retry(house: House) -> int:
    """A record whose first retry is due in an hour."""
    [record] = house.admit("key")
    [claim] = house.claim()
    reason = Reason(TRANSIENT, "refused", "nobody listens")
    house.settle(TryAgain(claim, claim.identity, reason, 3600.0))
    return record


def test_a_retry_is_told_of_with_its_time(house: House) -> None:
    record = with_retry(house)
    with at_work(house, WATCH_LOCK, CONSUMERS_LOCK):
        waiting = Waiting(house, record, 60.0)
        said = waiting.interrupted()
    [notice] = waiting.notices
    assert notice.startswith("s3://p/b/key: retry 1 at 2026-")
    assert said.endswith(notice)


def test_a_file_that_is_uploaded_says_that_only_its_move_is_left(house: House) -> None:
    [claim] = claimed(house, "key")
    with proven(house, claim) as prove:
        house.settle(prove, agent=house.agent(spool=Full(house.spool.root)))
    with at_work(house, WATCH_LOCK, CONSUMERS_LOCK):
        waiting = Waiting(house, claim.id, 50.0)
        said = waiting.interrupted()
    [notice] = waiting.notices
    where = "s3://p/b/key: it is uploaded; the move to completed is tried again at 2026-"
    assert notice.startswith(where)
    assert said.endswith(notice)


def test_why_a_file_waits_that_nobody_has_tried_is_told(house: House) -> None:
    """As where the store has answered another file with a `Retry-After`; its story says it, too."""
    [record] = house.admit("key")
    reason = Reason(INTERRUPTED, "asked_to_wait", "the store wants to be left alone")
    house.settle(*(PutOff(claim, reason, 3600.0) for claim in house.claim()))
    with at_work(house, WATCH_LOCK, CONSUMERS_LOCK):
        waiting = Waiting(house, record, 60.0)
        said = waiting.interrupted()
    assert house.attempts(record) == []
    [notice] = waiting.notices
    why = ": the store wants to be left alone (asked_to_wait)"
    assert notice.startswith("s3://p/b/key: the first attempt at 2026-")
    assert notice.endswith(why)
    assert said.endswith(notice)
    text, _ = told(house)
    assert f"{why}, once a consumer runs; to start one: " in text


def test_the_story_says_once_why_a_file_is_tried_again(house: House) -> None:
    with_retry(house)
    text, _ = told(house)
    assert text.count("nobody listens") == 1


def test_who_interrupts_at_once_is_told_of_the_retry_as_well(house: House) -> None:
    record = with_retry(house)
    with at_work(house, WATCH_LOCK, CONSUMERS_LOCK):
        waiting = Waiting(house, record, 1.0)
        said = waiting.interrupted()
    assert said.startswith("the files are safe in the spool; s3://p/b/key: retry 1 at 2026-")
    assert waiting.notices == [], "it may be settled at any time"


def test_where_nobody_is_at_work_nothing_goes_on(house: House, arrived: int) -> None:
    for locks, why in (
        (
            (CONSUMERS_LOCK,),
            "flood-watch is not running: the files wait until it is started: flood-watch",
        ),
        (
            (),
            "flood-watch is not running: the files wait until it is started: "
            "flood-watch --consumers 2",
        ),
        (
            (STARTING_LOCK,),
            "flood-watch is not running: the files wait until it is started: flood-watch",
        ),
        ((WATCH_LOCK,), "no consumer is running: the files wait until one is started"),
        ((WATCH_LOCK, STARTING_LOCK), f"no consumer takes files yet: {stall.STARTING}"),
    ):
        with at_work(house, *locks):
            waiting = Waiting(house, arrived, 1.0)
            assert f"the files are safe in the spool; {why}" in waiting.interrupted()
            assert waiting.notices == []
