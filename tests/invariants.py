"""What holds of a spool whatever happened before, as predicates that tell each violation."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final, NamedTuple

from flood.departures import GONE, REMOVED, RETRIED
from flood.removal import BATCH
from flood.states import COMPLETED, FAILED, INCOMING, INCOMING_TMP, PROCESSING, SUCCESS
from tests.evidence import Evidence, File, Input, Row

#: Errors of records whose file is in none of the directories.
NOWHERE: Final = (
    "vanished",
    "abandoned",
    "put_interrupted",
    "no_room",
    "put_refused",
    "put_failed",
)

#: By the code of an error what tells whether a row has failed for that.
Causes = Mapping[str, Callable[[Row], bool]]

_UNSETTLED: Final = (INCOMING_TMP, INCOMING, PROCESSING)
_TRIED_AGAIN: Final = ("transient", "lost")
_MOVE_AGAIN: Final = 3600.0  # what workers.settle waits at most after moves that failed, in seconds


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept, in words; bucket with key where it is about one file."""

    invariant: str
    words: str
    bucket: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Backoff:
    """The settings that retries obey; `longest` is the longest Retry-After of the store, in
    seconds."""

    initial: float = 30.0
    jitter: float = 0.25
    most: int = 10
    longest: float = 0.0


# --- directories and rows --------------------------------------------------------------------


def every(
    found: Evidence,
    backoff: Backoff,
    secrets: Sequence[str],
    causes: Causes,
    excused: Callable[[str], bool] = lambda _line: False,
) -> Iterator[Violation]:
    """Every violation of every invariant here; `causes` is for `failures_have_a_cause`, `excused`
    for `no_traceback_is_logged`."""
    yield from database_is_sound(found)
    yield from all_is_settled(found)
    yield from no_file_has_two_places(found)
    yield from rows_say_where_files_are(found)
    yield from settled_rows_are_whole(found)
    yield from only_what_was_proven_is_removed(found)
    yield from retried_files_go_on(found)
    yield from nobody_dead_owns_a_row(found)
    yield from due_rows_are_rung_for(found)
    yield from attempts_are_numbered(found, backoff)
    yield from delays_obey_the_formula(found, backoff)
    yield from inputs_are_accounted_for(found)
    yield from vanished_rows_have_a_cause(found)
    yield from failures_have_a_cause(found, backoff, causes)
    yield from the_bucket_has_the_last_version(found)
    yield from waiting_was_worth_it(found)
    yield from no_upload_is_unfinished(found)
    yield from no_secret_is_told(found, secrets)
    yield from no_traceback_is_logged(found, excused)


def database_is_sound(found: Evidence) -> Iterator[Violation]:
    if found.integrity != "ok":
        yield Violation("database_is_sound", f"integrity_check says: {found.integrity}")


def all_is_settled(found: Evidence) -> Iterator[Violation]:
    """Nothing is on its way any more."""
    for file in found.files:
        if file.state in _UNSETTLED:
            yield _of_file("all_is_settled", file, f"the file still lies in {file.state}")
    for row in found.rows:
        if row["current_state"] in _UNSETTLED:
            yield _of_row("all_is_settled", row, f"the row still says {row['current_state']}")


def no_file_has_two_places(found: Evidence) -> Iterator[Violation]:
    places: dict[tuple[int, int], list[File]] = defaultdict(list)
    for file in found.files:
        places[file.identity[:2]].append(file)
    for same in places.values():
        if len(same) > 1:
            paths = " and ".join(file.path for file in same)
            yield _of_file("no_file_has_two_places", same[0], f"one file under two names: {paths}")


def rows_say_where_files_are(found: Evidence) -> Iterator[Violation]:
    """Every row's file lies where its state and path say, and every file has one row."""
    files = {file.path: file for file in found.files}
    owned: Counter[str] = Counter()
    invariant = "rows_say_where_files_are"
    unnoted = {row["id"] for row in _unnoted(found)}
    # What was put back may have come to the same place again, with its next record.
    here = {
        (row["spool_path"], row["device"], row["inode"])
        for row in found.rows
        if row["left_at"] is None
    }
    for row in found.rows:
        if row["error_code"] in NOWHERE and row["current_state"] == FAILED:
            continue
        if row["id"] in unnoted:
            continue  # only_what_was_proven_is_removed has them
        path, state = row["spool_path"], row["current_state"]
        file = files.get(path)
        if row["left_at"] is not None:
            there = (path, row["device"], row["inode"])
            if file is not None and file.identity[:2] == there[1:] and there not in here:
                yield _of_row(invariant, row, f"its file lies at {path}, though it has left")
            continue
        if file is None:
            yield _of_row(invariant, row, f"nothing lies at {path}, where the row says")
            continue
        owned[path] += 1
        if file.state != state:
            yield _of_row(invariant, row, f"the row says {state}, its file lies at {path}")
        wanted = tuple(row[column] for column in ("device", "inode", "size", "mtime_ns"))
        if file.identity != wanted:
            yield _of_row(
                invariant, row, f"another file lies at {path}: {file.identity}, not {wanted}"
            )
    for file in found.files:
        if file.state != INCOMING_TMP and owned[file.path] != 1:
            yield _of_file(invariant, file, f"{owned[file.path]} rows are of the file {file.path}")


