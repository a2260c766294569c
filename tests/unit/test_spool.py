"""Files of the spool, moved as they are in real directories."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flood import directories, syscalls
from flood.errors import SpoolError
from flood.identity import identity_of
from flood.layout import Place
from flood.spool import Occupied, Spool
from flood.states import STATES
from flood.tree import NotRegular, Vanished
from flood.walk import Found, Oddity
from tests.spooling import in_child, without_descriptors


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(str(tmp_path))
    made.prepare()
    return made


@pytest.fixture
def linking(tmp_path: Path) -> Spool:
    """A spool on a filesystem that cannot rename without overwriting."""
    made = Linking(str(tmp_path))
    made.prepare()
    return made


@pytest.fixture(params=["spool", "linking"])
def either(request: pytest.FixtureRequest) -> Spool:
    made: Spool = request.getfixturevalue(request.param)
    return made


class Linking(Spool):
    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._linking = True


def write(spool: Spool, path: str, data: str = "data") -> None:
    target = Path(spool.absolute(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(data)


def read(spool: Spool, path: str) -> str:
    return Path(spool.absolute(path)).read_text()


# --- its presence ------------------------------------------------------------------------------


def test_a_lack_of_descriptors_says_nothing_of_the_spool(spool: Spool) -> None:
    spool.keep(".flood/spool", '{"id": "1", "database": "/flood.db"}')
    spool.expect("1")
    assert spool.present()
    with without_descriptors():
        assert spool.present()
        spool.check_present()
    os.rename(spool.absolute(".flood"), spool.absolute("away"))
    with without_descriptors():
        assert not spool.present()


def test_a_directory_that_closes_is_no_spool_that_went_away(spool: Spool) -> None:
    if os.geteuid() != 0:
        pytest.skip("takes root to become somebody else")
    spool.keep(".flood/spool", '{"id": "1", "database": "/flood.db"}')
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        os.mkdir(f"{made}/closed", 0o700)
        os.rename(spool.root, f"{made}/closed/spool")
        os.symlink("closed/spool", f"{made}/link")

        def as_another_user() -> None:
            os.setuid(65534)
            closed = f"cannot look into {made}/closed: Permission denied: run this as the user"
            with pytest.raises(SpoolError, match=closed):
                Spool(f"{made}/closed/spool").check_present()
            with pytest.raises(SpoolError, match=closed):
                directories.check_open(f"{made}/link")
            directories.check_open(f"{made}/none/spool")

        assert in_child(as_another_user) == 0


# --- system calls ------------------------------------------------------------------------------


def test_rename_never_overwrites(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("new")
    target.write_text("old")
    directory = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(FileExistsError):
            syscalls.rename_noreplace(directory, "source", directory, "target")
        assert target.read_text() == "old"
        target.unlink()
        syscalls.rename_noreplace(directory, "source", directory, "target")
        assert target.read_text() == "new"
        with pytest.raises(FileNotFoundError):
            syscalls.rename_noreplace(directory, "source", directory, "target")
    finally:
        os.close(directory)


def test_a_move_within_a_directory_of_what_is_gone(either: Spool) -> None:
    Path(either.absolute("failed/p/b")).mkdir(parents=True)
    with pytest.raises(Vanished):
        either.move("failed/p/b/key", "failed/p/b/other")


def test_no_link_leads_to_a_file(spool: Spool, tmp_path: Path) -> None:
    write(spool, "completed/p/b/x")
    os.makedirs(spool.absolute("incoming/p"))
    os.symlink("../../completed/p/b", spool.absolute("incoming/p/b"))
    with pytest.raises(NotRegular):
        spool.open("incoming/p/b/x")
    with pytest.raises(Vanished):
        spool.move("incoming/p/b/x", "processing/p/b/x")
    assert read(spool, "completed/p/b/x") == "data"
    assert [type(one) for one in spool.walk("incoming")] == [Oddity]


def test_the_server_directory_may_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    spool = Spool(str(tmp_path / "link"))
    spool.prepare()
    write(spool, "incoming/p/b/x")
    spool.move("incoming/p/b/x", "processing/p/b/x")
    os.close(spool.open("processing/p/b/x")[0])


def test_birth_time_is_not_the_time_of_change(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("data")
    born = syscalls.birth_time(str(path))
    if born is None:
        pytest.skip("this filesystem does not tell")
    os.utime(path, (0, 0))
    assert syscalls.birth_time(str(path)) == born
    assert abs(born - path.stat().st_ctime) < 10
    assert syscalls.birth_time(str(tmp_path / "missing")) is None


def test_who_has_a_file_open_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("data")
    with path.open("rb") as reader:
        assert syscalls.open_for_writing(reader.fileno()) is False
        with path.open("ab"):
            assert syscalls.open_for_writing(reader.fileno()) is True
        assert syscalls.open_for_writing(reader.fileno()) is False
        with path.open("ab"):
            pass  # the lease was given back, or this would hang


# --- moves -------------------------------------------------------------------------------------


def test_move_makes_directories(either: Spool) -> None:
    write(either, "incoming/p/b/x/y/z")
    either.move("incoming/p/b/x/y/z", "processing/p/b/x/y/z")
    assert read(either, "processing/p/b/x/y/z") == "data"
    assert not either.exists("incoming/p/b/x/y/z")


def test_directories_that_stay_open_may_go_meanwhile(either: Spool) -> None:
    """Whoever prunes, or drops files, waits for nobody."""
    before = set(os.listdir("/proc/self/fd"))
    for name in "abc":
        write(either, f"incoming/p/b/x/{name}", name)
    with either.many_moves():
        either.move("incoming/p/b/x/a", "processing/p/b/x/a")
        os.unlink(either.absolute("processing/p/b/x/a"))
        either.prune("processing/p/b/x/a")
        either.move("incoming/p/b/x/b", "processing/p/b/x/b")
        os.rename(either.absolute("incoming/p/b/x"), either.absolute("incoming/p/b/y"))
        write(either, "incoming/p/b/x/d", "d")
        either.move("incoming/p/b/x/d", "processing/p/b/x/d")
        with pytest.raises(Vanished):
            either.move("incoming/p/b/x/e", "processing/p/b/x/e")
        either.move("incoming/p/b/y/c", "processing/p/b/y/c")
    kept = {one.path for one in either.walk("processing")}
    assert kept == {f"processing/p/b/{key}" for key in ("x/b", "x/d", "y/c")}
    assert set(os.listdir("/proc/self/fd")) == before


def test_no_more_directories_stay_open_than_there_is_room_for(spool: Spool) -> None:
    count = 2 * directories.MOST
    for number in range(count):
        write(spool, f"incoming/p/b/{number}/x")
    before = len(os.listdir("/proc/self/fd"))
    with spool.many_moves():
        for number in range(count):
            spool.move(f"incoming/p/b/{number}/x", f"processing/p/b/{number}/x")
            assert len(os.listdir("/proc/self/fd")) <= before + directories.MOST + 1
    assert len(list(spool.walk("processing"))) == count


def test_directories_that_stay_open_take_no_descriptor_from_a_move(spool: Spool) -> None:
    for name in "abcd":
        write(spool, f"incoming/p/b/{name}/x")
    with spool.many_moves():
        for name in "abc":
            spool.move(f"incoming/p/b/{name}/x", f"processing/p/b/{name}/x")
        os.makedirs(spool.absolute("processing/p/b/d"))
        with without_descriptors():
            spool.move("incoming/p/b/d/x", "processing/p/b/d/x")
    assert len(list(spool.walk("processing"))) == 4


def test_a_link_in_the_way_is_found_however_many_moves_there_are(spool: Spool) -> None:
    for name in "ab":
        write(spool, f"incoming/p/b/x/{name}")
    with spool.many_moves():
        spool.move("incoming/p/b/x/a", "processing/p/b/y/a")
        shutil.rmtree(spool.absolute("processing/p/b/y"))
        os.symlink("/tmp", spool.absolute("processing/p/b/y"))
        with pytest.raises(Occupied):
            spool.move("incoming/p/b/x/b", "processing/p/b/y/b")
    assert spool.exists("incoming/p/b/x/b")


def test_move_never_overwrites(either: Spool) -> None:
    write(either, "incoming/p/b/x", "new")
    write(either, "processing/p/b/x", "old")
    with pytest.raises(Occupied):
        either.move("incoming/p/b/x", "processing/p/b/x")
    assert (read(either, "incoming/p/b/x"), read(either, "processing/p/b/x")) == ("new", "old")


def test_a_file_where_a_directory_is_needed_is_in_the_way(either: Spool) -> None:
    write(either, "incoming/p/b/x/y/z")
    write(either, "processing/p/b/x")
    with pytest.raises(Occupied):
        either.move("incoming/p/b/x/y/z", "processing/p/b/x/y/z")
    assert read(either, "incoming/p/b/x/y/z") == "data"


def test_a_directory_where_the_file_belongs_is_in_the_way(either: Spool) -> None:
    write(either, "incoming/p/b/x")
    write(either, "processing/p/b/x/y")
    with pytest.raises(Occupied):
        either.move("incoming/p/b/x", "processing/p/b/x")


@pytest.mark.parametrize("source", ["incoming/p/b/x", "incoming/p/b/file/x", "incoming/nowhere/x"])
def test_what_is_not_there_cannot_be_moved(either: Spool, source: str) -> None:
    write(either, "incoming/p/b/file")
    with pytest.raises(Vanished):
        either.move(source, "processing/p/b/x")
    with pytest.raises(Vanished):
        either.move(source, "processing/not/yet/there/x")


def test_a_link_that_dangles_is_in_the_way(either: Spool) -> None:
    write(either, "incoming/p/b/x/y")
    os.makedirs(either.absolute("processing/p/b"))
    os.symlink("/nonexistent", either.absolute("processing/p/b/x"))
    with pytest.raises(Occupied):
        either.move("incoming/p/b/x/y", "processing/p/b/x/y")


def test_a_name_that_is_too_long_elsewhere_is_the_systems_error(either: Spool) -> None:
    write(either, "incoming/p/b/x")
    with pytest.raises(OSError, match="too long"):
        either.move("incoming/p/b/x", f"processing/p/b/{'x' * 256}")


def test_deeper_trees_than_python_recurses_can_be_moved(either: Spool) -> None:
    """Linux allows about two thousand directories below one another in one path."""
    deep = "d/" * 1500 + "file"
    try:
        _make_deep(either.absolute("incoming"), ["p", "b", *["d"] * 1500])
        either.move(f"incoming/p/b/{deep}", f"processing/p/b/{deep}")
        assert either.identify(f"processing/p/b/{deep}")
        either.remove_empty("incoming")
        assert either.subdirectories("incoming") == []
        either.move(f"processing/p/b/{deep}", "completed/p/b/file")
        either.prune(f"processing/p/b/{deep}")
        assert either.subdirectories("processing/p/b") == []
    finally:
        subprocess.run(["rm", "-rf", either.root], check=True)  # pytest's own way recurses


def _make_deep(top: str, names: list[str]) -> None:
    directory = os.open(top, os.O_RDONLY)
    try:
        for name in names:
            os.mkdir(name, dir_fd=directory)
            below = os.open(name, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=directory))
    finally:
        os.close(directory)


def test_a_crash_between_link_and_unlink_leaves_two_names_of_which_the_old_one_goes(
    linking: Spool,
) -> None:
    write(linking, "incoming/p/b/x")
    os.makedirs(linking.absolute("processing/p/b"))
    os.link(linking.absolute("incoming/p/b/x"), linking.absolute("processing/p/b/x"))
    linking.move("incoming/p/b/x", "processing/p/b/x")
    assert not linking.exists("incoming/p/b/x")
    assert read(linking, "processing/p/b/x") == "data"


def test_move_beside_what_is_in_the_way(either: Spool) -> None:
    place = Place("completed", "p", "b", "x/y")
    write(either, place.path, "first")
    write(either, "processing/p/b/x/y", "second")
    assert either.move_beside("processing/p/b/x/y", place, 7).key == "x/y.~7~"
    write(either, "completed/p/b/f", "a file")
    write(either, "processing/p/b/f/y", "third")
    arrived = either.move_beside("processing/p/b/f/y", Place("completed", "p", "b", "f/y"), 8)
    assert arrived.key == "f.~8~/y"
    either.prune("processing/p/b/x/y")
    write(either, "processing/p/b/x", "fourth")  # in completed a directory has that name
    arrived = either.move_beside("processing/p/b/x", Place("completed", "p", "b", "x"), 9)
    assert arrived.key == "x.~9~"
    found = {read(either, each.path) for each in either.walk("completed") if type(each) is Found}
    assert found == {"first", "second", "a file", "third", "fourth"}


def test_move_beside_gives_up_when_everything_is_taken(spool: Spool) -> None:
    write(spool, "processing/p/b/x")
    write(spool, "completed/p/b/x")
    write(spool, "completed/p/b/x.~1~")
    for number in range(2, 10):
        write(spool, f"completed/p/b/x.~1.{number}~")
    with pytest.raises(FileExistsError):
        spool.move_beside("processing/p/b/x", Place("completed", "p", "b", "x"), 1)
    assert read(spool, "processing/p/b/x") == "data"


def test_pruning_beside_moves_never_loses_a_file(spool: Spool) -> None:
    """A mover makes directories while another thread prunes them."""
    stop = threading.Event()

    def prune() -> None:
        while not stop.is_set():
            spool.prune("processing/p/b/x/y/z")

    thread = threading.Thread(target=prune)
    thread.start()
    try:
        for _ in range(300):
            write(spool, "incoming/p/b/x/y/z")
            spool.move("incoming/p/b/x/y/z", "processing/p/b/x/y/z")
            spool.move("processing/p/b/x/y/z", "completed/p/b/z")
            os.unlink(spool.absolute("completed/p/b/z"))
    finally:
        stop.set()
        thread.join()


def test_prune_stops_at_the_bucket(spool: Spool) -> None:
    os.makedirs(spool.absolute("processing/p/b/x/y"))
    spool.prune("processing/p/b/x/y/z")
    assert spool.subdirectories("processing/p") == ["b"]
    assert spool.subdirectories("processing/p/b") == []
    spool.prune("processing/p/b/gone/z")
    write(spool, "processing/p/b/x/keep")
    spool.prune("processing/p/b/x/y")
    assert read(spool, "processing/p/b/x/keep") == "data"


# --- looking -----------------------------------------------------------------------------------


def test_open_takes_regular_files_only(spool: Spool) -> None:
    write(spool, "processing/p/b/file")
    bucket = spool.absolute("processing/p/b")
    os.symlink("file", f"{bucket}/link")
    os.mkfifo(f"{bucket}/fifo")
    os.mkdir(f"{bucket}/directory")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(bucket, os.O_RDONLY)  # a socket's whole path must be short
        listener.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    for name in ("link", "fifo", "directory", "socket"):
        with pytest.raises(NotRegular):
            spool.open(f"processing/p/b/{name}")
        assert spool.identify(f"processing/p/b/{name}") is None
        assert spool.exists(f"processing/p/b/{name}")
    for name in ("missing", "file/below"):
        with pytest.raises(Vanished):
            spool.open(f"processing/p/b/{name}")
    descriptor, identity = spool.open("processing/p/b/file")
    status = os.fstat(descriptor)
    os.close(descriptor)
    assert identity == (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    assert spool.identify("processing/p/b/file") == identity
    kinds = {one.path.rpartition("/")[2]: one for one in spool.walk("processing")}
    assert sorted(kinds) == ["fifo", "file", "link", "socket"]
    assert kinds["fifo"] == Oddity("processing/p/b/fifo", "FIFO")
    assert kinds["link"] == Oddity("processing/p/b/link", "symbolic link")
    assert kinds["socket"] == Oddity("processing/p/b/socket", "socket")
    assert isinstance(kinds["file"], Found)
    assert kinds["file"].identity == identity
    assert kinds["file"].uid == os.getuid()


def test_a_place_is_vacant_where_no_file_lies(spool: Spool) -> None:
    assert spool.vacant("processing/p/b/x")
    write(spool, "processing/p/b/file")
    assert not spool.vacant("processing/p/b/file")
    assert spool.vacant("processing/p/b/file/below")  # which a move will find out
    write(spool, "processing/p/b/x/y/file")
    os.makedirs(spool.absolute("processing/p/b/x/empty"))
    assert not spool.vacant("processing/p/b/x")
    os.unlink(spool.absolute("processing/p/b/x/y/file"))
    assert spool.vacant("processing/p/b/x")
    assert not spool.exists("processing/p/b/x")
    os.makedirs(spool.absolute("failed/p/empty"))
    os.symlink(spool.absolute("failed/p"), spool.absolute("processing/p/b/x"))
    assert not spool.vacant("processing/p/b/x")
    assert spool.exists("failed/p/empty")


@pytest.mark.parametrize("seconds", [-(2**33), 0, 2**33, 2**34 - 1])
def test_identities_fit_the_database(spool: Spool, seconds: int) -> None:
    """Nanoseconds since 1970 need more than 63 bits from the year 2262 on."""
    write(spool, "incoming/p/b/x")
    os.utime(spool.absolute("incoming/p/b/x"), ns=(0, seconds * 10**9))
    identity = spool.identify("incoming/p/b/x")
    assert identity is not None
    assert all(-(2**63) <= number < 2**63 for number in identity)
    assert spool.identify("incoming/p/b/x") == identity


def test_inodes_beyond_63_bits() -> None:
    """As overlay filesystems make them, to tell their layers apart."""
    status = os.stat_result(
        (stat.S_IFREG, 2**64 - 1, 1, 1, 0, 0, 5, 0, 0, 0), {"st_mtime_ns": 2**63 + 1}
    )
    assert identity_of(status) == (1, -1, 5, -(2**63) + 1)


def test_walk_passes_over_what_is_not_there(spool: Spool) -> None:
    assert list(spool.walk("processing/nowhere")) == []
    write(spool, "processing/p/b/x")
    assert [type(one) for one in spool.walk("processing/p/b/x")] == [Oddity]  # no directory


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.binary(min_size=1, max_size=255).filter(
        lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    )
)
def test_any_name_goes_all_the_way(spool: Spool, name: bytes) -> None:
    key = os.fsdecode(name)
    Path(spool.absolute("incoming/p/b")).mkdir(parents=True, exist_ok=True)
    with open(spool.absolute(f"incoming/p/b/{key}"), "xb"):
        pass
    spool.move(f"incoming/p/b/{key}", f"processing/p/b/{key}")
    assert [one.path for one in spool.walk("processing")] == [f"processing/p/b/{key}"]
    place = Place("completed", "p", "b", key)
    arrived = spool.move_beside(f"processing/p/b/{key}", place, 1)
    write(spool, f"processing/p/b/{key}")
    beside = spool.move_beside(f"processing/p/b/{key}", place, 2)
    assert beside != arrived == place
    os.unlink(spool.absolute(arrived.path))
    os.unlink(spool.absolute(beside.path))


# --- directories and notes ---------------------------------------------------------------------


def test_one_filesystem_is_wanted() -> None:
    wrong = Spool("/").wrong_with("proc")  # which is another one on every Linux
    assert wrong is not None
    assert "proc must be a directory on the same filesystem" in wrong


MOUNTED = """
import sys
from flood.spool import Spool
print(Spool(sys.argv[1]).wrong_with("completed"))
"""


def test_another_mount_of_the_same_filesystem_is_another_one(tmp_path: Path) -> None:
    """The kernel renames nothing from one into the other."""
    for name in ("completed", "elsewhere"):
        (tmp_path / name).mkdir()
    script = 'mount --bind elsewhere completed && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-c", MOUNTED]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"takes the right to mount: {done.stderr}")
    assert "completed must be a directory on the same filesystem" in done.stdout
    assert Spool(str(tmp_path)).wrong_with("completed") is None


def test_prepare_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "completed").symlink_to("/dev/shm", target_is_directory=True)
    words = "completed must be a directory, but a symbolic link is in its place"
    with pytest.raises(SpoolError, match=words):
        Spool(str(tmp_path)).prepare()


def test_what_is_in_a_directorys_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "failed").write_text("a file")
    os.mkfifo(tmp_path / "processing")
    spool = Spool(str(tmp_path))
    assert spool.wrong_with("failed") == (
        f"{tmp_path}/failed must be a directory, but a file is in its place"
    )
    assert "but a FIFO is in its place" in str(spool.wrong_with("processing"))
    assert spool.wrong_with("completed") == f"{tmp_path}/completed: No such file or directory"


def test_prepare_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "failed").write_text("a file")
    with pytest.raises(SpoolError, match="failed"):
        Spool(str(tmp_path)).prepare()


@pytest.mark.parametrize("obstacle", ["processing/p", "processing/p/b"])
def test_a_file_in_a_buckets_place_is_named(spool: Spool, obstacle: str) -> None:
    """The other states' directories are made."""
    write(spool, obstacle)
    [(path, reason)] = spool.prepare_destination("p", "b")
    assert path == "processing/p/b"
    assert reason.endswith("processing/p/b cannot be made: a file, or a link, is in the way")
    assert spool.subdirectories("incoming/p") == ["b"]


