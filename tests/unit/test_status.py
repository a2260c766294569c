"""What flood-status sees of a spool."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from io import StringIO
from itertools import product
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from rich.console import Console
from rich.screen import Screen

from flood import (
    check_spool,
    check_work,
    destination,
    digest,
    models,
    put_locks,
    queries,
    records,
    retry_choice,
    schema,
    stall,
    status_files,
    status_json,
    status_stranded,
    status_text,
    status_view,
    story,
    syscalls,
    units,
)
from flood import claims as claiming
from flood.advice import Advice
from flood.columns import utc_text
from flood.digest_records import Memory
from flood.doing import Doing, encode
from flood.door import Candidate
from flood.errors import ConfigError, SpoolError
from flood.layout import Place
from flood.locks import CONSUMERS_LOCK, STARTING_LOCK, WATCH_LOCK, FileLock, WorkerLocks
from flood.record_values import Arrival, Reason
from flood.retry import Retried, Retry
from flood.retry_choice import Choice
from flood.spool import Spool
from flood.states import (
    COMPLETED,
    FAILED,
    INCOMING,
    INCOMING_TMP,
    INTERRUPTED,
    PERMANENT,
    TRANSIENT,
)
from flood.status import AGES, DUE, RETRY, STAGES, SUPERSEDED, UPLOADING, WINDOWS, Status
from flood.status_check import CRITICAL, OK, UNKNOWN, WARNING, Limit, Limits, judge
from flood.status_files import look as look_at_files
from flood.status_fit import Fitted
from flood.status_prometheus import registry
from flood.story_text import as_json, lines
from tests.fscking import fsck
from tests.spooling import LARGE, NOBODY, START, House, quick_house
from tests.unit.test_fsck import RECEIPT, done, given_up, move
from tests.unit.test_retry import begin_put, break_off, put_back
from tests.unit.test_settle import Full
from tests.unit.test_writers import locked
from workers.decisions import GiveUp, PutOff, TryAgain

DENIED = Reason(PERMANENT, "AccessDenied", "the access key may not write there; let it")
AWAY = Reason(TRANSIENT, "connection_refused", "the store refused; it is tried again")
PLACE = ("p", "b")


def seen(
    house: House,
    seconds: float = 60.0,
    now: Callable[[], datetime] | None = None,
    clock: Callable[[], float] | None = None,
    min_free: float = 0,
) -> Status:
    """What flood-status sees, with a connection that can change nothing."""
    models.close()
    schema.open_for_reading(house.database)
    try:
        return status_view.look(
            house.spool,
            house.database,
            ["*.part"],
            now=now or house.clock.now,
            clock=clock or house.clock.seconds,
            seconds=seconds,
            min_free=min_free,
        )
    finally:
        models.bind(house.database)


def amounts(found: Status) -> dict[str, tuple[int, int]]:
    return {stage: (one.files, one.size) for stage, one in found.amounts.get(PLACE, {}).items()}


def shown(found: Status, width: int = 1000, **flags: str) -> str:
    advice = House(Spool(found.server_directory), found.database).advice(**flags)
    buffer = StringIO()
    console = Console(file=buffer, width=width, highlight=False, color_system=None)
    for part in status_text.render(found, advice):
        console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def test_an_empty_spool(house: House) -> None:
    found = seen(house)
    assert found.amounts == {}
    assert not found.watching
    assert not found.consuming
    assert "No file has come yet." in shown(found)
    assert "start" not in shown(found)
    house.admit("new")
    assert "Nobody is at work, so all of it waits; to start: flood-watch --consumers 2" in shown(
        seen(house)
    )


def test_a_spool_without_files_may_have_had_some(house: House) -> None:
    given_up(house, "bad")
    os.unlink(house.spool.absolute("failed/p/b/bad"))
    text = shown(seen(house))
    assert "\nNothing waits, and nothing lies in failed.\n1 more has failed, whose file" in text
    models.execute("DELETE FROM retry_attempts")
    models.execute("DELETE FROM file_records")  # as --keep-records does
    assert "Nothing waits, and nothing lies in failed." in shown(seen(house))


@pytest.mark.parametrize(
    "path", ["processing/p/b/taken", "incoming/p/misplaced", "incoming/p/b/film.part"]
)
def test_what_does_not_count_is_there_all_the_same(house: House, path: str) -> None:
    house.write(path)
    found = seen(house, now=from_now(0.0))
    assert found.total(STAGES).files == 0
    assert "\nNo file is counted.\n" in shown(found)


def test_each_stage_is_counted(house: House) -> None:
    done(house, "done1", "done2")
    given_up(house, "bad")
    house.admit("again", "uploading", "due", data=b"12345")
    again, uploading, due = (house.in_processing(key) for key in ("again", "uploading", "due"))
    [claim] = [one for one in house.claim(again) if one.id == again]
    house.settle(TryAgain(claim, claim.identity, AWAY, 30.0))
    for one in house.claimed():
        if one.id == due:
            records.put_off(one, house.clock.now(), 0.0)
    house.write("incoming/p/b/new", b"123")
    house.write("incoming/p/b/new.part")
    house.write("incoming_tmp/p/b/0123", b"1")
    house.clock.advance(10.0)
    found = seen(house)
    assert amounts(found) == {
        INCOMING_TMP: (1, 1),
        INCOMING: (1, 3),
        DUE: (1, 5),
        UPLOADING: (1, 5),
        RETRY: (1, 5),
        FAILED: (1, 4),
        COMPLETED: (2, 8),
    }
    assert found.amounts[PLACE][DUE].oldest == START
    assert [(one.id, one.retry_count, one.code) for one in found.retries] == [
        (again, 1, "connection_refused")
    ]
    assert [(one.record, one.key, one.worker) for one in found.uploads] == [
        (uploading, "uploading", None)
    ]
    text = shown(found)
    assert "in 20 seconds" in text
    assert "died" in text
    assert json.loads(status_json.as_json(found))["retries"][0]["record"] == again


def test_the_age_of_what_waits(house: House) -> None:
    expected = []
    for number, age in enumerate(reversed((0, *AGES))):
        house.clock.moment = START - timedelta(seconds=age + 1)
        house.admit(f"file{number}")
        expected.append(1)
    house.clock.moment = START
    assert seen(house).ages == {PLACE: expected}


def test_ages_are_told_of_though_the_first_records_were_deleted(house: House) -> None:
    house.clock.advance(-7200.0)
    ids = house.admit(*map(str, range(20)))
    house.clock.moment = START
    house.admit("new")
    with models.write():
        models.execute("DELETE FROM file_records WHERE id < ?", (ids[15],))
    [ages] = seen(house).ages.values()
    assert ages == [1, 0, 0, 0, 5, 0, 0]


def test_what_is_held_back_by_an_earlier_version(house: House) -> None:
    [earlier] = house.admit("key")
    [claim] = house.claim()
    house.settle(TryAgain(claim, claim.identity, AWAY, 7200.0))
    house.write("incoming/p/b/key", b"newer")
    found = seen(house)
    assert found.held_back == 1
    assert found.back[0].behind is not None
    assert found.back[0].behind.id == earlier
    assert f"record {earlier}, retry 1 in 2 hours" in shown(found)
    [told] = json.loads(status_json.as_json(found))["held_back"]["oldest"]
    assert (told["in_the_way"], told["behind"]["record"]) == ("processing/p/b/key", earlier)
    # Seen in both places as it is taken: not held back.
    os.unlink(house.spool.absolute("incoming/p/b/key"))
    house.write("incoming/p/b/other")
    assert seen(house).held_back == 0


def test_what_is_held_back_by_something_else_names_it(house: House) -> None:
    house.write("incoming/p/b/key")
    house.write("processing/p/b/key/below")
    [parent] = house.admit("parent")
    os.makedirs(house.spool.absolute("incoming/p/b/parent"), exist_ok=True)
    house.write("incoming/p/b/parent/child")
    house.write("processing/p/b/new")  # which no record knows yet
    house.write("incoming/p/b/new")
    found = seen(house)
    told = {
        one["key"]: (one["in_the_way"], one["behind"] and one["behind"]["record"])
        for one in json.loads(status_json.as_json(found))["held_back"]["oldest"]
    }
    assert told == {
        "key": ("processing/p/b/key/", None),
        "parent/child": ("processing/p/b/parent", parent),
        "new": ("processing/p/b/new", None),
    }
    text = shown(found)
    assert re.search("^p/b/key .* processing/p/b/key/$", text, re.MULTILINE)
    assert re.search(f"^p/b/parent/child .* record {parent}, due$", text, re.MULTILINE)


@pytest.mark.parametrize("target", ["..", "nowhere"])
def test_a_link_in_processing_is_called_one(house: House, target: str) -> None:
    """Wherever it leads."""
    house.write("incoming/p/b/key")
    house.write("processing/p/b/other")
    os.symlink(target, house.spool.absolute("processing/p/b/key"))
    found = seen(house)
    [told] = json.loads(status_json.as_json(found))["held_back"]["oldest"]
    assert (told["in_the_way"], told["oddity"]) == ("processing/p/b/key", "symbolic link")
    shows = "^p/b/key .* processing/p/b/key, a symbolic link$"
    assert re.search(shows, shown(found), re.MULTILINE)
    place = destination.of_file("s3://p/b/key")
    told = story.tell(house.spool, place, [], house.advice(), now=house.clock.now)
    assert told.arriving == "waits until the symbolic link of its name in processing is gone"


def test_failures_are_grouped_with_a_hint_each(house: House) -> None:
    given_up(house, "broken")
    house.admit("denied1", "denied2")
    house.settle(*(GiveUp(claim, DENIED) for claim in house.claim()))
    house.write("failed/p/b/nobody knows")
    found = seen(house)
    assert [(one.code, one.files, one.hint) for one in found.failures] == [
        ("AccessDenied", 2, DENIED.message),
        ("broken", 1, "the connection broke"),
        ("no_record", 1, None),
    ]
    text = shown(found, server_directory="/srv/my spool")
    assert f"AccessDenied: {DENIED.message}" in text
    where = "--server-directory '/srv/my spool'"
    assert f"once that is mended: flood-retry --error AccessDenied {where}\n" in text
    assert f"no_record: to make records of them: flood-fsck --repair {where}\n" in text


def test_flood_retry_is_not_named_where_a_file_has_to_move(house: House) -> None:
    house.admit("e\u0301")
    advice = "rename it; move it to incoming under its new name"
    house.settle(GiveUp(house.claim()[0], Reason(PERMANENT, "key_not_normalized", advice)))
    text = shown(seen(house))
    assert f"  key_not_normalized: {advice}\n" in text
    assert "flood-retry" not in text
    text, _ = told(house, "s3://p/b/e\u0301")
    assert "next      a person moves failed/p/b/e\u0301 to incoming, under a name" in text
    # That is all that has to be done: it counts no longer, also before a sweep takes notice.
    move(house, "failed/p/b/e\u0301", "incoming/p/b/\u00e9")
    done(house, "\u00e9")
    for _ in range(2):
        assert judge(seen(house), Limits(None, Limit(0), None))[0] == OK
        assert "1 more has failed, whose file is not in failed any more" in shown(seen(house))
        text, _ = told(house, "s3://p/b/e\u0301")
        assert text.endswith("next      nothing: its file is not in failed any more")
        house.sweep()
    assert ": not there any more" in text


def test_what_can_only_not_be_moved_says_so(house: House) -> None:
    house.admit("stays")
    [claim] = house.claim()
    reason = Reason(INTERRUPTED, "cannot_move", "the file cannot leave processing")
    assert records.release(
        claim, reason, house.clock.now(), 3600.0, records.Proof("etag", None, None, 4, 1)
    )
    house.write("incoming/p/b/stays", b"later")
    found = seen(house)
    [coming] = found.retries
    assert (coming.code, coming.message) == (reason.code, reason.message)
    text = shown(found)
    assert re.search(r"^p/b/stays +move .* cannot_move$", text, re.MULTILINE)
    assert re.search(r"^p/b/stays .* record 1, the move to completed in an hour$", text, re.M)
    told = json.loads(status_json.as_json(found))
    [retry], [back] = told["retries"], told["held_back"]["oldest"]
    assert (retry["move_to"], back["behind"]["move_to"]) == ("completed", "completed")


@pytest.mark.parametrize("put_off", [False, True])
def test_what_was_given_up_says_why_it_can_not_be_moved(house: House, put_off: bool) -> None:
    """Why it was given up comes to failed with it, and is nothing to mend for this."""
    house.admit("stays")
    [claim] = house.claim()
    house.settle(GiveUp(claim, DENIED), agent=house.agent(spool=Full(house.spool.root)))
    if put_off:
        house.clock.advance(60.0)
        house.settle(PutOff(house.claim()[0], DENIED, 60.0))
    house.write("incoming/p/b/stays", b"later")
    found = seen(house)
    assert re.search(r"^p/b/stays +move .* cannot_move$", shown(found), re.MULTILINE)
    told = json.loads(status_json.as_json(found))
    [retry], [back] = told["retries"], told["held_back"]["oldest"]
    for each in (retry, back["behind"]):
        assert (each["move_to"], each["error_code"]) == ("failed", "cannot_move")
        assert each["error_message"].startswith(
            f"it was given up ({DENIED.message}), and the file cannot leave processing "
            "(No space left on device)"
        )
    house.clock.advance(60.0)
    house.settle(GiveUp(house.claim()[0], DENIED))
    row = house.row(claim.id)
    assert (row["current_state"], row["error_code"]) == ("failed", "AccessDenied")


def test_a_sweep_to_come_is_of_a_clock_that_was_set_back(house: House) -> None:
    for seconds, words in ((-60, "a minute ago"), (3, "a moment ago")):
        swept = house.clock.now() + timedelta(seconds=seconds)
        models.execute("UPDATE spool SET last_swept_at = ?", (utc_text(swept),))
        assert f"swept {words}\n" in shown(seen(house))
    house.clock.advance(-3600.0)
    assert "swept an hour from now, as the clock was set back\n" in shown(seen(house))


def test_no_file_has_an_age_of_the_time_to_come(house: House) -> None:
    given_up(house, "bad")
    house.admit("key")
    house.write("incoming/p/b/key", b"later")
    house.clock.advance(-86_400.0)
    found = seen(house)
    text = shown(found)
    for line in (
        r"p/b +incoming +1 +5 B +a moment",
        r" +retry +1 +4 B +a moment",
        r" +failed +1 +4 B +a moment",
        r"p/b/key +a moment +record 2, .*",
    ):
        assert re.search(f"^{line}$", text, re.MULTILINE), text
    _, line = judge(found, Limits(Limit(3600.0), None, None))
    assert "oldest waits a moment" in line
    assert "a day from now, as the clock was set back" in text  # when that failed


def eventful(house: House) -> Status:
    """More than a small terminal can show: ten retries, six kinds of failures, nobody at work."""
    away = [f"retried/{number}" for number in range(10)]
    house.admit(*away)
    house.settle(*(TryAgain(claim, claim.identity, AWAY, 60.0) for claim in house.claim()))
    house.admit(*(f"refused/{number}" for number in range(6)))
    house.settle(
        *(
            GiveUp(claim, Reason(PERMANENT, f"Refused{number}", f"reason {number}: mend it"))
            for number, claim in enumerate(house.claim())
        )
    )
    return seen(house)


def fitted(found: Status, width: int, height: int) -> list[str]:
    """The lines of the live screen."""
    advice = House(Spool(found.server_directory), found.database).advice()
    console = Console(
        file=(buffer := StringIO()), width=width, height=height, highlight=False, color_system=None
    )
    console.print(Screen(Fitted(status_text.parts(found, advice))))
    return [line.rstrip() for line in buffer.getvalue().splitlines()]


def left_out(screen: list[str]) -> int:
    words = re.fullmatch(r"(\d+) lines? more: a .*", screen[-1])
    assert words, screen[-1]
    return int(words[1])


def test_a_small_screen_shows_the_most_urgent(house: House) -> None:
    found = eventful(house)
    whole = fitted(found, 80, 100)
    everything = "\n".join(whole).rstrip().splitlines()
    assert everything == shown(found, width=80).splitlines(), "a tall one shows it all"
    assert "lines more" not in "\n".join(whole)
    for height in (40, 24, 15, 10):
        screen = fitted(found, 80, height)
        assert len(screen) == height
        text = "\n".join(screen)
        assert "Nobody is at work, so all of it waits" in text
        assert re.search("^FAILED +FILES", text, re.MULTILINE)
        assert "  Refused0: reason 0: mend it" in text
        assert "once that is mended: flood-retry" in text
        marks = re.findall(r"^\.\.\. \d+ lines more$", text, re.MULTILINE)
        assert left_out(screen) + height - 1 - len(marks) == len(everything), text
    text = "\n".join(fitted(found, 80, 24))
    assert all(heading in text for heading in ("at work", "NEXT RETRIES OF 10", "DESTINATION"))


def test_what_is_cut_to_its_least_says_so(house: House) -> None:
    found = eventful(house)
    text = "\n".join(fitted(found, 80, 24))
    assert re.search(
        r"^NEXT RETRIES OF 10 .*  \.\.\. \d lines more\np/b/retried/0 ", text, re.MULTILINE
    )
    assert re.search(r"^  Refused0: reason 0: mend it  \.\.\. 10 lines more$", text, re.MULTILINE)
    narrow = "\n".join(fitted(found, 40, 20))
    assert re.search(r"^FAILED .*  \.\.\. 5 lines more\nRefused0 ", narrow, re.MULTILINE)
    for width, height in product((40, 80), (10, 15, 20, 30)):
        screen = fitted(found, width, height)
        marks = [
            int(each) for line in screen[:-1] for each in re.findall(r"\.\.\. (\d+) line", line)
        ]
        assert not marks or sum(marks) <= left_out(screen)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_narrow_terminal_keeps_what_each_row_is_about(house: House, width: int) -> None:
    house.admit(*(f"up/loading-{number}" for number in range(3)))
    house.claim()
    house.write("incoming/p/b/up/loading-1", b"newer")
    text = "\n".join(fitted(eventful(house), width, 100))
    assert re.search("^p/b: 0 of 3", text, re.MULTILINE)
    assert re.search("^p/b/retried", text, re.MULTILINE)
    assert re.search("^p/b/up/load", text, re.MULTILINE)
    assert re.search("^p/b +14 ", text, re.MULTILINE)
    assert re.search("^p/b +incoming +1 ", text, re.MULTILINE)
    for heading in ("UPLOADING", "DESTINATION", "WAITING BY", "HELD BACK", "NEXT RETR", "FAILED"):
        assert re.search(f"^\n{heading}.*\n(p/b|Refused0)", text, re.MULTILINE), "in one line"
    assert "0.0, 0.0, 0.0 MiB/s" in text
    assert "(last 1, 5, 15 min)" in text


def test_a_screen_of_any_size_is_filled_but_no_more(house: House) -> None:
    found = eventful(house)
    for width, height in product((20, 40, 60, 80, 200), (*range(2, 16), 20, 24, 31, 50, 70)):
        screen = fitted(found, width, height)
        assert len(screen) == height
        assert all(len(line) <= width for line in screen)
        if any("lines more: " in line for line in screen):
            assert "lines more: " in screen[-1]
            assert screen[-2], "no line is wasted on a heading's gap"


def test_of_one_line_the_failures_get_it(house: House) -> None:
    given_up(house, "broken")
    assert "broken" in fitted(seen(house), 80, 2)[0]


def test_what_flood_retry_would_refuse_is_not_asked_for(house: House) -> None:
    """An overview and flood-retry agree on each file, however its later version stands."""
    given_up(house, "uploaded", "under way", "arriving", "fails too", "copied")
    begin_put(house, "copied")
    done(house, "uploaded")
    house.admit("fails too")
    house.settle(*(GiveUp(claim, DENIED) for claim in house.claim()))
    house.admit("under way")
    house.write("incoming/p/b/arriving")
    found = seen(house)
    chosen = list(retry_choice.failed(Choice(), house.clock.now()))
    fates = Counter(each.fate for one in chosen for each in foreseen(house, one.row.id))
    assert fates == {"retried": 3, "superseded": 3}
    assert amounts(found)[FAILED] == (3, 12)
    assert amounts(found)[SUPERSEDED] == (3, 12)
    assert [(one.code, one.files) for one in found.failures] == [("broken", 2), ("AccessDenied", 1)]
    text = shown(found)
    assert "3 files in failed have a later version under way or completed" in text
    assert "whose files are not in failed any more" not in text
    assert judge(found, Limits(None, Limit(3), None))[0] == OK
    assert 'stage="superseded"} 3.0' in generate_latest(registry(found)).decode()


def foreseen(house: House, record: int) -> list[Retried]:
    """What flood-retry says that it would do with one record by itself."""
    retry = Retry(
        house.spool,
        overwrite=False,
        large=LARGE,
        enqueue=lambda *_: None,
        ring=lambda *_: None,
        now=house.clock.now,
    )
    return retry.foresee([record])


def test_commands_that_are_printed_find_the_same_spool(house: House) -> None:
    """Whatever starts something has to be told of the database, too, where no setting has it."""
    house.admit("waits")
    found = seen(house)
    flags = {"config": "/etc/my flood.conf"}
    assert "flood-watch --consumers 2 --config '/etc/my flood.conf'\n" in shown(found, **flags)
    elsewhere = house.advice(server_directory="/srv/spool", database="/cwd/flood.db")
    unset = replace(elsewhere.settings, origins={"server_directory": "flag"})
    assert Advice(unset, "/srv/flood.db").watch() == (
        "flood-watch --server-directory /srv/spool --database /srv/flood.db"
    )
    assert Advice(unset, "/srv/flood.db").retry("7") == (
        "flood-retry 7 --server-directory /srv/spool"
    )
    text, _ = told(house, "s3://p/b/waits", **flags)
    assert "to start one: flood-watch --consumers 2 --config '/etc/my flood.conf'" in text


@pytest.mark.parametrize("key", ["key", os.fsdecode(b"j\xf6rg")], ids=ascii)
def test_what_has_failed_again_is_one_file(house: House, key: str) -> None:
    """However many records it has of that."""
    given_up(house, key)
    for number in (1, 2):
        assert put_back(house, number) == {number: "retried"}
        assert "1 more has failed, whose file is not in failed any more" in shown(seen(house))
        house.settle(GiveUp(house.claim()[0], DENIED))
        found = seen(house)
        assert (amounts(found)[FAILED], found.failed_records) == ((1, 4), number + 1)
        assert "more has failed" not in shown(found)
        assert "more have failed" not in shown(found)
    os.unlink(house.spool.absolute(f"failed/p/b/{key}"))
    assert "1 more has failed, whose file is not in failed any more" in shown(seen(house))


def test_what_was_taken_out_of_failed_is_history(house: House) -> None:
    given_up(house, "a", "b")
    move(house, "failed/p/b/a", "incoming/p/b/a")
    found = seen(house)
    assert amounts(found)[FAILED] == (1, 4)
    assert found.failed_records == 2
    assert "1 more has failed, whose file is not in failed any more" in shown(found)


def test_a_file_that_failed_twice_counts_as_its_latest_record_has_it(house: House) -> None:
    given_up(house, "key")
    move(house, "failed/p/b/key", "outside")
    house.admit("key")
    house.settle(*(GiveUp(claim, DENIED) for claim in house.claim()))
    assert [one.code for one in seen(house).failures] == ["AccessDenied"]


def test_speeds_are_of_the_last_minutes(house: House) -> None:
    for seconds in (1000, 400, 100, 5):
        house.clock.moment = START - timedelta(seconds=seconds)
        done(house, f"{seconds}")
    house.clock.moment = START
    assert seen(house).speeds == dict(zip(WINDOWS, [(1, 4), (2, 8), (3, 12)], strict=True))


def test_what_a_worker_says_is_told(house: House) -> None:
    agent = house.agent()
    owner = agent.locks.own()
    house.admit("large", data=b"x" * 1000)
    house.claim(owner=owner)
    agent.progress.begin([1000])
    house.clock.advance(2.0)
    agent.progress.sending(lambda: 500)
    found = seen(house)
    [upload] = found.uploads
    assert (upload.sent, upload.rate, upload.left) == (500, 250.0, 2.0)
    assert [worker.owner for worker in found.workers] == [owner]
    assert str(os.getpid()) in shown(found)
    house.clock.advance(60.0)
    assert "silent for a minute" in shown(seen(house))
    agent.locks.disown()
    assert seen(house).workers == []


def test_who_holds_the_database_is_named(house: House) -> None:
    """In the place of what else may keep a worker from saying anything."""
    agent = house.agent()
    house.admit("key")
    house.claim(owner=agent.locks.own())
    agent.progress.begin([4])
    house.clock.advance(60.0)
    silent = f"Worker {os.getpid()} has been silent for a minute: "
    with locked(house.database) as pid:
        told = shown(seen(house))
        holder = f"process {pid} holds it, none of flood's, and has to let go: ps -fp {pid}\n"
        assert f"Nobody can write to the database: {holder}" in told
        assert f"{silent}it waits for the database\n" in told
    told = shown(seen(house))
    assert "Nobody can write" not in told
    assert f"{silent}its store does not answer, or it is stopped\n" in told
    agent.locks.disown()


def test_a_worker_whose_store_takes_nothing_is_told_of(house: House) -> None:
    agent = house.agent()
    house.admit("large", data=b"x" * 1000)
    house.claim(owner=agent.locks.own())
    agent.progress.begin([1000])
    for sent, seconds in ((0, 5), (1, 6), (1, 10)):
        house.clock.advance(float(seconds))
        agent.progress.sending(lambda sent=sent: sent)  # type: ignore[misc]  # the default is for this one
        assert "sent nothing" not in shown(seen(house))
    house.clock.advance(1.0)
    agent.progress.sending(lambda: 1)
    told = shown(seen(house))
    assert "has sent nothing for 11 seconds: its store does not answer" in told
    assert "silent" not in told
    house.clock.advance(1.0)
    agent.progress.done(1000)
    assert "sent nothing" not in shown(seen(house))
    agent.locks.disown()


def test_what_a_worker_said_of_the_attempt_before_is_not_taken_for_this_one(house: House) -> None:
    agent = house.agent()
    agent.locks.own()
    agent.progress.begin([5, 6, 7])
    house.clock.advance(0.5)
    house.admit("next")
    house.claim(owner=agent.locks.own())
    [upload] = seen(house).uploads
    assert (upload.sent, upload.files, upload.size) == (None, 1, 4)
    agent.locks.disown()


@pytest.mark.parametrize(("files", "beside"), [(2, "with 1 other,"), (3, "with 2 others,")])
def test_the_story_tells_how_many_are_beside_the_file(
    house: House, files: int, beside: str
) -> None:
    agent = house.agent()
    house.admit("key")
    house.claim(owner=agent.locks.own())
    agent.progress.begin([4] * files)
    assert f"{beside} 0 done" in told(house)[0]
    agent.locks.disown()


def test_who_is_at_work_is_known_by_locks(house: House) -> None:
    watch = FileLock(house.spool.absolute(WATCH_LOCK))
    consumer = FileLock(house.spool.absolute(CONSUMERS_LOCK))
    assert watch.try_exclusive()
    assert consumer.try_shared()
    found = seen(house)
    assert found.watching
    assert found.consuming
    house.admit("new")
    assert "start" not in shown(seen(house))
    watch.release()
    consumer.release()


def test_consumers_at_their_start_are_not_to_be_started(house: House) -> None:
    """A database that is held, or a full disk, may keep them there."""
    house.admit("waits")
    assert "--consumers 2" in shown(seen(house))
    lock = FileLock(house.spool.absolute(STARTING_LOCK))
    assert lock.try_shared()
    text = " ".join(shown(seen(house)).split())
    assert "at work no flood-watch, consumers at their start" in text
    assert f"No consumer takes files yet: {stall.STARTING}; so does: flood-check" in text
    assert "flood-watch does not run, so what is in incoming waits" in text
    assert (
        "; consumers are at their start; flood-watch does not run |"
        in judge(seen(house), Limits(None, None, None))[1]
    )
    assert f", once one has come up: {stall.STARTING}" in told(house, "s3://p/b/waits")[0]
    [(_, found, _)] = checked(house)
    assert found == "none takes files yet, as they are at their start"
    for words in (text, told(house, "s3://p/b/waits")[0]):
        assert "--consumers" not in words
    consumer = FileLock(house.spool.absolute(CONSUMERS_LOCK))
    assert consumer.try_shared()  # another one runs already
    assert "at their start" not in shown(seen(house))
    consumer.release()
    lock.release()


def test_what_vanished_was_never_in_failed(house: House) -> None:
    [record] = house.admit("a")
    os.unlink(house.spool.absolute("processing/p/b/a"))
    assert records.vanish(record, house.clock.now())
    told = shown(seen(house))
    assert "1 more has failed as its file was gone before the upload: put again" in told
    assert told.count("put again what is needed of s3://p/b/a\n") == 1
    assert "any more" not in told
    for key in ("a", "b", "c", "d"):
        break_off(house, key)
    told = shown(seen(house))
    assert "5 more have failed as their files were gone before" in told
    assert "what is needed of s3://p/b/d, s3://p/b/c, s3://p/b/b and 1 more\n" in told


@pytest.mark.parametrize("stands", ["failed", "processing", "completed", "incoming"])
def test_nothing_is_to_be_put_again_that_a_later_version_has(house: House, stands: str) -> None:
    break_off(house, "key")
    if stands == "incoming":
        house.write("incoming/p/b/key")
    else:
        {"failed": given_up, "processing": House.admit, "completed": done}[stands](house, "key")
    told = shown(seen(house))
    assert "put again" not in told
    assert "1 more has failed, whose file is not in failed any more" in told


def checked(house: House, *, readable: bool = True) -> list[tuple[str, str, str]]:
    """What flood-check has to say of the consumers."""
    found = check_work.look(house.spool, house.settings(), house.clock.now(), readable=readable)
    return [(each.status, each.found, each.remedy) for each in found if each.about == "consumers"]


def test_consumers_that_are_stopped(house: House) -> None:
    """It is told at once, as the kernel knows it, with what lets them go on."""
    consumer = FileLock(house.spool.absolute(CONSUMERS_LOCK))
    assert consumer.try_shared()
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process, ExitStack() as stack:
        stack.callback(process.kill)
        others, mine = WorkerLocks(house.spool), WorkerLocks(house.spool)
        owner = others.own()
        others.note(encode(Doing(process.pid, house.clock.now()), 1))
        house.admit("claimed")
        house.claim(owner=owner)
        house.admit("due")
        assert "stopped" not in shown(seen(house))
        process.send_signal(signal.SIGSTOP)
        while not syscalls.is_stopped(process.pid):
            pass
        found = seen(house)
        assert (found.stopped, found.idle) == ([process.pid], True)
        assert json.loads(status_json.as_json(found))["stopped"] == [process.pid]
        remedy = f"kill -CONT {process.pid}"
        assert (
            f"All consumers are stopped, so nothing is uploaded; to let them go on: {remedy}"
            in (shown(found))
        )
        assert re.search(f"^ *{process.pid} +1 +1 +stopped$", shown(found), re.MULTILINE)
        assert "; all consumers are stopped; " in judge(found, Limits(None, None, None))[1]
        assert checked(house) == [("error", "all are stopped", remedy)]
        assert checked(house, readable=False) == [("error", "all are stopped", remedy)]
        words = f"have the profile takes it, once consumers go on, as all are stopped: {remedy}"
        assert words in told(house, "s3://p/b/due")[0]
        watch = FileLock(house.spool.absolute(WATCH_LOCK))
        assert watch.try_exclusive()
        words = f"all consumers are stopped: the files wait; to let them go on: {remedy}"
        assert put_locks.idle(house.spool, house.settings()) == words
        words = f"its worker is stopped; to let it go on: {remedy}"
        assert words in told(house, "s3://p/b/claimed")[0]
        mine.own()
        mine.note(encode(Doing(os.getpid(), house.clock.now()), 1))
        found = seen(house)
        assert (found.stopped, found.idle) == ([process.pid], False)
        words = f"1 consumer is stopped, so what it has begun waits; to let it go on: {remedy}"
        assert words in shown(found)
        assert checked(house)[0] == ("warning", "1 of them is stopped", remedy)
        assert checked(house)[1][0] == "ok"
        assert "takes it" in told(house, "s3://p/b/due")[0]
        assert put_locks.idle(house.spool, house.settings()) is None
        watch.release()
    consumer.release()
    others.disown()
    mine.disown()


#: Takes a lock, alone or beside others, says so, keeps it.
HOLDER = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY | os.O_CREAT * (sys.argv[2] == "SH")),
            getattr(fcntl, f"LOCK_{sys.argv[2]}"))
print(flush=True)
input()
"""


