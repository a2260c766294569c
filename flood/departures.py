"""What records tell of files that leave completed or failed."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from flood import models, queries
from flood.columns import name_from, name_value, utc_text
from flood.record_values import AHEAD, ROW_COLUMNS, Arrival, Row, chunks, row_from
from flood.states import FAILED
from flood.versions import VERSION, guarded, guards, place

#: How a file has left: flood deleted it for its owner's retention; flood-retry took it back; it was
#: not there any more, by somebody's hand, or as a process died that had not said so yet.
How = Literal["removed", "retried", "gone"]
REMOVED: Final[How] = "removed"
RETRIED: Final[How] = "retried"
GONE: Final[How] = "gone"

#: Where a page ended: a time as the tables hold it, an id.
Mark = tuple[str, int]
START: Final[Mark] = ("", 0)

# The receipt: a store answers every upload with an ETag, and only who has one writes a success.
_PROVEN: Final = "upload_outcome = 'success' AND etag IS NOT NULL AND bytes_sent = size"

_ENDED: Final = "current_state IN ('completed', 'failed') AND multipart_upload_id IS NULL"

_LONG_AGO: Final = "last_pruned_at IS NULL OR last_pruned_at <= ? OR last_pruned_at > ?"

_LYING: Final = f"{ROW_COLUMNS}, completed_at, {_PROVEN}, error_code, created_at"


class Lying(NamedTuple):
    """A settled record whose file lies where it says, as far as is known. `proven`: it has the
    store's receipt for all of the file. `settled` is when the file got there, as the tables hold
    it."""

    row: Row
    settled: str
    proven: bool
    error_code: str | None
    created: str

    @property
    def since(self) -> str:
        """When its age begins, as the tables hold it: no file that has failed, and is in no store,
        did so before it had a record, but by a clock that was behind."""
        failed = self.row.state == FAILED
        return max(self.settled, self.created) if failed else self.settled

    @property
    def mark(self) -> Mark:
        """Where a page ends whose last record this is."""
        return self.settled, self.row.id


def lying(state: str, after: Mark, before: datetime, limit: int) -> list[Lying]:
    """Records in this state, settled by then (aware), whose files have not left it, the oldest
    first: a page."""
    return [
        _lying(columns)
        for columns in models.execute(
            # The state stands in the text, or SQLite would not take the partial index.
            f"SELECT {_LYING} FROM file_records WHERE current_state = '{state}' "
            "AND left_at IS NULL AND completed_at <= ? AND (completed_at, id) > (?, ?) "
            "ORDER BY completed_at, id LIMIT ?",
            (utc_text(before), *after, limit),
        ).fetchall()
    ]


def completed(ids: Sequence[int]) -> list[Lying]:
    """Those of these records whose files lie in completed."""
    return [
        _lying(columns)
        for part, marks in chunks(ids)
        for columns in models.execute(
            f"SELECT {_LYING} FROM file_records WHERE id IN ({marks}) "
            "AND current_state = 'completed' AND left_at IS NULL AND completed_at IS NOT NULL",
            tuple(part),
        ).fetchall()
    ]


def still(ids: Sequence[int]) -> set[int]:
    """Those of these settled records whose files have not left. Inside `models.write()` the answer
    holds until the commit."""
    return {
        row[0]
        for part, marks in chunks(ids)
        for row in models.execute(
            f"SELECT id FROM file_records WHERE id IN ({marks}) AND left_at IS NULL "
            "AND current_state IN ('completed', 'failed')",
            tuple(part),
        ).fetchall()
    }


def inodes(paths: Sequence[str], state: str) -> dict[str, set[tuple[int, int]]]:
    """Device with inode of whatever the records in this state say to lie at these paths."""
    found: dict[str, set[tuple[int, int]]] = {}
    for part, marks in chunks(paths):
        for path, *inode in models.execute(
            f"SELECT spool_path, device, inode FROM file_records WHERE spool_path IN ({marks}) "
            "AND current_state = ? AND left_at IS NULL",
            (*(name_value(path) for path in part), state),
        ).fetchall():
            found.setdefault(name_from(path), set()).add((inode[0], inode[1]))
    return found


def leave(ids: Collection[int], how: How, now: datetime) -> None:
    """Note that the files of these settled records have left, unless that is known already.
    `last_updated` stays: whoever compares it with a file wants to know when that was settled."""
    with models.write():
        models.execute_many(
            "UPDATE file_records SET left_at = ?, left_how = ? WHERE id = ? AND left_at IS NULL "
            "AND current_state IN ('completed', 'failed')",
            [(utc_text(now), how, record_id) for record_id in ids],
        )


def replaced(path: str, record_id: int, now: datetime) -> None:
    """Note that what lies at this place of failed is this record's file, so that no other record
    takes it for its own: somebody moved a failed file back himself, or a flood-retry died between
    its rename and its rows, and the file has failed again."""
    with models.write():
        models.execute(
            "UPDATE file_records SET left_at = ?, left_how = ? WHERE spool_path = ? "
            "AND current_state = 'failed' AND left_at IS NULL AND id <> ?",
            (utc_text(now), GONE, name_value(path), record_id),
        )


def retried(record_id: int, successor: int, now: datetime) -> None:
    """Note that the file of a failed record goes on with another record, which is the same version
    of its key as the first that the file ever had."""
    with models.write():
        leave([record_id], RETRIED, now)
        models.execute(
            "UPDATE file_records SET (origin, arrival) = "
            "(SELECT COALESCE(origin, id), arrival FROM file_records WHERE id = ?) WHERE id = ?",
            (record_id, successor),
        )


def leaving(arrivals: Sequence[Arrival]) -> dict[str, Row]:
    """The records of failed that these files in processing left without a word, by their paths
    there, as a flood-retry died before it could write theirs."""
    found = {}
    wanted = {(one.profile, one.bucket, one.key, one.identity): one.path for one in arrivals}
    where = "current_state = 'failed' AND left_at IS NULL ORDER BY id"
    for columns in queries.of_keys([one[:3] for one in wanted], ROW_COLUMNS, where):
        row = row_from(columns)
        path = wanted.get((row.profile, row.bucket, row.key, row.identity))
        if path is not None:
            found[path] = row
    return found


def left(record_id: int) -> tuple[How, int | None] | None:
    """How the file of this record has left, with the record that it goes on with if it was retried
    and that one is still known; None if it has not."""
    found: tuple[How, int | None] | None = models.execute(
        "SELECT left_how, (SELECT min(id) FROM file_records AS later "
        "WHERE later.profile = one.profile AND later.bucket = one.bucket "
        "AND later.filepath = one.filepath AND later.id > one.id "
        "AND later.origin = COALESCE(one.origin, one.id)) FROM file_records AS one "
        "WHERE id = ? AND left_at IS NOT NULL",
        (record_id,),
    ).fetchone()
    return found


def latest_at(path: str) -> int | None:
    """The record of whatever lies at this place of failed; None if no record knows it."""
    found = models.execute(
        "SELECT max(id) FROM file_records WHERE spool_path = ? AND current_state = 'failed' "
        "AND left_at IS NULL",
        (name_value(path),),
    ).fetchone()
    return None if found is None else found[0]


def returned(record_id: int) -> bool:
    """Note that a file which had left is there again, as after a power failure."""
    with models.write():
        cursor = models.execute(
            "UPDATE file_records SET left_at = NULL, left_how = NULL WHERE id = ? "
            "AND left_at IS NOT NULL AND current_state IN ('completed', 'failed')",
            (record_id,),
        )
    return bool(cursor.rowcount)


def without_files(after: Mark, before: datetime, limit: int) -> list[Mark]:
    """Records settled by then (aware) whose files have left, and that have no multipart upload, the
    oldest first: a page."""
    rows = models.execute(
        f"SELECT completed_at, id FROM file_records WHERE left_at IS NOT NULL AND {_ENDED} "
        "AND completed_at <= ? AND (completed_at, id) > (?, ?) ORDER BY completed_at, id LIMIT ?",
        (utc_text(before), *after, limit),
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


def past(ids: Sequence[int]) -> list[int]:
    """Those of these records `without_files` that nothing needs any more: nor do they tell
    flood-retry that an earlier version, which lies in failed or may come there yet, is outdated.
    Inside `models.write()` the answer holds until the commit."""
    found = []
    for part, marks in chunks(ids):
        rows = models.execute(
            f"SELECT {VERSION}, one.id FROM file_records AS one WHERE id IN ({marks}) "
            f"AND left_at IS NOT NULL AND {_ENDED}",
            tuple(part),
        ).fetchall()
        needed = guarded(rows)
        found += [row[-1] for row, is_needed in zip(rows, needed, strict=True) if not is_needed]
    return found


def past_without(leaving: Collection[int], before: datetime) -> int:
    """How many records would be `past`, had the files of these left."""
    ids, named = json.dumps(list(leaving)), "(SELECT value FROM json_each(?))"
    kept = guards(f"earlier.id NOT IN {named}")
    return sum(
        models.execute(
            # Once for all records what keeps any, as a key may have many of both.
            "WITH kept AS (SELECT profile, bucket, filepath, min(place) AS first "
            f"FROM ({kept}) GROUP BY 1, 2, 3) "
            "SELECT count(*) FROM file_records AS one "
            "LEFT JOIN kept ON kept.profile = one.profile AND kept.bucket = one.bucket "
            f"AND kept.filepath = one.filepath WHERE {gone} AND {_ENDED} AND completed_at <= ? "
            f"AND (first IS NULL OR first >= {place('one')})",
            (ids, ids, *parameters, utc_text(before)),
        ).fetchone()[0]
        for gone, parameters in (
            ("left_at IS NOT NULL", ()),
            (f"left_at IS NULL AND id IN {named}", (ids,)),
        )
    )


def forget(ids: Sequence[int]) -> None:
    """Delete these records with their attempts; whoever calls is inside `models.write()`, and has
    seen there that they are past."""
    models.execute_many(
        "DELETE FROM retry_attempts WHERE record_id = ?", [(record_id,) for record_id in ids]
    )
    models.execute_many(
        "DELETE FROM file_records WHERE id = ? AND left_at IS NOT NULL",
        [(record_id,) for record_id in ids],
    )


def erase(record_id: int) -> None:
    """Delete a record that is damaged, with its attempts, inside `models.write()`: its file is as
    good as one that never had any."""
    models.execute("DELETE FROM retry_attempts WHERE record_id = ?", (record_id,))
    models.execute("DELETE FROM file_records WHERE id = ?", (record_id,))


def erase_attempts(attempt_id: int) -> None:
    """Delete all attempts of the record that this damaged one is of, inside `models.write()`: as
    attempts count up from the first, the record has all its retries again."""
    models.execute(
        "UPDATE file_records SET retry_count = 0 WHERE current_state = 'processing' "
        "AND id = (SELECT record_id FROM retry_attempts WHERE id = ?)",
        (attempt_id,),
    )
    models.execute(
        "DELETE FROM retry_attempts WHERE id = ? "
        "OR record_id = (SELECT record_id FROM retry_attempts WHERE id = ?)",
        (attempt_id, attempt_id),
    )


def prune_begins(now: datetime, interval: float) -> bool:
    """Whether this caller is the one to look for empty directories: nobody else has begun within
    `interval` seconds. A time in the future, left by a clock that was set back, holds nothing up;
    `now` is taken inside `models.write()`, as for `queries.sweep_begins`."""
    with models.write():
        cursor = models.execute(
            f"UPDATE spool SET last_pruned_at = ?, prune_mark = '' WHERE id = 1 AND ({_LONG_AGO})",
            (utc_text(now), *_long_ago(now, interval)),
        )
    return bool(cursor.rowcount)


def prune_mark() -> str | None:
    """After which path the look for empty directories goes on, "" if that is its beginning; None
    if it has come to its end."""
    row = models.execute("SELECT prune_mark FROM spool WHERE id = 1").fetchone()
    return None if row is None or row[0] is None else name_from(row[0])


def prune_stops(mark: str, path: str | None) -> None:
    """Note that the look which went on after `mark` stopped at `path`, or came to its end, unless
    somebody else has noted how far it came since."""
    models.execute(
        "UPDATE spool SET prune_mark = ? WHERE id = 1 AND prune_mark = ?",
        (None if path is None else name_value(path), name_value(mark)),
    )


def prune_is_due(now: datetime, interval: float) -> bool:
    """Whether a look for empty directories goes on, or `prune_begins` would let this caller begin
    one; asked without a word to others."""
    row = models.execute(
        "SELECT EXISTS (SELECT 1 FROM spool WHERE id = 1 "
        f"AND (prune_mark IS NOT NULL OR {_LONG_AGO}))",
        _long_ago(now, interval),
    ).fetchone()
    return bool(row[0])


def _long_ago(now: datetime, interval: float) -> tuple[str, str]:
    return utc_text(now - timedelta(seconds=interval)), utc_text(now + AHEAD)


def _lying(columns: Sequence[Any]) -> Lying:
    return Lying(row_from(columns), columns[11], bool(columns[12]), *columns[13:])
