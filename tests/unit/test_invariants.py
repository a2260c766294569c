"""Each invariant finds what violates it, in spools that are made up."""

import hashlib
import inspect
import os
import random
import re
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests import invariants
from tests.chaos import judgement
from tests.chaos.planted import DEFECTS
from tests.chaos.processes import Crew
from tests.chaos.samples import Sample, Samples, look
from tests.evidence import Evidence, File, Input, Row
from tests.invariants import Backoff, Causes, Violation
from tests.servers import SECRET_ACCESS_KEY

CAUSES: Causes = {"NoSuchBucket": lambda row: row["bucket"] == "nowhere"}
BACKOFF = Backoff(initial=1.0, jitter=0.25, most=10)
TIME = "2026-01-01T00:00:10.000000Z"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def brought(number: int, data: bytes, **values: Any) -> Input:
    return Input(number, "b", "key", digest(data), content=lambda: data, **values)


def row(number: int = 1, key: str = "key", **values: Any) -> Row:
    """A row of a file that was uploaded."""
    return {
        "id": number,
        "profile": "p",
        "bucket": "b",
        "filepath": key,
        "current_state": "completed",
        "last_updated": TIME,
        "upload_outcome": "success",
        "device": 1,
        "inode": number,
        "size": 4,
        "mtime_ns": 0,
        "spool_path": f"completed/p/b/{key}",
        "retry_count": 0,
        "next_attempt_at": None,
        "claim_number": 1,
        "owner": None,
        "multipart_upload_id": None,
        "error_code": None,
        "error_message": None,
        "bytes_sent": 4,
        "completed_at": TIME,
        "etag": etag(b"data"),
        "origin": None,
        "left_at": None,
        "left_how": None,
        **values,
    }


def file(number: int = 1, path: str = "completed/p/b/key", data: bytes = b"data") -> File:
    return File(path, (1, number, 4, 0), 1, digest(data))


def attempt(number: int, kind: str | None = None, delay: float | None = None) -> Row:
    due = datetime(2026, 1, 1, 0, 0, 10) + timedelta(seconds=delay or 0)  # noqa: DTZ001  as text
    return {
        "retry_number": number,
        "kind": kind,
        "outcome": "failure" if kind else "success",
        "delay_seconds": delay,
        "finished_at": TIME,
        "next_attempt_at": None if delay is None else f"{due.isoformat()}Z",
    }


def good() -> Evidence:
    """One file that was uploaded at the second try."""
    return Evidence(
        Path("/nowhere"),
        rows=[row()],
        attempts={1: [attempt(0, "transient", 1.1), attempt(1)]},
        files=[file()],
        objects={("b", "key"): digest(b"data")},
        logs={"watch.log": ['{"event": "completed"}']},
        inputs=[brought(0, b"data", awaited=True)],
    )


def every(found: Evidence) -> list[Violation]:
    return list(invariants.every(found, BACKOFF, ["sesame"], CAUSES))


def test_a_good_spool_violates_nothing() -> None:
    assert every(good()) == []


REMOVED = {"left_at": TIME, "left_how": "removed"}
WAITING = {
    "current_state": "processing",
    "upload_outcome": None,
    "completed_at": None,
    "spool_path": "processing/p/b/key",
    "next_attempt_at": "2026-01-01T00:00:00.000000Z",
}
VANISHED = {
    "current_state": "failed",
    "upload_outcome": "failure",
    "error_code": "vanished",
    "error_message": "gone",
}


REFUSED = {
    **VANISHED,
    "error_code": "NoSuchBucket",
    "error_message": "no such bucket",
    "spool_path": "failed/p/b/key",
}
SPENT = [attempt(number, "transient", 2.0**number) for number in range(10)]


def rows(*made: Row) -> Callable[[Evidence], None]:
    def change(found: Evidence) -> None:
        found.rows = list(made)

    return change


def files(*made: File) -> Callable[[Evidence], None]:
    def change(found: Evidence) -> None:
        found.files = list(made)

    return change


def attempts(*made: Row) -> Callable[[Evidence], None]:
    return lambda found: found.__setattr__("attempts", {1: list(made)})


def value(name: str, made: object) -> Callable[[Evidence], None]:
    return lambda found: setattr(found, name, made)


