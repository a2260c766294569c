"""Tells which versions of a key came first."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from flood import layout, models, queries
from flood.columns import name_from, name_value
from flood.queries import StoredKey
from flood.record_values import chunks

#: The code of `records.RECORD_LOST` and PROOF_LOST, whose records were made from the directory.
REMADE: Final = "record_lost"


#: When a record's file got to where it lies, as far as that is known.
SINCE: Final = "COALESCE(completed_at, created_at)"

#: Between the places of two records in the order of arrival there are so many others.
_STEP: Final = 2**20

# So many rows are judged together.
_PAGE: Final = 400


def place(record: str) -> str:
    """The place of a record, named so in the statement, among the versions of its key: that of the
    first record of its file, unless it had one before it arrived, and others were faster."""
    # The cast is for damaged databases: nothing else is to be compared with.
    return f"CAST(COALESCE({record}.arrival, {_first(record)} * {_STEP}) AS INTEGER)"


def _first(record: str) -> str:
    """The first record of the same file."""
    return f"COALESCE({record}.origin, {record}.id)"


def _remade(version: str) -> str:
    return (
        f"EXISTS (SELECT 1 FROM file_records AS remade WHERE remade.id = {version} "
        f"AND remade.error_code = '{REMADE}')"
    )


def _path_begins(record: str, text: str) -> str:
    # A path that is no UTF-8 is a blob, which equals no text.
    return f"CAST(substr({record}.spool_path, 1, {len(text)}) AS TEXT) = '{text}'"


def _came_to_failed(record: str) -> str:
    """Whether its file ever lay in failed: one that was gone before has its last path."""
    return _path_begins(record, "failed/")


# Versions of a key are in the order of their places, unless the later of two was remade: a record
# that is made from the directory says nothing of what was there before it.
_IS_LATER: Final = f"{place('later')} > {place('one')}"

_OF_ONE_KEY: Final = (
    "later.profile = one.profile AND later.bucket = one.bucket AND later.filepath = one.filepath"
)
# A copy that flood-put has begun is no version yet: it may break off, and its flood-put may be
# dead already, of which the tables know nothing.
_UNDER_WAY: Final = "later.current_state IN ('incoming', 'processing', 'completed')"
_LIES_IN_FAILED: Final = (
    f"later.current_state = 'failed' AND later.left_at IS NULL AND {_came_to_failed('later')}"
)
_HAS_A_FILE: Final = f"({_UNDER_WAY} OR ({_LIES_IN_FAILED}))"
# Nor has arrived what broke off, or was taken away, before it could be admitted.
_NOT_ARRIVED: Final = (
    "(later.current_state IN ('incoming_tmp', 'incoming') OR "
    f"(later.current_state = 'failed' AND {_path_begins('later', 'incoming')}))"
)
_PLACED: Final = f"NOT {_remade(_first('later'))}"
_NEWER: Final = (
    f"{_HAS_A_FILE} AND (later.current_state <> 'failed' OR NOT {_came_to_failed('one')}) "
    f"AND {_IS_LATER} AND {_PLACED}"
)

_KEY: Final = "later.profile = p AND later.bucket = b AND later.filepath = k"
# Of a key with a long history only the end is read: no record before one that is the first of its
# file comes later than that, unless it has an `arrival`.
_LAST_UNDER_WAY: Final = f"""
    SELECT id FROM (
        SELECT later.id, {place("later")} AS place FROM file_records AS later
        WHERE {_KEY} AND {_UNDER_WAY} AND {_PLACED} AND later.id >= COALESCE((
            SELECT later.id FROM file_records AS later
            WHERE {_KEY} AND {_UNDER_WAY} AND later.origin IS NULL AND {_PLACED}
            ORDER BY later.id DESC LIMIT 1), 0)
        UNION ALL SELECT * FROM (
            SELECT later.id, later.arrival FROM file_records AS later
            WHERE {_KEY} AND later.arrival IS NOT NULL AND {_UNDER_WAY} AND {_PLACED}
            ORDER BY later.arrival DESC LIMIT 1))
    ORDER BY place DESC LIMIT 1