def settled_rows_are_whole(found: Evidence) -> Iterator[Violation]:
    """What has ended says how, and has rested since."""
    for row in found.rows:
        if row["current_state"] not in (COMPLETED, FAILED):
            continue
        completed = row["current_state"] == COMPLETED
        wrong = [
            column
            for column in ("owner", "next_attempt_at", "multipart_upload_id")
            if row[column] is not None
        ]
        wrong += (
            []
            if row["upload_outcome"] == ("success" if completed else "failure")
            else ["upload_outcome"]
        )
        wrong += [] if row["last_updated"] == row["completed_at"] else ["last_updated"]
        wrong += ["left_how"] * ((row["left_at"] is None) != (row["left_how"] is None))
        if completed:
            wrong += ["retry_count"] * (row["retry_count"] != 0)
            wrong += ["bytes_sent"] * (row["bytes_sent"] != row["size"])
            wrong += ["error_code"] * (row["error_code"] is not None)
        else:
            wrong += [column for column in ("error_code", "error_message") if not row[column]]
        for column in wrong:
            yield _of_row(
                "settled_rows_are_whole",
                row,
                f"a row in {row['current_state']} has {column} = {row[column]!r}",
            )


def only_what_was_proven_is_removed(found: Evidence) -> Iterator[Violation]:
    """By retention, which nobody here has asked to delete what lies in failed. Where it was broken
    off, it has not noted what it had deleted: one batch at most."""
    invariant = "only_what_was_proven_is_removed"
    late = [row for row in found.rows if _is_gone(row)] + _unnoted(found)
    for row in late[BATCH * found.prunings_broken_off :]:
        yield _of_row(invariant, row, "its file is gone, and retention was not at it")
    for row in found.rows:
        if row["left_how"] != REMOVED:
            continue
        if not _proven(row):
            yield _of_row(invariant, row, "removed without a receipt")
        if (row["bucket"], row["filepath"]) not in found.objects:
            yield _of_row(invariant, row, "removed, yet in no bucket")


def retried_files_go_on(found: Evidence) -> Iterator[Violation]:
    """What flood-retry put back has a later record of the same version, with the very file."""
    later: dict[tuple[int, int, int], int] = {}
    for row in found.rows:
        if row["origin"] is not None:
            later[row["origin"], row["device"], row["inode"]] = row["id"]
    for row in found.rows:
        if row["left_how"] != RETRIED:
            continue
        version = row["id"] if row["origin"] is None else row["origin"]
        if later.get((version, row["device"], row["inode"]), 0) <= row["id"]:
            yield _of_row("retried_files_go_on", row, "put back, yet it goes on with no record")


def nobody_dead_owns_a_row(found: Evidence) -> Iterator[Violation]:
    for row in found.rows:
        if row["current_state"] == PROCESSING and row["owner"] in found.dead_owners:
            yield _of_row("nobody_dead_owns_a_row", row, f"claimed by {row['owner']}, who is dead")


def due_rows_are_rung_for(found: Evidence, now: datetime | None = None) -> Iterator[Violation]:
    """A task names each due row, or its bucket. Between two sweeps a lost task may leave some."""
    moment = now or datetime.now(timezone.utc)
    rung: set[tuple[str, str, int | None]] = set()
    for task in found.tasks:
        if task.get("name") != "upload":
            continue
        profile, bucket, ids = task["args"][:3]
        rung |= {(profile, bucket, one) for one in ids} if ids else {(profile, bucket, None)}
    for row in found.rows:
        if row["current_state"] != PROCESSING or row["owner"] is not None:
            continue
        due = datetime.fromisoformat(row["next_attempt_at"].replace("Z", "+00:00"))
        place = (row["profile"], row["bucket"])
        if due <= moment and not rung & {(*place, row["id"]), (*place, None)}:
            yield _of_row("due_rows_are_rung_for", row, "due, and no task will ring for it")