def owned_by_the_dead(found: Evidence) -> None:
    found.rows = [row(**{**WAITING, "owner": "ann"})]
    found.dead_owners = {"ann"}


def an_older_version(found: Evidence) -> None:
    found.inputs.append(brought(1, b"newer"))
    found.rows.append(row(2, spool_path="completed/p/b/key.~2~"))
    found.files.append(file(2, "completed/p/b/key.~2~", b"newer"))


def removed(**values: Any) -> Callable[[Evidence], None]:
    """Retention has deleted the file."""

    def change(found: Evidence) -> None:
        found.rows, found.files = [row(**{**REMOVED, **values})], []

    return change


def removed_one_of_two(found: Evidence) -> None:
    removed()(found)
    found.inputs.append(brought(1, b"data"))


def removed_from_everywhere(found: Evidence) -> None:
    removed()(found)
    found.objects.clear()


def removed_the_newer_one(found: Evidence) -> None:
    """The bucket has the older one."""
    found.inputs.append(brought(1, b"new!"))
    found.rows.append(row(2, **REMOVED | {"etag": etag(b"new!")}))


def removed_while_the_newer_one_stays(found: Evidence) -> None:
    removed()(found)
    found.inputs.append(brought(1, b"new!"))
    found.rows.append(row(2, etag=etag(b"new!")))
    found.files = [file(2, data=b"new!")]
    found.objects["b", "key"] = digest(b"new!")


def removed_what_nobody_waited_for(found: Evidence) -> None:
    removed(etag=etag(b"new!"))(found)
    found.inputs.append(brought(1, b"new!"))


def removed_from_failed(found: Evidence) -> None:
    """As retention does that takes no notice of receipts."""
    removed(**REFUSED | {"etag": None, "bytes_sent": 0})(found)


def deleted_by_nobody(found: Evidence) -> None:
    """More than retention that was broken off can have left unsaid."""
    found.prunings_broken_off = 1
    found.rows = [row(number, f"key {number}") for number in range(1, 102)]
    found.files = []


def retried(**values: Any) -> Callable[[Evidence], None]:
    """flood-retry has put the file back, after which it was uploaded."""

    def change(found: Evidence) -> None:
        found.rows = [
            row(1, inode=2, **REFUSED | {"left_at": TIME, "left_how": "retried"}),
            row(2, **{"origin": 1, **values}),
        ]
        found.files = [file(2)]
        found.attempts = {1: [*SPENT, attempt(10, "transient")], 2: [attempt(0)]}

    return change


def taken_away(found: Evidence) -> None:
    found.inputs = [replace(found.inputs[0], removed=True)]