def a_watch(house: House) -> AbstractContextManager[Callable[[bool], int]]:
    """A process that has flood-watch's lock, as `a_holder`."""
    return a_holder(house.spool.root, "EX")


def a_starter(house: House) -> AbstractContextManager[Callable[[bool], int]]:
    """A consumer at its start, as `a_holder`."""
    return a_holder(house.spool.absolute(STARTING_LOCK), "SH")


@contextmanager
def a_holder(path: str, how: str) -> Iterator[Callable[[bool], int]]:
    """A process that has this lock; the function stops it, or lets it go on, and returns its id
    once that has come to pass."""
    command = [sys.executable, "-c", HOLDER, path, how]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stdout is not None
        process.stdout.readline()

        def stop(stopped: bool) -> int:
            process.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)
            while syscalls.is_stopped(process.pid) != stopped:
                pass
            return process.pid

        yield stop


def check_told_of_a_stopped_watch(house: House, pid: int | None) -> None:
    found = seen(house)
    assert found.watching
    assert found.watch_stopped == pid
    stopped, remedy = pid is not None, f"to let it go on: kill -CONT {pid}"
    words = f"flood-watch is stopped, so what is put into incoming stays there; {remedy}\n"
    assert (words in shown(found)) == stopped
    assert ("at work  flood-watch (stopped), " in shown(found)) == stopped
    assert ("; flood-watch is stopped" in judge(found, Limits(None, None, None))[1]) == stopped
    as_object = json.loads(status_json.as_json(found))
    assert (as_object["flood_watch_runs"], as_object["flood_watch_stopped"]) == (True, pid)
    exposed = generate_latest(registry(found)).decode()
    assert f"flood_watch_running {0.0 if stopped else 1.0}\n" in exposed
    words = f"waits for flood-watch, which is stopped; {remedy}"
    assert (told(house, "s3://p/b/new")[1].arriving == words) == stopped
    reason = digest_reason(found) or ""
    assert reason.startswith("flood-watch is stopped: ") == reason.endswith(remedy) == stopped
    work = list(check_work.look(house.spool, house.settings(), house.clock.now(), readable=True))
    assert ((work[0].status, work[0].remedy) == ("warning", f"kill -CONT {pid}")) == stopped
    why = put_locks.idle(house.spool, house.settings()) or ""
    assert why.startswith("flood-watch is stopped: ") == why.endswith(remedy) == stopped