# --- attempts --------------------------------------------------------------------------------


def attempts_are_numbered(found: Evidence, backoff: Backoff) -> Iterator[Violation]:
    """From 0 on without a gap; only what cost no retry leaves its number to the next. A settled
    record that went back with its file begins anew."""
    invariant = "attempts_are_numbered"
    lines = "\n".join(line for log in found.logs.values() for line in log)
    went_back = Counter(map(int, re.findall(r'"event": "went back", "record": (\d+),', lines)))
    for row in found.rows:
        expected = {0}
        attempts = found.attempts.get(row["id"], [])
        begun = 0
        for place, attempt in enumerate(attempts):
            number = attempt["retry_number"]
            if number == 0 and number not in expected and went_back[row["id"]]:
                went_back[row["id"]] -= 1
                begun = place
            elif number not in expected:
                yield _of_row(invariant, row, f"attempt {number} where {sorted(expected)} was due")
            if number > backoff.most:
                yield _of_row(invariant, row, f"retry {number}, of {backoff.most}")
            expected = {
                "transient": {number + 1},
                "lost": {number, number + 1},  # alone it costs a retry
                "interrupted": {number},
            }.get(attempt["kind"] or "", set())
        outcomes = [attempt["outcome"] for attempt in attempts[begun:]]
        if SUCCESS in outcomes[:-1]:
            yield _of_row(invariant, row, "an attempt came after the one that succeeded")
        if row["current_state"] == FAILED and SUCCESS in outcomes:
            yield _of_row(invariant, row, "a failed file has an attempt that succeeded")


def delays_obey_the_formula(found: Evidence, backoff: Backoff) -> Iterator[Violation]:
    for row in found.rows:
        for attempt in found.attempts.get(row["id"], []):
            number, delay, kind = (
                attempt[column] for column in ("retry_number", "delay_seconds", "kind")
            )
            if delay is None:
                if kind == "interrupted" or (kind in _TRIED_AGAIN and number < backoff.most):
                    yield _of_row(
                        "delays_obey_the_formula", row, f"no delay after {kind} attempt {number}"
                    )
                continue
            low = high = -1.0
            if kind in _TRIED_AGAIN:
                low = backoff.initial * 2.0**number
                high = low * (1 + backoff.jitter) + backoff.longest
            elif kind == "interrupted":
                low, high = 0.0, _MOVE_AGAIN
            if not low - 1e-6 <= delay <= high + 1e-6:
                yield _of_row(
                    "delays_obey_the_formula",
                    row,
                    f"a delay of {delay} s after {kind} attempt {number}, "
                    f"not {low:.3f} to {high:.3f}",
                )
            yield from _instant(row, attempt, delay)


def _instant(row: Row, attempt: Row, delay: float) -> Iterator[Violation]:
    due, ended = (
        datetime.fromisoformat(attempt[column].replace("Z", "+00:00"))
        for column in ("next_attempt_at", "finished_at")
    )
    # A transaction takes the time once, or twice for what a sweep takes over.
    if abs((due - ended).total_seconds() - delay) > 0.001:
        yield _of_row("delays_obey_the_formula", row, f"{delay} s after {ended} is not {due}")


# --- what was brought, what the bucket has ---------------------------------------------------


def inputs_are_accounted_for(found: Evidence) -> Iterator[Violation]:
    """Everything that was delivered lies in completed or failed, once, with its bytes, or was
    removed by retention after an upload of those bytes."""
    invariant = "inputs_are_accounted_for"
    for place, (versions, others) in _versions(found).items():
        for version in versions:
            if version.input is None:
                words = f"nobody delivered {version.words}, or only once"
                yield Violation(invariant, words, *place)
            elif version.input.removed:
                words = f"{version.words} was taken away, yet it is there again"
                yield Violation(invariant, words, *place)
        for one in others:
            if one.certain and not one.removed:
                yield Violation(invariant, f"version {one.number} is lost", *place)


def vanished_rows_have_a_cause(found: Evidence) -> Iterator[Violation]:
    """A row says that its file is gone only where somebody took one, or a producer broke off."""
    causes: Counter[tuple[str, str]] = Counter()
    for one in found.inputs:
        if one.removed or not one.certain:
            causes[one.bucket, one.key] += 1
    for row in found.rows:
        if row["current_state"] == FAILED and row["error_code"] in NOWHERE:
            place = (row["bucket"], row["filepath"])
            causes[place] -= 1
            if causes[place] < 0:
                yield _of_row(
                    "vanished_rows_have_a_cause",
                    row,
                    f"the row says {row['error_code']}, but nobody took the file away",
                )


