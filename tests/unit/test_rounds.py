"""Every destination with something due is found, whatever waits before it."""

import os
from datetime import timedelta

from flood import due_queries
from tests.spooling import START, House
from workers.rounds import LOOKS, TURNS, Destination, Rounds

LATER = START + timedelta(hours=1)


def many(profile: str, count: int) -> list[Destination]:
    return [(profile, f"m{number:05}") for number in range(count)]


def test_profiles_with_unclaimed_records_are_known(house: House) -> None:
    assert due_queries.profiles() == []
    house.wait(LATER, ("p", "b"), ("ü", "b"), ("p", "c"), files=2)
    house.wait(START, ("a", "b"))
    assert due_queries.profiles() == ["a", "p", "ü"]


def test_a_look_ends_where_something_is_due(house: House) -> None:
    house.wait(LATER, *many("p", 200))
    house.wait(START, ("p", "z"), ("a", "b"), ("q", "c"))
    assert due_queries.look("p", "", None, START, 1000) == ("z", True, 201)
    assert due_queries.look("p", "z", None, START, 1000) == (None, False, 1)
    assert due_queries.look("p", "m00190", None, START, 10) == ("z", True, 10)
    assert due_queries.look("p", "m00190", None, START, 9) == ("m00199", False, 9)
    assert due_queries.look("p", "", "m00001", START, 10) == (None, False, 3)
    assert due_queries.look("p", "", "m00001", LATER, 10) == ("m00000", True, 1)
    assert due_queries.look("none", "", None, START, 10) == (None, False, 1)


def test_a_bucket_of_any_name_is_found(house: House) -> None:
    strange = os.fsdecode(b"\xff" * 255)
    house.wait(LATER, ("p", "ü"))
    house.wait(START, ("p", strange))
    house.wait(START, (strange, "b"))
    assert due_queries.look("p", "", None, START, 10) == (strange, True, 2)
    assert list(Rounds().due(due_queries.profiles(), START)) == [("p", strange), (strange, "b")]


def test_what_had_its_turn_comes_last(house: House) -> None:
    house.wait(START, ("p", "a"), ("p", "b"), ("q", "a"), ("q", "b"))
    rounds = Rounds()
    went = []
    for _ in range(5):
        first = next(rounds.due(["p", "q"], START))
        # Who does not take it finds it again.
        assert next(rounds.due(["p", "q"], START)) == first
        rounds.choose(first)
        went.append(first)
    assert went == [("p", "a"), ("q", "a"), ("p", "b"), ("q", "b"), ("p", "a")]
    assert list(rounds.due(["p", "q"], START))[:2] == [("q", "a"), ("q", "b")]


def test_a_search_goes_on_where_the_last_was_broken_off(house: House) -> None:
    house.wait(LATER, *many("p", 3 * LOOKS))
    house.wait(START, ("p", "a"), ("p", "z"))
    rounds = Rounds()
    rounds.choose(("p", "a"))
    found = [list(rounds.due(["p"], START)) for _ in range(4)]
    assert found == [[], [], [], [("p", "z"), ("p", "a")]]


def test_thousands_of_buckets_of_one_profile_hide_no_other_profile(house: House) -> None:
    house.wait(LATER, *many("p", 5 * LOOKS))
    house.wait(START, ("q", "b"))
    rounds = Rounds()
    assert list(rounds.due(["p", "q"], START)) == []
    assert list(rounds.due(["p", "q"], START)) == [("q", "b")]


def test_many_profiles_hide_nothing(house: House) -> None:
    names = [f"p{number:04}" for number in range(300)]
    house.wait(LATER, *((name, "b") for name in names))
    house.wait(START, ("z", "b"))
    rounds = Rounds()
    found = [list(rounds.due([*names, "z"], START)) for _ in range(5)]
    assert [("z", "b")] in found


def test_who_had_no_turn_for_long_counts_as_one_that_had_none() -> None:
    rounds = Rounds()
    one, *others = many("p", TURNS + 1)
    assert rounds.last_turn(one) == 0
    rounds.claimed(one)
    rounds.claimed(others[0])
    assert 0 < rounds.last_turn(one) < rounds.last_turn(others[0])
    rounds.claimed(one)
    assert rounds.last_turn(others[0]) < rounds.last_turn(one)
    for each in others[1:]:
        rounds.claimed(each)
    assert rounds.last_turn(others[0]) == 0
    assert 0 < rounds.last_turn(one) < rounds.last_turn(others[-1])