CASES: list[tuple[str, Callable[[Evidence], None]]] = [
    ("database_is_sound", value("integrity", "row 7 missing from index")),
    ("all_is_settled", files(file(path="incoming/p/b/key"))),
    ("all_is_settled", rows(row(**WAITING))),
    ("no_file_has_two_places", files(file(), file(path="failed/p/b/key"))),
    ("rows_say_where_files_are", files()),
    ("rows_say_where_files_are", files(file(), file(2, "completed/p/b/nobodys"))),
    ("rows_say_where_files_are", files(file(2))),
    ("rows_say_where_files_are", rows(row(), row(2))),
    ("rows_say_where_files_are", rows(row(current_state="failed"))),
    ("rows_say_where_files_are", rows(row(**REMOVED))),
    ("settled_rows_are_whole", removed(left_how=None)),
    ("only_what_was_proven_is_removed", removed(etag=None)),
    ("only_what_was_proven_is_removed", removed(bytes_sent=3)),
    ("only_what_was_proven_is_removed", removed_from_everywhere),
    ("only_what_was_proven_is_removed", removed(left_how="gone")),
    ("only_what_was_proven_is_removed", deleted_by_nobody),
    ("inputs_are_accounted_for", removed_one_of_two),
    ("inputs_are_accounted_for", removed(left_how="gone")),
    ("inputs_are_accounted_for", removed(etag=None)),
    ("inputs_are_accounted_for", removed(etag=etag(b"half"))),
    ("inputs_are_accounted_for", removed(size=3, bytes_sent=3)),
    ("inputs_are_accounted_for", removed_from_failed),
    ("only_what_was_proven_is_removed", removed_from_failed),
    ("the_bucket_has_the_last_version", removed_the_newer_one),
    ("waiting_was_worth_it", removed_what_nobody_waited_for),
    ("retried_files_go_on", retried(origin=None)),
    ("retried_files_go_on", retried(inode=7)),
    ("settled_rows_are_whole", rows(row(owner="ann"))),
    ("settled_rows_are_whole", rows(row(next_attempt_at=TIME))),
    ("settled_rows_are_whole", rows(row(multipart_upload_id="7"))),
    ("settled_rows_are_whole", rows(row(upload_outcome="failure"))),
    ("settled_rows_are_whole", rows(row(last_updated="2026-01-02T00:00:00.000000Z"))),
    ("settled_rows_are_whole", rows(row(retry_count=1))),
    ("settled_rows_are_whole", rows(row(bytes_sent=3))),
    ("settled_rows_are_whole", rows(row(error_code="timeout"))),
    ("settled_rows_are_whole", rows(row(**VANISHED, owner=None) | {"error_message": None})),
    ("nobody_dead_owns_a_row", owned_by_the_dead),
    ("due_rows_are_rung_for", rows(row(**WAITING))),
    ("attempts_are_numbered", attempts(attempt(1))),
    ("attempts_are_numbered", attempts(attempt(0, "transient", 1.0), attempt(2))),
    ("attempts_are_numbered", attempts(attempt(0, "transient", 1.0), attempt(0))),
    ("attempts_are_numbered", attempts(attempt(0, "interrupted", 0.0), attempt(1))),
    ("attempts_are_numbered", attempts(attempt(0), attempt(0))),
    ("attempts_are_numbered", attempts(attempt(0, "permanent"), attempt(0))),
    (
        "attempts_are_numbered",
        attempts(*(attempt(number, "transient", 2.0**number) for number in range(11)), attempt(11)),
    ),
    ("delays_obey_the_formula", attempts(attempt(0, "transient", 0.9), attempt(1))),
    ("delays_obey_the_formula", attempts(attempt(0, "transient", 1.3), attempt(1))),
    ("delays_obey_the_formula", attempts(attempt(0, "transient"), attempt(1))),
    ("delays_obey_the_formula", attempts(attempt(0, None, 1.0))),
    (
        "delays_obey_the_formula",
        attempts(attempt(0, "lost", 1.1) | {"next_attempt_at": TIME}, attempt(0)),
    ),
    ("inputs_are_accounted_for", files()),
    ("inputs_are_accounted_for", files(file(data=b"half"))),
    ("inputs_are_accounted_for", value("inputs", [])),
    ("inputs_are_accounted_for", taken_away),
    ("vanished_rows_have_a_cause", rows(row(**VANISHED))),
    ("failures_have_a_cause", rows(row(**REFUSED))),
    ("failures_have_a_cause", rows(row(**REFUSED | {"error_code": "timeout"}))),
    ("failures_have_a_cause", rows(row(**REFUSED | {"error_code": "given_up"}))),
    ("the_bucket_has_the_last_version", value("objects", {})),
    ("the_bucket_has_the_last_version", value("objects", {("b", "key"): digest(b"half")})),
    ("the_bucket_has_the_last_version", an_older_version),
    ("waiting_was_worth_it", files(file(path="failed/p/b/key"))),
    ("no_upload_is_unfinished", value("unfinished", ["upload 7 of key"])),
    ("no_secret_is_told", value("logs", {"watch.log": ["open sesame"]})),
    ("no_secret_is_told", rows(row(error_message="sesame"))),
    ("no_secret_is_told", value("command_lines", ["flood-watch --secret sesame"])),
    ("no_secret_is_told", value("raw_tasks", [b'{"secret": "sesame"}'])),
    (
        "no_traceback_is_logged",
        value("logs", {"a.log": ["Traceback (most recent call last):", "  x", "OSError: no"]}),
    ),
]


@pytest.mark.parametrize(("invariant", "change"), CASES)
def test_a_violation_is_found(invariant: str, change: Callable[[Evidence], None]) -> None:
    found = good()
    change(found)
    assert invariant in {violation.invariant for violation in every(found)}