def test_destinations_are_made_in_every_state(spool: Spool) -> None:
    spool.prepare_destination("p")
    spool.prepare_destination("p", "b")
    spool.prepare_destination("p", "b")
    assert [spool.subdirectories(f"{state}/p") for state in STATES] == [["b"]] * 5


def test_only_copies_and_notes_can_be_removed(spool: Spool) -> None:
    for path in ("incoming/p/b/x", "processing/p/b/x", "completed/p/b/x", "failed/p/b/x"):
        write(spool, path)
        with pytest.raises(ValueError, match="/x"):
            spool.remove(path)
        assert spool.exists(path)
    write(spool, "incoming_tmp/p/b/x")
    spool.remove("incoming_tmp/p/b/x")
    assert not spool.exists("incoming_tmp/p/b/x")


def test_notes_are_replaced_whole(spool: Spool) -> None:
    spool.keep(".flood/note", "one")
    spool.keep(".flood/note", "two")
    assert read(spool, ".flood/note") == "two"
    assert os.listdir(spool.absolute(".flood")) == ["note"]


def test_flushing_reaches_every_directory_above(spool: Spool) -> None:
    write(spool, "incoming/p/b/x/y")
    spool.flush_directories({"incoming/p/b/x", "incoming/p/b"})
    with pytest.raises(FileNotFoundError):
        spool.flush_directories({"incoming/p/b/gone"})
    assert stat.S_ISDIR(os.stat(spool.absolute("incoming/p/b/x")).st_mode)
