"""Where files lie, by name alone."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flood import layout
from flood.layout import MAX_KEY_BYTES, MAX_NAME_BYTES, Place
from flood.states import STATES

names = (
    st.binary(min_size=1, max_size=MAX_NAME_BYTES)
    .filter(lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b".."))
    .map(os.fsdecode)
)
keys = st.lists(names, min_size=1, max_size=4).map("/".join)
places = st.builds(Place, st.sampled_from(STATES), names, names, keys)


@given(places)
def test_a_place_is_what_its_path_names(place: Place) -> None:
    assert layout.parse(place.path) == place
    moved = place.moved("failed")
    assert layout.parse(moved.path) == moved
    assert (moved.profile, moved.bucket, moved.key) == (place.profile, place.bucket, place.key)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "incoming",
        "incoming/p",
        "incoming/p/b",
        "incoming/p/b/",
        "elsewhere/p/b/key",
        ".flood/p/b/key",
        "incoming//b/key",
        "incoming/p//key",
        "incoming/../b/key",
        "incoming/p/../key",
        "incoming/p/b/../key",
        "incoming/p/b/key/..",
        "incoming/p/b/a/./b",
        "incoming/p/b/a//b",
        "incoming/p/b//etc/passwd",
        "incoming/p/b/key\0",
        "/incoming/p/b/key",
    ],
)
def test_what_names_no_place(path: str) -> None:
    assert layout.parse(path) is None


@given(st.text())
def test_no_path_leads_out_of_its_bucket(path: str) -> None:
    place = layout.parse(path)
    if place is not None:
        bucket = f"/root/{place.state}/{place.profile}/{place.bucket}"
        assert os.path.normpath(f"/root/{path}").startswith(f"{bucket}/")


@given(places, st.integers(min_value=1, max_value=2**63 - 1))
def test_names_beside_a_place_are_short_enough_and_change_one_part(
    place: Place, record_id: int
) -> None:
    parts = place.key.split("/")
    beside = list(layout.beside(place, record_id))
    assert len(beside) == len(set(beside)) == 9 * len(parts)
    for position, candidate in enumerate(beside):
        again, depth = divmod(position, len(parts))
        suffix = f".~{record_id}.{again + 1}~" if again else f".~{record_id}~"
        assert layout.parse(candidate.path) == candidate
        others = candidate.key.split("/")
        changed = len(parts) - depth - 1  # the last part comes first
        assert others[:changed] == parts[:changed]
        assert others[changed + 1 :] == parts[changed + 1 :]
        assert others[changed].endswith(suffix)
        assert len(os.fsencode(others[changed])) <= MAX_NAME_BYTES
        assert parts[changed].startswith(others[changed].removesuffix(suffix))


@given(places, st.integers(min_value=1, max_value=2**63 - 1))
def test_names_beside_a_place_tell_which_it_is(place: Place, record_id: int) -> None:
    if layout.without_suffix(place.key) is not None:
        return  # it has come with a name of that kind
    for candidate in layout.beside(place, record_id):
        whole = max(len(os.fsencode(part)) for part in candidate.key.split("/")) < 252
        assert layout.without_suffix(candidate.key) in {place.key, *([] if whole else [None])}


@given(places, st.integers(min_value=1, max_value=2**63 - 1))
def test_names_beside_a_place_are_found_from_either_side(place: Place, record_id: int) -> None:
    """Where they were shortened, too, and whichever part of them has the suffix."""
    for candidate in layout.beside(place, record_id):
        name, key = candidate.key, place.key
        assert layout.may_be_beside(name, key)
        assert any(low <= name <= high for low, high in layout.beside_ranges(key))
        assert any(low <= key <= high for low, high in layout.plain_ranges(name))
    assert not layout.may_be_beside(place.key, place.key)


@pytest.mark.parametrize("key", ["key", "key.~x~", "key.~1.1~", "..~1~", ".~1~", "a.~~", "key~1~"])
def test_other_names_are_their_own(key: str) -> None:
    assert layout.without_suffix(key) is None


@given(st.text(alphabet="aé鍵🚰", min_size=60, max_size=255), st.integers(1, 10**9))
def test_names_are_shortened_between_characters(name: str, record_id: int) -> None:
    if len(name.encode()) > MAX_NAME_BYTES:
        name = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    candidate = next(layout.beside(Place("failed", "p", "b", name), record_id))
    shortened = candidate.key.removesuffix(f".~{record_id}~")
    assert name.startswith(shortened)
    room = MAX_NAME_BYTES - len(f".~{record_id}~")
    if shortened != name:
        assert len(name[: len(shortened) + 1].encode()) > room  # no more would have fitted


@pytest.mark.parametrize(
    ("key", "normalizes", "code"),
    [
        ("plain", True, None),
        ("x" * MAX_KEY_BYTES, False, None),
        ("x" * (MAX_KEY_BYTES + 1), False, "key_too_long"),
        ("ä" * (MAX_KEY_BYTES // 2), False, None),
        ("ä" * (MAX_KEY_BYTES // 2) + "x", False, "key_too_long"),
        ("bad \udcff byte", False, "key_not_utf8"),
        ("e\u0301", False, None),
        ("e\u0301", True, "key_not_normalized"),
        ("\u00e9", True, None),
    ],
)
def test_keys_that_no_store_takes(key: str, normalizes: bool, code: str | None) -> None:
    problem = layout.key_problem(key, normalizes=normalizes)
    assert (problem and problem[0]) == code
    if problem:
        problem[1].encode("utf-8")  # the sentence can be written down


@given(names)
def test_any_name_becomes_text(name: str) -> None:
    text = layout.text(name)
    text.encode("utf-8")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        assert "\\x" in text
    else:
        assert text == name
