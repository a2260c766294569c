"""flood-watch notices that nobody uploads what it takes."""

import logging

import pytest

from flood import log, models
from flood.attendance import LOOK, PATIENCE, STALLED, Attendance
from tests.spooling import House


@pytest.fixture
def attended(house: House, caplog: pytest.LogCaptureFixture) -> "Attended":
    caplog.set_level(logging.INFO, "flood.attendance")
    return Attended(house, caplog)


class Attended:
    """An attendance on a spool, whose consumers come and go as a test says."""

    def __init__(self, house: House, caplog: pytest.LogCaptureFixture, own: int = 0) -> None:
        self.consuming = self.starting = False
        self.stalled: list[int] = []
        self.halted: list[int] = []
        self._clock = house.clock
        self._caplog = caplog
        self._attendance = Attendance(
            lambda: self.consuming,
            "it",
            own=own,
            starting=lambda: self.starting,
            halted=lambda: self.halted,
            stalled=lambda _at: self.stalled,
            now=house.clock.now,
            clock=house.clock.seconds,
        )

    def wait(self, seconds: float) -> list[str]:
        """Tick every second for so long; what was told meanwhile."""
        self._caplog.clear()
        for _ in range(int(seconds)):
            self._clock.advance(1.0)
            self._attendance.tick()
        return [record.getMessage().partition(" ")[0] for record in self._caplog.records]

    @property
    def words(self) -> str:
        """What was told last."""
        return log.TextFormatter().format(self._caplog.records[-1])


def test_it_is_told_once_and_once_that_it_is_over(house: House, attended: Attended) -> None:
    house.admit("waits")
    assert attended.wait(PATIENCE - 1) == []
    assert len(attended.wait(LOOK + 1)) == 1
    assert attended.wait(600) == []
    attended.consuming = True
    assert len(attended.wait(LOOK + 1)) == 1
    assert attended.wait(600) == []
    attended.consuming = False
    assert len(attended.wait(PATIENCE + LOOK)) == 1


@pytest.mark.parametrize(
    ("own", "reason", "advice"),
    [
        (0, "no consumer has come up to upload them", "if there is none, start it"),
        (
            1,
            "the consumer of this flood-watch has not come up",
            "what keeps them, as 'cannot start",
        ),
        (2, "none of the 2 consumers of this flood-watch has come up", "or 'consumer died'"),
    ],
)
def test_nobody_is_asked_to_start_what_is_started(
    house: House, caplog: pytest.LogCaptureFixture, own: int, reason: str, advice: str
) -> None:
    caplog.set_level(logging.INFO, "flood.attendance")
    house.admit("waits")
    attended = Attended(house, caplog, own)
    assert len(attended.wait(PATIENCE + LOOK)) == 1
    assert f"files are due, and {reason}" in attended.words
    assert advice in attended.words
    assert ("start it" in attended.words) == (not own)


@pytest.mark.parametrize("own", [0, 2])
def test_who_is_at_its_start_is_not_to_be_started(
    house: House, caplog: pytest.LogCaptureFixture, own: int
) -> None:
    caplog.set_level(logging.INFO, "flood.attendance")
    house.admit("waits")
    attended = Attended(house, caplog, own)
    attended.starting = True
    assert len(attended.wait(PATIENCE + LOOK)) == 1
    assert "files are due, and no consumer takes them yet" in attended.words
    assert "they wait: consumers have been started; where the database" in attended.words
    assert "start it" not in attended.words


def test_who_is_stopped_at_its_start_is_let_go_on(house: House, attended: Attended) -> None:
    house.admit("waits")
    attended.starting, attended.halted = True, [17, 18]
    assert len(attended.wait(PATIENCE + LOOK)) == 1
    assert "files are due, and all consumers are stopped at their start" in attended.words
    assert "they wait: to let them go on: kill -CONT 17 18" in attended.words


def test_without_files_nobody_misses_consumers(house: House, attended: Attended) -> None:
    assert attended.wait(600) == []
    house.admit("late")
    assert len(attended.wait(LOOK + 1)) == 1


def test_a_consumer_that_is_started_again_is_not_missed(house: House, attended: Attended) -> None:
    house.admit("waits")
    for _ in range(20):
        attended.consuming = False
        assert attended.wait(PATIENCE - LOOK) == []
        attended.consuming = True
        assert attended.wait(LOOK + 1) == []


def test_consumers_that_take_nothing_are_told_of(house: House, attended: Attended) -> None:
    house.admit("waits")
    attended.consuming, attended.stalled = True, [12, 34]
    # After a sleep of the machine they seem to, until the next sweep.
    assert attended.wait(STALLED - LOOK) == []
    attended.stalled = []
    assert attended.wait(LOOK + 1) == []
    attended.stalled = [12, 34]
    assert len(attended.wait(STALLED + LOOK)) == 1
    assert "kill -CONT 12 34" in attended.words
    attended.stalled = []
    assert len(attended.wait(LOOK + 1)) == 1
    assert "consumers are back" in attended.words


def test_a_database_that_is_away_is_told_of_elsewhere(house: House, attended: Attended) -> None:
    house.admit("waits")
    models.bind(f"{house.database}.none")
    assert attended.wait(600) == []
    models.bind(house.database)
    assert len(attended.wait(LOOK + 1)) == 1
