"""One look at what waits, on real files."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from flood.errors import NoRoomError
from flood.intake import BATCH
from flood.once import Once
from tests.spooling import House, in_child, quick_house

WRITER, TAKER = 12_345, 65_534  # users that need not exist


def once(house: House, **changes: Any) -> Once:
    """A run that neither waits nor is stopped, unless a test has it so."""
    known: dict[str, Any] = {
        "check": lambda: None,
        "pause": lambda _seconds: None,
        "stopping": lambda: False,
    }
    return Once(house.spool, house.intake(), **{**known, **changes})


def test_processing_comes_first(house: House) -> None:
    house.write("processing/p/b/found")
    for number in range(600):  # more than one batch
        house.write(f"incoming/p/b/{number}")
    run = once(house)
    run.run()
    assert (run.taken, run.waiting) == (601, 0)
    assert house.states()[0] == ("found", "processing", None)
    assert {state for _, state, _ in house.states()} == {"processing"}
    assert sorted(one for _, _, ids in house.enqueued for one in ids) == list(range(1, 602))
    assert all(path.startswith("processing/p/b/") for path in house.files())


def test_what_is_no_file_goes_back_from_processing(house: House) -> None:
    """Whoever took it was killed before he could put it back himself."""
    house.write("processing/p/b/of_a_person")
    for key in ("dir/link", "taken"):
        os.makedirs(os.path.dirname(house.spool.absolute(f"processing/p/b/{key}")), exist_ok=True)
        os.symlink("/etc/passwd", house.spool.absolute(f"processing/p/b/{key}"))
    os.mkfifo(house.spool.absolute("processing/p/fifo"))
    house.write("incoming/p/b/taken")
    once(house).run()
    assert sorted(key for key, *_ in house.states()) == ["of_a_person", "taken"]
    assert house.files()["processing/p/b/taken"] == b"data"
    for path in ("incoming/p/b/dir/link", "incoming/p/b/taken.~0~"):
        assert os.readlink(house.spool.absolute(path)) == "/etc/passwd"
    assert house.spool.oddity("processing/p/fifo") == "FIFO"  # below no bucket


def test_what_is_no_file_in_processing_is_named_to_those_who_wait_for_it(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.write("incoming/p/b/key")

    def check() -> None:  # as processing has been looked through
        house.spool.prepare_destination("p", "b")
        os.mkfifo(house.spool.absolute("processing/p/b/key"))

    run = once(house, check=check)
    run.run()
    assert (run.taken, run.waiting) == (0, 1)
    [told] = [one for one in caplog.records if one.getMessage() == "left alone"]
    assert told.facts["path"] == "processing/p/b/key"  # type: ignore[attr-defined]  # flood's own


def test_a_second_run_finds_nothing(house: House) -> None:
    house.write("incoming/p/b/key")
    once(house).run()
    run = once(house)
    run.run()
    assert (run.taken, len(house.rows()), len(house.enqueued)) == (0, 1, 1)


def test_what_is_being_written_waits_for_the_next_run(house: House) -> None:
    house.write("incoming/p/b/key")
    house.write("incoming/p/b/other.part")
    with open(house.spool.absolute("incoming/p/b/key"), "ab") as writer:
        run = once(house)
        run.run()
        assert (run.taken, run.waiting) == (0, 1)
        writer.write(b"more")
    once(house).run()
    assert house.files() == {
        "processing/p/b/key": b"datamore",
        "incoming/p/b/other.part": b"data",
    }


def test_a_newer_version_waits_for_the_older_one(house: House) -> None:
    house.admit("key")
    house.write("incoming/p/b/key", b"newer")
    run = once(house)
    run.run()
    assert (run.taken, run.waiting) == (0, 1)
    assert house.files()["incoming/p/b/key"] == b"newer"


def test_strange_things_are_told_of_and_left(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    os.makedirs(house.spool.absolute("incoming/p/b"))
    os.symlink("/etc/passwd", house.spool.absolute("incoming/p/b/link"))
    os.mkfifo(house.spool.absolute("processing/fifo"))
    os.mkfifo(house.spool.absolute("incoming/p/b/made.part"))
    house.write("incoming/stray")
    once(house).run()
    told = {each.facts["path"]: each.facts["reason"] for each in caplog.records}  # type: ignore[attr-defined]  # of flood.log
    assert told.keys() == {"incoming/p/b/link", "processing/fifo", "incoming/stray"}
    assert "symbolic link" in told["incoming/p/b/link"]
    assert "FIFO" in told["processing/fifo"]
    assert house.rows() == []


def test_without_room_nothing_is_taken(house: House) -> None:
    house.write("incoming/p/b/key")

    def check() -> None:
        raise NoRoomError("no room")

    with pytest.raises(NoRoomError):
        once(house, check=check).run()
    assert house.files() == {"incoming/p/b/key": b"data"}
    assert house.rows() == []


def test_a_stop_ends_it_between_two_batches(house: House) -> None:
    for number in range(600):
        house.write(f"incoming/p/b/{number}")
    run = once(house, stopping=lambda: bool(house.enqueued))
    run.run()
    assert run.taken == len(house.rows()) == BATCH
    once(house).run()
    assert len(house.rows()) == 600


# --- files of other users ------------------------------------------------------------------------


def as_another_user(arrange: Callable[[House], None], call: Callable[[House], object]) -> int:
    """Run `call` as a user who cannot probe the files that `arrange` makes; its exit status."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")

    def run() -> None:
        with quick_house() as made:
            arrange(made)
            top = os.path.dirname(made.database)
            for directory, _, names in os.walk(top):
                os.chown(directory, TAKER, -1)
                for name in names:
                    owner = WRITER if name.startswith("foreign") else TAKER
                    os.chown(f"{directory}/{name}", owner, -1)
            os.seteuid(TAKER)
            try:
                call(made)
            finally:
                os.seteuid(0)

    return in_child(run)


def arrange(house: House) -> None:
    for name in ("foreign-1", "foreign-2", "own"):
        house.write(f"incoming/p/b/{name}")


def test_files_that_nobody_can_probe_must_stand_still() -> None:
    def call(house: House) -> None:
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            assert house.states() == [("own", "processing", None)]
            pauses.append(seconds)
            # Somebody writes to one of them.
            os.seteuid(0)
            with open(house.spool.absolute("incoming/p/b/foreign-2"), "ab") as file:
                file.write(b"more")
            os.seteuid(TAKER)

        run = once(house, pause=pause)
        run.run()
        assert pauses == [2.0]
        assert (run.taken, run.waiting) == (2, 1)
        assert sorted(key for key, _, _ in house.states()) == ["foreign-1", "own"]

    assert as_another_user(arrange, call) == 0


def test_a_stop_ends_the_waiting() -> None:
    def call(house: House) -> None:
        paused: list[float] = []
        once(house, pause=paused.append, stopping=lambda: bool(paused)).run()
        assert paused
        assert house.states() == [("own", "processing", None)]

    assert as_another_user(arrange, call) == 0