def test_a_flood_watch_that_is_stopped() -> None:
    """Whoever looks is told at once, as the kernel knows it, with what lets it go on."""
    # On a filesystem whose device has one number for the table of locks, for stat(2).
    with quick_house() as house, a_watch(house) as stop:
        house.write("incoming/p/b/new")
        check_told_of_a_stopped_watch(house, None)
        check_told_of_a_stopped_watch(house, stop(True))
        stop(False)
        check_told_of_a_stopped_watch(house, None)


def check_told_of_a_stopped_start(house: House, pid: int | None) -> None:
    found = seen(house)
    stopped = pid is not None
    assert found.starting
    assert (found.idle, found.stopped) == (stopped, [pid] if stopped else [])
    remedy = f"kill -CONT {pid}"
    words = f"All consumers are stopped, so nothing is uploaded; to let them go on: {remedy}\n"
    assert (words in shown(found)) == stopped
    assert ("consumers at their start (stopped)" in shown(found)) == stopped
    assert ("No consumer takes files yet" in shown(found)) != stopped
    line = judge(found, Limits(None, None, None))[1]
    assert ("; all consumers are stopped |" in line) == stopped
    assert ("; consumers are at their start |" in line) != stopped
    assert json.loads(status_json.as_json(found))["stopped"] == found.stopped
    assert (digest_reason(found) == "all consumers are stopped") == stopped
    assert (checked(house) == [("error", "all are stopped", remedy)]) == stopped
    words = f"takes it, once consumers go on, as all are stopped: {remedy}"
    assert (words in told(house, "s3://p/b/due")[0]) == stopped
    words = f"all consumers are stopped: the files wait; to let them go on: {remedy}"
    assert (put_locks.idle(house.spool, house.settings()) == words) == stopped
    assert put_locks.start_stopped(house.spool) == found.stopped