"""
_LAST_IN_FAILED: Final = (
    f"SELECT later.id FROM file_records AS later WHERE {_KEY} AND {_LIES_IN_FAILED} AND {_PLACED} "
    f"ORDER BY {place('later')} DESC LIMIT 1"
)
_ANY_REMADE: Final = (
    f"EXISTS (SELECT 1 FROM file_records AS later WHERE {_KEY} AND error_code = '{REMADE}')"
)

#: What `Newest` has to know of a record `one`: its key, its place, whether its file came to failed.
VERSION: Final = f"one.profile, one.bucket, one.filepath, {place('one')}, {_came_to_failed('one')}"


class Other(NamedTuple):
    """Another version of a key, by its record with that one's state."""

    record: int
    state: str


class Newest:
    """The latest versions of keys, which are looked for once for each: a key may have failed
    thousands of times. Its answers are of when it was asked first."""

    def __init__(self) -> None:
        # Of each key what is last under way or completed, what in failed, with their places.
        self._last: dict[StoredKey, tuple[tuple[int, Other], tuple[int, Other]]] = {}
        self._remade: dict[StoredKey, bool] = {}

    def of(self, rows: Any) -> Iterator[tuple[Sequence[Any], bool]]:
        """The rows of a cursor, which begin with `VERSION`, each with whether it is superseded: a
        version of its key that came after it is under way or completed, or where its file was gone
        before it could come to failed, lies there."""
        while part := rows.fetchmany(_PAGE):
            self._look(part)
            yield from ((row, self._newer(row) is not None) for row in part)

    def newer(self, record_id: int) -> Other | None:
        """As `versions.newer`."""
        row = _version(record_id)
        if row is None:
            return None
        self._look([row])
        return self._newer(row)

    def unordered(self, record_id: int) -> Other | None:
        """As `versions.unordered`."""
        row = _version(record_id)
        if row is None:
            return None
        if _key(row) not in self._remade:
            self._remade |= dict(queries.by_key(_ANY_REMADE, [_key(row)]))
        return unordered(record_id) if self._remade[_key(row)] else _beside(record_id)

    def _newer(self, row: Sequence[Any]) -> Other | None:
        under_way, in_failed = self._last[_key(row)]
        candidates = [under_way] if row[4] else [under_way, in_failed]
        return next((other for place, other in candidates if place > row[3]), None)

    def _look(self, rows: Sequence[Sequence[Any]]) -> None:
        unknown = {_key(row) for row in rows} - self._last.keys()
        in_failed = dict(_last_of(_LAST_IN_FAILED, unknown))
        for key, under_way in _last_of(_LAST_UNDER_WAY, unknown):
            self._last[key] = under_way, in_failed[key]


def _version(record_id: int) -> Sequence[Any] | None:
    found: Sequence[Any] | None = models.execute(
        f"SELECT {VERSION} FROM file_records AS one WHERE id = ?", (record_id,)
    ).fetchone()
    return found


def _last_of(
    question: str, keys: Collection[StoredKey]
) -> Iterator[tuple[StoredKey, tuple[int, Other]]]:
    """The record that `question` answers for each of these keys, with its place; before all others
    if that is none."""
    found = dict(queries.by_key(question, keys))
    known = {}
    for part, marks in chunks([record for record in found.values() if record is not None]):
        for record, state, at in models.execute(
            f"SELECT id, current_state, {place('one')} FROM file_records AS one "
            f"WHERE id IN ({marks})",
            tuple(part),
        ).fetchall():
            known[record] = at, Other(record, state)
    for key, record in found.items():
        yield key, known.get(record, (0, Other(0, "")))


def _key(row: Sequence[Any]) -> StoredKey:
    return row[0], row[1], row[2]


def _kept(state: str, where: str) -> str:
    return (
        f"SELECT earlier.profile, earlier.bucket, earlier.filepath, CASE "
        f"WHEN {_remade(_first('earlier'))} THEN 0 ELSE {place('earlier')} END AS place "
        f"FROM file_records AS earlier WHERE earlier.current_state = '{state}' "
        f"AND earlier.left_at IS NULL AND {where}"
    )


def guards(where: str) -> str:
    """The question after all versions `earlier` that lie in failed, or may come there yet, and
    fulfil a condition: their keys with their places; before all others if that is not known."""
    # Each half has an index that holds nothing else.
    return f"{_kept('processing', where)} UNION ALL {_kept('failed', where)}"


