"""The right to work on a record while its owner lives."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from flood import models
from flood.columns import name_value, utc_text
from flood.record_values import (
    CLAIM_COLUMNS,
    TASK_BYTES,
    TASK_FILES,
    Claimed,
    chunks,
    claimed_from,
)

#: The fence: it holds only while this very claim stands.
MINE: Final = "id = ? AND current_state = 'processing' AND owner = ? AND claim_number = ?"

#: The same for each row of a table of claims.
STANDING: Final = (
    "id = record AND current_state = 'processing' AND owner = worker AND claim_number = number"
)

_DUE: Final = (
    "current_state = 'processing' AND owner IS NULL AND profile = ? AND bucket = ? "
    "AND next_attempt_at <= ?"
)
_SIZE: Final = 1
_ALONE: Final = 2

#: Files of so many bytes at most go along where those before them are too much for one claim, if
#: they are among so many of those that have been due longest.
SMALL: Final = 256 * 1024
_AMONG: Final = 5_000


def claim(
    ids: Sequence[int],
    profile: str,
    bucket: str,
    *,
    owner: str,
    large: int,
    now: datetime,
    heavy: int | None = None,
    room: Callable[[], bool] = lambda: True,
) -> list[Claimed]:
    """Claim what is due of `ids`, topped up with the oldest due records of the same profile and
    bucket.

    At most TASK_FILES records, of TASK_BYTES in all beside small ones; a file of `large` bytes or
    more, and one that a lost attempt made suspect, is claimed alone. Without `room` for files of
    `heavy` bytes or more (of `large`, if that is None) others go instead.
    """
    heavy = large if heavy is None else heavy
    where = (name_value(profile), name_value(bucket), utc_text(now))
    with models.write():
        chosen = _topped_up(_due(ids, where) or _oldest(where, 1, None), where, large)
        if any(row[_SIZE] >= heavy for row in chosen) and not room():
            light = [row for row in chosen if row[_SIZE] < heavy]
            chosen = _topped_up(light or _oldest(where, 1, heavy, alone=True), where, heavy)
        return _take(chosen, owner, where[-1])


def more(
    profile: str, bucket: str, *, owner: str, large: int, company: int, now: datetime
) -> list[Claimed]:
    """Claim what has been due longest there, to go with `company` files of this owner that are on
    their way already: none of `large` bytes or more, nor any that goes alone."""
    where = (name_value(profile), name_value(bucket), utc_text(now))
    with models.write():
        oldest = _oldest(where, TASK_FILES, large)
        found = _with_small(list(_fitting(oldest)), len(oldest), where)
        if found:
            # One that was claimed by itself has company now, too.
            models.execute(
                "UPDATE file_records SET claim_size = ? "
                "WHERE current_state = 'processing' AND owner = ? AND claim_size = 1",
                (company + len(found), owner),
            )
        return _take(found, owner, where[-1], company)


def _take(chosen: Sequence[Any], owner: str, at: str, company: int = 0) -> list[Claimed]:
    """Claim these at this time, in their order, which then are in company of so many others."""
    taken = [row[0] for row in chosen]
    rows: list[Any] = []
    for part, marks in chunks(taken):
        models.execute(
            "UPDATE file_records SET owner = ?, claim_number = claim_number + 1, "
            "claimed_at = ?, claim_size = ?, last_updated = ? "
            f"WHERE id IN ({marks}) AND current_state = 'processing' AND owner IS NULL",
            (owner, at, company + len(taken), at, *part),
        )
        rows += models.execute(
            f"SELECT {CLAIM_COLUMNS} FROM file_records WHERE id IN ({marks}) AND owner = ?",
            (*part, owner),
        ).fetchall()
    claims = {row[0]: claimed_from(row) for row in rows}
    return [claims[record_id] for record_id in taken if record_id in claims]


def _due(ids: Sequence[int], where: tuple[Any, ...]) -> list[Any]:
    rows: list[Any] = []
    for part, marks in chunks(ids):
        rows += models.execute(
            f"SELECT id, size, alone FROM file_records WHERE id IN ({marks}) AND {_DUE} "
            "ORDER BY next_attempt_at, id",
            (*part, *where),
        ).fetchall()
    return rows


def _oldest(
    where: tuple[Any, ...], limit: int, large: int | None, *, alone: bool = False
) -> list[Any]:
    """The records that have been due longest; with `large` only smaller ones, which may have
    company unless those that go `alone` are wanted, too."""
    company = "" if large is None else f"AND size < {large:d} "
    if large is not None and not alone:
        company += "AND alone = 0 "
    rows: list[Any] = models.execute(
        f"SELECT id, size, alone FROM file_records WHERE {_DUE} {company}"
        "ORDER BY next_attempt_at, id LIMIT ?",
        (*where, limit),
    ).fetchall()
    return rows


def _topped_up(rows: Sequence[Any], where: tuple[Any, ...], large: int) -> list[Any]:
    """What of these is claimed together, with the oldest of the others if they may have company."""
    chosen = _choose(rows, large)
    if not chosen or not _shareable(chosen, large):
        return chosen
    seen = {row[0] for row in chosen}
    more = [row for row in _oldest(where, TASK_FILES, large) if row[0] not in seen]
    return _with_small(_choose([*chosen, *more], large), len(chosen) + len(more), where)


def _with_small(chosen: list[Any], of: int, where: tuple[Any, ...]) -> list[Any]:
    """What was chosen `of` so many, with small ones if all of them are too much: over a slow line
    they would wait for hundreds of larger ones, of which one goes at a time."""
    if len(chosen) >= min(of, TASK_FILES):
        return chosen
    rows = models.execute(
        "SELECT id, size, alone FROM (SELECT id, size, alone FROM file_records "
        f"WHERE {_DUE} AND alone = 0 ORDER BY next_attempt_at, id LIMIT ?) WHERE size <= ? LIMIT ?",
        (*where, _AMONG, SMALL, TASK_FILES),  # enough though all that was chosen is among them
    ).fetchall()
    seen = {row[0] for row in chosen}
    small = [row for row in rows if row[0] not in seen]
    return [*chosen, *small[: TASK_FILES - len(chosen)]]


def _choose(rows: Sequence[Any], large: int) -> list[Any]:
    """As many small files as one task carries; where there is none, the first of the others."""
    small = [row for row in rows if not _solitary(row, large)]
    return list(_fitting(small)) if small else list(rows[:1])


def _fitting(rows: Sequence[Any]) -> Iterator[Any]:
    total = 0
    for count, row in enumerate(rows[:TASK_FILES]):
        total += row[_SIZE]
        if count and total > TASK_BYTES:
            return
        yield row


def _shareable(chosen: Sequence[Any], large: int) -> bool:
    """Whether others may be sent along."""
    return not _solitary(chosen[0], large) and len(chosen) < TASK_FILES


def _solitary(row: Any, large: int) -> bool:
    return bool(row[_ALONE]) or row[_SIZE] >= large


def still_mine(claims: Iterable[Claimed]) -> list[Claimed]:
    """Those whose claim still stands. Inside `models.write()` the answer holds until the commit."""
    asked = list(claims)
    mine: set[tuple[int, str, int]] = set()
    for standing, parameters in with_standing(asked):
        sql = f"{standing} SELECT id, owner, claim_number FROM mine"
        mine.update(models.execute(sql, parameters).fetchall())
    return [one for one in asked if (one.id, one.owner, one.number) in mine]


def with_standing(claims: Sequence[Claimed]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What goes before a SELECT from a table `mine`, of the records whose claims still stand, with
    its parameters; in as many parts as there must be statements."""
    for part, _ in chunks(claims, of=3):
        values = ", ".join(["(?, ?, ?)"] * len(part))
        yield (
            f"WITH claim (record, worker, number) AS (VALUES {values}), mine AS ("
            # Only so does each claim find its record by the id, in the order of the claims.
            f"SELECT file_records.* FROM claim CROSS JOIN file_records ON {STANDING})",
            tuple(value for one in part for value in (one.id, one.owner, one.number)),
        )


