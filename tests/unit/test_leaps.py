"""Nothing of failed goes for an age that only a wrong clock gives it."""

import json
import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flood import leaps, models, records
from flood.columns import utc_text
from flood.hollow import REST
from flood.leaps import Running
from tests.fscking import fsck
from tests.spooling import START, House, meddlings, quick_house
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
        house.machine = self.running

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
        run = retention(self.house, failed=KEEP)
        foreseen = run.foresee()
        done = run.run(60.0)
        assert done.files == foreseen.files
        assert done.stay == foreseen.stay
        return done.files["failed"]


@pytest.fixture
def machine(house: House) -> Machine:
    return long_at_work(house)


def long_at_work(house: House) -> Machine:
    """One whose database is older than what is kept, and the clock of which was looked at."""
    made = Machine(house)
    made.runs(2 * KEEP)
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
    run = retention(machine.house, failed=KEEP)
    machine.is_set(400 * DAY)
    [reason] = run.foresee().stay
    day = utc_text(machine.house.clock.now())[:10]
    assert reason.startswith(f"as the clock was set to another time on {day}, ")


def test_who_wants_it_later_loses_nothing(machine: Machine) -> None:
    """Where nothing was to be deleted as the clock was wrong."""
    keeps_all = retention(machine.house)
    machine.is_off(3600.0, -400 * DAY)
    fail(machine.house, "only copy")
    keeps_all.run(60.0)
    machine.is_set(400 * DAY)
    assert machine.prunes() == 0


def glitch(machine: Machine, key: str = "only copy") -> None:
    """Something fails while the clock is far behind for a moment, in which nobody looks at it."""
    machine.is_set(-400 * DAY)
    machine.runs(1.0)
    fail(machine.house, key)
    machine.runs(3.0)
    machine.is_set(400 * DAY)


def test_a_clock_that_was_behind_between_two_looks(machine: Machine) -> None:
    glitch(machine)
    machine.runs(75.0)
    assert machine.prunes() == 0
    machine.runs(KEEP - 120.0)
    assert machine.prunes() == 0
    machine.runs(240.0)
    assert machine.prunes() == 1


def test_what_a_dead_worker_gave_up_is_noted_as_the_clock_is_behind(machine: Machine) -> None:
    """S9, with a claim and without one."""
    house = machine.house
    claimed, unclaimed = house.admit("claimed", "unclaimed")
    house.claim(claimed)
    for number in (claimed, unclaimed):
        machine.is_set(-400 * DAY)
        path = str(house.row(number)["spool_path"]).replace("processing", "failed", 1)
        house.write(path)
        assert records.follow(number, "failed", path, 4, house.clock.now(), house.running)
        noted = json.loads(models.execute("SELECT clock FROM spool").fetchone()[0])
        assert noted["at"] == house.clock.now().timestamp()


def test_what_flood_fsck_gives_up_is_noted_as_the_clock_is_behind(machine: Machine) -> None:
    house = machine.house
    machine.is_set(-400 * DAY)
    [record] = house.admit("key")
    for _ in range(house.settings().retry_max):
        [claim] = house.claim()
        records.lose(claim, 0.0, house.clock.now())
    house.claim()
    fsck(house, repair=True)
    assert house.row(record)["current_state"] == "failed"
    noted = json.loads(models.execute("SELECT clock FROM spool").fetchone()[0])
    assert noted["at"] == house.clock.now().timestamp()


def test_a_clock_that_is_behind_for_a_moment_in_the_middle_of_a_run(machine: Machine) -> None:
    moments = iter([machine])

    def stopping() -> bool:
        for each in moments:
            glitch(each)
        return False

    run = retention(machine.house, failed=KEEP, stopping=stopping).run(60.0)
    assert run.files["failed"] == 0
    assert list(run.stay.values()) == [1]


def test_a_clock_that_gets_ahead_in_the_middle_of_a_run(machine: Machine) -> None:
    fail(machine.house, "only copy")
    right = machine.house.clock.now()
    moments = iter([right, right])
    ahead = right + timedelta(days=400)
    run = retention(machine.house, failed=KEEP, now=lambda: next(moments, ahead)).run(60.0)
    assert next(moments, None) is None
    assert run.files["failed"] == 0
    assert list(run.stay.values()) == [1]


