"""Which directory has which watch."""

from hypothesis import given
from hypothesis import strategies as st

from flood.watches import Watches

#: Names that are the beginning of others, at several depths.
DIRECTORIES = ("in", "in/a", "in/a/b", "in/a/b/c", "in/ab", "in/a.b/c/d", "in/z/z/z")

directories = st.sampled_from(DIRECTORIES)
numbers = st.integers(1, 6)
steps = st.one_of(
    st.tuples(st.just("add"), directories, numbers),
    st.tuples(st.just("remove"), directories, numbers),
    st.tuples(st.just("remove_all"), directories, numbers),
)


@given(st.lists(steps, max_size=30))
def test_it_knows_what_was_told(course: list[tuple[str, str, int]]) -> None:
    """The same as a list of all of them would."""
    watches = Watches()
    known: dict[int, str] = {}
    latest: dict[str, int] = {}
    for step, directory, number in course:
        if step == "add":
            before = latest.get(directory)
            assert watches.add(directory, number) == (None if before == number else before)
            latest = {path: one for path, one in latest.items() if one != number}
            known[number] = directory
            latest[directory] = number
        elif step == "remove":
            watches.remove(number)
            known.pop(number, None)
            latest = {path: one for path, one in latest.items() if one != number}
        else:
            below = {p: n for p, n in latest.items() if f"{p}/".startswith(f"{directory}/")}
            assert sorted(watches.remove_all(directory)) == sorted(below.items())
            for path, one in below.items():
                del latest[path], known[one]
        assert {one: watches.directory(one) for one in known} == known
        assert all(watches.directory(one) is None for one in range(1, 7) if one not in known)
    assert sorted(watches.remove_all("in")) == sorted(latest.items())
