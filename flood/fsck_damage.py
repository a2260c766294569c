"""Finds rows that hold what flood never writes, removes them."""

from collections.abc import Iterator
from typing import Any, Final

from flood import departures, models
from flood import fsck_kinds as kinds
from flood.fsck_kinds import Finding
from flood.models import DamagedError, FileRecord, RetryAttempt, SpoolInfo, UtcField
from flood.stored import utc_moment

#: Rows in one answer; between two answers nothing of the database is held.
_PAGE: Final = 2000


def of_spool() -> list[Finding]:
    """The row that ties the database to its spool, if it is such a one."""
    return list(_of(SpoolInfo))


def of_records() -> list[Finding]:
    """Every such record, every such attempt. Each is read in full, as SQLite's own check does not
    know what belongs where; raises what else the database raises."""
    return [*_of(FileRecord), *_of(RetryAttempt)]


def remove(finding: Finding) -> None:
    """Delete the row, if it is damaged still, inside `models.write()`: with a record all its
    attempts, with an attempt all others of its record, as they count up from the first."""
    table, number = finding.version
    if _wrong(table, number) is None:
        return
    if table is FileRecord:
        departures.erase(number)
    elif table is RetryAttempt:
        departures.erase_attempts(number)
    else:
        models.execute(f"DELETE FROM {_name(table)} WHERE id = ?", (number,))


def _of(table: Any) -> Iterator[Finding]:
    after = -1
    while True:
        ids = [
            number
            for (number,) in models.execute(
                f"SELECT id FROM {_name(table)} WHERE id > ? ORDER BY id LIMIT {_PAGE}", (after,)
            ).fetchall()
        ]
        if not ids:
            return
        try:
            _read(table, "id BETWEEN ? AND ?", ids[0], ids[-1])
        except DamagedError:
            for number in ids:
                wrong = _wrong(table, number)
                if wrong is not None:
                    yield _finding(table, number, wrong)
        after = ids[-1]


def _read(table: Any, where: str, *parameters: int) -> None:
    """Read rows in full, as whoever needs a value of theirs would."""
    fields = table._meta.sorted_fields
    columns = ", ".join(field.column_name for field in fields)
    rows = models.execute(f"SELECT {columns} FROM {_name(table)} WHERE {where}", parameters)
    times = [place for place, field in enumerate(fields) if isinstance(field, UtcField)]
    found = rows.fetchall()
    for place in times:
        try:
            for text in {row[place] for row in found} - {None}:
                utc_moment(text)
        except DamagedError as error:
            raise DamagedError(f"{fields[place].column_name}: {error.how}") from None


def _wrong(table: Any, number: int) -> str | None:
    """What is wrong with one row, in words; None if nothing is."""
    try:
        _read(table, "id = ?", number)
    except DamagedError as error:
        return error.how
    return None


def _finding(table: Any, number: int, wrong: str) -> Finding:
    record = number if table is FileRecord else None
    detail = wrong if table is FileRecord else f"row {number} of {_name(table)}, {wrong}"
    return Finding(kinds.DAMAGED, record=record, detail=detail, version=(table, number))


def _name(table: Any) -> str:
    return str(table._meta.table_name)