_ITS_KEY: Final = "earlier.profile = p AND earlier.bucket = b AND earlier.filepath = k"


def guarded(rows: Sequence[Sequence[Any]]) -> list[bool]:
    """Of each of these rows, which begin with `VERSION`, whether a version of its key lies in
    failed, or may come there yet, that is earlier, or may be."""
    first = dict(
        queries.by_key(f"SELECT min(place) FROM ({guards(_ITS_KEY)})", {_key(x) for x in rows})
    )
    return [(place := first[_key(row)]) is not None and place < row[3] for row in rows]


# The last place of a key that was taken, unless it is before that of the record `one`, as are those
# of all older records without an `arrival`; then that place.
_ARRIVED: Final = f"""
    SELECT (SELECT CAST(max(place) AS INTEGER) FROM (
            SELECT {place("later")} AS place FROM file_records AS later
            WHERE {_OF_ONE_KEY} AND later.id >= {_first("one")} AND NOT {_NOT_ARRIVED}
            UNION ALL SELECT * FROM (
                SELECT later.arrival FROM file_records AS later
                WHERE {_OF_ONE_KEY} AND later.arrival IS NOT NULL AND NOT {_NOT_ARRIVED}
                ORDER BY later.arrival DESC LIMIT 1))),
        {place("one")}, one.arrival
    FROM file_records AS one WHERE one.id = ?
"""


def newer(record_id: int) -> Other | None:
    """The latest version of the record's key that came after its own, and makes it superseded, as
    `Newest` has it."""
    return _other(record_id, _NEWER)


def unordered(record_id: int) -> Other | None:
    """A version of the record's key that is under way, completed or in failed, and of which nobody
    knows whether it came before the record's own."""
    latest = f"CASE WHEN {_IS_LATER} THEN {_first('later')} ELSE {_first('one')} END"
    return _beside(record_id) or _other(
        record_id,
        f"{_first('later')} <> {_first('one')} AND {_remade(latest)} AND {_HAS_A_FILE}",
    )


def arrival(record_id: int) -> int | None:
    """The place of a record whose file arrives only now, for its column `arrival`; None if that is
    where its id puts it, as no version that has a later one arrived before. Of one that has arrived
    already, before a power failure, it is the place that it had."""
    last, own, had = models.execute(_ARRIVED, (record_id,)).fetchone()
    return had if had is not None or last is None or last < own else int(last) + 1


def had(record_id: int) -> int:
    """The place of a record whose file has arrived."""
    (found,) = models.execute(
        f"SELECT {place('one')} FROM file_records AS one WHERE one.id = ?", (record_id,)
    ).fetchone()
    return int(found)


def _other(record_id: int, which: str) -> Other | None:
    found = models.execute(
        "SELECT later.id, later.current_state FROM file_records AS one "
        f"JOIN file_records AS later ON {_OF_ONE_KEY} WHERE one.id = ? AND {which} "
        f"ORDER BY later.current_state = 'failed', {place('later')} DESC LIMIT 1",
        (record_id,),
    ).fetchone()
    return Other(*found) if found else None


def _beside(record_id: int) -> Other | None:
    """As `unordered`, where one of the two was put beside another file in failed, from whose name
    its key was taken when its record was made anew."""
    profile, bucket, name, code = models.execute(
        "SELECT profile, bucket, filepath, error_code FROM file_records "
        "WHERE id = (SELECT COALESCE(origin, id) FROM file_records WHERE id = ?)",
        (record_id,),
    ).fetchone() or (None, None, None, None)
    if name is None:
        return None  # its first record is gone
    key = name_from(name)
    ranges = [*layout.beside_ranges(key), *(layout.plain_ranges(key) if code == REMADE else ())]
    for low, high in ranges:
        for number, state, other, why in models.execute(
            "SELECT id, current_state, filepath, error_code FROM file_records AS later "
            f"WHERE profile = ? AND bucket = ? AND filepath BETWEEN ? AND ? AND {_HAS_A_FILE} "
            "ORDER BY current_state = 'failed', id DESC",
            (profile, bucket, name_value(low), name_value(high)),
        ).fetchall():
            at = name_from(other)
            if (code == REMADE and layout.may_be_beside(key, at)) or (
                why == REMADE and layout.may_be_beside(at, key)
            ):
                return Other(number, state)
    return None