def test_what_somebody_notes_meanwhile_is_not_lost() -> None:
    machines: list[Machine] = []

    def start(house: House) -> None:
        machines.append(long_at_work(house))
        machines[-1].is_off(3600.0)

    def meddle(_house: House) -> None:
        if not models.database.in_transaction():
            glitch(machines[-1], f"key-{len(machines)}")

    met = 0
    for house in meddlings(lambda one: retention(one).run(60.0), start, {"note"}, meddle):
        machine = machines[-1]
        machine.runs(75.0)
        assert machine.prunes() == 0
        met += len(house.files())
    assert met > 2


def test_the_machine_starts_anew_with_the_right_time(machine: Machine) -> None:
    machine.is_set(-400 * DAY)
    machine.runs(DAY)
    fail(machine.house, "only copy")
    machine.prunes()
    machine.is_off(60.0, 400 * DAY)
    assert machine.prunes() == 0


def test_nothing_is_older_than_its_record(machine: Machine) -> None:
    """As an earlier flood has left it, that did not look at the clock then."""
    [record] = fail(machine.house, "only copy")
    settled = utc_text(machine.house.clock.now() - timedelta(days=400))
    with models.write():
        models.execute("UPDATE file_records SET completed_at = ? WHERE id = ?", (settled, record))
    assert machine.prunes() == 0
    machine.runs(KEEP + 1.0)
    assert machine.prunes() == 1


def test_directories_of_incoming_rest_by_a_clock_that_is_right(machine: Machine) -> None:
    house = machine.house
    directory = house.spool.absolute("incoming/p/b/dir")
    os.makedirs(directory)
    house.clock.moment = datetime.fromtimestamp(os.stat(directory).st_ctime, timezone.utc)
    machine.prunes()
    machine.is_set(2 * REST)
    run = retention(house)
    assert run.foresee().directories == 0 == run.run(60.0, directories=True).directories
    machine.runs(REST + 1.0)
    assert run.foresee().directories == 1 == run.run(60.0, directories=True).directories


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
    for _ in range(int(KEEP / DAY) + 1):  # the first start counts, in case it was right before
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
    """However the clock is set, and whenever somebody looks at it."""
    with quick_house() as house:
        machine = long_at_work(house)
        failed: dict[int, float] = {}
        for number, (what, days, back) in enumerate(course):
            if what == "fails":
                [record] = fail(house, f"key-{number}")
                failed[record] = machine.true
            elif what == "runs":
                machine.runs(days * DAY)
            elif what == "is_set":
                machine.is_set(-days * DAY if back else days * DAY)
            else:
                machine.prunes()
            gone = [row["id"] for row in house.rows() if row["left_how"] == "removed"]
            # Small leaps are none.
            early = KEEP - len(course) * leaps.LEAP
            assert all(machine.true - failed[record] >= early for record in gone)


def test_the_kernel_knows_when_the_machine_was_started() -> None:
    one, other = leaps.running(), leaps.running()
    assert one.boot == other.boot
    assert 0.0 < one.seconds <= other.seconds


def test_a_look_alone_notes_nothing(house: House) -> None:
    later = START + timedelta(days=1)
    seen, news = leaps.look(later, lambda: Running("b", 1.0))
    assert news
    assert seen.last_set == START
    assert models.execute("SELECT clock FROM spool").fetchone() == (None,)
    # What nobody can read may have told of a leap.
    doubtful = replace(seen, set_at=later.timestamp())
    whole = '{"boot": "b", "began": %s, "at": 1, "latest": 1, "set_at": 1}'
    for damaged in ("{", "{}", "[]", "x", '{"boot": 1}', whole % "null", whole.replace("a", "c")):
        with models.write():
            models.execute("UPDATE spool SET clock = ?", (damaged,))
        assert leaps.look(later, lambda: Running("b", 1.0)) == (doubtful, True)
    with models.write():
        models.execute("UPDATE spool SET clock = NULL")
    assert leaps.note(later, lambda: Running("b", 1.0)) == seen
    # An earlier program's note lacks the last of all.
    without = 'json_remove(clock, "$.set_back")'
    for clock in ("clock", without):
        with models.write():
            models.execute(f"UPDATE spool SET clock = {clock}")
        again, news = leaps.look(later + timedelta(seconds=5), lambda: Running("b", 6.0))
        assert not news
        assert again.last_set == START


def test_what_nobody_knows_of_the_database_keeps_no_file_from_failing(machine: Machine) -> None:
    for damage in ("UPDATE spool SET created_at = 'x'", "DELETE FROM spool"):
        with models.write():
            models.execute(damage)
        fail(machine.house, damage)
        with pytest.raises(models.DamagedError):
            machine.prunes()
    assert len(machine.house.files()) == 2