def retried_in_vain(found: Evidence) -> None:
    """The file is in failed again, at the same place."""
    refused = REFUSED | {"error_code": "timeout"}
    retried(**refused)(found)
    found.files = [file(2, "failed/p/b/key")]
    found.attempts = {number: [*SPENT, attempt(10, "transient")] for number in (1, 2)}
    found.inputs = [brought(0, b"data")]


@pytest.mark.parametrize(
    "change", [removed(), removed_while_the_newer_one_stays, retried(), retried_in_vain]
)
def test_what_operators_do_is_no_violation(change: Callable[[Evidence], None]) -> None:
    found = good()
    change(found)
    assert every(found) == []


@pytest.mark.parametrize("values", [{}, {"left_at": TIME, "left_how": "gone"}])
@pytest.mark.parametrize("another", [[], [file(2, data=b"new!")]])
def test_what_retention_could_not_note(values: Row, another: list[File]) -> None:
    """Since it was killed; a newer version may lie in the same place by now."""
    found = good()
    found.rows = [row(**values)]
    if another:
        found.rows.append(row(2, etag=etag(b"new!")))
        found.inputs.append(brought(1, b"new!"))
        found.objects["b", "key"] = digest(b"new!")
    found.files = another
    assert {one.invariant for one in every(found)} >= {"inputs_are_accounted_for"}
    found.prunings_broken_off = 1
    assert every(found) == []


def test_the_receipt_of_a_large_file_is_of_its_parts() -> None:
    data = b"x" * (5 * 2**20 + 1)
    parts = b"".join(bytes.fromhex(etag(part)) for part in (data[:-1], data[-1:]))
    sums = f"{etag(parts)}-2"
    one = brought(0, data)
    assert one.proven_by(row(size=len(data), etag=sums)) == digest(data)
    assert one.proven_by(row(size=len(data), etag=etag(data))) == digest(data)
    assert one.proven_by(row(size=len(data), etag=sums.replace("-2", "-3"))) is None
    assert one.proven_by(row(size=len(data) - 1, etag=sums)) is None


def test_the_receipt_of_a_beginning() -> None:
    one = brought(0, b"data set", certain=False, partial=True)
    assert one.proven_by(row()) == digest(b"data")
    assert one.proven_by(row(size=3)) is None


def test_an_expected_traceback_is_no_violation() -> None:
    found = good()
    found.logs = {"a.log": ["Traceback (most recent call last):", "  x", "OSError: disk is full"]}
    assert list(invariants.no_traceback_is_logged(found, lambda line: "full" in line)) == []


def test_what_may_repeat_its_number() -> None:
    found = good()
    found.attempts = {
        1: [
            attempt(0, "interrupted", 0.0),
            attempt(0, "lost", 1.0),
            attempt(0, "lost", 1.0),
            attempt(1),
        ]
    }
    assert every(found) == []


def test_a_record_that_went_back_begins_anew() -> None:
    """Once for each line that says so, and with the rules of a first series."""
    line = (
        '{"time": "2026-01-01T00:00:10.000Z", "event": "went back", "record": 1, "from": "failed"}'
    )
    found = good()
    found.attempts = {1: [attempt(0), attempt(0, "transient", 1.1), attempt(1)]}
    assert {one.invariant for one in every(found)} == {"attempts_are_numbered"}
    found.logs = {"watch.log": [line]}
    assert every(found) == []
    found.attempts = {1: [attempt(0), attempt(0), attempt(0)]}
    assert {one.invariant for one in every(found)} == {"attempts_are_numbered"}
    found.attempts = {1: [attempt(0), attempt(1)]}
    assert {one.invariant for one in every(found)} == {"attempts_are_numbered"}


def test_a_due_row_that_a_task_names() -> None:
    found = good()
    found.rows = [row(**WAITING)]
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    for ids in ([1], []):
        found.tasks = [{"name": "upload", "args": ["p", "b", ids]}]
        assert list(invariants.due_rows_are_rung_for(found, now)) == []
    for args in (["p", "b", [2]], ["p", "other", []]):
        found.tasks = [{"name": "upload", "args": args}]
        assert len(list(invariants.due_rows_are_rung_for(found, now))) == 1


