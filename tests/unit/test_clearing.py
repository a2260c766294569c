"""What settled records have left in stores, aborted within bounds of time."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Event
from typing import cast

import pytest

from flood import models, queries
from flood.columns import name_value
from flood.profiles import Profile
from tests.spooling import START, House
from tests.uploading import profile
from workers import clearing
from workers.agent import Agent
from workers.clearing import clear
from workers.failures import TransportFailed
from workers.rests import LONGEST
from workers.transfer import Uploader

HANGS = TransportFailed("read_timeout", "127.0.0.1:9", "nothing came")
REFUSES = OSError(errno.ECONNREFUSED, "refused")
BROKEN = FileNotFoundError(errno.ENOENT, "gone")  # of this machine's, which is permanent


@dataclass
class Store:
    """An uploader of which nothing is asked but to abort, which takes it so many seconds."""

    house: House
    seconds: float = 0.0
    failures: dict[str, Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def abort_multipart(self, _bucket: str, _key: str, upload_id: str) -> None:
        self.asked.append(upload_id)
        self.house.clock.advance(self.seconds)
        self.meanwhile()
        if upload_id in self.failures:
            raise self.failures[upload_id]

    def taken(self) -> list[str]:
        """What was asked for since this was called last."""
        taken, self.asked[:] = list(self.asked), []
        return taken


def an_agent(house: House, **stores: Store) -> Agent:
    """One with a profile for each of these stores."""
    known = {name: replace(profile("http://127.0.0.1:9"), name=name) for name in stores}

    def make_uploader(one: Profile) -> Uploader:
        return cast(Uploader, stores[one.name])

    return house.agent(look=lambda **_: known, make_uploader=make_uploader)


def leave(house: House, *uploads: str, of: str = "p") -> None:
    """Settled records of a profile, each with a multipart upload that was left."""
    for one in uploads:
        house.wait(START + timedelta(days=1), (of, one))
        models.execute(
            "UPDATE file_records SET current_state = 'failed', multipart_upload_id = ? "
            "WHERE bucket = ?",
            (one, name_value(one)),
        )


def left() -> list[str]:
    return [one.upload_id for one in queries.leftover_multiparts()]


def clear_once(agent: Agent) -> None:
    clear(agent, agent.stopping)


def test_a_store_that_hangs_is_asked_once_then_left_alone_for_longer_each_time(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    leave(house, "1", "2", "3", of="hangs")
    hangs = Store(house, failures=dict.fromkeys("123", HANGS))
    agent = an_agent(house, hangs=hangs)
    for number in range(20):
        since = house.clock.now()
        clear_once(agent)
        assert len(hangs.taken()) == 1
        rest = min(30.0 * 2**number, LONGEST)
        house.clock.advance(rest - 1)
        clear_once(agent)
        assert hangs.taken() == []
        house.clock.advance(1)
        assert (house.clock.now() - since).total_seconds() == rest
    told = [one for one in caplog.records if one.getMessage() == "multipart upload stays"]
    facts = [one.facts for one in told]  # type: ignore[attr-defined]  # flood.log's
    assert [(one["upload"], one["delay"]) for one in facts] == [("1", 30), ("2", 60), ("3", 120)]
    hangs.failures.clear()
    house.clock.advance(LONGEST)
    clear_once(agent)
    assert sorted(hangs.taken()) == ["1", "2", "3"]
    assert left() == []


def test_one_that_answers_again_has_its_next_failure_count_as_the_first(house: House) -> None:
    leave(house, "1", "2")
    store = Store(house, failures={"1": REFUSES, "2": REFUSES})
    agent = an_agent(house, p=store)
    clear_once(agent)
    house.clock.advance(30)
    clear_once(agent)
    del store.failures["1"]
    house.clock.advance(60)
    clear_once(agent)
    assert store.taken() == ["1", "2", "1", "2"]
    house.clock.advance(30)
    clear_once(agent)
    assert store.taken() == ["2"]


def test_what_hangs_has_no_other_store_left_alone(house: House) -> None:
    leave(house, "1", "2", of="hangs")
    leave(house, "3", "4", of="works")
    hangs = Store(house, failures=dict.fromkeys("12", HANGS))
    works = Store(house)
    clear_once(an_agent(house, hangs=hangs, works=works))
    assert (hangs.taken(), works.taken()) == (["1"], ["3", "4"])


def test_nothing_more_is_begun_after_some_seconds(house: House) -> None:
    """However well it goes, each sweep goes on where the one before it has ended."""
    leave(house, *"12345678")
    slow = Store(house, seconds=1.5, failures=dict.fromkeys("12345678", BROKEN))
    agent = an_agent(house, p=slow)
    tried = []
    for _ in range(3):
        began = house.clock.now()
        clear_once(agent)
        assert (house.clock.now() - began).total_seconds() <= clearing.BEGINNING + 1.5
        tried.append("".join(slow.taken()))
    assert tried == ["123", "456", "781"]


def test_one_is_given_up_after_its_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clearing, "LONGEST", 0.2)
    leave(house, "1")
    over = Event()
    store = Store(house, meanwhile=lambda: over.wait(30))
    agent = an_agent(house, p=store)
    clear_once(agent)
    assert not over.is_set()
    over.set()
    assert left() == ["1"]
    assert agent.rests.rests(agent.profiles["p"])


def test_a_stop_waits_for_no_store_and_blames_none(house: House) -> None:
    leave(house, "1")
    over, begun = Event(), Event()

    def hang() -> None:
        begun.set()
        over.wait(30)

    agent = an_agent(house, p=Store(house, meanwhile=hang))
    clear(agent, begun.is_set)
    over.set()
    assert left() == ["1"]
    assert not agent.rests.rests(agent.profiles["p"])
    store = Store(house)
    clear(an_agent(house, p=store), lambda: True)
    assert store.taken() == []


def test_one_thread_at_a_time_waits_for_stores(house: House) -> None:
    leave(house, "1", "2")
    store = Store(house)
    agent = an_agent(house, p=store)
    store.meanwhile = lambda: clear_once(agent)
    clear_once(agent)
    assert store.taken() == ["1", "2"]


def test_a_store_that_wants_to_be_left_alone_is(house: House) -> None:
    leave(house, "1")
    store = Store(house)
    agent = an_agent(house, p=store)
    pace = agent.pace(agent.profiles["p"])
    pace.refused(pace.begin(1), 100.0, "1")
    clear_once(agent)
    assert store.taken() == []
    house.clock.advance(101)
    clear_once(agent)
    assert store.taken() == ["1"]


def test_what_is_due_is_rung_for_before_any_store_is_asked(house: House) -> None:
    house.admit("due")
    leave(house, "1")
    store = Store(house, meanwhile=lambda: rung.extend(house.rung))
    rung: list[tuple[str, str]] = []
    house.sweep(an_agent(house, p=store))
    assert store.taken() == ["1"]
    assert rung == [("p", "b")]