def failures_have_a_cause(found: Evidence, backoff: Backoff, causes: Causes) -> Iterator[Violation]:
    """What was given up could not succeed, as `causes` knows, or has spent all its retries."""
    for row in found.rows:
        code = row["error_code"]
        if row["current_state"] != FAILED or code in NOWHERE:
            continue
        numbers = [each["retry_number"] for each in found.attempts.get(row["id"], [])]
        if max(numbers, default=0) >= backoff.most:
            continue
        # Of what is called given_up no record knows why.
        if not any(cause(row) for name, cause in causes.items() if code in (name, "given_up")):
            yield _of_row(
                "failures_have_a_cause",
                row,
                f"failed with {code} after {len(numbers)} attempts, though nothing was wrong with "
                "it that another attempt would not have mended",
            )


def the_bucket_has_the_last_version(found: Evidence) -> Iterator[Violation]:
    """Of each key that got to completed; a later version that failed, or what had arrived of it,
    may be there instead."""
    invariant = "the_bucket_has_the_last_version"
    sizes: dict[tuple[str, str], set[int]] = defaultdict(set)
    for row in found.rows:
        sizes[row["bucket"], row["filepath"]].add(row["size"])
    for place, (versions, others) in _versions(found).items():
        known = [(each, each.input) for each in versions if each.input is not None]
        done = {one.number: each.digest for each, one in known if each.state == COMPLETED}
        if not done:
            continue  # inputs_are_accounted_for says so
        last = max(done)
        rest = [one for each, one in known if each.state != COMPLETED] + others
        later = [one for one in rest if one.number > last]
        allowed = {done[last]} | {one.digest for one in later}
        allowed |= {one.beginning(size) for one in later for size in sizes[place]} - {None}
        actual = found.objects.get(place)
        if actual is None:
            yield Violation(invariant, "completed, but the bucket has no such object", *place)
        elif actual not in allowed:
            which = [one.number for one in found.inputs if one.digest == actual]
            words = f"version {which[0]}" if which else "something that nobody delivered"
            yield Violation(
                invariant, f"the bucket has {words}, the last one completed is {last}", *place
            )


def waiting_was_worth_it(found: Evidence) -> Iterator[Violation]:
    """What flood-put --wait called uploaded is in completed, or was removed from there."""
    done = {
        place: {each.digest for each in versions if each.state == COMPLETED}
        for place, (versions, _) in _versions(found).items()
    }
    for one in found.inputs:
        if one.awaited and not one.removed and one.digest not in done[one.bucket, one.key]:
            yield Violation(
                "waiting_was_worth_it",
                f"flood-put --wait succeeded, yet version {one.number} is not in completed",
                one.bucket,
                one.key,
            )


def no_upload_is_unfinished(found: Evidence) -> Iterator[Violation]:
    for words in found.unfinished:
        yield Violation("no_upload_is_unfinished", f"left in the bucket: {words}")


# --- logs ------------------------------------------------------------------------------------


def no_secret_is_told(found: Evidence, secrets: Sequence[str]) -> Iterator[Violation]:
    """Not in any log, row, task or command line."""
    texts = {f"log {name}": lines for name, lines in found.logs.items()}
    texts["file_records"] = [repr(row) for row in found.rows]
    texts["retry_attempts"] = [repr(row) for rows in found.attempts.values() for row in rows]
    texts["tasks"] = [data.decode("utf-8", "replace") for data in found.raw_tasks]
    texts["command lines"] = found.command_lines
    for where, lines in texts.items():
        for number, line in enumerate(lines, 1):
            if any(secret in line for secret in secrets):
                yield Violation("no_secret_is_told", f"{where}, line {number} has a secret")


def no_traceback_is_logged(
    found: Evidence, expected: Callable[[str], bool] = lambda _line: False
) -> Iterator[Violation]:
    """But those whose line `expected` knows."""
    for name, lines in found.logs.items():
        for number, line in enumerate(lines, 1):
            if "Traceback (most recent call last)" in line:
                # In JSON it is one line; else the error is the first line that is not indented.
                error = line if line.startswith("{") else _error_after(lines[number:])
                if not expected(error):
                    yield Violation(
                        "no_traceback_is_logged", f"{name}, line {number}: {error[-2000:]}"
                    )


def _error_after(lines: Sequence[str]) -> str:
    return next((line for line in lines if line[:1].strip()), "")


# --- within ----------------------------------------------------------------------------------


class _Version(NamedTuple):
    """What became of one version of a key: the state that its file is in, or was in before
    retention removed it, the digest of its bytes, which input it is."""

    state: str
    digest: str
    input: Input | None
    words: str


