"""What a consumer delivers with, while its credentials change."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from flood import queries
from flood.profiles import Profile
from tests import spooling
from tests.spooling import House
from tests.uploading import profile
from workers.agent import RING_LATE, RING_SOON, SCARCE_LEAST, SCARCE_MOST, Agent
from workers.transfer import Uploader

ONE = replace(profile("http://127.0.0.1:9"), name="one")
TWO = replace(ONE, name="two")


@dataclass
class Made:
    """An uploader that knows whether it was closed."""

    profile: Profile
    closed: int = 0

    def close(self) -> None:
        self.closed += 1


class Known:
    """The credentials, as `Rereading.look` answers them."""

    def __init__(self) -> None:
        self.profiles = {"one": ONE, "two": TWO}
        self.made: list[Made] = []

    def look(self, *, at_once: bool = False) -> dict[str, Profile]:
        return self.profiles

    def make(self, wanted: Profile) -> Uploader:
        self.made.append(Made(wanted))
        return cast(Any, self.made[-1])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with spooling.house(tmp_path) as made:
        yield made


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def agent(house: House, known: Known) -> Agent:
    return house.agent(look=known.look, make_uploader=known.make)


def test_an_uploader_is_kept_while_its_profile_is_the_same(agent: Agent, known: Known) -> None:
    with agent.uploader(ONE) as first, agent.uploader(TWO):
        pass
    known.profiles = {"one": replace(ONE), "three": replace(ONE, name="three")}
    agent.renew()
    with agent.uploader(ONE) as again:
        assert again is first
    assert [(one.profile.name, one.closed) for one in known.made] == [("one", 0), ("two", 1)]
    agent.close()
    assert [one.closed for one in known.made] == [1, 1]


def test_one_in_use_ends_with_its_last_use(agent: Agent, known: Known) -> None:
    rotated = replace(ONE, secret_access_key="rotated")
    with agent.uploader(ONE):
        with agent.uploader(ONE):
            known.profiles = {"one": rotated}
            agent.renew()
            with agent.uploader(agent.profiles["one"]):
                pass
        assert [one.closed for one in known.made] == [0, 0]
    assert [(one.profile, one.closed) for one in known.made] == [(ONE, 1), (rotated, 0)]


def test_what_was_replaced_is_known(agent: Agent, known: Known) -> None:
    assert not agent.replaced(ONE)
    known.profiles = {"one": replace(ONE, region="elsewhere")}
    assert agent.replaced(ONE)
    assert agent.replaced(TWO), "it is gone"
    assert agent.profiles is known.profiles


def test_haste_ends_every_wait_that_a_store_has_asked_for(house: House, agent: Agent) -> None:
    paces = [agent.pace(profile) for profile in (ONE, TWO)]
    queries.hasten(house.clock.now())  # before anything was asked
    agent.heed_haste()
    for pace in paces:
        pace.refused(pace.begin(1), 600.0)
    agent.heed_haste()
    assert [pace.pause() for pace in paces] == [600.0, 600.0]
    house.clock.advance(1.0)
    queries.hasten(house.clock.now())
    agent.heed_haste()
    assert [pace.pause() for pace in paces] == [0.0, 0.0]
    paces[0].refused(paces[0].begin(1), 600.0)
    agent.heed_haste()
    assert [pace.pause() for pace in paces] == [600.0, 0.0]


def test_what_is_put_off_until_the_same_moment_is_rung_for_once(house: House, agent: Agent) -> None:
    one, two = ("one", "b"), ("two", "b")
    assert agent.rings_after(one, [20.0, 20.0, 19.5]) == [19.5 + RING_LATE]
    house.clock.advance(3.0)
    assert agent.rings_after(one, [17.0]) == []
    assert agent.rings_after(two, [17.0]) == [17.0 + RING_LATE]
    assert agent.rings_after(one, [30.0]) == [30.0 + RING_LATE]
    house.clock.advance(60.0)
    assert agent.rings_after(one, [17.0]) == [17.0 + RING_LATE]


def test_a_long_wait_does_not_hold_up_a_short_one(agent: Agent) -> None:
    one = ("one", "b")
    assert agent.rings_after(one, [600.0]) == [600.0 + RING_LATE]
    assert agent.rings_after(one, [5.0]) == [5.0 + 0.5]
    assert agent.rings_after(one, [1.0]) == [1.0 + RING_SOON]
    assert agent.rings_after(one, [1.0, 5.0, 600.0]) == []


def test_the_pace_is_the_profiles(agent: Agent, known: Known) -> None:
    pace = agent.pace(ONE)
    assert agent.pace(ONE) is pace
    assert agent.pace(TWO) is not pace
    pace.refused(pace.begin(4), 30.0)
    assert (agent.pace(ONE).pause(), agent.pace(TWO).pause()) == (30.0, 0.0)
    known.profiles = {"one": replace(ONE, region="mars"), "two": TWO}
    agent.renew()
    assert agent.pace(ONE) is not pace


def test_what_lacks_descriptors_waits_for_longer_while_nothing_gets_through(
    house: House, agent: Agent
) -> None:
    """Others have them as a rule, who give them back in a moment."""
    waits = []
    for _ in range(8):
        waits.append(agent.scarce_pause())
        house.clock.advance(waits[-1])
    assert waits == [SCARCE_LEAST, 1.0, 2.0, 4.0, 8.0, 16.0, SCARCE_MOST, SCARCE_MOST]
    assert not agent.lacks_briefly()
    agent.gets_through()
    assert agent.scarce_pause() == SCARCE_LEAST
    house.clock.advance(SCARCE_LEAST)
    assert agent.lacks_briefly()  # their ring comes later
    house.clock.advance(3600.0)
    assert not agent.lacks_briefly()
    assert agent.scarce_pause() == SCARCE_LEAST
