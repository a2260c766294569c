"""What was found is known for a while, what a list has shown beside it as long as there is room."""

from tests.spooling import Clock
from workers.known import MOST, Known


def test_lists_fill_no_more_than_the_room() -> None:
    clock = Clock()
    known = Known(60.0, clock.seconds)
    known.add("used")
    known.add_listed(f"a{number}" for number in range(2 * MOST))
    assert f"a{MOST - 2}" in known
    assert f"a{MOST - 1}" not in known
    known.add("late")
    assert "late" in known, "what is used is always known"
    clock.advance(30.0)
    known.add_listed(["a1", "used", "b1"])
    clock.advance(31.0)
    assert [name for name in ("used", "a0", "a1", "late", "b1") if name in known] == ["used", "a1"]
    known.add_listed(["b1"])
    assert "b1" in known, "what is not known any more makes room"


def test_nothing_is_known_for_no_time() -> None:
    known = Known(0.0, Clock().seconds)
    known.add("one")
    known.add_listed(["two"])
    assert [name for name in ("one", "two") if name in known] == []
