"""Tells which versions of a key came first."""

from typing import Final, NamedTuple

from flood import layout, models
from flood.columns import name_from, name_value

#: The code of `records.RECORD_LOST` and PROOF_LOST, whose records were made from the directory.
REMADE: Final = "record_lost"


#: When a record's file got to where it lies, as far as that is known.
SINCE: Final = "COALESCE(completed_at, created_at)"

#: Between the places of two records in the order of arrival there are so many others.
_STEP: Final = 2**20


def place(record: str) -> str:
    """The place of a record, named so in the statement, among the versions of its key: that of the
    first record of its file, unless it had one before it arrived, and others were faster."""
    return f"COALESCE({record}.arrival, {_first(record)} * {_STEP})"


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
_HAS_A_FILE: Final = (
    "(later.current_state IN ('incoming', 'processing', 'completed') OR "
    f"(later.current_state = 'failed' AND later.left_at IS NULL AND {_came_to_failed('later')}))"
)
# Nor has arrived what broke off, or was taken away, before it could be admitted.
_NOT_ARRIVED: Final = (
    "(later.current_state IN ('incoming_tmp', 'incoming') OR "
    f"(later.current_state = 'failed' AND {_path_begins('later', 'incoming')}))"
)
_NEWER: Final = (
    f"{_HAS_A_FILE} AND (later.current_state <> 'failed' OR NOT {_came_to_failed('one')}) "
    f"AND {_IS_LATER} AND NOT {_remade(_first('later'))}"
)

#: Whether a version of the key of the record `one` that came after it is under way or completed,
#: or where the file of `one` was gone before it could come to failed, lies there.
SUPERSEDED: Final = f"EXISTS (SELECT 1 FROM file_records AS later WHERE {_OF_ONE_KEY} AND {_NEWER})"

#: A version of the key of the record `one` that lies in failed, or may come there yet, and is
#: earlier, or may be.
GUARDED: Final = (
    "SELECT 1 FROM file_records AS earlier WHERE earlier.profile = one.profile "
    "AND earlier.bucket = one.bucket AND earlier.filepath = one.filepath "
    f"AND ({place('earlier')} < {place('one')} OR {_remade(_first('earlier'))}) "
    "AND earlier.current_state IN ('processing', 'failed') AND earlier.left_at IS NULL"
)


class Other(NamedTuple):
    """Another version of a key, by its record with that one's state."""

    record: int
    state: str


def newer(record_id: int) -> Other | None:
    """The latest version of the record's key that came after its own, and makes it `SUPERSEDED`."""
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
    where its id puts it, as no version that has a later one arrived before."""
    last, own = models.execute(
        f"SELECT max({place('later')}), {place('one')} FROM file_records AS one "
        f"LEFT JOIN file_records AS later ON {_OF_ONE_KEY} AND NOT {_NOT_ARRIVED} WHERE one.id = ?",
        (record_id,),
    ).fetchone()
    return None if last is None or last < own else int(last) + 1


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