#: The versions of each key by bucket with key, with the inputs that are none of them.
_Versions = dict[tuple[str, str], tuple[list[_Version], list[Input]]]


def _versions(found: Evidence) -> _Versions:
    """Every input once: as the file that has its bytes, or as the receipt for them."""
    inputs: dict[tuple[str, str], list[Input]] = defaultdict(list)
    for one in found.inputs:
        inputs[one.bucket, one.key].append(one)
    held, departed = _held(found), _departed(found)
    versions: _Versions = {}
    for place in inputs.keys() | held.keys() | departed.keys():
        rest = list(inputs[place])
        known: dict[int, _Version] = {}
        there = [*held.get(place, []), *departed.get(place, [])]
        # The less there is, the more inputs it may be the beginning of: it comes last.
        for number, one in sorted(enumerate(there), key=lambda each: -_size(each[1])):
            if isinstance(one, File):
                match = _match(found, one, rest)
                version = _Version(one.state, one.digest, match, f"what lies at {one.path}")
            else:
                match, digest = _receipted(one, rest)
                words = f"what record {one['id']} had the receipt of, {one['etag']},"
                version = _Version(COMPLETED, digest, match, words)
            rest = [each for each in rest if each is not match]
            known[number] = version
        versions[place] = [known[number] for number in range(len(there))], rest
    return versions


def _size(there: File | Row) -> int:
    return there.identity[2] if isinstance(there, File) else int(there["size"])


def _held(found: Evidence) -> dict[tuple[str, str], list[File]]:
    """The files that rows know of, by bucket with key: a file beside another has its name."""
    files = {file.path: file for file in found.files}
    unnoted = {row["id"] for row in _unnoted(found)}
    held: dict[tuple[str, str], list[File]] = defaultdict(list)
    for row in found.rows:
        file = files.get(row["spool_path"])
        if row["current_state"] == FAILED and row["error_code"] in NOWHERE:
            continue
        if row["left_at"] is not None or row["id"] in unnoted:
            continue
        if file is not None:
            held[row["bucket"], row["filepath"]].append(file)
    return held


def _departed(found: Evidence) -> dict[tuple[str, str], list[Row]]:
    """The rows of what retention has removed from completed, by bucket with key."""
    rows = [row for row in found.rows if row["left_how"] == REMOVED]
    if found.prunings_broken_off:
        rows += [row for row in found.rows if _is_gone(row)] + _unnoted(found)
    departed: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["current_state"] == COMPLETED and _proven(row):
            departed[row["bucket"], row["filepath"]].append(row)
    return departed


def _unnoted(found: Evidence) -> list[Row]:
    """The rows whose proven file is gone, as retention was broken off before it could say so."""
    if not found.prunings_broken_off:
        return []
    files = {file.path: file.identity[:2] for file in found.files}
    return [
        row
        for row in found.rows
        if row["current_state"] == COMPLETED
        and row["left_at"] is None
        and _proven(row)
        and files.get(row["spool_path"]) != (row["device"], row["inode"])
    ]


def _is_gone(row: Row) -> bool:
    """Whether retention has found that the file is in completed no more."""
    return bool(row["left_how"] == GONE and row["current_state"] == COMPLETED)


def _proven(row: Row) -> bool:
    receipt = row["upload_outcome"], row["bytes_sent"]
    return receipt == (SUCCESS, row["size"]) and row["etag"] is not None


def _receipted(row: Row, inputs: Sequence[Input]) -> tuple[Input | None, str]:
    """The input that this row's receipt is of, with the digest of what arrived of it; a certain one
    rather than another."""
    for one in sorted(inputs, key=lambda one: (one.partial, one.removed, not one.certain)):
        digest = one.proven_by(row)
        if digest is not None:
            return one, digest
    return None, ""


def _match(found: Evidence, file: File, inputs: Sequence[Input]) -> Input | None:
    """The input that this file is, a certain one rather than another."""
    same = [one for one in inputs if one.digest == file.digest]
    if same:
        return max(same, key=lambda one: one.certain and not one.removed)
    return next((one for one in inputs if one.begins(found.root / file.path)), None)


def _of_row(invariant: str, row: Row, words: str) -> Violation:
    return Violation(invariant, f"record {row['id']}: {words}", row["bucket"], row["filepath"])


def _of_file(invariant: str, file: File, words: str) -> Violation:
    parts = file.path.split(os.sep, 3)
    return Violation(invariant, words, *(parts[2:] if len(parts) == 4 else ()))