def of_owner(owner: str) -> list[Claimed]:
    """Everything that this owner has claimed."""
    rows = models.execute(
        f"SELECT {CLAIM_COLUMNS} FROM file_records "
        "WHERE current_state = 'processing' AND owner = ? ORDER BY claimed_at, id",
        (owner,),
    ).fetchall()
    return [claimed_from(row) for row in rows]


def of_record(record_id: int) -> Claimed | None:
    """The claim on this record; None if nobody has claimed it."""
    row = models.execute(
        f"SELECT {CLAIM_COLUMNS} FROM file_records "
        "WHERE id = ? AND current_state = 'processing' AND owner IS NOT NULL",
        (record_id,),
    ).fetchone()
    return claimed_from(row) if row else None


def owners() -> list[str]:
    """Everybody who has claimed records."""
    rows = models.execute(
        "SELECT DISTINCT owner FROM file_records "
        "WHERE current_state = 'processing' AND owner IS NOT NULL"
    ).fetchall()
    return [row[0] for row in rows]


def remember_multipart(one: Claimed, upload_id: str | None) -> bool:
    """Note the multipart upload that this claim has begun, or with None that none is left."""
    with models.write():
        cursor = models.execute(
            f"UPDATE file_records SET multipart_upload_id = ? WHERE {MINE}",
            (upload_id, one.id, one.owner, one.number),
        )
    return bool(cursor.rowcount)
