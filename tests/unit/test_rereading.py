"""The credentials file changes while flood runs."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flood import credentials, log
from flood.rereading import INTERVAL, STANDSTILL, Rereading
from tests.servers import ACCESS_KEY_ID, SECRET_ACCESS_KEY, credentials_section

ONE = credentials_section("one", "http://127.0.0.1:9")
TWO = credentials_section("two", "http://127.0.0.1:9")
BROKEN = "[one]\nprovider = s3\n"

Events = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """What the log was told."""
    told: Events = []
    monkeypatch.setattr(
        log, "event", lambda _logger, _level, name, **facts: told.append((name, facts))
    )
    return told


class Watched:
    """A credentials file on a clock of its own, with who rereads it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.seconds = 1000.0
        self.changed = 0.0
        self.write(text)
        self.seconds += 10
        found = credentials.load(str(path), True, {"HOME": "/nowhere"})
        self.rereading = Rereading(found, clock=lambda: self.seconds, now=self._now)

    def _now(self) -> float:
        # The kernel's clock stamps files; what has passed since is the test's.
        return self.path.stat().st_ctime + self.seconds - self.changed

    def write(self, text: str | bytes) -> None:
        """Replace the file, at this moment of the clock."""
        new = self.path.with_suffix(".new")
        new.write_bytes(text if isinstance(text, bytes) else text.encode())
        new.chmod(0o600)
        new.rename(self.path)
        self.changed = self.seconds

    def look(self, after: float = 0.0, **options: bool) -> list[str]:
        self.seconds += after
        return sorted(self.rereading.look(**options))


@pytest.fixture
def watched(tmp_path: Path, events: Events) -> Watched:
    return Watched(tmp_path / "credentials", ONE)


def test_what_has_not_changed_is_not_read(watched: Watched, events: Events) -> None:
    before = watched.rereading.profiles
    watched.look(INTERVAL)
    watched.look(0.0, at_once=True)
    assert watched.rereading.profiles is before
    assert events == []


def test_it_is_looked_at_now_and_then(watched: Watched) -> None:
    watched.look(INTERVAL)
    watched.write(TWO)
    assert watched.look(INTERVAL / 2) == ["one"]
    assert watched.look(INTERVAL + STANDSTILL) == ["two"]


def test_what_changed_is_told_without_secrets(watched: Watched, events: Events) -> None:
    watched.write(ONE.replace(SECRET_ACCESS_KEY, "replaced-secret") + TWO)
    assert watched.look(10.0) == ["one", "two"]
    assert watched.rereading.profiles["one"].secret_access_key == "replaced-secret"
    file = str(watched.path)
    expected = {"file": file, "added": "two", "removed": None, "changed": "one"}
    assert events == [("credentials changed", expected)]
    watched.write(TWO)
    assert watched.look(10.0) == ["two"]
    expected = {"file": file, "added": None, "removed": "one", "changed": None}
    assert events[1:] == [("credentials changed", expected)]


def test_a_file_that_is_being_written_is_left_alone(watched: Watched, events: Events) -> None:
    for count in range(6):  # each look finds it longer
        watched.seconds += INTERVAL - STANDSTILL / 2
        watched.write(BROKEN + "#" * count)
        assert watched.look(STANDSTILL / 2) == ["one"]
    assert events == []
    watched.write(TWO)
    assert watched.look(INTERVAL + STANDSTILL) == ["two"]
    assert [name for name, _ in events] == ["credentials changed"]


def test_what_stands_still_by_a_clock_that_is_behind_is_read(watched: Watched) -> None:
    watched.write(TWO)
    watched.changed += 3600  # the disk's time is ahead of this machine's
    assert watched.look(INTERVAL) == ["one"]
    assert watched.look(INTERVAL) == ["two"]


def test_a_wrong_file_is_refused_once(watched: Watched, events: Events) -> None:
    before = watched.rereading.profiles
    for _ in range(2):
        watched.write(BROKEN)
        for _ in range(3):
            watched.look(10.0)
    assert watched.rereading.profiles is before
    assert watched.rereading.refused
    [(name, facts)] = events
    assert name == "credentials refused"
    assert facts["file"] == str(watched.path)
    assert "profile one: missing: AWS_ACCESS_KEY_ID" in facts["reason"]
    watched.write(ONE)
    watched.look(10.0)
    assert events[1:] == [("credentials unchanged", {"file": str(watched.path)})]
    assert not watched.rereading.refused
    assert watched.rereading.profiles is before


def test_a_file_that_is_gone_changes_nothing(
    watched: Watched, events: Events, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    watched.path.rename(kept)
    assert watched.look(INTERVAL) == ["one"]
    assert events == [], "an editor may be about to put it back"
    for _ in range(3):
        assert watched.look(INTERVAL) == ["one"]
    [(name, facts)] = events
    assert (name, facts["reason"]) == (
        "credentials refused",
        f"{watched.path}: No such file or directory",
    )
    kept.rename(watched.path)
    watched.changed = watched.seconds
    assert watched.look(10.0) == ["one"]
    assert [name for name, _ in events[1:]] == ["credentials unchanged"]


def test_who_asks_is_answered_at_once(watched: Watched, events: Events) -> None:
    watched.rereading.ask()
    assert watched.rereading.asked
    watched.look()
    assert not watched.rereading.asked
    watched.write(BROKEN)
    for _ in range(2):
        watched.rereading.ask()
        assert watched.look() == ["one"]
    watched.write(TWO)
    watched.rereading.ask()
    assert watched.look() == ["two"]
    assert [name for name, _ in events] == [
        "credentials unchanged",
        *["credentials refused"] * 2,
        "credentials changed",
    ]


def test_who_needs_it_now_does_not_wait(watched: Watched) -> None:
    watched.write(TWO)
    assert watched.look(at_once=True) == ["two"]


def test_what_is_odd_is_told_once(watched: Watched, events: Events) -> None:
    watched.path.chmod(0o644)
    watched.changed = watched.seconds
    for _ in range(2):
        watched.look(10.0)
    os.utime(watched.path)
    watched.changed = watched.seconds
    watched.look(10.0)
    [(name, facts)] = events
    assert name == "credentials"
    assert "is open to other users" in facts["warning"]


@given(st.binary(max_size=200) | st.sampled_from([ONE, TWO, ONE + TWO, BROKEN]).map(str.encode))
def test_whatever_it_becomes_there_are_profiles(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    watched = Watched(tmp_path_factory.getbasetemp() / "any-credentials", ONE)
    watched.write(data)
    assert watched.look(10.0)
    for profile in watched.rereading.profiles.values():
        assert profile.access_key_id == ACCESS_KEY_ID
    watched.write(TWO)
    assert watched.look(10.0) == ["two"]
