"""What flood-drain has to tell."""

import math
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from flood import drain_report
from flood.states import GONE_BEFORE, MISNAMED
from flood.tally import EXAMPLES, BrokenOff, Tally
from tests.spooling import START


def test_nothing_is_told_of_what_went_well() -> None:
    tally = Tally()
    tally.completed(1024)
    tally.completed(2048)
    assert list(drain_report.failures(tally)) == []
    assert drain_report.done(tally) == "2 files uploaded (3.0 KiB)"


def test_failures_are_told_of_by_their_causes() -> None:
    tally = Tally()
    tally.completed(1)
    for number in range(EXAMPLES + 2):
        tally.gave_up("p", "b", f"key {number}", number, "NoSuchBucket", "there is none")
    tally.gave_up("p", "other", "key", 99, "AccessDenied", "it may not")
    first, *keys, more, second, last_key, summary = drain_report.failures(tally)
    assert first == "12 files failed for s3://p/b: there is none (NoSuchBucket)"
    assert keys == [f"  key {number}, record {number}" for number in range(EXAMPLES)]
    assert more == "  ... 2 more"
    assert second == "1 file failed for s3://p/other: it may not (AccessDenied)"
    assert last_key == "  key, record 99"
    assert summary == (
        "13 files failed, 1 file uploaded (1 Byte); once the causes are mended, flood-retry puts "
        "the files back"
    )


def test_flood_retry_is_named_where_it_can_put_something_back() -> None:
    tally = Tally()
    for number, code in enumerate(GONE_BEFORE):
        tally.gave_up("p", "b", "key", number, code, "it is gone: put it again")
    *_, summary = drain_report.failures(tally)
    assert summary == "6 files failed, 0 files uploaded (0 Bytes)"
    for number, code in enumerate(MISNAMED):
        tally.gave_up("p", "b", "key", number, code, "move it")
    *_, summary = drain_report.failures(tally)
    assert summary == "15 files failed, 0 files uploaded (0 Bytes)"
    tally.gave_up("p", "b", "key", 9, "NoSuchBucket", "there is none")
    *_, summary = drain_report.failures(tally)
    assert summary.endswith("; once the causes are mended, flood-retry puts back 1 file of them")


def test_work_that_broke_off_is_told_of() -> None:
    tally = Tally()
    tally.broke_off()
    [line] = drain_report.failures(tally)
    assert line.startswith("work broke off once")


def test_a_file_that_needs_more_time_is_told_of() -> None:
    tally = Tally()
    tally.let_go(BrokenOff("p", "b", "film.mp4", 7, 270.0))
    tally.let_go(BrokenOff("p", "b", "late.mp4", 8, 20.0))
    [line] = drain_report.too_long(tally, 280.0)
    assert line.startswith("s3://p/b/film.mp4, record 7, was broken off after 270 s")
    for number in range(drain_report.NAMED):
        tally.let_go(BrokenOff("p", "b", f"{number}.mp4", number, 280.0))
    lines = list(drain_report.too_long(tally, 280.0))
    assert len(lines) == drain_report.NAMED + 1
    assert lines[-1] == "likewise 1 file more"
    assert list(drain_report.too_long(tally, math.inf)) == []


def test_what_waits_is_told_with_its_time() -> None:
    assert drain_report.later(0, None, START) is None
    soon = START + timedelta(seconds=30)
    assert drain_report.later(1, soon, START) == (
        "1 file waits for its next try, the first 30 seconds from now"
    )
    assert drain_report.later(2, soon, START) == (
        "2 files wait for their next try, the first 30 seconds from now"
    )


def test_threads_lose_no_count() -> None:
    tally = Tally()

    def settle(number: int) -> None:
        tally.completed(1)
        tally.gave_up("p", "b", "key", number, "code", "why")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(settle, range(2000)))
    assert (tally.files, tally.size, tally.failed, tally.settled) == (2000, 2000, 2000, 4000)
