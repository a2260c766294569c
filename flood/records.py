"""Every change of a record's state, each a named conditional UPDATE."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from flood import claims, departures, leaps, models, queries, versions
from flood.claims import MINE
from flood.columns import name_from, name_value, utc_text
from flood.identity import Identity
from flood.leaps import Running
from flood.record_values import (
    Arrival,
    Claimed,
    Proof,
    Reason,
    Row,
    chunks,
)
from flood.states import (
    COMPLETED,
    FAILED,
    FAILURE,
    INCOMING,
    INCOMING_TMP,
    INTERRUPTED,
    LOST,
    PERMANENT,
    PROCESSING,
    SUCCESS,
)
from flood.stored import utc_moment

VANISHED: Final = Reason(
    PERMANENT,
    "vanished",
    "somebody removed or replaced the file before it was uploaded: put it again if it is needed",
)
TAKEN: Final = Reason(
    PERMANENT,
    "vanished",
    "somebody removed or replaced the file after it was uploaded, before it was moved to "
    "completed: the object is in the bucket",
)
GIVEN_UP: Final = Reason(
    PERMANENT,
    "given_up",
    "its worker gave this file up, but the reason was not recorded, as it died or the disk was "
    "full: the log has it only where it says 'not recorded'; flood-retry tries the file again",
)
SECOND: Final = Reason(
    PERMANENT, "second_record", "another record has this very file, and goes on with it"
)
PROOF_LOST: Final = Reason(
    PERMANENT,
    "record_lost",
    "its record was lost, this one was made from the directory: the file lay in completed, so it "
    "was uploaded; what the store answered is not known any more",
)
RECORD_LOST: Final = Reason(
    PERMANENT,
    "record_lost",
    "its record was lost, this one was made from the directory: why it failed is not known any "
    "more; flood-retry puts it back to try again, but where another version may be newer, which "
    "flood-status tells for s3://PROFILE/BUCKET/KEY",
)
_UNPROVEN: Final = {
    "etag": None,
    "version_id": None,
    "checksum": None,
    "bytes_sent": 0,
    "changed_ns": None,
}
_ARRIVAL_COLUMNS: Final = (
    *("profile", "bucket", "filepath", "spool_path"),
    *Identity._fields,
    "file_creation_date",
)
WORKER_DIED: Final = Reason(
    LOST,
    "worker_died",
    "the worker died during this attempt, or could not record what came of it, which its log tells",
)
UNRECORDED: Final = Reason(
    INTERRUPTED,
    "database_held",
    "what came of this attempt could not be recorded, as the database was held for too long",
)
DIED_MOVING: Final = Reason(
    INTERRUPTED, "worker_died", "the worker died before it had moved the file: only that is left"
)


# --- arriving ----------------------------------------------------------------------------------


def put_begun(arrivals: Sequence[Arrival], now: datetime) -> list[int]:
    """S0: flood-put made these files in incoming_tmp, to copy into them."""
    with models.write():
        return [_insert(arrival, INCOMING_TMP, None, now) for arrival in arrivals]


def put_changed(record_id: int, identity: Identity, now: datetime) -> bool:
    """S0: the copy came out other than announced, as its source changed."""
    return _change(record_id, (INCOMING_TMP,), now, _identity(identity))


def put_arrived(record_id: int, path: str, now: datetime) -> bool:
    """S1: flood-put renamed its copy into incoming. False: the watcher was faster."""
    return _change(
        record_id,
        (INCOMING_TMP,),
        now,
        {"current_state": INCOMING, "spool_path": name_value(path)},
    )


def admit(
    arrivals: Sequence[Arrival],
    now: datetime,
    occupants: Mapping[str, Row] | None = None,
    came: Mapping[str, datetime] | None = None,
) -> list[int]:
    """S3: these files lie in processing. Adopt the rows that flood-put made for them, by key with
    identity, else insert new ones. Their ids, in order; a file whose row is in processing already
    keeps it. `occupants` are the rows in processing at their paths, if this transaction has asked
    for them before. `came` has when they came, by their paths, for those that lay there before now:
    they are in that order."""
    with models.write():
        waiting = _arriving(arrivals)
        if occupants is None:
            occupants = queries.at_paths([arrival.path for arrival in arrivals], PROCESSING)
        ids = [_known(arrival, occupants.get(arrival.path), waiting, now) for arrival in arrivals]
        fresh = [one for one, known in zip(arrivals, ids, strict=True) if known is None]
        made = _made([arrival.path for arrival in fresh], came, now) if came else None
        inserted = iter(_insert_all(fresh, PROCESSING, now, now, made=made))
        return [next(inserted) if known is None else known for known in ids]


def _made(paths: Sequence[str], came: Mapping[str, datetime], now: datetime) -> list[datetime]:
    """What the new rows of these files have as `created_at`: when the file came, but never the
    future, nor before the row that is there already, as ages are found by ids. Where nothing is in
    processing yet, no age is found by those."""
    made = [min(came.get(path, now), now) for path in paths]
    row = models.execute(
        "SELECT created_at FROM file_records WHERE id = (SELECT max(id) FROM file_records) AND ("
        "EXISTS (SELECT 1 FROM file_records WHERE current_state = 'processing' AND owner IS NULL) "
        "OR EXISTS (SELECT 1 FROM file_records "
        "WHERE current_state = 'processing' AND owner IS NOT NULL))"
    ).fetchone()
    before = utc_moment(row[0]) if row else None
    return made if before is None else [min(max(one, before), now) for one in made]


def _known(
    arrival: Arrival,
    occupant: Row | None,
    waiting: Mapping[tuple[Any, ...], int],
    now: datetime,
) -> int | None:
    """The record that this file in processing has already, or that it adopts."""
    if occupant is not None:
        if occupant.identity == arrival.identity:
            due(occupant.id, now)  # it waited for its file only, or will not be the worse for it
            return occupant.id
        # The place was free when this file was renamed there, so the file of the row that still
        # claims it had been taken away.
        vanish(occupant.id, now)
    adopted = waiting.get((arrival.profile, arrival.bucket, arrival.key, arrival.identity))
    if adopted is None:
        return None
    _change(
        adopted,
        (INCOMING_TMP, INCOMING),
        now,
        {
            "current_state": PROCESSING,
            "spool_path": name_value(arrival.path),
            "next_attempt_at": utc_text(now),
            "arrival": versions.arrival(adopted),
        },
    )
    return adopted


def put_back(record_id: int, path: str, now: datetime) -> bool:
    """S12: the row ran ahead of its file in a power failure, or somebody moved the file back; the
    same row is due again, with all its retries."""
    return _change(
        record_id,
        (COMPLETED, FAILED),
        now,
        {
            "current_state": PROCESSING,
            "upload_outcome": None,
            "spool_path": name_value(path),
            "owner": None,
            "next_attempt_at": utc_text(now),
            "retry_count": 0,
            "alone": 0,
            **_UNPROVEN,
            "error_code": None,
            "error_message": None,
            "completed_at": None,
            "left_at": None,
            "left_how": None,
            "told_at": None,
        },
    )


def wait_again(record_id: int, path: str, now: datetime) -> bool:
    """S12: a power failure undid the move to processing, where an earlier version's is undone, too:
    the file, and the same row with its attempts, waits for its turn. False: it is claimed."""
    with models.write():
        return _update(
            "id = ? AND owner IS NULL AND current_state = 'processing'",
            (record_id,),
            now,
            {
                "current_state": INCOMING,
                "spool_path": name_value(path),
                "next_attempt_at": None,
                # Later versions may have arrived meanwhile, whose rows do not go back, or not yet.
                "arrival": versions.had(record_id),
            },
        )


# --- settling ----------------------------------------------------------------------------------


def complete(claim: Claimed, path: str, proof: Proof, now: datetime) -> bool:
    """S8: the object is proven, the file lies in completed. False: the claim was taken away."""
    return bool(complete_all([(claim, path, proof)], now))


def complete_all(proven: Sequence[tuple[Claimed, str, Proof]], now: datetime) -> int:
    """S8: these objects are proven, their files lie in completed, each at its path. How many claims
    still stood. A multipart upload that stays beside the object is kept for sweeps."""
    values = {**_done(COMPLETED, None, now), "retry_count": 0, "alone": 0}
    own = [(name_value(path), *proof) for _, path, proof in proven]
    claims = [claim for claim, _, _ in proven]
    return _settle_all(claims, now, None, values, ("spool_path", *Proof._fields), own)


def retry(
    claim: Claimed, identity: Identity, reason: Reason, delay: float, now: datetime
) -> datetime | None:
    """S4: due again after `delay` seconds; return that instant. None: the claim was taken away.

    `identity` is the file's own now, which differs from the claim's if it changed meanwhile.
    """
    due = now + timedelta(seconds=delay)
    settled = _settle(
        claim,
        now,
        reason,
        {
            "retry_count": claim.retry_count + 1,
            "next_attempt_at": utc_text(due),
            "owner": None,
            **_identity(identity),
            **_UNPROVEN,
            "error_code": reason.code,
            "error_message": reason.message,
        },
        delay,
        due,
    )
    return due if settled else None


def fail(claim: Claimed, path: str, reason: Reason, now: datetime) -> bool:
    """S10: given up, the file lies in failed. False: the claim was taken away. Whoever calls notes
    the clock in the same transaction (`leaps.note_failure`), once for all that fail in it."""
    with models.write():
        failed = _settle(claim, now, reason, _done(FAILED, path, now, reason))
        if failed:
            departures.replaced(path, claim.id, now)
    return failed


def release(
    claim: Claimed,
    reason: Reason,
    now: datetime,
    delay: float = 0.0,
    proof: Proof | None = None,
    verdict: Reason | None = None,
) -> bool:
    """S3: the attempt ended through no fault of the file's, as when the worker was told to stop;
    the record is due after `delay` seconds, at no cost. With a `proof` only the move is left to be
    done, as long as the file stays what it is; with a `verdict` likewise, to failed."""
    due = now + timedelta(seconds=delay)
    values = {"next_attempt_at": utc_text(due), "owner": None}
    return _settle(
        claim, now, reason, {**values, **_left_to_move(proof, verdict, reason)}, delay, due
    )


def _left_to_move(
    proof: Proof | None, verdict: Reason | None, reason: Reason | None
) -> dict[str, Any]:
    """What is kept of an attempt after which the file could not be moved, for this `reason`."""
    kept: dict[str, Any] = {}
    if proof:
        # Why an earlier upload failed is over.
        kept = {
            **proof._asdict(),
            "error_code": reason.code if reason else None,
            "error_message": reason.message if reason else None,
        }
    if verdict:
        kept |= {
            "upload_outcome": FAILURE,
            "error_code": verdict.code,
            "error_message": verdict.message,
        }
    return kept


def put_off(
    claim: Claimed,
    now: datetime,
    delay: float,
    proof: Proof | None = None,
    verdict: Reason | None = None,
    reason: Reason | None = None,
) -> bool:
    """S3: nothing was begun, or as `release` has it only the move is left; the record is due after
    `delay` seconds, as if nobody had claimed it, and with a `reason` says why. Without a delay it
    keeps its place among those that wait. False: the claim was taken away."""
    values: dict[str, Any] = {"owner": None, **_left_to_move(proof, verdict, reason)}
    if delay:
        values["next_attempt_at"] = utc_text(now + timedelta(seconds=delay))
    if reason is not None:
        values |= {"error_code": reason.code, "error_message": reason.message}
    with models.write():
        return _update(MINE, (claim.id, claim.owner, claim.number), now, values)


def lose(claim: Claimed, delay: float, now: datetime) -> bool:
    """S6: its worker died. Due after `delay` seconds, alone; one that was alone pays a retry."""
    due = now + timedelta(seconds=delay)
    return _settle(
        claim,
        now,
        WORKER_DIED,
        {
            "retry_count": claim.retry_count + (claim.company == 1),
            "next_attempt_at": utc_text(due),
            "owner": None,
            "alone": 1,
            "error_code": WORKER_DIED.code,
            "error_message": WORKER_DIED.message,
        },
        delay,
        due,
    )


def gone(claim: Claimed, now: datetime, reason: Reason = VANISHED) -> bool:
    """S11, found by who had claimed it. False: the claim was taken away."""
    return _settle(claim, now, reason, _done(FAILED, None, now, reason))


def follow(
    record_id: int,
    state: str,
    path: str,
    size: int,
    now: datetime,
    running: Callable[[], Running] = leaps.running,
) -> bool:
    """S7, S9: the file lies in completed or failed already, whoever moved it there has died before
    the row could say so. A database that was put back from an older copy may be behind by more."""
    with models.write():
        if state == FAILED:
            leaps.note_failure(now, running)
        return _follow(record_id, state, path, size, now)


def _follow(record_id: int, state: str, path: str, size: int, now: datetime) -> bool:
    claim = claims.of_record(record_id)
    if claim is not None and state == COMPLETED:
        return complete(claim, path, claim.proof or Proof(None, None, None, size), now)
    if claim is not None:
        return fail(claim, path, claim.verdict or GIVEN_UP, now)
    values = _done(state, path, now, None if state == COMPLETED else GIVEN_UP)
    if state == COMPLETED:
        values |= {"retry_count": 0, "alone": 0}
    elif (verdict := _verdict(record_id)) is not None:
        values |= {"error_code": verdict.code, "error_message": verdict.message}
    return _change(record_id, (INCOMING_TMP, INCOMING, PROCESSING), now, values)


def vanish(
    record_id: int,
    now: datetime,
    leaving: Sequence[str] = (INCOMING_TMP, INCOMING, PROCESSING),
    reason: Reason = VANISHED,
) -> bool:
    """S0, S11: the file is in none of the directories, so the record has nothing to wait for, if it
    still has one of the states `leaving`, and nobody has claimed it."""
    marks = ",".join("?" * len(leaving))
    with models.write():
        return _update(
            f"id = ? AND owner IS NULL AND current_state IN ({marks})",
            (record_id, *leaving),
            now,
            _done(FAILED, None, now, reason),
        )


def wait_from_now(rows: Iterable[tuple[int, str, str]], now: datetime) -> int:
    """S3, S4: these (`due_queries.dated_ahead`) wait from now on for as long as they were to wait
    when they were written; how many do, as none does that has changed since."""
    with models.write():
        return sum(
            _update(
                "id = ? AND current_state = 'processing' AND owner IS NULL AND last_updated = ?",
                (record_id, updated),
                now,
                {"next_attempt_at": utc_text(now + (utc_moment(due) - utc_moment(updated)))},
            )
            for record_id, updated, due in rows
        )


def found(arrival: Arrival, state: str, settled: datetime, now: datetime) -> int:
    """S8, S10: the file lies in completed or failed, its record is lost. This new one claims no
    outcome that nobody knows any more; `settled` (aware) is when the file got there. Its id."""
    reason = PROOF_LOST if state == COMPLETED else RECORD_LOST
    values = {
        **_done(state, None, settled, reason),
        "upload_outcome": None if state == COMPLETED else FAILURE,
    }
    with models.write():
        return _insert(arrival, state, None, now, values)


def due(record_id: int, now: datetime) -> bool:
    """S4 to S3: what nobody has claimed is due now, whatever its row said of that."""
    with models.write():
        return _update(
            "id = ? AND current_state = ? AND owner IS NULL",
            (record_id, PROCESSING),
            now,
            {"next_attempt_at": utc_text(now)},
        )


def _verdict(record_id: int) -> Reason | None:
    """Why a file was given up that could not be moved then."""
    row = models.execute(
        "SELECT error_code, error_message FROM file_records "
        "WHERE id = ? AND current_state = 'processing' AND upload_outcome = 'failure'",
        (record_id,),
    ).fetchone()
    return Reason(PERMANENT, *row) if row else None


# --- within ------------------------------------------------------------------------------------


def _done(
    state: str, path: str | None, now: datetime, reason: Reason | None = None
) -> dict[str, Any]:
    """The end of a record; without a path the file lies nowhere."""
    place = {} if path is None else {"spool_path": name_value(path)}
    return {
        "current_state": state,
        "upload_outcome": FAILURE if reason else SUCCESS,
        **place,
        "next_attempt_at": None,
        "owner": None,
        "error_code": reason.code if reason else None,
        "error_message": reason.message if reason else None,
        "completed_at": utc_text(now),
    }


def _identity(identity: Identity) -> dict[str, Any]:
    return identity._asdict()


def _settle(
    claim: Claimed,
    now: datetime,
    reason: Reason | None,
    values: Mapping[str, Any],
    delay: float | None = None,
    due: datetime | None = None,
) -> bool:
    """Write the end of an attempt down, with its row of history, if the claim still stands."""
    return bool(_settle_all([claim], now, reason, values, (), [()], delay, due))


def _settle_all(
    ended: Sequence[Claimed],
    now: datetime,
    reason: Reason | None,
    values: Mapping[str, Any],
    own_columns: Sequence[str],
    own: Sequence[tuple[Any, ...]],
    delay: float | None = None,
    due: datetime | None = None,
) -> int:
    """Write the ends of attempts down, each with its row of history, whose claims still stand; how
    many that were. The values are the same for all of them, but for those of `own_columns`."""
    at, due_at = utc_text(now), utc_text(due) if due else None
    history = (at, FAILURE if reason else SUCCESS, *(reason or (None,) * 3), delay, due_at)
    columns = ", ".join(f"{name} = ?" for name in (*values, "last_updated", *own_columns))
    common = (*values.values(), at)
    rows = [
        (*common, *of_one, claim.id, claim.owner, claim.number)
        for claim, of_one in zip(ended, own, strict=True)
    ]
    settled = 0
    with models.write():
        for standing, parameters in claims.with_standing(ended):
            settled += models.execute(
                "INSERT INTO retry_attempts (record_id, retry_number, started_at, worker, "
                "finished_at, outcome, kind, error_code, error_message, delay_seconds, "
                f"next_attempt_at) {standing} SELECT id, retry_count, "
                "COALESCE(claimed_at, last_updated), owner, ?, ?, ?, ?, ?, ?, ? FROM mine",
                (*parameters, *history),
            ).rowcount
        models.execute_many(f"UPDATE file_records SET {columns} WHERE {MINE}", rows)
    return settled


def _change(
    record_id: int, leaving: Sequence[str], now: datetime, values: Mapping[str, Any]
) -> bool:
    marks = ",".join("?" * len(leaving))
    with models.write():
        return _update(f"id = ? AND current_state IN ({marks})", (record_id, *leaving), now, values)


def _update(
    where: str, parameters: tuple[Any, ...], now: datetime, values: Mapping[str, Any]
) -> bool:
    columns = ", ".join(f"{name} = ?" for name in (*values, "last_updated"))
    cursor = models.execute(
        f"UPDATE file_records SET {columns} WHERE {where}",
        (*values.values(), utc_text(now), *parameters),
    )
    return bool(cursor.rowcount)


def _insert(
    arrival: Arrival,
    state: str,
    due: datetime | None,
    now: datetime,
    more: Mapping[str, Any] | None = None,
) -> int:
    return _insert_all([arrival], state, due, now, more)[0]


def _insert_all(
    arrivals: Sequence[Arrival],
    state: str,
    due: datetime | None,
    now: datetime,
    more: Mapping[str, Any] | None = None,
    *,
    made: Sequence[datetime] | None = None,
) -> list[int]:
    if not arrivals:
        return []
    at = utc_text(now)
    shared = {
        "current_state": state,
        "last_updated": at,
        "next_attempt_at": utc_text(due) if due else None,
        **(more or {}),
    }
    columns = (*_ARRIVAL_COLUMNS, "created_at", *shared)
    values = tuple(shared.values())
    models.execute_many(
        f"INSERT INTO file_records ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
        [
            (*_arrival_values(arrival), utc_text(since), *values)
            for arrival, since in zip(arrivals, made or [now] * len(arrivals), strict=True)
        ],
    )
    # Nobody else inserts within this transaction, and AUTOINCREMENT counts up by one
    # (sqlite.org/autoinc.html).
    last = int(models.execute("SELECT last_insert_rowid()").fetchone()[0])
    return list(range(last - len(arrivals) + 1, last + 1))


def _arrival_values(arrival: Arrival) -> tuple[Any, ...]:
    """What _ARRIVAL_COLUMNS hold."""
    return (
        name_value(arrival.profile),
        name_value(arrival.bucket),
        name_value(arrival.key),
        name_value(arrival.path),
        *arrival.identity,
        utc_text(arrival.created),
    )


def _arriving(arrivals: Sequence[Arrival]) -> dict[tuple[Any, ...], int]:
    """The rows that flood-put has made for files of these inodes."""
    waiting: dict[tuple[Any, ...], int] = {}
    for part, marks in chunks([arrival.identity.inode for arrival in arrivals]):
        for row in models.execute(
            "SELECT id, profile, bucket, filepath, device, inode, size, mtime_ns "
            f"FROM file_records WHERE inode IN ({marks}) "
            "AND current_state IN ('incoming_tmp', 'incoming')",
            tuple(part),
        ).fetchall():
            profile, bucket, key = (name_from(value) for value in row[1:4])
            waiting[profile, bucket, key, Identity(*row[4:8])] = row[0]
    return waiting
