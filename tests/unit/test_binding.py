"""A server directory with the one database that belongs to it."""

import json
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from flood import binding, cards, departures, lost, models, schema
from flood.columns import utc_text
from flood.errors import SpoolError
from flood.layout import CARD, PRIVATE
from flood.record_values import Reason
from flood.spool import Spool
from flood.states import FAILED, PERMANENT, STATES
from tests.spooling import START, House, dying_at, in_child
from workers.decisions import GiveUp, Missing


class Pair:
    """A server directory and a database of these names."""

    def __init__(self, directory: Path, spool: str = "spool", database: str = "flood.db") -> None:
        self.spool = Spool(str(directory / spool))
        self.database = str(directory / database)

    def bind(self, *, create: bool = False) -> str:
        self.spool.prepare()
        schema.migrate(self.database, create=create)
        try:
            return binding.bind(self.spool, self.database, create=create, now=START)
        finally:
            models.close()

    @property
    def card(self) -> str:
        return self.spool.absolute(".flood/spool")


def test_two_new_sides_are_bound_for_good(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    assert made == pair.bind() == pair.bind(create=True)
    assert cards.database_of(pair.spool.root) == pair.database
    assert len(made) == 32


def test_before_flood_watch_there_is_nothing_to_bind(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    Path(pair.database).touch()
    with pytest.raises(SpoolError, match="no spool yet: start flood-watch"):
        pair.bind()
    assert not os.path.exists(pair.card)
    assert cards.database_of(pair.spool.root) is None


def test_another_spools_database_is_refused(tmp_path: Path) -> None:
    one, two = Pair(tmp_path, "one", "one.db"), Pair(tmp_path, "two", "two.db")
    one.bind(create=True)
    two.bind(create=True)
    for create in (False, True):
        with pytest.raises(SpoolError) as caught:
            Pair(tmp_path, "one", "two.db").bind(create=create)
        message = str(caught.value)
        assert all(part in message for part in (one.spool.root, one.database, two.database))
    one.bind()
    two.bind()


def test_a_copy_that_was_restored_from_elsewhere_is_told_by_the_ids(tmp_path: Path) -> None:
    """The paths are the same on both sides."""
    one, two = Pair(tmp_path), Pair(tmp_path, "two", "two.db")
    ids = one.bind(create=True), two.bind(create=True)
    os.replace(two.database, one.database)
    with pytest.raises(SpoolError, match="one of both was replaced, or restored") as caught:
        one.bind(create=True)
    assert all(each in str(caught.value) for each in (*ids, one.spool.root, one.database))


def test_another_spools_database_is_not_brought_up_to_date(tmp_path: Path) -> None:
    one, two = Pair(tmp_path, "one", "one.db"), Pair(tmp_path, "two", "two.db")
    one.bind(create=True)
    two.bind(create=True)
    models.bind(two.database)
    models.execute("DELETE FROM schema_migration")  # its steps are pending
    models.close()
    before = Path(two.database).read_bytes()
    for create in (False, True):
        compare = partial(binding.compare, one.spool.root, two.database, create=create)
        with pytest.raises(SpoolError, match="does not belong"):
            schema.migrate(two.database, create=create, check=compare)
        models.close()
    assert Path(two.database).read_bytes() == before


@pytest.mark.parametrize("create", [False, True])
def test_a_second_database_is_refused_while_the_first_exists(tmp_path: Path, create: bool) -> None:
    Pair(tmp_path).bind(create=True)
    other = Pair(tmp_path, database="other.db")
    Path(other.database).touch()
    with pytest.raises(SpoolError, match=r"other\.db"):
        other.bind(create=create)


@pytest.mark.parametrize("create", [False, True])
def test_a_copy_of_the_database_is_refused_while_the_first_exists(
    tmp_path: Path, create: bool
) -> None:
    Pair(tmp_path).bind(create=True)
    copy = Pair(tmp_path, database="copy.db")
    shutil.copy(tmp_path / "flood.db", copy.database)
    with pytest.raises(SpoolError, match=r"flood\.db, not to .*copy\.db"):
        copy.bind(create=create)


@pytest.mark.parametrize("create", [False, True])
def test_a_copy_of_the_spool_is_refused_while_the_first_exists(
    tmp_path: Path, create: bool
) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    copy = Pair(tmp_path, spool="copy")
    shutil.copytree(pair.spool.root, copy.spool.root)
    with pytest.raises(SpoolError, match=r"copy is a copy of .*/spool, which is still there"):
        copy.bind(create=create)
    assert pair.bind(create=create) == made
    os.rename(pair.spool.root, tmp_path / "old")
    assert copy.bind(create=create) == made


def test_a_moved_spool_is_followed(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    moved = Pair(tmp_path, spool="moved")
    os.rename(pair.spool.root, moved.spool.root)
    assert moved.bind() == made
    assert moved.bind(create=True) == made
    with open(moved.card, encoding="utf-8") as card:
        assert json.load(card)["directory"] == moved.spool.root


def test_the_same_spool_by_another_name_is_no_copy(tmp_path: Path) -> None:
    """As with a bind mount, of which a link is the nearest that needs no rights."""
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    os.rename(pair.spool.root, tmp_path / "moved")
    os.symlink(tmp_path / "moved", pair.spool.root)
    assert Pair(tmp_path, spool="moved").bind(create=True) == made


def test_a_card_without_its_directory_is_completed(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    pair.spool.keep(".flood/spool", json.dumps({"id": made, "database": pair.database}))
    assert pair.bind() == made
    assert pair.bind(create=True) == made
    with open(pair.card, encoding="utf-8") as card:
        assert json.load(card)["directory"] == pair.spool.root


def test_a_lost_database_is_replaced_by_flood_watch_only(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    os.unlink(pair.database)
    Path(pair.database).touch()
    with pytest.raises(SpoolError, match="start flood-watch"):
        pair.bind()
    assert pair.bind(create=True) == made


def test_a_moved_database_is_followed(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    moved = Pair(tmp_path, database="moved.db")
    os.rename(pair.database, moved.database)
    assert moved.bind() == made
    assert moved.bind(create=True) == made
    assert cards.database_of(pair.spool.root) == moved.database


def test_the_same_database_by_another_name_is_no_other(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    (tmp_path / "link").symlink_to(tmp_path)
    assert Pair(tmp_path, database="link/flood.db").bind() == made


def test_a_disk_that_is_not_mounted_is_no_new_spool(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    shutil.rmtree(pair.spool.root)
    with pytest.raises(SpoolError, match="mounted") as caught:
        pair.bind(create=True)
    command = str(caught.value).rpartition("again: ")[2]
    subprocess.run(["sh", "-c", command], check=True)  # what it says does help
    assert pair.bind() == made


@pytest.mark.parametrize("there", [False, True])
def test_a_database_whose_spool_is_elsewhere_names_that(tmp_path: Path, there: bool) -> None:
    pair = Pair(tmp_path)
    pair.bind(create=True)
    new = Pair(tmp_path, spool="new")
    if there:
        new.spool.prepare()
    words = (
        f"belongs to the spool {pair.spool.root}, which is still there: set --server-directory "
        rf"\(FLOOD_SERVER_DIRECTORY\) to {pair.spool.root}, or for another spool --database"
    )
    with pytest.raises(SpoolError, match=words) as caught:
        binding.check_lost(new.spool.root, pair.database)
    assert "mkdir" not in str(caught.value)
    with pytest.raises(SpoolError, match=words):
        new.bind(create=True)
    assert not os.path.exists(new.card)


def test_a_card_that_was_written_again_elsewhere_makes_a_copy(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    new = Pair(tmp_path, spool="new")
    subprocess.run(["sh", "-c", lost.rewriting(new.spool.root, pair.database, made)], check=True)
    for create in (False, True):
        with pytest.raises(SpoolError, match=f"new is a copy of {pair.spool.root}, which is still"):
            new.bind(create=create)
    os.rename(pair.spool.root, tmp_path / "away")  # as where its disk is not mounted
    assert new.bind(create=True) == made
    os.rename(tmp_path / "away", pair.spool.root)
    with pytest.raises(SpoolError, match=f"spool is a copy of {new.spool.root}, .* has the files"):
        pair.bind(create=True)


def test_a_database_of_an_older_flood_does_not_know_where_its_spool_lay(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    models.execute("ALTER TABLE spool DROP COLUMN directory")
    models.close()
    new = Pair(tmp_path, spool="new")
    with pytest.raises(SpoolError, match="belongs to a spool: set --server-directory"):
        binding.check_lost(new.spool.root, pair.database)
    models.bind(pair.database)
    assert binding.compare(pair.spool.root, pair.database, create=False)[1] == made


def test_no_command_is_told_after_which_files_would_vanish(house: House) -> None:
    house.spool.prepare()
    spool_id = binding.bind(house.spool, house.database, create=True, now=START)
    house.admit("key", "other")
    root = house.spool.root
    card = Path(house.spool.absolute(".flood/spool"))

    def told() -> str:
        with pytest.raises(SpoolError, match="to where that is now; is its disk mounted") as caught:
            binding.check_lost(root, house.database)
        return str(caught.value)

    moved = f"{os.path.dirname(root)}/moved"
    os.rename(root, moved)
    for made in (False, True):
        if made:
            os.mkdir(root)
        words = told()
        assert "such as processing/p/b/key, are not there; if they are gone for good, f" in words
        assert "mkdir" not in words
    os.rmdir(root)
    os.rename(moved, root)
    card.unlink()
    os.rename(f"{root}/processing/p/b/key", f"{root}/completed/key")
    assert "mkdir" not in told()
    os.makedirs(f"{root}/completed/p/b")
    os.rename(f"{root}/completed/key", f"{root}/completed/p/b/key")  # its row is a step behind
    words = told()
    assert "not there" not in words
    subprocess.run(["sh", "-c", words.rpartition("again: ")[2]], check=True)
    assert json.loads(card.read_text()) == {
        "id": spool_id,
        "database": house.database,
        "directory": root,
    }
    binding.check_lost(root, house.database)


def lost_spool(house: House) -> str:
    """What all are told of a spool that was begun, and has no card any more."""
    with pytest.raises(SpoolError, match="to where that is now; is its disk mounted") as caught:
        binding.check_lost(house.spool.root, house.database)
    models.bind(house.database)  # which was for reading only
    return str(caught.value)


def begun(house: House) -> None:
    house.spool.prepare()
    binding.bind(house.spool, house.database, create=True, now=START)


def test_no_card_is_written_where_nothing_of_a_spool_is(house: House) -> None:
    """Not in an empty mount point either."""
    begun(house)
    os.unlink(house.spool.absolute(CARD))
    for name in (PRIVATE, *STATES):
        assert " If only .flood/spool was deleted, write it again: mkdir" in lost_spool(house)
        shutil.rmtree(house.spool.absolute(name))
    said = "mounted? If the spool is gone for good, flood-check says how to go on without it"
    assert lost_spool(house).endswith(said)
    os.rmdir(house.spool.root)
    assert lost_spool(house).endswith(said)


def test_files_that_have_failed_are_missed_too(house: House) -> None:
    begun(house)
    house.admit("gone", "kept")
    gone, kept = house.claim()
    os.unlink(house.spool.absolute(gone.path))
    refused = Reason(PERMANENT, "refused", "no")
    house.settle(Missing(gone), GiveUp(kept, refused))
    assert house.row(gone.id)["current_state"] == FAILED
    os.unlink(house.spool.absolute(CARD))
    assert "write it again: mkdir" in lost_spool(house)
    lies = house.spool.absolute("failed/p/b/kept")
    aside = f"{house.spool.root}/aside"
    # Its row may be a step behind.
    for place, missed in ((aside, True), (house.spool.absolute("incoming/p/b/kept"), False)):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.rename(lies, place)
        words = lost_spool(house)
        said = "Files that have failed, such as failed/p/b/kept, are not there; if they are gone"
        assert (said in words, "mkdir" in words) == (missed, not missed)
        os.rename(place, lies)
    os.unlink(lies)
    departures.leave([kept.id], departures.REMOVED, START)
    assert "write it again: mkdir" in lost_spool(house)


def test_of_many_files_that_have_failed_the_latest_are_looked_for(house: House) -> None:
    begun(house)
    os.unlink(house.spool.absolute(CARD))
    house.write("failed/p/b/there")
    many = """
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :last)
        INSERT INTO file_records (profile, bucket, filepath, file_creation_date, current_state,
            last_updated, device, inode, size, mtime_ns, spool_path, completed_at, created_at)
        SELECT 'p', 'b', i, :at, 'failed', :at, 1, i, 9, i,
            iif(i, 'failed/p/b/there', 'failed/p/b/gone'), :at || printf('%06d', i), :at FROM n
    """
    for last, missed in ((9_999, True), (10_000, False)):
        models.connection().execute("DELETE FROM file_records")
        models.connection().execute(many, {"last": last, "at": utc_text(START)})
        assert ("such as failed/p/b/gone" in lost_spool(house)) == missed


@pytest.mark.parametrize("place", ["above/spool", "above", "above/spool/.flood"])
@pytest.mark.parametrize("what", ["file", "link"])
def test_what_lies_in_the_place_of_the_spool_is_named(
    tmp_path: Path, place: str, what: str
) -> None:
    pair = Pair(tmp_path, "above/spool")
    made = pair.bind(create=True)
    path = tmp_path / place
    path.rename(tmp_path / "was")
    (tmp_path / f"{place}.away").write_text("somebody's")
    if what == "file":
        path.write_text("")
    else:
        path.symlink_to("nowhere")
    kind = "file" if what == "file" else "symbolic link"
    words = f"{path} must be a directory, but a {kind} is in its place: move it away, put the"
    for way in (cards.database_of, partial(binding.check, database=pair.database)):
        with pytest.raises(SpoolError, match=words):
            way(pair.spool.root)
    models.bind(pair.database)
    command = lost.rewriting(pair.spool.root, pair.database, made)
    subprocess.run(["sh", "-c", command], check=True)
    assert pair.bind() == made
    assert (tmp_path / f"{place}.away").read_text() == "somebody's"


@pytest.mark.parametrize("kind", ["directory", "FIFO", "file"])
def test_what_lies_in_the_place_of_the_card_is_named(tmp_path: Path, kind: str) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    os.rename(pair.card, tmp_path / "card")
    if kind == "file":
        os.symlink(tmp_path / "card", pair.card)  # which serves as well
        assert cards.in_the_way(pair.spool.root) is None
        assert pair.bind() == made
        return
    os.mkdir(pair.card) if kind == "directory" else os.mkfifo(pair.card)
    for way in (cards.check_way, cards.database_of):
        with pytest.raises(SpoolError, match=f"{pair.card} must be a file, but a {kind} is in its"):
            way(pair.spool.root)
    models.bind(pair.database)
    subprocess.run(["sh", "-c", lost.rewriting(pair.spool.root, pair.database, made)], check=True)
    assert pair.bind() == made


_WRONG = (
    b'{"id": "1", "database": null}',
    b'{"id": "1", "database": 7}',
    b'{"id": 1, "database": "/flood.db"}',
    b'{"id": "1", "database": ""}',
    b'{"id": "1", "database": "/flood.db", "directory": 7}',
)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b'{"id": 1', b"\xff\xfe", b'"id"', *_WRONG]
)
def test_a_broken_card_is_named(tmp_path: Path, content: bytes) -> None:
    pair = Pair(tmp_path)
    made = pair.bind(create=True)
    Path(pair.card).write_bytes(content)
    with pytest.raises(SpoolError, match=r"cannot read .*\.flood/spool.*damaged.*: remove it"):
        pair.bind(create=True)
    os.unlink(pair.card)  # as it says
    with pytest.raises(SpoolError, match="write it again") as caught:
        pair.bind(create=True)
    subprocess.run(["sh", "-c", str(caught.value).rpartition("again: ")[2]], check=True)
    assert pair.bind(create=True) == made


def test_a_card_that_cannot_be_read_is_not_damaged(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("takes root to become somebody else")
    tmp_path.chmod(0o755)
    pair = Pair(tmp_path)
    pair.bind(create=True)
    Path(pair.card).chmod(0o600)

    def as_another_user() -> None:
        directory = os.open(tmp_path, os.O_RDONLY)
        os.setuid(65534)
        os.chdir(directory)  # pytest's own directories above are closed to others
        with pytest.raises(SpoolError, match="Permission denied: give this user access to it"):
            cards.database_of("spool")

    assert in_child(as_another_user) == 0


def test_the_first_start_may_die_at_any_time(tmp_path: Path) -> None:
    """Whatever has been written by then, the next start goes on with it."""
    schema.migrate(str(tmp_path / "new.db"), create=True)
    models.close()
    line, died = 0, True
    while died:
        line += 1
        pair = Pair(tmp_path, f"spool-{line}", f"flood-{line}.db")
        pair.spool.prepare()
        shutil.copy(tmp_path / "new.db", pair.database)

        def first_start(pair: Pair = pair) -> None:
            models.bind(pair.database)
            binding.bind(pair.spool, pair.database, create=True, now=START)

        died = dying_at(line, ("bind", "keep"), first_start) != 0
        made = pair.bind(create=True)
        with open(pair.card, encoding="utf-8") as card:
            assert json.load(card) == {
                "id": made,
                "database": pair.database,
                "directory": pair.spool.root,
            }
    assert line > 10


def test_another_database_is_refused_before_it_is_made(house: House, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    house.spool.prepare()
    house.spool.keep(".flood/spool", json.dumps({"id": "1", "database": house.database}))
    with pytest.raises(SpoolError, match="belongs to the database"):
        binding.check(house.spool.root, str(other))
    assert not other.exists()
    binding.check(house.spool.root, house.database)


def test_a_new_database_is_offered_for_one_that_is_no_others(tmp_path: Path) -> None:
    one, two = Pair(tmp_path, "one", "one.db"), Pair(tmp_path, "two", "two.db")
    one.bind(create=True)
    two.bind(create=True)
    schema.migrate(str(tmp_path / "new.db"), create=True)
    models.close()
    for name, offered in (("none.db", True), ("new.db", True), ("one.db", False)):
        with pytest.raises(SpoolError, match=r"correct --database \(FLOOD_DATABASE\)") as caught:
            binding.check(two.spool.root, str(tmp_path / name))
        assert (f"or remove {two.card} if" in str(caught.value)) == offered
