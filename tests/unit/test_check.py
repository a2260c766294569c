"""flood-check's looks at this machine, with real directories and a real database."""

import fcntl
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flood import (
    binding,
    check_credentials,
    check_database,
    check_directories,
    check_notify,
    check_profiles,
    check_report,
    check_rights,
    check_spool,
    check_work,
    inotify_limits,
    messenger,
    models,
    queries,
    schema,
    users,
)
from flood.check_findings import DATABASE, ERROR, OK, SPOOL, STORE, WARNING, Finding
from flood.check_report import Report
from flood.errors import SpoolError
from flood.fsck_kinds import DIRECTORY_FOREIGN, ONE
from flood.home import Home
from flood.inotify_limits import Limit
from flood.layout import CARD, WORKERS
from flood.lines import plain
from flood.locks import CONSUMERS_LOCK, NOTIFY_LOCK, WATCH_LOCK, FileLock, WorkerLocks
from flood.notify_lock import NotifyLock
from flood.record_values import Reason
from flood.spool import Spool
from flood.states import PERMANENT
from flood.stop import Stop
from tests.fscking import fsck
from tests.servers import SECRET_ACCESS_KEY, credentials_section
from tests.spooling import House, garble, in_child
from workers.decisions import GiveUp

PLENTY = Limit("fs.inotify.max_user_watches", 100_000)


def wrong(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """What each finding is about that is not well, with its status; it says what to do."""
    found = [each for each in findings if each.status != OK]
    assert all(each.meaning and each.remedy for each in found)
    return [(each.about, each.status) for each in found]


def spool(house: House, *, min_free: float = 0, watches: Limit = PLENTY) -> list[Finding]:
    return list(check_spool.look(house.spool, house.settings(min_free=min_free), watches))


def work(house: House, *, readable: bool = True) -> list[Finding]:
    now = house.clock.now()
    return list(check_work.look(house.spool, house.settings(), now, readable=readable))


def database(house: House, **changes: str) -> tuple[str | None, list[Finding]]:
    settings = replace(house.settings(**changes), origins={"database": "flag"})
    models.close()
    try:
        return check_database.look(house.spool, settings, house.clock.now())
    finally:
        models.bind(house.database)  # its connection may not write


def snapshot(house: House) -> dict[str, tuple[int, int]]:
    """Every file and directory, with what changes when it is written to."""
    found = {}
    for folder, directories, files in os.walk(os.path.dirname(house.database)):
        for name in (".", *directories, *files):
            status = os.lstat(os.path.join(folder, name))
            if not name.endswith(("-shm", "-wal")):  # readers share these
                found[os.path.join(folder, name)] = (status.st_mtime_ns, status.st_size)
    return found


# --- the spool -----------------------------------------------------------------------------------


def test_all_is_well_and_nothing_is_written(house: House) -> None:
    house.admit("a")
    models.close()
    before = snapshot(house)
    found = spool(house)
    path, told = database(house)
    found += [*told, *check_spool.exposed(house.spool.root, house.database)]
    assert wrong(each for each in found if each.about not in ("birth times", "leases")) == []
    assert path == house.database
    assert {each.about for each in found} >= {
        *("one filesystem", "access", "room", "inotify", "birth times", "leases"),
        *("integrity", "journal mode"),
    }
    before.pop(os.path.join(os.path.dirname(house.database), "."))
    after = snapshot(house)
    assert {path: after[path] for path in before} == before


def test_without_a_spool_only_that_is_told(house: House, tmp_path: Path) -> None:
    for root, words in ((tmp_path / "none", "no directory"), (tmp_path, "no spool yet")):
        settings = replace(
            house.settings(server_directory=str(root), database=f"{tmp_path}/none.db"),
            origins={"server_directory": "flag"},
        )
        [finding] = check_spool.look(Spool(str(root)), settings, PLENTY)
        assert finding.status == ERROR
        assert words in finding.found
        assert f"flood-watch --server-directory {root}" in finding.remedy
    assert list(tmp_path.iterdir()) == []


def check_mended_by(house: House, command: str) -> None:
    """That nothing is wrong with the spool any more once this was run, and flood-watch started."""
    models.close()
    subprocess.run(["/bin/sh", "-c", command], check=True)
    models.bind(house.database)
    binding.bind(house.spool, house.database, create=True, now=house.clock.now())
    house.spool.prepare()
    assert wrong(spool(house)) == []


@pytest.mark.parametrize("lost", ["all of it", "its card"])
def test_a_database_whose_spool_is_gone_names_what_makes_it_one_again(
    house: House, lost: str
) -> None:
    root = house.spool.root
    if lost == "all of it":
        shutil.rmtree(root)
    else:
        os.unlink(house.spool.absolute(CARD))
    before = {each for each in os.listdir(os.path.dirname(root)) if "flood.db-" not in each}
    [finding] = spool(house)
    assert (finding.about, finding.status) == (check_directories.ROOT, ERROR)
    assert f"the database {house.database} belongs to" in finding.found
    assert before <= set(os.listdir(os.path.dirname(root)))
    again = finding.remedy[finding.remedy.index("mkdir -p") :]
    check_mended_by(house, again)


def test_what_keeps_flood_watch_from_making_a_spool_is_told(house: House, tmp_path: Path) -> None:
    settings = replace(house.settings(), database=f"{tmp_path}/a b/flood.db")
    place = Spool(f"{tmp_path}/new")
    root, directory = check_spool.look(place, settings, PLENTY)
    assert (root.about, root.status) == (check_directories.ROOT, ERROR)
    assert (directory.topic, directory.status) == (DATABASE, ERROR)
    words = f"there is no directory {tmp_path}/a b for the database {settings.database}"
    assert directory.found == words
    told = f"cannot use the database {settings.database} (in {tmp_path}/a b): No such file or d"
    with pytest.raises(SpoolError, match=re.escape(told)) as caught:
        schema.migrate(settings.database, create=True)
    assert caught.value.settings == directory.remedy
    make = directory.remedy.partition(" make it: ")[2].partition("; or correct --database")[0]
    subprocess.run(["/bin/sh", "-c", make], check=True)
    assert len([*check_spool.look(place, settings, PLENTY)]) == 1


def test_where_this_user_may_make_neither_spool_nor_database(house: House) -> None:
    if os.geteuid() != 0:
        pytest.skip("takes root to become somebody else")
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)

    def as_another_user() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        me = users.mine()
        settings = replace(house.settings(), database=f"{place}/flood.db")
        for root, closed in ((f"{place}/a/b", place), (str(place), place)):
            spool = Spool(root)
            missing, own, database = check_spool.look(spool, settings, PLENTY)
            assert missing.about == check_directories.ROOT
            for each, topic in ((own, SPOOL), (database, DATABASE)):
                assert (each.topic, each.status) == (topic, ERROR)
                assert each.found == f"this user may not write to {closed}, which belongs to root"
                assert f"give {me} write access to {closed}, or set --" in each.remedy
            made = f"; or have root make it: sudo install -d -o {me} {root}"
            assert own.remedy.endswith(made) == (root != str(place))
            assert "sudo" not in database.remedy
            home = Home(spool, settings.database, now=house.clock.now)
            words = f"Permission denied: give this user write access to {closed}, or set --server"
            with pytest.raises(SpoolError, match=words):
                home.enter()
        settings = replace(settings, database=f"{place}/none/flood.db")
        *_, database = check_spool.look(Spool(str(place)), settings, PLENTY)
        assert f"sudo install -d -o {me} {place}/none; or" in database.remedy

    try:
        assert in_child(as_another_user) == 0
    finally:
        place.rmdir()


