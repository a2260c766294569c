"""Rows that hold what flood never writes: whoever reads them says so, flood-fsck mends them."""

from collections.abc import Callable
from typing import Any

import pytest

from flood import claims, fsck_damage, models, status_view, story
from flood.commands.status import main as flood_status
from flood.layout import Place
from flood.tasks import enqueue_ring
from tests.fscking import CLEAN, consistent, fsck, names
from tests.spooling import House
from tests.unit.test_fsck import BROKEN, done, given_up
from workers.decisions import TryAgain

NO_TEXT = "CAST(x'66B1' AS TEXT)"

#: What each type of column cannot hold, as SQL.
WRONG = {
    "INT": ["'ten'", "x'10'", "1.5"],
    "BOOL": ["'ten'", "x'10'"],
    "FLOAT": ["'ten'", "x'10'"],
    "TEXT": [NO_TEXT, "x'66'"],
    "NAME": [NO_TEXT],
}
TIMES = ["'2026-11-28T10209:00.000000Z'", "'2026-02-29T10:00:00.000000Z'", "'2026-11-28 10:00:00'"]
CHOSEN = ["'complEted'", "NULL"]

COLUMNS = [(table, field) for table in models.TABLES for field in table._meta.sorted_fields[1:]]


def wrong_values(field: Any) -> list[str]:
    more = TIMES if isinstance(field, models.UtcField) else []
    if field.choices:
        more = CHOSEN[: 1 if field.null else 2]
    return WRONG[field.field_type] + more


def written(change: str) -> bool:
    """Change a row as a disk would that does not ask for constraints; False where SQLite itself
    keeps such a value out."""
    models.execute("PRAGMA ignore_check_constraints = ON")
    try:
        models.execute(change)
    except models.DatabaseError as error:
        if "NOT NULL" in str(error) or "UNIQUE" in str(error):
            return False
        raise
    finally:
        models.execute("PRAGMA ignore_check_constraints = OFF")
    return True


def full(house: House) -> None:
    """One record in each way, with an attempt; all other values are as they come."""
    done(house, "done")
    given_up(house, "bad")
    house.admit("waits")
    [claim] = house.claim()
    house.settle(TryAgain(claim, claim.identity, BROKEN, 30.0))
    house.admit("due")


@pytest.mark.parametrize(("table", "field"), COLUMNS, ids=lambda x: getattr(x, "name", ""))
def test_whatever_a_column_cannot_hold_is_found(house: House, table: Any, field: Any) -> None:
    full(house)
    name, column = table._meta.table_name, field.column_name
    [(before,)] = models.execute(f"SELECT {column} FROM {name} WHERE id = 1").fetchall()
    for value in wrong_values(field):
        if not written(f"UPDATE {name} SET {column} = {value} WHERE id = 1"):
            continue
        found = [*fsck_damage.of_spool(), *fsck_damage.of_records()]
        assert [each.version for each in found] == [(table, 1)], value
        assert column in str(found[0].detail)
    models.execute(f"UPDATE {name} SET {column} = ? WHERE id = 1", (before,))
    assert [*fsck_damage.of_spool(), *fsck_damage.of_records()] == []


def name_of_a_record(_house: House) -> None:
    models.execute(f"UPDATE file_records SET filepath = {NO_TEXT} WHERE id = 4")


def time_of_one(_house: House) -> None:
    models.execute(f"UPDATE file_records SET created_at = {TIMES[0]} WHERE id = 1")


def claimed_one(house: House) -> None:
    house.claim()
    models.execute("UPDATE file_records SET size = 'ten' WHERE owner IS NOT NULL")


def attempt(_house: House) -> None:
    models.execute("UPDATE retry_attempts SET error_message = x'00' WHERE record_id = 3")


def attempt_of_nobody(_house: House) -> None:
    models.execute("UPDATE retry_attempts SET record_id = 'nobody' WHERE record_id = 1")


def row_of_the_spool(_house: House) -> None:
    models.execute(f"UPDATE spool SET spool_id = {NO_TEXT}")


def everything(house: House) -> None:
    for arrange in (name_of_a_record, attempt, row_of_the_spool):
        arrange(house)