def test_a_beginning_of_what_a_writer_was_at_is_accounted_for(tmp_path: Path) -> None:
    found = good()
    found.root = tmp_path
    path = tmp_path / "completed/p/b/key"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"data")
    found.inputs = [
        Input(0, "b", "key", digest(b"data set"), False, content=lambda: b"data set", partial=True)
    ]
    assert list(invariants.inputs_are_accounted_for(found)) == []
    path.write_bytes(b"dat!")
    assert len(list(invariants.inputs_are_accounted_for(found))) == 1


def test_a_later_version_that_failed_may_be_in_the_bucket() -> None:
    found = good()
    found.inputs.append(brought(1, b"newer"))
    found.rows.append(
        row(2, spool_path="failed/p/b/key", current_state="failed", error_code="timeout")
    )
    found.files.append(file(2, "failed/p/b/key", b"newer"))
    found.objects["b", "key"] = digest(b"newer")
    assert list(invariants.the_bucket_has_the_last_version(found)) == []


def test_what_had_arrived_of_a_later_version_may_be_in_the_bucket() -> None:
    """Its writer was cut off, it was stored without an answer, somebody took it away."""
    found = good()
    found.inputs.append(
        Input(
            *(1, "b", "key", digest(b"newer version"), False, True),
            content=lambda: b"newer version",
            partial=True,
        )
    )
    found.rows.append(row(2, **VANISHED | {"size": 5}))
    found.objects["b", "key"] = digest(b"newer")
    assert list(invariants.the_bucket_has_the_last_version(found)) == []
    found.objects["b", "key"] = digest(b"new")  # no record is of so many bytes
    assert len(list(invariants.the_bucket_has_the_last_version(found))) == 1


def test_a_vanished_row_of_what_somebody_took_away() -> None:
    found = good()
    found.rows = [row(**VANISHED)]
    taken_away(found)
    assert list(invariants.vanished_rows_have_a_cause(found)) == []


@pytest.mark.parametrize("code", ["NoSuchBucket", "given_up"])
def test_a_failure_of_what_could_not_succeed(code: str) -> None:
    found = good()
    found.rows = [row(**REFUSED | {"bucket": "nowhere", "error_code": code})]
    found.attempts = {1: [attempt(0, "permanent")]}
    assert list(invariants.failures_have_a_cause(found, BACKOFF, CAUSES)) == []


@pytest.mark.parametrize("code", ["timeout", "given_up", "worker_died"])
def test_a_failure_after_the_last_of_all_retries(code: str) -> None:
    found = good()
    found.rows = [row(**REFUSED | {"error_code": code})]
    found.attempts = {1: [*SPENT, attempt(10, "transient")]}
    assert list(invariants.failures_have_a_cause(found, BACKOFF, CAUSES)) == []
    found.attempts = {1: [*SPENT[:9], attempt(9, "permanent")]}
    assert len(list(invariants.failures_have_a_cause(found, BACKOFF, CAUSES))) == 1


def test_everything_that_is_checked_or_planted_is_documented() -> None:
    text = Path(__file__).parents[2].joinpath("docs/reliability.md").read_text("utf-8")
    called = re.findall(r"yield from (\w+)\(", inspect.getsource(invariants.every))
    assert len(called) > 15
    for name in (*called, *DEFECTS):
        assert f"\n| `{name}` | " in text, name


# --- what processes hold -------------------------------------------------------------------------


def samples_of(*values: Sample) -> Samples:
    samples = Samples()
    samples.lives["consumer", 1] = list(values)
    return samples


STEADY = Sample(descriptors=40, threads=9, sockets=12, kilobytes=60 * 1024)


@pytest.mark.parametrize("kind", Sample._fields)
def test_what_a_process_holds_may_not_grow(kind: str) -> None:
    for step in (0.0, 0.01, 8.0):
        life = [
            STEADY._replace(**{kind: int(getattr(STEADY, kind) * (1 + step * n / 90))})
            for n in range(90)
        ]
        found = list(samples_of(*life).growth())
        assert {one.invariant for one in found} == ({"nothing_grows"} if step == 8.0 else set())
        assert all(kind in one.words for one in found)