def test_a_server_directory_inside_another_spool_is_told(house: House) -> None:
    inside = Spool(house.spool.absolute("incoming/p/x"))
    settings = replace(house.settings(), database="/nowhere/new.db")
    [finding] = check_spool.look(inside, settings, PLENTY)
    assert (finding.about, finding.status) == (check_directories.ROOT, ERROR)
    assert finding.found.startswith(f"{inside.root} is inside the spool {house.spool.root}, whose")
    assert "set --server-directory" in finding.remedy


def test_a_database_inside_another_spool_is_told(house: House, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / ".flood").mkdir(parents=True)
    (other / ".flood/spool").write_text("{}")
    inside = other / "incoming/p/b/flood.db"
    inside.parent.mkdir(parents=True)
    new = Spool(str(tmp_path / "new"))
    first = check_spool.look(new, replace(house.settings(), database=str(inside)), PLENTY)
    [finding] = [each for each in first if each.topic == DATABASE]
    assert "inside the spool" in finding.found
    assert finding.remedy == "set --database (FLOOD_DATABASE) to a path outside of that"
    models.close()
    moved = str(shutil.move(house.database, inside))
    card = Path(house.spool.absolute(CARD))
    card.write_text(card.read_text().replace(house.database, moved))
    settings = replace(house.settings(database=moved), origins={"database": "flag"})
    path, [finding] = check_database.look(house.spool, settings, house.clock.now())
    assert (path, finding.about, finding.status) == (None, "place", ERROR)
    assert finding.found.startswith(f"the database {inside} is inside the spool {other}, whose")
    assert finding.remedy.startswith("with flood stopped, move it")


def test_what_fails_with_a_spool_that_is_gone_is_told(house: House) -> None:
    house.admit("key")
    shutil.rmtree(house.spool.root)
    [finding] = spool(house)
    assert finding.remedy.startswith("set --server-directory (FLOOD_SERVER_DIRECTORY) to where")
    said = "files that are gone with it, such as processing/p/b/key, fail as vanished then: mkdir"
    assert said in finding.remedy
    check_mended_by(house, finding.remedy.rpartition(" then: ")[2])


