"""Nothing of failed goes for an age that only a wrong clock gives it."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flood import leaps, models
from flood.columns import utc_text
from flood.leaps import Running
from tests.spooling import START, House, quick_house
from tests.unit.test_retention import DAY, fail, retention

KEEP = 180 * DAY


class Machine:
    """One whose clock somebody may set, that may be off for a while. `true` is what time it is, in
    seconds."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.true = 0.0
        self._boot = 0
        self._booted = 0.0

    def runs(self, seconds: float) -> None:
        self.true += seconds
        self.house.clock.advance(seconds)

    def is_set(self, seconds: float) -> None:
        self.house.clock.advance(seconds)

    def is_off(self, seconds: float, ahead: float = 0.0) -> None:
        """Its clock goes on meanwhile, or gets ahead, or behind."""
        self.runs(seconds)
        self.is_set(ahead)
        self._boot += 1
        self._booted = self.true

    def running(self) -> Running:
        return Running(str(self._boot), self.true - self._booted)

    def prunes(self) -> int:
        run = retention(self.house, failed=KEEP, running=self.running)
        foreseen = run.foresee()
        done = run.run(60.0)
        assert done.files == foreseen.files
        assert done.stay == foreseen.stay
        return done.files["failed"]


@pytest.fixture
def machine(house: House) -> Machine:
    made = Machine(house)
    made.runs(DAY)
    made.prunes()
    return made


def test_what_failed_as_the_clock_was_behind_is_kept_for_as_long(machine: Machine) -> None:
    """As a machine without a battery has it at each start."""
    machine.is_off(3600.0, -400 * DAY)
    assert machine.prunes() == 0
    fail(machine.house, "only copy")
    machine.runs(60.0)
    assert machine.prunes() == 0
    machine.is_set(400 * DAY)
    assert machine.prunes() == 0
    machine.runs(KEEP - 120.0)
    assert machine.prunes() == 0
    machine.runs(240.0)
    assert machine.prunes() == 1


def test_the_clock_is_set_right_while_the_machine_is_off(machine: Machine) -> None:
    machine.is_off(3600.0, -400 * DAY)
    assert machine.prunes() == 0
    fail(machine.house, "only copy")
    for _ in range(2):  # it starts at the same wrong time twice
        machine.is_off(60.0, -30.0)
        assert machine.prunes() == 0
    machine.is_off(60.0, 400 * DAY)
    assert machine.prunes() == 0


def test_a_clock_that_gets_ahead_deletes_nothing(machine: Machine) -> None:
    fail(machine.house, "only copy")
    for step in (400 * DAY, -400 * DAY):
        machine.is_set(step)
        assert machine.prunes() == 0
    run = retention(machine.house, failed=KEEP, running=machine.running)
    machine.is_set(400 * DAY)
    [reason] = run.foresee().stay
    day = utc_text(machine.house.clock.now())[:10]
    assert reason.startswith(f"as the clock was set to another time on {day}, ")


def test_who_wants_it_later_loses_nothing(machine: Machine) -> None:
    """Where nothing was to be deleted as the clock was wrong."""
    keeps_all = retention(machine.house, running=machine.running)
    machine.is_off(3600.0, -400 * DAY)
    fail(machine.house, "only copy")
    keeps_all.run(60.0)
    machine.is_set(400 * DAY)
    assert machine.prunes() == 0


def test_what_failed_before_the_database_was_made(house: House) -> None:
    house.clock.advance(-400 * DAY)
    fail(house, "only copy")
    house.clock.advance(400 * DAY)
    assert Machine(house).prunes() == 0


def test_a_clock_that_was_ahead_once_is_forgotten(machine: Machine) -> None:
    for step in (400 * DAY, -400 * DAY):
        machine.is_set(step)
        machine.prunes()
    machine.runs(DAY)
    fail(machine.house, "old")
    for _ in range(int(KEEP / DAY)):
        machine.is_off(DAY)
        machine.prunes()
    machine.runs(60.0)
    machine.prunes()
    assert machine.house.files() == {}


def test_weeks_without_power_are_no_leap(machine: Machine) -> None:
    fail(machine.house, "old")
    for _ in range(30):
        machine.runs(3600.0)
        machine.prunes()
        machine.is_off(7 * DAY)
    assert machine.prunes() == 0 == len(machine.house.files())


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["runs", "is_set", "fails", "prunes"]),
            st.floats(0.0, 300.0),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_nothing_goes_before_its_time(course: list[tuple[str, float, bool]]) -> None:
    """However the clock is set, as long as somebody looks at it before and after."""
    with quick_house() as house:
        machine = Machine(house)
        machine.prunes()
        failed: dict[int, float] = {}
        for number, (what, days, back) in enumerate(course):
            if what == "fails":
                [record] = fail(house, f"key-{number}")
                failed[record] = machine.true
            elif what == "runs":
                machine.runs(days * DAY)
            elif what == "is_set":
                machine.prunes()
                machine.is_set(-days * DAY if back else days * DAY)
            machine.prunes()
            gone = [row["id"] for row in house.rows() if row["left_how"] == "removed"]
            assert all(machine.true - failed[record] >= KEEP for record in gone)


def test_the_kernel_knows_when_the_machine_was_started() -> None:
    one, other = leaps.running(), leaps.running()
    assert one.boot == other.boot
    assert 0.0 < one.seconds <= other.seconds


def test_a_look_alone_notes_nothing(house: House) -> None:
    seen, news = leaps.look(START + timedelta(days=1), lambda: Running("b", 1.0))
    assert news
    assert models.execute("SELECT clock FROM spool").fetchone() == (None,)
    whole = '{"boot": "b", "began": %s, "at": 1, "latest": 1, "set_at": 1}'
    for damaged in ("{", "{}", "[]", "x", '{"boot": 1}', whole % "null", whole.replace("a", "c")):
        with models.write():
            models.execute("UPDATE spool SET clock = ?", (damaged,))
        assert leaps.look(START + timedelta(days=1), lambda: Running("b", 1.0)) == (seen, True)
    noted = leaps.note(START + timedelta(days=1), lambda: Running("b", 1.0))
    assert noted == seen
    again, news = leaps.look(START + timedelta(days=1, seconds=5), lambda: Running("b", 6.0))
    assert not news
    assert again.last_set == START
