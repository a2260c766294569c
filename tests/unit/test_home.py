"""A server directory that goes away, and comes back in one way or another."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flood import binding, cards, models, put_rows, schema
from flood.errors import SpoolError, SpoolLockedError
from flood.home import Home
from flood.locks import FileLock
from flood.spool import Spool
from tests.spooling import START


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "flood.db")
    schema.migrate(path, create=True)
    yield path
    models.close()


@pytest.fixture
def home(tmp_path: Path, database: str) -> Iterator[Home]:
    spool = Spool(str(tmp_path / "spool"))
    made = Home(spool, database, now=lambda: START)
    made.enter()
    models.bind(database)
    binding.bind(spool, database, create=True, now=START)
    yield made
    made.leave()


def locked(path: Path) -> bool:
    lock = FileLock(str(path))
    free = lock.try_exclusive()
    lock.release()
    return not free


def test_entering_makes_nothing_but_the_directory(tmp_path: Path) -> None:
    """An unmounted disk must not look like a spool because flood-watch was started."""
    root = tmp_path / "new" / "spool"
    home = Home(Spool(str(root)), "/nowhere", now=lambda: START)
    home.enter()
    assert list(root.iterdir()) == []
    home.leave()


@pytest.mark.parametrize("name", ["spool/incoming/p/x", "spool/.flood/x", "link/x"])
def test_a_server_directory_inside_another_spool_is_refused(
    tmp_path: Path, home: Home, name: str
) -> None:
    (tmp_path / "spool" / "completed").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "spool" / "completed")
    inside = Spool(str(tmp_path / name))
    within = Home(inside, str(tmp_path / "new.db"), now=lambda: START)
    words = f"/x is inside the spool {tmp_path}/spool, whose files .*: set --server-directory"
    with pytest.raises(SpoolError, match=words):
        within.enter()
    assert not (tmp_path / name).exists()
    for database in (None, str(tmp_path / "new.db")):
        with pytest.raises(SpoolError, match=words):
            put_rows.check_set_up(inside, database)
    beside = Home(Spool(str(tmp_path / "spool" / "other")), "/nowhere", now=lambda: START)
    beside.enter()
    beside.leave()


@pytest.mark.parametrize("name", ["incoming/p/b/flood.db", "failed/flood.db", ".flood/flood.db"])
@pytest.mark.parametrize("there", [True, False])
def test_a_database_inside_another_spool_is_refused(
    tmp_path: Path, home: Home, name: str, there: bool
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "spool")
    database = tmp_path / "link" / name
    database.parent.mkdir(parents=True, exist_ok=True)
    if there:
        database.touch()
    within = Home(Spool(str(tmp_path / "other")), str(database), now=lambda: START)
    advice = "with flood stopped, move it .* then set" if there else "set"
    words = rf"/{name} is inside the spool {tmp_path}/\w+, whose files .*: {advice} --database"
    with pytest.raises(SpoolError, match=words):
        within.enter()
    assert not (tmp_path / "other").exists()
    cards.check_database_outside(str(tmp_path / "link"), str(tmp_path / "spool" / name))  # its own
    cards.check_database_outside(str(tmp_path / "other"), str(tmp_path / "spool" / "flood.db"))


@pytest.mark.parametrize("place", ["spool", "spool/.flood"])
def test_what_is_in_the_way_is_named(tmp_path: Path, home: Home, database: str, place: str) -> None:
    home.leave()
    os.rename(tmp_path / place, tmp_path / "away")
    (tmp_path / place).write_text("")
    again = Home(Spool(str(tmp_path / "spool")), database, now=lambda: START)
    with pytest.raises(SpoolError, match=f"{place} must be a directory, but a file is in its pl"):
        again.enter()
    (tmp_path / place).unlink()
    (tmp_path / place).symlink_to(tmp_path / "away")
    if place == "spool":
        return  # by that name it is the same spool
    with pytest.raises(SpoolError, match="but a link is in its place: put the directory there"):
        again.enter()


def test_no_directory_is_made_in_the_place_of_a_disk(
    tmp_path: Path, home: Home, database: str
) -> None:
    home.leave()
    os.rename(tmp_path / "spool", tmp_path / "away")
    models.close()
    again = Home(Spool(str(tmp_path / "spool")), database, now=lambda: START)
    with pytest.raises(SpoolError, match="is its disk mounted"):
        again.enter()
    assert not (tmp_path / "spool").exists()


def test_a_directory_that_goes_away_and_comes_back(tmp_path: Path, home: Home) -> None:
    home.check()
    os.rename(tmp_path / "spool", tmp_path / "away")
    for _ in range(2):
        with pytest.raises(SpoolError, match="is its disk mounted"):
            home.check()
    (tmp_path / "spool").mkdir()  # what is left where a disk was mounted
    with pytest.raises(SpoolError, match="is its disk mounted"):
        home.check()
    (tmp_path / "spool").rmdir()
    os.rename(tmp_path / "away", tmp_path / "spool")
    home.check()
    assert locked(tmp_path / "spool")


def test_a_restored_copy_is_locked_anew(tmp_path: Path, home: Home) -> None:
    os.rename(tmp_path / "spool", tmp_path / "away")
    shutil.copytree(tmp_path / "away", tmp_path / "spool")
    assert not locked(tmp_path / "spool")
    home.check()
    assert locked(tmp_path / "spool")
    assert not locked(tmp_path / "away")


def test_another_spool_in_its_place_is_refused(tmp_path: Path, home: Home) -> None:
    os.rename(tmp_path / "spool", tmp_path / "away")
    other = Spool(str(tmp_path / "spool"))
    other.keep(".flood/spool", '{"id": "another", "database": "/elsewhere/flood.db"}')
    with pytest.raises(SpoolError, match="another spool"):
        home.check()
    assert not locked(tmp_path / "spool")


def test_another_flood_watch_may_have_been_faster(tmp_path: Path, home: Home) -> None:
    os.rename(tmp_path / "spool", tmp_path / "away")
    shutil.copytree(tmp_path / "away", tmp_path / "spool")
    rival = FileLock(str(tmp_path / "spool"))
    assert rival.try_exclusive()
    with pytest.raises(SpoolLockedError, match="another flood-watch"):
        home.check()
    rival.release()