def test_what_had_failed_in_a_spool_that_is_gone_is_told(house: House) -> None:
    house.admit("key")
    house.settle(*(GiveUp(x, Reason(PERMANENT, "refused", "no")) for x in house.claim()))
    shutil.rmtree(house.spool.root)
    [finding] = spool(house)
    said = (
        f"If the spool is gone for good, write {CARD} again, and start flood-watch; files that had "
        "failed, such as failed/p/b/key, are gone with it: mkdir"
    )
    assert said in finding.remedy
    assert "or only" not in finding.remedy
    check_mended_by(house, finding.remedy.rpartition(" it: ")[2])


def test_a_card_alone_that_is_gone_is_told(house: House) -> None:
    house.spool.prepare()
    os.unlink(house.spool.absolute(CARD))
    [finding] = spool(house)
    said = (
        f"If the spool is gone for good, or only {CARD} is, write that again, and start "
        "flood-watch: mkdir"
    )
    assert said in finding.remedy


def test_a_spool_that_is_elsewhere_is_not_begun_again(house: House, tmp_path: Path) -> None:
    binding.bind(house.spool, house.database, create=True, now=house.clock.now())
    settings = replace(house.settings(), server_directory=str(tmp_path))
    [finding] = check_spool.look(Spool(str(tmp_path)), settings, PLENTY)
    assert f"belongs to the spool {house.spool.root}, which is still there" in finding.found
    assert "mkdir" not in finding.remedy


@pytest.mark.parametrize("place", ["", ".flood"])
@pytest.mark.parametrize("what", ["file", "link to nowhere"])
def test_what_lies_in_its_place_is_moved_away_by_what_is_told(
    house: House, place: str, what: str
) -> None:
    path = house.spool.absolute(place).rstrip("/")
    os.rename(path, f"{os.path.dirname(house.database)}/was")
    if what == "file":
        Path(path).write_text("")
    elif place:
        os.symlink("/nonexisting", path)
    else:
        os.mkfifo(path)
    [finding] = spool(house)
    assert (finding.about, finding.status) == (check_directories.ROOT, ERROR)
    assert f"{path} must be a directory, but a " in finding.found
    assert f"the database {house.database} belongs to" in finding.found
    again = finding.remedy.rpartition("flood-watch: ")[2]
    assert again.startswith(f"mv {path} {path}.away && mkdir -p ")
    check_mended_by(house, again)