def test_files_that_come_and_go_are_no_growth() -> None:
    """As a worker has as many open as its batch has."""
    course = [24, 32, 32] * 15 + [146, 87, 145, 41, 125, 95, 34, 167] * 10
    life = [STEADY._replace(descriptors=count) for count in course]
    assert list(samples_of(*life).growth()) == []


@pytest.mark.parametrize("kind", Sample._fields)
def test_nothing_may_be_held_without_measure(kind: str) -> None:
    """Not even for a moment, by a process that does not live long."""
    peak = STEADY._replace(**{kind: getattr(STEADY, kind) * 1000})
    [found] = samples_of(STEADY, peak, STEADY).growth()
    assert (found.invariant, kind in found.words) == ("nothing_grows", True)


def test_what_is_under_way_comes_and_goes() -> None:
    busy = STEADY._replace(descriptors=140, sockets=60)
    assert list(samples_of(*[STEADY, busy] * 60).growth()) == []


def test_a_late_beginning_is_no_growth() -> None:
    """A consumer that waits for its first file holds little more than Python."""
    idle = STEADY._replace(kilobytes=30 * 1024)
    assert (
        list(samples_of(*[idle] * 10, *[STEADY._replace(kilobytes=120 * 1024)] * 90).growth()) == []
    )


def test_a_process_is_looked_at() -> None:
    before = look(os.getpid())
    with closing(socket.socket()), closing(socket.socket()), open(os.devnull, "rb"):
        held = look(os.getpid())
    assert (held.descriptors, held.sockets) == (before.descriptors + 3, before.sockets + 2)
    assert held.threads >= 1
    assert held.kilobytes > 1024


@pytest.mark.parametrize(
    ("code", "sent", "odd"),
    [
        ("import os; os.abort()", None, "by signal 6, which nobody sent"),
        ("raise SystemExit(3)", None, "with status 3"),
        ("raise SystemExit(75)", None, None),
        ("pass", None, None),
        ("import time; time.sleep(60)", signal.SIGTERM, None),
        ("import time; time.sleep(60)", signal.SIGKILL, None),
    ],
)
def test_endings_are_judged(tmp_path: Path, code: str, sent: int | None, odd: str | None) -> None:
    crew = Crew(tmp_path, os.environ)
    member = crew.add("one", "-c", code, statuses=(0, 75))
    crew.work()
    crew.tend()
    if sent is not None:
        assert member.send(sent)
    assert member.process is not None
    member.process.wait(60)
    crew.tend()
    crew.kill_all()
    assert crew.endings.total() == 1
    told = [words.partition(", after ")[0] for words in crew.odd_endings]
    assert told == ([] if odd is None else [f"one ended {odd}"])


def test_command_lines_are_looked_at(tmp_path: Path) -> None:
    """Also those of children, and of processes that have only just begun."""
    crew = Crew(tmp_path, os.environ)
    inner = "import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}, 'inner'])"
    member = crew.add("one", "-c", code, "outer")
    crew.work()
    samples = Samples()
    try:
        deadline = time.monotonic() + 30
        while not any(line.endswith("inner ") for line in samples.command_lines):
            assert time.monotonic() < deadline
            crew.tend()
            samples.take(crew.members)
            time.sleep(0.02)
    finally:
        crew.kill_child(member, random.Random(0))
        crew.kill_all()
    assert any(line.endswith("outer ") for line in samples.command_lines)
    assert not samples.lives
    judged = judgement.judge(good(), BACKOFF, samples)
    assert "no_secret_is_told" not in {one.invariant for one in judged}
    samples.command_lines.add(f"flood-watch {SECRET_ACCESS_KEY}")
    judged = judgement.judge(good(), BACKOFF, samples)
    assert "no_secret_is_told" in {one.invariant for one in judged}


def test_a_process_that_has_just_ended_holds_nothing(tmp_path: Path) -> None:
    crew = Crew(tmp_path, os.environ)
    member = crew.add("one", "-c", "pass")
    crew.work()
    crew.tend()
    process = member.process
    assert process is not None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    member.born = -1e6
    samples = Samples()
    samples.take([member])
    assert not samples.lives
    assert list(samples.growth()) == []
    process.wait()