def test_a_consumer_that_is_stopped_at_its_start() -> None:
    """It has no worker yet that could have left a word: its lock tells, to the kernel."""
    with quick_house() as house, a_watch(house), a_starter(house) as stop:
        house.admit("due")
        check_told_of_a_stopped_start(house, None)
        check_told_of_a_stopped_start(house, stop(True))
        with a_starter(house):
            found = seen(house)
            assert (found.idle, len(found.stopped)) == (False, 1)
            assert "1 consumer is stopped, so what it has begun waits" in shown(found)
            assert [one[:2] for one in checked(house)] == [
                ("warning", "1 of them is stopped"),
                ("warning", "none takes files yet, as they are at their start"),
            ]
            assert put_locks.start_stopped(house.spool) == []
        stop(False)
        check_told_of_a_stopped_start(house, None)


def test_a_stopped_process_that_waits_for_a_lock_is_no_flood_watch() -> None:
    with quick_house() as house:
        mine = FileLock(house.spool.absolute(WATCH_LOCK))
        assert mine.try_shared()
        command = [sys.executable, "-c", HOLDER, house.spool.root, "EX"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process, ExitStack() as stack:
            stack.callback(process.kill)
            waiter = f"-> FLOCK  ADVISORY  WRITE {process.pid} "
            while waiter not in Path("/proc/locks").read_text("ascii"):
                pass
            process.send_signal(signal.SIGSTOP)
            while not syscalls.is_stopped(process.pid):
                pass
            assert put_locks.watch_stopped(house.spool) is None
        mine.release()


def digest_reason(found: Status) -> str | None:
    known = Memory(None, None, None, None, None)
    oldest = digest.look(found, known, max_age=None, gather=0.0).oldest
    return oldest.reason if oldest else None


def test_consumers_that_run_yet_take_nothing(house: House) -> None:
    """As those that are stopped: alive, silent, nobody sweeps."""
    consumer = FileLock(house.spool.absolute(CONSUMERS_LOCK))
    assert consumer.try_shared()
    agent = house.agent()
    agent.locks.own()
    agent.progress.end()
    house.admit("waits")
    assert queries.sweep_begins(house.clock.now(), 0)

    def told() -> bool:
        found = seen(house)
        _, line = judge(found, Limits(None, None, None))
        assert found.stalled in ([], [os.getpid()])
        assert bool(found.stalled) == ("take nothing" in line)
        assert bool(found.stalled) == (digest_reason(found) == stall.WHY)
        work = check_work.look(house.spool, house.settings(), house.clock.now(), readable=True)
        assert bool(found.stalled) == any(stall.WHY in each.found for each in work)
        assert bool(found.stalled) == (f"kill -CONT {os.getpid()}" in shown(found))
        return bool(found.stalled)

    assert not told()
    house.clock.advance(stall.QUIET.total_seconds() - 1)
    assert not told()
    house.clock.advance(1)
    assert told()
    house.clock.advance(600)
    assert told()
    with locked(house.database) as pid:
        words = shown(seen(house))
        assert f"process {pid} holds it" in words
        assert "take nothing" not in words
    # Whoever sweeps would find it: it waits for something else, as for credentials.
    assert queries.sweep_begins(house.clock.now(), 0)
    assert not told()
    house.clock.advance(600)
    # A worker that is busy for long says so.
    agent.progress.begin([1])
    assert not told()
    house.clock.advance(600)
    assert told()
    # Nor does what came a moment ago tell of anything.
    models.execute("UPDATE file_records SET next_attempt_at = ?", (utc_text(house.clock.now()),))
    assert not told()
    agent.locks.disown()
    consumer.release()


def test_due_files_that_no_worker_takes_though_one_is_free(house: House) -> None:
    """As those of a profile that was taken out of the credentials."""
    agent = house.agent()
    agent.locks.own()
    consumer = FileLock(house.spool.absolute(CONSUMERS_LOCK))
    assert consumer.try_shared()
    house.admit("waits", "too")

    def told() -> bool:
        assert queries.sweep_begins(house.clock.now(), 0)
        agent.progress.end()
        found = seen(house)
        assert json.loads(status_json.as_json(found))["unserved"] == found.unserved
        exposed = generate_latest(registry(found)).decode()
        assert bool(found.unserved) == ('flood_unserved{profile="p"} 1.0\n' in exposed)
        assert found.unserved in ([], ["p"])
        words = "the credentials may lack the profile p; to see why: flood-check"
        assert bool(found.unserved) == (words in shown(found))
        line = judge(found, Limits(None, None, None))[1]
        assert bool(found.unserved) == ("; the credentials may lack p: flood-check looks" in line)
        said = "the credentials may lack the profile; flood-check looks"
        assert bool(found.unserved) == (said in str(digest_reason(found)))
        return bool(found.unserved)

    house.clock.advance(59)
    assert not told()
    house.clock.advance(1)
    assert told()
    # Whoever had a file that waits for its retry has the profile, though he leaves the rest alone.
    [claim] = house.claim()[:1]
    models.execute("UPDATE file_records SET owner = NULL WHERE id <> ?", (claim.id,))
    records.retry(
        claim, claim.identity, Reason(TRANSIENT, "SlowDown", "x"), 45.0, house.clock.now()
    )
    assert not told()
    models.execute("UPDATE file_records SET next_attempt_at = created_at, claimed_at = NULL")
    assert told()
    # Whoever is at its files has the profile, and so has who was a moment ago.
    another = WorkerLocks(house.spool)
    first, _ = house.claim(owner=another.own())
    assert not told()
    move(house, first.path, "completed/p/b/waits")
    records.complete(first, "completed/p/b/waits", RECEIPT, house.clock.now())
    models.execute("UPDATE file_records SET owner = NULL")
    assert not told()
    house.clock.advance(61)
    assert told()
    # Of two workers one may be kept for small files, while the other is at a large one.
    models.execute("UPDATE file_records SET owner = ?, profile = 'q' WHERE id = 1", (first.owner,))
    models.execute("UPDATE file_records SET current_state = 'processing' WHERE id = 1")
    models.execute("UPDATE file_records SET claimed_at = last_updated WHERE id = 1")
    assert not told()
    another.disown()
    agent.locks.disown()
    assert seen(house).unserved == []
    consumer.release()


def test_a_worker_that_sweeps_for_long_is_busy(house: House) -> None:
    """A store may hang that it asks to abort an upload; it is not free then."""
    agent = house.agent()
    owner = agent.locks.own()
    agent.progress.end()
    consumer = FileLock(house.spool.absolute(CONSUMERS_LOCK))
    assert consumer.try_shared()
    house.admit("waits")
    house.clock.advance(61)
    assert queries.sweep_begins(house.clock.now(), 0)

    def busy() -> bool:
        found = seen(house)
        [worker] = json.loads(status_json.as_json(found))["workers"]
        assert worker["sweeps"] == (owner in found.busy)
        count = len(found.busy)
        assert f"1 worker, {count} busy" in shown(found)
        assert re.search(rf"^ *{os.getpid()} +1 +{count} ", shown(found), re.MULTILINE)
        assert f"flood_workers_busy {count}.0\n" in generate_latest(registry(found)).decode()
        assert found.unserved == ([] if count else ["p"])
        return bool(count)

    with agent.progress.sweeping():
        agent.progress.still()
        assert not busy()
        house.clock.advance(1)
        agent.progress.still()
        assert busy()
    assert not busy()
    agent.locks.disown()
    consumer.release()


def test_files_in_incoming_that_flood_watch_does_not_take(house: House) -> None:
    """Why it does not, as for want of a profile, nobody can tell from outside."""
    house.write("incoming/dmo/b/a")
    arrived = house.spool.changed_at("incoming/dmo/b/a")
    assert arrived is not None
    house.clock.moment = arrived + timedelta(seconds=61)
    assert seen(house).lingering == 0
    watch = FileLock(house.spool.absolute(WATCH_LOCK))
    assert watch.try_exclusive()
    found = seen(house)
    assert (found.lingering, found.unserved) == (1, [])
    assert json.loads(status_json.as_json(found))["lingering"] == 1
    assert "flood_lingering_files 1.0\n" in generate_latest(registry(found)).decode()
    said = shown(found)
    assert "1 file has waited in incoming for over a minute: where flood-watch leaves" in said
    assert "may lack" not in said
    assert judge(found, Limits(None, None, None))[1].startswith(
        "FLOOD OK - 1 waiting; 0 failed; oldest waits a minute; no consumer runs |"
    )
    assert str(digest_reason(found)) == "flood-watch has not taken it: its log says why"
    house.write("incoming/dmo/b/b")
    house.clock.moment += timedelta(seconds=60)
    assert "2 files have waited in incoming for over a minute" in shown(seen(house))
    house.clock.moment = arrived + timedelta(seconds=59)
    assert "in incoming for over" not in shown(seen(house))
    watch.release()


def test_a_disk_without_room_is_told_of_at_once(house: House) -> None:
    """In the words of flood-check, which looks the same way; and by the story of each file that
    waits."""
    house.write("incoming/p/b/key")

    def steady(text: str) -> str:
        return re.sub(r"\S+ \S+ are free", "N are free", text)  # others write to this disk, too

    def arriving(min_free: int) -> str:
        advice = Advice(house.settings(min_free=min_free), house.database)
        place = destination.of_file("s3://p/b/key")
        told = story.tell(house.spool, place, [], advice, now=house.clock.now)
        return steady(told.arriving or "")

    def overview(min_free: int) -> tuple[str, str | None]:
        found = seen(house, min_free=min_free)
        code = json.loads(status_json.as_json(found))["no_room"]
        return steady(shown(found)), code and steady(code)

    [short] = check_spool.room(house.spool.root, 2**60)
    mends = f"{steady(short.found)}; to make room: {short.remedy}"
    assert arriving(2**60).startswith("waits for flood-watch, which does not run")
    with a_watch(house):
        for seconds in (0, 120):
            house.clock.advance(seconds)
            text, code = overview(2**60)
            assert f"\nNothing is taken in: {mends}\n" in text
            assert "waited in incoming" not in text
            assert code == steady(short.found)
            assert arriving(2**60) == f"waits for room, as flood-watch takes nothing in: {mends}"
        text, code = overview(0)
        assert ("Nothing is taken in" in text, code) == (False, None)
        assert arriving(0).startswith("flood-watch takes it once nobody has it open")


def looked(house: House, meanwhile: Callable[[], None]) -> Status:
    """What flood-status sees if that happens after it has listed the directories, before it asks
    the database."""

    def now() -> datetime:
        models.close()
        models.bind(house.database)
        meanwhile()
        models.close()
        schema.open_for_reading(house.database)
        return house.clock.now()

    schema.open_for_reading(house.database)
    try:
        return status_view.look(
            house.spool, house.database, [], now=now, clock=house.clock.seconds, seconds=60.0
        )
    finally:
        models.close()
        models.bind(house.database)


def from_now(seconds: float) -> Callable[[], datetime]:
    return lambda: datetime.now(timezone.utc) + timedelta(seconds=seconds)


def test_what_lies_in_processing_without_a_record_counts_as_incoming(house: House) -> None:
    """As of a flood-retry, or a flood-watch, that was killed before it could write the record."""
    house.admit("dir/known")
    house.claim(*house.admit("claimed"))
    assert seen(house, now=from_now(60.0)).stranded == 0
    for path in ("processing/p/b/dir/lost", "processing/q/b/lost"):
        house.write(path, b"12345")
    just_now = seen(house, now=from_now(0.0))
    assert just_now.stranded == 0, "the record may be about to come"
    assert just_now.unrecorded == 2
    found = seen(house, now=from_now(60.0))
    assert found.stranded == 2
    assert amounts(found)[INCOMING] == (1, 5)
    assert found.total((INCOMING,)).files == 2
    assert sum(map(sum, found.ages.values())) == 4
    assert found.arrived is not None
    assert found.arrived.place.path in ("processing/p/b/dir/lost", "processing/q/b/lost")
    assert "2 files in processing have no record, as whoever took them was killed" in shown(found)
    assert found.whole
    assert seen(house, -1.0, now=from_now(60.0)).stranded == 0, "there was no time for it"


def test_what_takes_up_files_without_a_record_is_told(house: House) -> None:
    """A flood-watch that runs lets no other one in, also with --once."""
    house.write("processing/p/b/lost")
    now = from_now(60.0)
    where = "--server-directory /srv/spool"
    once = f"; the next start of flood-watch takes them up; at once: flood-watch --once {where}"
    assert once in shown(seen(house, now=now), server_directory="/srv/spool")
    watch = FileLock(house.spool.absolute(WATCH_LOCK))
    assert watch.try_exclusive()
    text = shown(seen(house, now=now), server_directory="/srv/spool")
    again = "flood-watch takes them up when it looks through processing again, as a rule within"
    assert f"{again} --rescan-interval; at once: flood-fsck --repair {where}\n" in text
    assert "--once" not in text
    watch.release()


def test_where_some_without_a_record_may_not_be_counted_nothing_is_called_well(
    house: House,
) -> None:
    """As many as are found count; whether those are all, nobody knows."""
    for number in range(501):
        house.write(f"processing/p/b/{number}")
    begun = []

    def now() -> datetime:
        begun.append(True)
        return from_now(60.0)()

    found = seen(house, now=now, clock=lambda: 100.0 if begun else 0.0)
    assert found.stranded == 500
    assert (found.whole, found.unsought) == (False, False)
    assert "Too many files to count them all in time: there may be more" in shown(found)
    answer, line = judge(found, Limits(None, None, Limit(500)))
    assert (answer, "; too many files to count them all in time" in line) == (UNKNOWN, True)
    assert not json.loads(status_json.as_json(found))["whole"]
    assert "flood_whole 0.0\n" in generate_latest(registry(found)).decode()
    found = seen(house, now=from_now(60.0))
    assert (found.stranded, found.whole) == (501, True)


def test_a_backlog_that_takes_too_long_to_count_is_no_persons_trouble(house: House) -> None:
    """A program that judges it has to know."""
    given_up(house, "bad")
    os.unlink(house.spool.absolute("failed/p/b/bad"))
    house.admit("a", "b")
    found = seen(house, -1.0)
    assert (found.whole, found.unsought) == (False, True)
    assert "there may be more" not in shown(found)
    assert "1 more has failed, whose file is not in failed any more" in shown(found)
    assert judge(found, Limits(None, None, None))[0] == UNKNOWN
    assert seen(house).whole


def test_a_few_too_many_in_a_large_backlog_may_just_be_being_taken(house: House) -> None:
    """So that a person who watches how it grows is not told each second."""
    for start in (0, 251):
        house.admit(*(f"{number}" for number in range(start, start + 251)))
    house.write("processing/p/b/below/new")
    begun = []

    def now() -> datetime:
        begun.append(True)
        return from_now(60.0)()

    found = seen(house, now=now, clock=lambda: 100.0 if begun else 0.0)
    assert (found.stranded, found.whole, found.unsought) == (0, False, True)
    assert "there may be more" not in shown(found)
    for number in range(500):
        house.write(f"processing/p/b/below/{number}")
    begun.clear()
    found = seen(house, now=now, clock=lambda: 100.0 if begun else 0.0)
    assert (found.stranded, found.whole, found.unsought) == (0, False, False)
    assert "there may be more" in shown(found)


def test_what_of_processing_could_be_counted_counts(house: House) -> None:
    """More files than records are too many already."""
    for number in range(4):
        house.write(f"processing/p/b/{number}/lost")
    passing = iter(range(100))
    files = status_files.Files()
    counted, whole = status_stranded.count(
        house.spool, files, lambda: float(next(passing)), seconds=5.0
    )
    assert not whole
    assert 0 < counted[PLACE] < 4
    assert status_stranded.count(house.spool, files, lambda: 0.0, 5.0) == ({PLACE: 4}, True)


def test_a_digest_has_no_fewer_failures_than_it_tells_of(house: House) -> None:
    house.admit("one", "two", "three")
    house.settle(*(GiveUp(claim, DENIED) for claim in house.claim()))
    found = seen(house, -1.0)
    assert found.total((FAILED,)).files < 3
    assert "not in failed any more" not in shown(found)
    told = digest.look(found, Memory(None, None, None, None, None), max_age=None, gather=0.0)
    assert told.failed == sum(cause.files for cause in told.causes) == 3


def test_a_record_without_a_file_hides_no_file_without_a_record(house: House) -> None:
    house.admit("gone")
    os.unlink(house.spool.absolute("processing/p/b/gone"))
    house.write("processing/p/b/lost")
    assert seen(house, now=from_now(60.0)).stranded == 1


def test_why_a_file_in_processing_without_a_record_waits(house: House) -> None:
    house.write("processing/p/b/lost")
    found = seen(house, now=from_now(60.0))
    told = digest.look(found, Memory(None, None, None, None, None), max_age=1.0, gather=1.0)
    assert told.late
    assert told.oldest is not None
    assert "what is in processing without a record waits until it does" in told.oldest.reason


def test_a_file_that_is_taken_meanwhile_is_counted_once(house: House) -> None:
    new = [f"incoming/p/b/{key}" for key in ("a", "b", "c\udc80")]
    for path in new:
        house.write(path, b"12")
    house.admit("d")  # holds the other one back
    house.write("incoming/p/b/d", b"123")

    def take() -> None:
        house.intake().admit([(Candidate(one), None) for one in new])
        first = house.claim(house.in_processing("a"))[0]
        move(house, first.path, "completed/p/b/a")
        records.complete(first, "completed/p/b/a", RECEIPT, house.clock.now())

    found = looked(house, take)
    counted = {stage: count for stage, (count, _) in amounts(found).items()}
    assert counted.pop(INCOMING) == found.held_back == 1
    assert counted.pop(COMPLETED) == 1
    assert sum(counted.values()) == 3
    assert sum(found.ages[PLACE]) == 4
    assert found.arriving == {("p", "b", "d")}


def test_a_file_that_is_taken_once_the_records_are_seen_waits_in_incoming(house: House) -> None:
    """They have an earlier one of its key at most."""
    house.admit("a")
    house.write("incoming/p/b/a", b"123")
    house.write("incoming/p/b/b", b"1234")

    def take() -> None:
        for key in ("a", "b"):
            os.unlink(house.spool.absolute(f"incoming/p/b/{key}"))

    assert amounts(looked(house, take))[INCOMING] == (2, 7)


def test_a_closed_directory_grows_old_though_files_come_into_it(house: House) -> None:
    house.write("incoming/p/b/dir/one")
    closed = house.spool.absolute("incoming/p/b/dir")
    first = status_files.closed(house.spool, "incoming/p/b/dir")
    house.write("incoming/p/b/dir/two")
    os.chmod(closed, 0o700)
    assert status_files.closed(house.spool, "incoming/p/b/dir") == first
    assert first.waiting == Place("incoming", "p", "b", "dir/")
    for path in ("incoming", "incoming/p", "failed/p/b/dir"):
        assert status_files.Closed(path, first.since).waiting is None
    assert status_files.Closed("incoming/p/b", first.since).waiting == Place(
        "incoming", "p", "b", ""
    )


def test_files_that_are_left_alone_for_their_names_are_told_of(house: House) -> None:
    """Nobody takes them, so that they would be deleted with a spool that seems to be empty."""
    found = seen(house)
    assert "left alone" not in shown(found)
    assert "flood_ignored_files 0.0\n" in generate_latest(registry(found)).decode()
    assert judge(found, Limits(None, None, Limit(0), Limit(0)))[0] == OK
    house.write("incoming/p/b/film.part")
    assert "1 file in incoming is left alone for its name" in shown(seen(house))
    since = seen(house).ignored.since
    house.write("incoming/p/b/another.part")
    found = seen(house, now=from_now(2 * 86_400.0))
    told = "2 files in incoming are left alone for their names, as if they were still being written"
    assert f"{told}, the oldest for 2 days: incoming/p/b/film.part; to" in shown(found)
    assert since is not None
    assert json.loads(status_json.as_json(found))["ignored"] == {
        "files": 2,
        "oldest": "incoming/p/b/film.part",
        "since": utc_text(since),
    }
    metrics = generate_latest(registry(found)).decode()
    assert "flood_ignored_files 2.0\n" in metrics
    assert "flood_oldest_ignored_timestamp_seconds " in metrics
    assert found.total(STAGES).files == 0
    answer, line = judge(found, Limits(None, None, Limit(0)))
    assert (answer, "2 files in incoming ignored by name" in line) == (OK, True)
    assert "left_alone=" not in line
    assert judge(found, Limits(None, None, Limit(0), Limit(1)))[0] == CRITICAL


def test_files_above_the_buckets_are_told_of(house: House) -> None:
    """As a newcomer puts them there; nobody takes them."""
    assert "Nobody takes" not in shown(seen(house))
    for path in ("b", "p/a", "p/.hidden.part", "p/b/taken"):
        house.write(f"incoming/{path}")
    found = seen(house)
    told = "incoming/b, incoming/p/a"
    assert f"Nobody takes what lies outside of incoming/PROFILE/BUCKET/: {told}; to" in shown(found)
    assert json.loads(status_json.as_json(found))["misplaced"] == told.split(", ")
    assert "flood_misplaced_files 2.0\n" in generate_latest(registry(found)).decode()
    assert f"; outside of PROFILE/BUCKET/: {told}; no" in judge(found, Limits(None, None, None))[1]
    assert amounts(found)[INCOMING] == (1, 4)
    answer, line = judge(found, Limits(None, None, None, left_alone=Limit(1)))
    assert answer == CRITICAL
    assert line.startswith(
        "FLOOD CRITICAL - 3 left alone in incoming; 1 file in incoming ignored by name; outside of "
    )
    assert line.endswith(" left_alone=3;;1;0")
    for name in "cde":
        house.write(f"incoming/{name}")
    assert "incoming/b, incoming/c, incoming/d and 2 more" in shown(seen(house))


def test_what_is_held_back_is_not_left_there_by_flood_watch(house: House) -> None:
    house.admit("key")
    house.write("incoming/p/b/key")
    arrived = house.spool.changed_at("incoming/p/b/key")
    assert arrived is not None
    house.clock.moment = arrived + timedelta(seconds=61)
    watch = FileLock(house.spool.absolute(WATCH_LOCK))
    assert watch.try_exclusive()
    found = seen(house)
    assert (found.held_back, found.lingering) == (1, 0)
    watch.release()


def test_a_consumer_that_has_just_come_is_not_stalled(house: House) -> None:
    """It may not have said a word yet, nor swept."""
    house.admit("waits")
    house.clock.advance(3600.0)
    agent = house.agent()
    agent.locks.own()
    assert seen(house).stalled == []
    agent.progress.end()
    assert seen(house).stalled == []
    agent.locks.disown()


def test_a_lost_queue_is_no_reason_to_fail(house: House) -> None:
    with models.write():
        models.execute("DROP TABLE task")
    assert seen(house).queue is None
    assert "makes them anew" in shown(seen(house))


def test_nobody_is_kept_waiting_and_nothing_changed(house: House) -> None:
    house.admit("key")
    models.close()
    writer = sqlite3.connect(house.database, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE file_records SET size = 7")
    assert amounts(seen(house)) == {DUE: (1, 4)}
    schema.open_for_reading(house.database)
    with models.reading():
        models.execute("SELECT count(*) FROM file_records")
        writer.execute("COMMIT")  # while somebody reads
        with pytest.raises(models.DatabaseError, match="readonly"):
            models.execute("UPDATE file_records SET size = 8")
    writer.close()
    models.bind(house.database)
    assert amounts(seen(house)) == {DUE: (1, 7)}


def test_no_database_is_made_or_brought_up_to_date(house: House) -> None:
    models.close()
    with pytest.raises(SpoolError, match=f"is gone: {re.escape(models.GONE)}$"):
        schema.open_for_reading(f"{house.database}.other")
    assert not os.path.exists(f"{house.database}.other")
    models.bind(house.database)
    models.execute("DELETE FROM schema_migration WHERE name = '0002_status'")
    models.close()
    before = Path(house.database).read_bytes()
    with pytest.raises(SpoolError, match="made by an older flood: restart flood-watch"):
        schema.open_for_reading(house.database)
    models.bind(house.database)
    assert Path(house.database).read_bytes() == before


def test_a_database_that_nobody_has_open_is_read_without_write_access(house: House) -> None:
    house.admit("key")
    models.close()
    assert not os.path.exists(f"{house.database}-wal")
    # What SQLite would make beside it cannot be made, for root neither.
    os.mkdir(f"{house.database}-shm")
    assert amounts(seen(house)) == {DUE: (1, 4)}
    os.rmdir(f"{house.database}-shm")


def test_who_has_the_database_open_is_seen_by_others(house: House) -> None:
    """SQLite's lock is of this process, which does not see it itself."""
    house.admit("key")
    look = (
        "import sys; from flood import syscalls; file = open(sys.argv[1], 'rb'); "
        "print(*(syscalls.is_locked(file.fileno(), at) for at in (127, 128)))"
    )

    def seen_by_another() -> str:
        shm = f"{house.database}-shm"
        command = [sys.executable, "-c", look, shm]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert seen_by_another() == "False True\n"
    models.close()
    Path(f"{house.database}-shm").touch()  # the last one has removed it
    assert seen_by_another() == "False False\n"
    os.unlink(f"{house.database}-shm")


def test_names_are_safe_whatever_they_are(house: House) -> None:
    names = ("new\nline", "\x1b[2J", "\udcff", "[red]markup")
    given_up(house, *names)
    for name in names:
        house.write(f"incoming/p/{name}/{name}")
    found = seen(house)
    text = shown(found)
    assert "[red]markup" in text
    assert "\x1b" not in text
    assert "p/new\\nline" in text
    assert len(json.loads(status_json.as_json(found))["destinations"]) == 5
    exposed = generate_latest(registry(found)).decode()
    assert 'bucket="\\\\udcff"' in exposed
    assert "\x1b" not in exposed


def test_a_narrow_terminal_keeps_why_files_have_failed(house: House) -> None:
    """What gives way is where they are."""
    for bucket in ("acme-website-customer-uploads", "acme-database-backups-nightly", "c" * 60):
        path = f"incoming/p/{bucket}/key"
        house.write(path)
        house.intake().admit([(Candidate(path, closed=True), None)])
        now = house.clock.now()
        found = claiming.claim([], "p", bucket, owner=NOBODY, large=LARGE, now=now)
        house.settle(*(GiveUp(claim, DENIED) for claim in found))
    text = shown(seen(house), width=80)
    assert re.search("^FAILED +FILES +SIZE +LATEST +WHERE", text, re.MULTILINE)
    assert re.search(f"^{DENIED.code} +3 ", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 80


def test_what_waits_for_a_directory_of_its_name_says_so(house: House) -> None:
    house.admit("key/below")
    os.rmdir(house.spool.absolute("incoming/p/b/key"))
    house.write("incoming/p/b/key")
    clock = house.clock
    place = destination.of_file("s3://p/b/key")
    told = story.tell(house.spool, place, [], house.advice(), now=clock.now)
    assert told.arriving == (
        "waits until the directory of its name in processing is gone, with its files"
    )


def test_a_narrow_terminal_keeps_the_figures(house: House) -> None:
    house.write(f"incoming/p/b/{'long/' * 40}name")
    house.admit("x" * 200)
    house.claim()
    text = shown(seen(house), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "4 B" in text
    assert "…" in text


def test_counting_ends_when_its_time_is_over(house: House) -> None:
    for number in range(20):
        house.write(f"incoming/p/b/{number}")
        house.write(f"failed/p/b/{number}")
    passing = iter(range(10**6))
    files = look_at_files(house.spool, [], lambda: float(next(passing)), 30.0)
    assert not files.whole
    assert 0 < len(files.incoming) < 20
    assert 0 < len(files.failed) < 20
    found = seen(house, seconds=-1.0)
    assert not found.whole
    assert "there may be more" in shown(found)


# --- for programs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "result"),
    [
        (Limits(None, None, None), OK),
        (Limits(Limit(7200), Limit(1), Limit(2)), OK),
        (Limits(Limit(3599), None, None), CRITICAL),
        (Limits(Limit(7200, 1800), None, None), WARNING),
        (Limits(None, Limit(0), None), CRITICAL),
        (Limits(None, Limit(5, 0), None), WARNING),
        (Limits(None, None, Limit(1)), CRITICAL),
        (Limits(None, Limit(5, 0), Limit(1)), CRITICAL),
    ],
)
def test_a_spool_is_judged_by_limits(house: House, limits: Limits, result: int) -> None:
    given_up(house, "bad")
    house.admit("a", "b")
    house.clock.advance(3600.0)
    answer, line = judge(seen(house), limits)
    assert answer == result
    assert line.startswith(f"FLOOD {('OK', 'WARNING', 'CRITICAL')[result]} - ")
    assert "; no consumer runs; flood-watch does not run | waiting=2;" in line
    assert "oldest=3600s;" in line


def test_limits_are_told_in_plain_digits(house: House) -> None:
    limits = Limits(
        age=Limit(units.duration("20d6h56m7s"), units.duration("200ms")),
        failed=Limit(10**30 + 1, 0),
        waiting=Limit(1234567, 1000000),
    )
    _, line = judge(seen(house), limits)
    assert line.partition(" | ")[2] == (
        "waiting=0;1000000;1234567;0 failed=0;0;1000000000000000000000000000001;0 "
        "oldest=0s;0.2;1752967;0"
    )
    limits = Limits(Limit(units.duration("300d"), units.duration("0.01ms")), None, None)
    assert judge(seen(house), limits)[1].endswith("oldest=0s;0.00001;25920000;0")


def test_what_was_not_counted_is_not_called_well(house: House) -> None:
    house.write("incoming/p/b/a")
    answer, line = judge(seen(house, seconds=-1.0), Limits(None, None, None))
    assert answer == UNKNOWN
    assert "too many files" in line
    assert judge(seen(house, seconds=-1.0), Limits(None, None, Limit(0)))[0] == CRITICAL


def test_what_was_not_counted_may_be_worse_than_a_warning(house: House) -> None:
    given_up(house, "bad")
    limits = Limits(None, Limit(5, 0), None)
    assert judge(seen(house), limits)[0] == WARNING
    answer, line = judge(seen(house, seconds=-1.0), limits)
    assert answer == UNKNOWN
    assert line.startswith("FLOOD UNKNOWN - 1 failed; too many files to count them all in time")


# --- one file ------------------------------------------------------------------------------------


def told(house: House, uri: str = "s3://p/b/key", **flags: str) -> tuple[str, story.Story]:
    place = destination.of_file(uri)
    found = story.tell(house.spool, place, ["*.part"], house.advice(**flags), now=house.clock.now)
    assert json.loads(as_json(found))["key"] == place.key
    return "\n".join(lines(found)), found


def test_the_story_of_one_file(house: House) -> None:
    [first] = house.admit("key")
    [claim] = house.claim()
    house.settle(TryAgain(claim, claim.identity, AWAY, 30.0))
    assert "retry 1 at 2026-03-01" in told(house)[0]
    assert "once a consumer runs" in told(house)[0]
    house.clock.advance(31.0)
    assert "the next free worker whose credentials have the profile takes it" in told(house)[0]
    [claim] = house.claim()
    assert "its worker died" in told(house)[0]
    house.settle(GiveUp(claim, DENIED))
    assert told(house, config="/a b")[0].endswith("then: flood-retry 1 --config '/a b'")
    text, found = told(house)
    assert [len(one.record.attempts) for one in found.chapters] == [2]
    assert "attempt" in text
    assert text.endswith("a person mends the cause, then: flood-retry 1")
    move(house, "failed/p/b/key", "incoming/p/b/key")
    text, found = told(house)
    assert "nothing: its file is not in failed any more" in text
    assert found.arriving == (
        "waits for flood-watch, which does not run; to start it: flood-watch --consumers 2"
    )
    done(house, "key")
    text, found = told(house)
    assert [one.record.id for one in found.chapters] == [first, first + 1]
    assert "nothing: it is uploaded" in text
    assert "ETag etag" in text


def test_the_story_of_what_is_on_its_way(house: House) -> None:
    path = "incoming_tmp/p/b/0123"
    [put] = records.put_begun([Arrival("p", "b", "key", path, house.write(path), START)], START)
    assert "flood-put goes on with it" in told(house)[0]
    move(house, path, "incoming/p/b/key")
    records.put_arrived(put, "incoming/p/b/key", START)
    text, found = told(house)
    assert found.arriving is None
    assert "waits for flood-watch" in text
    house.write("incoming/p/b/half.part")
    assert "left alone" in told(house, "s3://p/b/half.part")[0]


def test_the_story_of_what_flood_watch_does_not_take(house: House) -> None:
    house.admit("a")
    house.write("incoming/p/b/a/child")
    assert (
        "waits for processing/p/b/a, a file where it needs a directory"
        in (told(house, "s3://p/b/a/child")[0])
    )
    os.symlink("a", house.spool.absolute("incoming/p/b/link"))
    assert "no regular file but a symbolic link" in told(house, "s3://p/b/link")[0]


def test_the_story_of_a_newer_version(house: House) -> None:
    [earlier] = house.admit("key")
    house.write("incoming/p/b/key", b"newer")
    assert f"waits for record {earlier}" in told(house)[0]
    house.settle(*(GiveUp(claim, DENIED) for claim in house.claim()))
    over = f"flood-retry {earlier} --overwrite-newer"
    assert f"a later version waits in incoming; to let this one go first: {over}" in told(house)[0]


def test_the_story_of_what_nobody_knows(house: House) -> None:
    assert not told(house)[1].known


def test_the_story_of_an_odd_name(house: House) -> None:
    given_up(house, "\udcff\n")
    text, found = told(house, "s3://p/b/\udcff\n")
    assert found.known
    assert "\\udcff\\n" in text


@pytest.mark.parametrize("uri", ["p/b/key", "s3://p/b", "s3://p/b/", "s3:///b/k", "s3://p/b/../k"])
def test_what_names_no_file(uri: str) -> None:
    with pytest.raises(ConfigError, match="write s3://PROFILE/BUCKET/KEY"):
        destination.of_file(uri)


def test_flood_fsck_minds_no_notes(house: House) -> None:
    agent = house.agent()
    agent.locks.own()
    agent.progress.begin([1])
    assert fsck(house).found == []
    agent.locks.disown()