def test_what_lies_where_a_new_spool_is_to_be(house: House, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("")
    settings = replace(house.settings(), database=f"{tmp_path}/none.db")
    [finding] = check_spool.look(Spool(str(tmp_path / "new")), settings, PLENTY)
    assert finding.found == f"{tmp_path}/new must be a directory, but a file is in its place"
    assert f"mv {tmp_path}/new {tmp_path}/new.away && flood-watch" in finding.remedy


@pytest.mark.parametrize("own", [True, False])
def test_floods_own_directory_behind_a_link_is_put_back(house: House, own: bool) -> None:
    house.spool.keep(
        CARD,
        json.dumps(
            {
                **json.loads(Path(house.spool.absolute(CARD)).read_text()),
                "directory": house.spool.root if own else "/other",
            }
        ),
    )
    path, was = house.spool.absolute(".flood"), f"{os.path.dirname(house.database)}/was"
    os.rename(path, was)
    os.symlink(f"../{os.path.basename(was)}", path)
    [finding] = [each for each in spool(house) if each.status != OK]
    assert finding.found == f"{path} must be a directory, but a symbolic link is in its place"
    if not own:
        assert f"a copy of what is in {was}, if that is this spool's own" in finding.remedy
        return
    again = finding.remedy.rpartition(": ")[2]
    assert again == f"rm {path} && mv {was} {path}"
    subprocess.run(["/bin/sh", "-c", again], check=True)
    assert wrong(spool(house)) == []


@pytest.mark.parametrize("in_the_way", [None, "link"])
def test_a_directory_that_is_missing_is_made_by_what_is_told(
    house: House, in_the_way: str | None
) -> None:
    path = house.spool.absolute("processing")
    os.rmdir(path)
    if in_the_way:
        os.symlink("nowhere", path)
    [finding] = [each for each in spool(house) if each.status != OK]
    assert (finding.about, finding.status) == ("one filesystem", ERROR)
    command = finding.remedy.rpartition(": ")[2]
    assert command.startswith("mv ") == bool(in_the_way)
    fsck = f"{sys.executable} -m flood.commands.fsck"
    subprocess.run(
        ["/bin/sh", "-c", command.replace("flood-fsck", fsck)],
        env={**os.environ, "FLOOD_SERVER_DIRECTORY": house.spool.root},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    assert wrong(spool(house)) == []


def test_a_full_disk(house: House) -> None:
    found = spool(house, min_free=2.0**60)
    assert wrong(found) == [("room", ERROR)]
    [room] = [each for each in found if each.about == "room"]
    assert room.remedy == "delete what is not needed, as in completed, or lower --min-free"


def test_more_directories_than_may_be_watched(house: House) -> None:
    for number in range(20):
        os.makedirs(house.spool.absolute(f"incoming/p/b/{number}"))
    limit = Limit("fs.inotify.max_user_watches", 23)
    [finding] = [each for each in spool(house, watches=limit) if each.about == "inotify"]
    assert (finding.status, finding.remedy) == (
        WARNING,
        "sysctl fs.inotify.max_user_watches=1024",
    )
    assert "23 directories" in finding.found
    assert wrong(spool(house, watches=Limit("x", 29))) == []
    assert wrong(spool(house, watches=Limit("x", None))) == []


def test_the_kernel_tells_its_limits() -> None:
    limit = inotify_limits.limit(inotify_limits.WATCHES)
    value = int(Path("/proc/sys", limit.knob.replace(".", "/")).read_text())
    assert limit == Limit(limit.knob, value)
    assert limit.raise_to(0) == f"sysctl {limit.knob}={max(2 * value, 1024)}"


def test_what_everybody_may_change(house: House) -> None:
    os.chmod(house.spool.absolute("completed"), 0o777)  # noqa: S103  what is to be found
    [finding] = check_spool.exposed(house.spool.root, house.database)
    assert finding.status == WARNING
    assert finding.remedy == f"chmod o-w {house.spool.absolute('completed')}"


# --- the database --------------------------------------------------------------------------------


def test_a_database_that_is_gone(house: House) -> None:
    os.unlink(house.database)
    path, told = database(house)
    assert (path, wrong(told)) == (None, [("integrity", ERROR)])
    assert not os.path.exists(house.database)


def test_a_broken_database(house: House) -> None:
    models.close()
    garble(Path(house.database))
    path, told = database(house)
    assert (path, wrong(told)) == (None, [("integrity", ERROR)])
    assert "flood-fsck --repair" in told[0].remedy


def test_another_programs_database(house: House) -> None:
    """Whether a setting is wrong, or flood's own was overwritten, nobody but a person knows."""
    models.close()
    Path(house.database).unlink()
    with closing(sqlite3.connect(house.database)) as other:
        other.execute("CREATE TABLE mails (id INTEGER)")
    path, told = database(house)
    assert (path, wrong(told)) == (None, [("integrity", ERROR)])
    assert told[0].found == (
        "another program's database is in the place of the spool's: "
        f"{house.database}, it has tables such as mails"
    )
    with pytest.raises(SpoolError) as refused:
        schema.migrate(house.database, create=True)
    for advice in (told[0].remedy, str(refused.value)):
        assert "correct --database (FLOOD_DATABASE); if flood's own was overwritten, " in advice
        assert "flood-fsck --repair" in advice
        assert "aside" in advice


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_in_the_place_of_the_workers_directory(house: House, kind: str) -> None:
    """No worker could begin, so nothing starts; flood-check and flood-fsck say why."""
    path = Path(house.spool.absolute(WORKERS))
    path.write_text("") if kind == "file" else path.symlink_to("/nowhere")
    assert list(check_directories.wrong(house.spool)) == [WORKERS]
    words = f"{path} must be a directory"
    for start in (house.spool.prepare, house.spool.check_workers):
        with pytest.raises(SpoolError, match=words):
            start()
    [finding] = check_directories.look(house.spool, house.settings())
    assert finding.found.startswith(words)
    assert finding.remedy == f"with flood stopped: mv {path} {path}.away"
    [found] = fsck(house).found
    assert (found.kind, found.path) == (DIRECTORY_FOREIGN, WORKERS)
    subprocess.run(finding.remedy.partition(": ")[2], shell=True, check=True)  # noqa: S602  as printed
    house.spool.prepare()


def test_what_a_bucket_keeps_is_counted_up_to_a_bound(house: House) -> None:
    house.write("failed/test/holiday/2026/bad")
    house.write("failed/test/holiday/worse")
    place = house.spool.absolute("completed/test/holiday")
    assert _kept(house) == "2 files in failed"
    os.makedirs(place)
    assert _kept(house) == "2 files in failed"
    for number in range(10_001):
        os.mknod(f"{place}/{number}")
        if number == 0:
            assert _kept(house) == "2 files in failed and 1 file in completed"
        elif number == 9_998:
            assert _kept(house) == "2 files in failed and 9,999 files in completed"
    assert _kept(house) == "2 files in failed and 10,000 files or more in completed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_what_of_a_bucket_cannot_be_seen_is_not_taken_for_nothing(house: House) -> None:
    house.write("completed/test/holiday/2026/done")
    for name in ("..", ".", "failed", "completed", "completed/test", "completed/test/holiday"):
        Path(house.spool.absolute(name)).chmod(0o755)
    Path(house.spool.absolute("completed/test/holiday/2026")).chmod(0o700)

    def look(kept: str) -> None:
        os.setuid(65534)
        assert _kept(house) == kept

    assert in_child(partial(look, "what this user cannot look into in completed")) == 0
    house.write("completed/test/holiday/done")
    assert in_child(partial(look, "1 file or more in completed")) == 0


def _kept(house: House) -> str:
    return check_directories.remains(house.spool, "test", "holiday").kept


def test_a_damaged_card(house: House) -> None:
    """What is wrong may have a colon in it."""
    Path(house.spool.absolute(CARD)).write_text("garbage")
    path, told = database(house)
    assert (path, wrong(told)) == (None, [("tie", ERROR)])
    card = house.spool.absolute(CARD)
    assert told[0].found.startswith(f"cannot read {card}, it is damaged (Expecting value: line 1 ")
    assert told[0].remedy.startswith("remove it, then start flood-watch with the spool's own")


def test_a_link_to_no_directory(house: House) -> None:
    os.rename(house.database, f"{house.database}.kept")
    os.symlink("/nowhere/flood.db", house.database)
    path, told = database(house)
    assert (path, wrong(told)) == (None, [("tie", ERROR)])
    words = f"{house.database} is a symbolic link that leads nowhere, to /nowhere/flood.db"
    assert told[0].found == words
    assert told[0].remedy.endswith(f": flood-fsck --repair --database {house.database}")
    for create in (True, False):
        with pytest.raises(SpoolError, match=words):
            schema.migrate(house.database, create=create)


def test_a_database_that_lacks_tables_is_not_another_programs(house: House) -> None:
    models.execute("DROP TABLE spool")
    path, told = database(house)
    assert (path, wrong(told)) == (None, [("integrity", ERROR)])
    assert "the database is broken: " in told[0].found
    models.close()
    with pytest.raises(SpoolError, match="lacks tables of flood's: flood-fsck says what can be do"):
        schema.migrate(house.database, create=True)


def test_another_database(house: House, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(Path(house.database).read_bytes())
    path, told = database(house, database=str(other))
    assert (path, wrong(told)) == (None, [("tie", ERROR)])
    assert str(other) in told[0].found + told[0].remedy
    assert house.database in told[0].found


def test_a_database_that_no_setting_names(house: House, tmp_path: Path) -> None:
    settings = replace(
        house.settings(database=str(tmp_path / "flood.db")), origins={"database": "default"}
    )
    models.close()
    path, told = check_database.look(house.spool, settings, house.clock.now())
    models.bind(house.database)
    assert (path, wrong(told)) == (house.database, [("setting", WARNING)])
    assert f"database = {house.database}" in told[0].remedy


@pytest.mark.parametrize(
    "instead", ["", f"CREATE INDEX {ONE} ON file_records (profile, bucket, filepath)"]
)
def test_an_index_that_somebody_dropped(house: House, instead: str) -> None:
    models.execute(f"DROP INDEX {ONE}")
    models.execute(instead)
    path, told = database(house)
    assert (path, wrong(told)) == (house.database, [("indices", ERROR)])
    assert told[0].found == f"indices of the database are missing: {ONE}"
    assert told[0].remedy.startswith("to have them made again: flood-fsck --repair")


def test_another_journal_mode(house: House) -> None:
    models.execute("PRAGMA journal_mode = DELETE")
    path, told = database(house)
    assert (path, wrong(told)) == (house.database, [("journal mode", WARNING)])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_database_that_root_has_put_back(house: House) -> None:
    """It is to be the owner's of the spool, who is to go on as flood's user, not root."""
    os.chown(house.spool.absolute(CARD), 65534, -1)
    models.close()
    settings = replace(house.settings(), origins={"database": "flag"})
    top = os.path.dirname(house.database)
    os.chown(top, 65534, -1)
    os.chmod(house.database, 0o644)

    def as_its_owner() -> None:
        directory = os.open(top, os.O_RDONLY)
        os.setuid(65534)
        os.chdir(directory)  # pytest's own directories above are closed to others
        here = replace(settings, database="flood.db", server_directory="spool")
        path, [finding] = check_database.look(Spool("spool"), here, house.clock.now())
        user = users.name(65534)
        assert (path, finding.status) == (None, ERROR)
        assert "which belongs to root" in finding.found
        assert finding.remedy == f"sudo chown {user}: flood.db"

    card = {"id": "f" * 32, "database": "flood.db"}
    Path(house.spool.absolute(CARD)).write_text(json.dumps(card))
    assert in_child(as_its_owner) == 0


# --- who is at work ------------------------------------------------------------------------------


def test_nobody_is_at_work(house: House) -> None:
    def look() -> list[tuple[str, str]]:
        return wrong(work(house))

    assert look() == [("flood-watch", WARNING), ("consumers", WARNING)]
    house.admit("waits")
    assert look() == [("flood-watch", WARNING), ("consumers", ERROR)]


def test_what_mends_it_is_told_with_the_flags_that_were_given(house: House) -> None:
    settings = replace(
        house.settings(config="/a b/flood.conf"), origins={"config": "flag", "database": "file"}
    )
    found = list(check_work.look(house.spool, settings, house.clock.now(), readable=True))
    assert [each.remedy for each in found] == [
        "flood-watch --config '/a b/flood.conf'",
        "flood-watch again with --consumers 2, or: "
        "FLOOD_CONFIG='/a b/flood.conf' huey_consumer flood.tasks.huey",
    ]
    os.unlink(house.database)
    [finding] = check_database.look(house.spool, settings, house.clock.now())[1]
    assert finding.remedy.endswith(": flood-fsck --repair --config '/a b/flood.conf'")


def test_everybody_is_at_work_and_sweeps(house: House) -> None:
    house.admit("waits")
    locks = [FileLock(house.spool.absolute(name)) for name in (WATCH_LOCK, CONSUMERS_LOCK)]
    assert locks[0].try_exclusive()
    assert locks[1].try_shared()
    worker = WorkerLocks(house.spool)
    worker.own()
    for after, expected in (
        (None, []),
        (timedelta(minutes=1), []),
        (timedelta(minutes=10), [("consumers", WARNING)]),
    ):
        if after is not None:
            queries.ask_for_sweep()
            assert queries.sweep_begins(house.clock.now() - after, 0)
        found = work(house)
        assert wrong(found) == expected
    assert wrong(work(house, readable=False)) == []
    # A flood-drain that finds nothing due starts no worker, and sweeps nothing.
    worker.disown()
    assert wrong(work(house)) == []
    for lock in locks:
        lock.release()


# --- files that no profile is for ----------------------------------------------------------------


def homeless(house: House, *profiles: str, readable: bool = True) -> list[Finding]:
    settings = house.settings(ignore=("*.part",))
    return list(check_profiles.look(house.spool, settings, profiles, readable=readable))


@pytest.mark.parametrize("readable", [True, False])
def test_files_of_a_profile_that_the_credentials_do_not_have(house: House, readable: bool) -> None:
    house.admit("a", "b")
    house.write("incoming/p/b/c")
    house.write("incoming/dmo/photos/a")
    house.write("incoming/dmo/photos/half.part")
    house.spool.make_directory("incoming/empty/b")
    assert homeless(house, "p", "dmo", readable=readable) == []
    found = homeless(house, "other", readable=readable)
    assert wrong(found) == [("profile dmo", ERROR), ("profile p", ERROR)]
    assert [each.profile for each in found] == ["dmo", "p"]
    seen = "the credentials have no such profile, yet there"
    assert found[0].found == f"{seen} is 1 file in incoming/dmo"
    assert found[1].found == f"{seen} are 1 file in incoming/p and 2 files in processing/p"
    assert found[0].remedy == (
        "add a section [dmo] to the credentials file; or move the files below one of its profiles "
        "in incoming (other)"
    )


def test_no_section_is_asked_for_that_cannot_be(house: House) -> None:
    house.write("incoming/bad\udcff/b/key")
    [found] = homeless(house, "good", "other")
    assert found.about == "profile bad\\udcff"
    assert found.found.endswith("yet there is 1 file in incoming/bad\\udcff")
    assert found.remedy == (
        "no section of the credentials file can have that name: move the files below one of its "
        "profiles in incoming (good, other)"
    )


def test_records_of_a_profile_that_the_credentials_do_not_have(house: House) -> None:
    house.admit("a")
    os.unlink(house.spool.absolute("processing/p/b/a"))
    assert homeless(house, "other", readable=False) == []
    [found] = homeless(house, "other")
    assert found.found.endswith("yet there are records in processing")
    assert homeless(house, "p") == []


def test_files_that_lie_too_high_in_incoming(house: House) -> None:
    house.admit("well")
    for path in ("a.part", "p/half.part", "p/b/right"):
        house.write(f"incoming/{path}")
    assert homeless(house, "p") == []
    for path in ("c", "p/b1", "dmo/b", "dmo/c"):
        house.write(f"incoming/{path}")
    [found] = homeless(house, "p")
    assert wrong([found]) == [("incoming", WARNING)]
    assert found.found == (
        "4 files outside of PROFILE/BUCKET/: incoming/c, incoming/dmo/b, incoming/dmo/c and 1 more"
    )


def test_looking_keeps_nobody_from_his_lock(house: House) -> None:
    work(house)
    descriptor = os.open(house.spool.root, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


# --- who is told ---------------------------------------------------------------------------------


def notifications(house: House, **changes: object) -> list[Finding]:
    told = house.settings(**{"notify_command": "true", **changes})
    return list(check_notify.look(house.spool, told))


def test_nobody_is_to_be_told(house: House) -> None:
    assert notifications(house, notify_command=None) == []


@pytest.mark.parametrize(
    ("first", "lacking"),
    [
        ("#!/bin/sh", None),
        ("#! /bin/sh -e", None),
        ("#!/usr/bin/env sh", None),
        ("#!/usr/bin/env -S sh -e", None),
        ("#!/usr/bin/env -S -i sh", None),
        ("#!/nowhere/python3 -u", "/nowhere/python3"),
        ("#!/etc", "/etc"),
        ("#!/bin/sh\r", "/bin/sh\r"),
        ("#!/usr/bin/env nowhere", "nowhere"),
        ("#!/usr/bin/env sh -e", "sh -e"),
        ("#!/usr/bin/env -S nowhere -u", "nowhere"),
    ],
)
def test_a_script_needs_its_interpreter(
    house: House, tmp_path: Path, first: str, lacking: str | None
) -> None:
    script = tmp_path / "tell"
    script.write_text(f"{first}\nexit 0\n", newline="")
    script.chmod(0o755)
    # The system has the last word.
    answer = messenger.send([str(script)], b"{}", stop=Stop(), clock=time.monotonic)
    assert answer.told == (lacking is None), answer.words
    [told] = [
        each
        for each in notifications(house, notify_command=str(script))
        if each.about == "notify-command"
    ]
    if lacking is None:
        assert (told.status, told.found) == (OK, f"{script} can be run")
    else:
        assert wrong([told]) == [("notify-command", ERROR)]
        assert f"{script} cannot be run" in told.found
        assert f"interpreter {lacking}, " in told.found
        assert told.remedy.startswith(f"install {lacking}, or correct")


@pytest.mark.parametrize("first", ["echo told", "", "#!", "#! ", " #!/bin/sh", "\ufeff#!/bin/sh"])
def test_a_script_that_names_no_interpreter_cannot_be_run(
    house: House, tmp_path: Path, first: str
) -> None:
    """It could be at a prompt, where the shell makes up for it."""
    script = tmp_path / "tell"
    script.write_text(f"{first}\n", "utf-8")
    script.chmod(0o755)
    answer = messenger.send([str(script)], b"{}", stop=Stop(), clock=time.monotonic)
    assert not answer.told
    told = notifications(house, notify_command=str(script))
    assert ("notify-command", ERROR) in wrong(told)
    [found] = [each for each in told if each.about == "notify-command"]
    assert found.found.startswith(f"{script} cannot be run: it is no program, nor a script, ")
    script.write_text(f"#!/bin/sh\n{first}\n", "utf-8")  # as advised
    told = notifications(house, notify_command=str(script))
    assert ("notify-command", OK) in [(each.about, each.status) for each in told]


def test_a_script_that_may_not_be_run_gets_its_right(house: House, tmp_path: Path) -> None:
    script = tmp_path / "my tell"
    script.write_text("#!/bin/sh\n")

    def look() -> Finding:
        told = notifications(house, notify_command=shlex.quote(str(script)))
        [found] = [each for each in told if each.about == "notify-command"]
        return found

    assert look().remedy == f"chmod +x '{script}'"
    subprocess.run(shlex.split(look().remedy), check=True)
    assert look().status == OK


def test_a_program_can_be_run(house: House, tmp_path: Path) -> None:
    shutil.copy("/bin/true", tmp_path / "tell")
    told = notifications(house, notify_command=str(tmp_path / "tell"))
    assert ("notify-command", OK) in [(each.about, each.status) for each in told]


def test_without_flood_watch_nobody_tells(house: House) -> None:
    told = notifications(house)
    assert wrong(told) == [("flood-notify", WARNING)]
    assert "is not running" in told[-1].found


def test_a_flood_watch_that_was_started_without_it_tells_nobody(house: House) -> None:
    watch = FileLock(house.spool.absolute(WATCH_LOCK))
    assert watch.try_exclusive()
    told = notifications(house)
    watch.release()
    assert wrong(told) == [("flood-notify", WARNING)]
    assert "does not run it" in told[-1].found
    assert told[-1].remedy.startswith("stop flood-watch, then start it")
    assert told[-1].remedy.endswith(": flood-watch")


def test_a_flood_watch_that_was_started_with_other_settings(house: House) -> None:
    lock = NotifyLock(house.spool, house.settings(notify_command="true"))
    lock.hold()
    assert wrong(notifications(house)) == []
    for changes in ({"notify_command": "sh"}, {"notify_age": None}, {"notify_interval": 1.0}):
        told = notifications(house, **changes)
        assert wrong(told) == [("flood-notify", WARNING)]
        assert "other notify settings" in told[-1].found
    lock.release()
    assert "is not running" in notifications(house)[-1].found


def test_a_spool_that_was_restored_is_locked_anew(house: House) -> None:
    lock = NotifyLock(house.spool, house.settings(notify_command="true"))
    lock.hold()
    os.unlink(house.spool.absolute(NOTIFY_LOCK))
    lock.hold()
    assert wrong(notifications(house)) == []
    lock.release()


def test_on_a_spool_that_is_away_nothing_is_made(house: House, tmp_path: Path) -> None:
    lock = NotifyLock(Spool(str(tmp_path / "away")), house.settings())
    lock.hold()
    lock.release()
    assert not (tmp_path / "away").exists()


# --- credentials ---------------------------------------------------------------------------------


@pytest.fixture
def credentials(house: House, tmp_path: Path) -> Callable[[str], list[Finding]]:
    """Looks at a credentials file with this text."""

    def look(text: str) -> list[Finding]:
        path = tmp_path / "credentials"
        path.touch(mode=0o600)
        path.write_text(text)
        environ = {"HOME": str(tmp_path / "home")}
        found, told = check_credentials.look(house.settings(credentials=str(path)), environ)
        assert (found is None) == any(each.status == ERROR for each in told)
        assert not any(SECRET_ACCESS_KEY in repr(each) for each in told)
        return told

    return look


def test_credentials_are_told_without_secrets(
    credentials: Callable[[str], list[Finding]],
) -> None:
    told = credentials(credentials_section("p", "https://s3.example.com"))
    assert [(each.about, each.status) for each in told] == [("file", OK), ("profile p", OK)]
    assert told[1].found == "s3, key flo..., region us-east-1, https://s3.example.com"


def test_each_problem_of_the_credentials_is_told(
    credentials: Callable[[str], list[Finding]],
) -> None:
    told = credentials("[a]\nprovider = s3\n[b]\nprovider = amazon\nAWS_REGION = x\n")
    assert wrong(told) == [("file", ERROR), ("file", ERROR)]
    assert "AWS_ENDPOINT" in told[1].found


def test_exposed_credentials(credentials: Callable[[str], list[Finding]], tmp_path: Path) -> None:
    credentials("")
    (tmp_path / "credentials").chmod(0o644)
    told = credentials(credentials_section("p", "https://s3.example.com"))
    assert wrong(told) == [("file", WARNING)]
    assert told[1].remedy == f"run chmod 600 {tmp_path}/credentials"


def test_an_aws_file_beside_floods_own(
    credentials: Callable[[str], list[Finding]], tmp_path: Path
) -> None:
    """It is no warning; where it is one, or an error, the setting that leaves it alone is named."""
    own = credentials_section("p", "https://s3.example.com")
    aws = tmp_path / "home" / ".aws" / "credentials"
    aws.parent.mkdir(parents=True)
    ordinary = "[default]\naws_access_key_id = A\naws_secret_access_key = B\n"
    aws.write_text(ordinary)
    aws.chmod(0o600)
    told = credentials(own)
    assert wrong(told) == []
    assert "is an ordinary AWS file, as no profile in it names a provider" in told[0].found
    setting = f"to take {tmp_path}/credentials before it, set credentials-first = true "
    aws.write_text(ordinary + own)
    told = credentials(own)
    assert wrong(told) == [("file", ERROR)]
    assert setting in told[0].found
    aws.unlink()
    aws.mkdir()
    told = credentials(own)
    assert wrong(told) == [("file", WARNING)]
    assert told[1].remedy.startswith(setting)


def test_no_credentials(house: House, tmp_path: Path) -> None:
    found, told = check_credentials.look(house.settings(), {"HOME": str(tmp_path)})
    assert (found, wrong(told)) == (None, [("file", ERROR)])
    assert ".aws/credentials: No such file" in told[0].found
    assert "flood-init" in told[0].remedy


# --- the report ----------------------------------------------------------------------------------


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_name_steers_a_terminal_or_breaks_the_json(about: str, found: str) -> None:
    report = Report(
        [("database", "\x1b[2J", "flag")],
        [Finding(STORE, about, ERROR, found, "m", "r", about), Finding(SPOOL, "x", OK, found)],
    )
    texts = list(map(plain, check_report.lines(report, everything=False)))
    assert all(text.isprintable() for text in texts)
    assert texts[-1] == "1 error"
    parsed = json.loads(check_report.as_json(report, 1))
    assert parsed["findings"][0]["about"] == about
    assert (parsed["errors"], parsed["warnings"]) == (1, 0)


def test_settings_with_their_defaults_are_shown_on_demand() -> None:
    settings = [("database", "d", "default"), ("retry-max", "10", "default"), ("x", "y", "flag")]
    report = Report(settings, [])
    few = "\n".join(map(plain, check_report.lines(report, everything=False)))
    every = "\n".join(map(plain, check_report.lines(report, everything=True)))
    assert "retry-max" not in few
    assert "1 more" in few
    assert "retry-max" in every
    assert few.endswith("all is well")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_sticky_directory_of_somebody_else_keeps_others_files(tmp_path: Path) -> None:
    """Whatever rights it gives: who is neither the file's owner nor its own takes nothing out."""
    tmp_path.chmod(0o711)
    modes = {"sticky": 0o1777, "open": 0o777, "own": 0o1777, "above": 0o1777}
    for name, mode in modes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
        (tmp_path / name / "below").mkdir()
    for name in ("sticky", "open", "own"):
        (tmp_path / name / "file").touch()
    os.chown(tmp_path / "own" / "file", 65534, -1)

    def look() -> None:
        os.chdir(tmp_path)  # which is below directories that are root's alone
        os.setuid(65534)
        found = {name: check_rights._keeps(name) for name in (*modes, "gone")}
        assert [name for name, keeps in found.items() if keeps] == ["sticky"]

    assert in_child(look) == 0