@pytest.mark.parametrize(
    "arrange",
    [
        name_of_a_record,
        time_of_one,
        claimed_one,
        attempt,
        attempt_of_nobody,
        row_of_the_spool,
        everything,
    ],
)
def test_damaged_rows_are_removed_and_made_anew_from_the_directories(
    house: House, arrange: Callable[[House], None]
) -> None:
    enqueue_ring("p", "b")  # the test's own house only takes note of tasks
    full(house)
    files = house.files()
    arrange(house)
    report = fsck(house)
    assert {name for name, _ in names(report)} == {"damaged"}
    assert not report.compared
    report = fsck(house, repair=True)
    assert names(report) == CLEAN
    assert report.kept == []
    assert names(fsck(house)) == CLEAN
    assert house.files() == files

    # Then flood itself goes on, and what is tried again has all its retries.
    house.clock.advance(86_400.0)
    for claim in house.claim():
        house.settle(TryAgain(claim, claim.identity, BROKEN, 30.0))
    assert names(fsck(house)) == CLEAN
    consistent(house)


def test_a_record_that_is_in_order_keeps_its_history(house: House) -> None:
    full(house)
    kept = [house.row(record) for record in (2, 3, 4)]
    attempts = [house.attempts(record) for record in (2, 3)]
    time_of_one(house)
    fsck(house, repair=True)
    assert [house.row(record) for record in (2, 3, 4)] == kept
    assert [house.attempts(record) for record in (2, 3)] == attempts


def test_another_spools_database_is_not_mended(house: House) -> None:
    """Its own row is damaged, so that it cannot tell; nor does the spool know this path."""
    house.spool.keep(".flood/spool", '{"id": "%s", "database": "/gone/flood.db"}' % ("f" * 32))
    row_of_the_spool(house)
    with pytest.raises(Exception, match="no database of flood's"):
        fsck(house, repair=True)
    models.execute("UPDATE spool SET spool_id = 'x'")


@pytest.mark.parametrize("value", [NO_TEXT, "x'66B1'"])
def test_who_reads_a_damaged_row_is_told_what_to_do(house: House, value: str) -> None:
    house.admit("key")
    models.execute(f"UPDATE file_records SET owner = {value}, claimed_at = created_at")
    with pytest.raises(models.DatabaseError) as caught:
        claims.owners()
    told = models.explain(caught.value)
    assert told.startswith(f"the database {house.database} is damaged, ")
    assert told.count("flood-fsck --repair mends it") == 1


def readers(house: House) -> list[Callable[[], Any]]:
    place = Place("failed", "p", "b", "bad")
    return [
        lambda: status_view.look(
            house.spool,
            house.database,
            [],
            now=house.clock.now,
            clock=house.clock.seconds,
            seconds=60.0,
        ),
        lambda: story.tell(house.spool, place, [], house.advice(), now=house.clock.now),
        house.claim,
        house.sweep,
        house.recover,
    ]


@pytest.mark.parametrize("field", models.FileRecord._meta.sorted_fields[1:], ids=lambda x: x.name)
def test_whoever_meets_a_damaged_row_knows_it_for_one(house: House, field: Any) -> None:
    """Whatever is read, it fails as the database does, or goes on as if nothing was."""
    full(house)
    for value in wrong_values(field)[:4]:
        if not written(f"UPDATE file_records SET {field.column_name} = {value}"):
            continue
        for read in readers(house):
            told = ""
            try:
                read()
            except models.DatabaseError as error:
                told = models.explain(error)
            assert not told or "flood-fsck" in told, (value, read, told)


def test_monitoring_hears_of_a_damaged_database(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLOOD_SERVER_DIRECTORY", house.spool.root)
    full(house)
    models.execute(f"UPDATE file_records SET created_at = {TIMES[0]}")
    models.close()
    assert flood_status(["--check"]) == 3
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("FLOOD UNKNOWN - ")
    assert "flood-fsck --repair" in line
    for arguments in ([], ["--json"], ["s3://p/b/bad"]):
        assert flood_status(arguments) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert house.database in line
    models.bind(house.database)
