"""The watcher with the server's loop over real inotify."""

import ctypes
import logging
import os
import re
import resource
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flood import records
from flood.columns import name_from, name_value
from flood.errors import NoRoomError
from flood.home import Home
from flood.intake import BATCH
from flood.record_values import Proof
from flood.scans import OPEN, SHARE
from flood.server import Server
from flood.states import STATES
from flood.stop import Stop
from flood.watcher import Watcher
from tests import spooling
from tests.spooling import START, House, in_child
from tests.uploading import wait_until

NEVER = 3600.0
CLONE_NEWUSER = 0x10000000  # linux/sched.h
NEVER_YET = datetime(9000, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with spooling.house(tmp_path) as made:
        yield made


class Told(logging.Handler):
    """What has been logged, and when the server had caught up."""

    def __init__(self) -> None:
        super().__init__()
        self.caught_up = threading.Event()
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] = getattr(record, "facts", {})
        self.lines.append((record.levelname, record.getMessage(), facts))
        if record.getMessage() == "caught up":
            self.caught_up.set()

    def warnings(self) -> list[str]:
        return [facts["path"] for level, _, facts in self.lines if level == "WARNING"]

    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]


@contextmanager
def limited(descriptors: int | None) -> Iterator[None]:
    """No more descriptors than so many meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def serving(
    house: House,
    *,
    rescan_interval: float = NEVER,
    caught_up: bool = True,
    tick: Callable[[], None] = lambda: None,
    profiles: set[str] | None = None,
    check: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    descriptors: int | None = None,
    **intake: Any,
) -> Iterator[Told]:
    """Run the server in a thread; any exception of its own fails the test. `descriptors` is how
    many it finds as it sets its first watch."""
    told, stop, failures = Told(), Stop(), list[BaseException]()
    known = profiles or {"p"}
    admits = house.intake(now=lambda: datetime.now(timezone.utc), profiles=lambda: known, **intake)
    with limited(descriptors):
        server = Server(
            house.spool,
            admits,
            check=check,
            profiles=lambda: known,
            rescan_interval=rescan_interval,
            clock=clock,
            stop=stop,
            tick=tick,
        )
    server.prepare()

    def run() -> None:
        try:
            server.run()
        except BaseException as error:  # noqa: BLE001  raised below
            failures.append(error)

    logger = logging.getLogger("flood")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(told)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        if caught_up:
            wait_until(lambda: told.caught_up.is_set() or bool(failures))
        if not failures:
            yield told
    finally:
        stop.set()
        thread.join(30.0)
        stop.close()
        logger.removeHandler(told)
        logger.setLevel(level)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def taken(house: House) -> dict[str, bytes]:
    """The keys in processing with their contents."""
    prefix = "processing/p/b/"
    return {
        path.removeprefix(prefix): data
        for path, data in house.files().items()
        if path.startswith(prefix)
    }


def until_taken(house: House, *keys: str, seconds: float = 15.0) -> None:
    """Wait until exactly these keys are in processing, recorded and enqueued."""
    wait_until(lambda: set(taken(house)) == set(keys), seconds)
    wait_until(lambda: len(house.rows("current_state = 'processing'")) == len(keys))
    rows = house.rows("current_state = 'processing'")
    assert {name_from(row["filepath"]) for row in rows} == set(keys)
    enqueued = [one for _, _, ids in house.enqueued for one in ids]
    assert sorted(enqueued) == sorted({*enqueued})
    assert {row["id"] for row in rows} <= set(enqueued)


def incoming(house: House, key: str = "") -> str:
    return house.spool.absolute(f"incoming/p/b/{key}")


def mkdir(house: House, key: str = "") -> None:
    os.makedirs(incoming(house, key), exist_ok=True)


# --- arriving ----------------------------------------------------------------------------------


def test_written_and_moved_files_are_taken(house: House) -> None:
    with serving(house) as told:
        house.write("incoming/p/b/written", b"w")
        house.write("failed/moved", b"m")
        os.rename(house.spool.absolute("failed/moved"), incoming(house, "moved"))
        until_taken(house, "written", "moved")
        assert taken(house) == {"written": b"w", "moved": b"m"}
    assert told.warnings() == []


def test_files_that_land_in_directories_before_their_watches(house: House) -> None:
    keys = [f"{n}/{n % 7}/{n % 3}/file" for n in range(150)]
    with serving(house):
        for key in keys:
            house.write(f"incoming/p/b/{key}", key.encode())
        until_taken(house, *keys)
    assert taken(house) == {key: key.encode() for key in keys}


def test_a_tree_that_is_moved_in(house: House) -> None:
    for key in ("top", "one/file", "one/two/file"):
        house.write(f"failed/tree/{key}")
    with serving(house):
        mkdir(house)
        os.rename(house.spool.absolute("failed/tree"), incoming(house, "tree"))
        until_taken(house, "tree/top", "tree/one/file", "tree/one/two/file")
        house.write("incoming/p/b/tree/one/two/later")
        until_taken(house, "tree/top", "tree/one/file", "tree/one/two/file", "tree/one/two/later")


def test_a_whole_bucket_that_is_moved_in(house: House) -> None:
    house.write("failed/bucket/key")
    with serving(house):
        os.rename(house.spool.absolute("failed/bucket"), house.spool.absolute("incoming/p/b"))
        until_taken(house, "key")


def test_files_in_a_renamed_directory_have_its_new_name(house: House) -> None:
    mkdir(house, "old/sub")
    with serving(house):
        os.rename(incoming(house, "old"), incoming(house, "new"))
        house.write("incoming/p/b/new/sub/file")
        until_taken(house, "new/sub/file")
        mkdir(house, "old/sub")  # another directory of the former name
        house.write("incoming/p/b/old/sub/file")
        house.write("incoming/p/b/new/sub/again")
        until_taken(house, "new/sub/file", "old/sub/file", "new/sub/again")


def test_a_directory_that_is_moved_out_is_nobodys_any_more(house: House) -> None:
    mkdir(house, "directory/sub")
    with serving(house) as told:
        os.rename(incoming(house, "directory"), house.spool.absolute("failed/directory"))
        house.write("failed/directory/sub/file")
        house.write("incoming/p/b/marker")
        until_taken(house, "marker")
        assert "failed/directory/sub/file" in house.files()
        os.rename(house.spool.absolute("failed/directory"), incoming(house, "back"))
        until_taken(house, "marker", "back/sub/file")
    assert told.warnings() == []


def test_directories_that_are_deleted_then_made_again(house: House) -> None:
    with serving(house):
        for round_number in range(20):
            mkdir(house, "directory/sub")
            shutil.rmtree(incoming(house, "directory"))
            mkdir(house, "directory/sub")
            house.write(f"incoming/p/b/directory/sub/{round_number}")
            keys = [f"directory/sub/{n}" for n in range(round_number + 1)]
            until_taken(house, *keys)
            shutil.rmtree(incoming(house, "directory"))


EXCHANGE = 2  # RENAME_EXCHANGE, linux/fs.h
AT_FDCWD = -100


def exchange(one: str, other: str) -> None:
    """As `mv --exchange` does."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2", one, None, other)


@pytest.mark.parametrize("staged", [["dir/one", "dir/sub/two"], ["dir"]])
@pytest.mark.parametrize("live", ["dir/sub/", "dir"])
def test_what_is_exchanged_into_it(house: House, staged: list[str], live: str) -> None:
    """The kernel tells of what came before it tells of what left."""
    for key in staged:
        house.write(f"failed/{key}", b"new")
    mkdir(house, live if live.endswith("/") else "")
    with serving(house):
        with open(incoming(house, "dir"), "wb") if live == "dir" else nullcontext():
            # While it is open, a file stays.
            exchange(house.spool.absolute("failed/dir"), incoming(house, "dir"))
            until_taken(house, *staged)
        if staged != ["dir"]:
            house.write("incoming/p/b/dir/sub/later", b"new")
            until_taken(house, *staged, "dir/sub/later")
    assert set(taken(house).values()) == {b"new"}


def test_directories_that_are_exchanged_for_each_other(house: House) -> None:
    mkdir(house, "one/sub")
    mkdir(house, "other/sub")
    keys: list[str] = []
    with serving(house):
        for number in range(3):
            exchange(incoming(house, "one"), incoming(house, "other"))
            for key in (f"one/sub/{number}", f"other/sub/{number}"):
                keys.append(key)
                house.write(f"incoming/p/b/{key}")
            until_taken(house, *keys)


def test_a_file_that_is_begun_where_another_was_is_not_taken_for_that(house: House) -> None:
    house.write("failed/key")
    mkdir(house)
    watcher = Watcher(house.spool, "incoming")
    assert list(filter(None, watcher.scan("incoming"))) == []
    os.rename(house.spool.absolute("failed/key"), incoming(house, "key"))
    os.rename(incoming(house, "key"), house.spool.absolute("failed/key"))
    with open(incoming(house, "key"), "wb"):
        news = watcher.read()
    watcher.close()
    assert (list(news.files), list(news.begun)) == ([], ["incoming/p/b/key"])


def test_what_a_rename_costs_does_not_depend_on_all_other_directories(house: House) -> None:
    count, renames = 2000, 100
    for number in range(count):
        mkdir(house, f"{number}")
    watcher = Watcher(house.spool, "incoming")
    for _ in watcher.scan("incoming"):
        pass
    for number in range(renames):
        house.write(f"incoming/p/b/{number}/file")
        os.rename(incoming(house, f"{number}"), incoming(house, f"renamed-{number}"))
    lines = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace if "/flood/" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        news = watcher.read()
    finally:
        sys.settrace(before)
    watcher.close()
    assert set(news.directories) == {f"incoming/p/b/renamed-{n}" for n in range(renames)}
    assert news.files == {}
    assert lines < renames * count / 10


def test_incoming_itself_is_removed(house: House) -> None:
    mkdir(house, "sub")
    with serving(house) as told:
        shutil.rmtree(house.spool.absolute("incoming"))
        wait_until(lambda: "incoming was taken away" in told.events())
        wait_until(lambda: house.spool.exists("incoming/p"))
        house.write("incoming/p/b/key")
        until_taken(house, "key")


def test_incoming_itself_is_renamed(house: House) -> None:
    mkdir(house, "sub")
    with serving(house):
        os.rename(house.spool.absolute("incoming"), house.spool.absolute("aside"))
        wait_until(lambda: house.spool.exists("incoming/p"))
        house.write("incoming/p/b/key")
        until_taken(house, "key")
        house.write("aside/p/b/sub/key")
        house.write("incoming/p/b/other")
        until_taken(house, "key", "other")


def test_a_hard_link_is_taken(house: House) -> None:
    """It is opened by nobody, so that its only event is its creation."""
    house.write("failed/original")
    with serving(house):
        mkdir(house)
        house.write("incoming/p/b/first")
        until_taken(house, "first")
        os.link(house.spool.absolute("failed/original"), incoming(house, "link"))
        until_taken(house, "first", "link")


def test_a_new_bucket_gets_its_directories(house: House) -> None:
    with serving(house):
        house.write("incoming/p/new/key")
        wait_until(lambda: all(house.spool.exists(f"{state}/p/new") for state in STATES))


def test_at_start_every_known_bucket_gets_its_directories(house: House) -> None:
    house.write("completed/p/old/key")
    os.makedirs(house.spool.absolute("failed/q/other"))
    with serving(house, profiles={"p", "q"}):
        for state in STATES:
            assert house.spool.subdirectories(state) == ["p", "q"]
            assert house.spool.subdirectories(f"{state}/p") == ["old"]
            assert house.spool.subdirectories(f"{state}/q") == ["other"]


def test_a_file_in_a_buckets_place_does_no_harm(house: House) -> None:
    house.write("failed/p/b")
    with serving(house) as told:
        house.write("incoming/p/b/key")
        until_taken(house, "key")
    assert told.warnings() == ["failed/p/b"]


# --- what is not taken -------------------------------------------------------------------------


def test_what_is_no_regular_file_is_left_with_one_warning(house: House) -> None:
    mkdir(house)
    with serving(house, rescan_interval=0.2) as told:
        os.symlink("/etc/hostname", incoming(house, "link"))
        os.symlink("/etc", incoming(house, "directory-link"))
        os.mkfifo(incoming(house, "fifo"))
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.open(incoming(house), os.O_RDONLY)
            listener.bind(f"/proc/self/fd/{here}/socket")
            os.close(here)
        names = {"link", "directory-link", "fifo", "socket"}
        wait_until(lambda: len(told.warnings()) >= 4)
        house.write("incoming/p/b/key")
        until_taken(house, "key")
        time.sleep(0.5)  # two scans
    assert sorted(told.warnings()) == sorted(f"incoming/p/b/{name}" for name in names)
    assert set(os.listdir(incoming(house))) == names


def test_other_profiles_wait_until_the_credentials_have_them(house: House) -> None:
    profiles = {"p"}
    with serving(house, rescan_interval=0.2, profiles=profiles) as told:
        house.write("incoming/q/b/key")
        house.write("incoming/p/stray")
        house.write("incoming/p/b/key")
        until_taken(house, "key")
        wait_until(lambda: len(told.warnings()) == 2)
        profiles.add("q")
        wait_until(lambda: house.spool.exists("processing/q/b/key"))
    assert sorted(told.warnings()) == ["incoming/p/stray", "incoming/q/b/key"]


def test_temporary_names_are_taken_under_their_final_one(house: House) -> None:
    with serving(house):
        house.write("incoming/p/b/movie.part")
        house.write("incoming/p/b/marker")
        until_taken(house, "marker")
        assert "incoming/p/b/movie.part" in house.files()
        os.rename(incoming(house, "movie.part"), incoming(house, "movie"))
        until_taken(house, "marker", "movie")


def test_an_open_file_is_taken_once_it_is_closed(house: House) -> None:
    mkdir(house)
    early = os.open(incoming(house, "early"), os.O_WRONLY | os.O_CREAT)
    with serving(house):
        late = os.open(incoming(house, "late"), os.O_WRONLY | os.O_CREAT)
        for descriptor in (early, late):
            os.write(descriptor, b"first ")
        house.write("incoming/p/b/marker")
        until_taken(house, "marker")
        time.sleep(0.7)
        for descriptor in (early, late):
            os.write(descriptor, b"second")
            os.close(descriptor)
        until_taken(house, "marker", "early", "late")
    assert taken(house) == {"marker": b"data", "early": b"first second", "late": b"first second"}


def test_a_file_that_is_opened_again_after_its_close(house: House) -> None:
    """Its descriptor was passed on: there is no event when it can be taken."""
    mkdir(house)
    with serving(house):
        with open(incoming(house, "key"), "wb") as file:
            kept = os.dup(file.fileno())
        house.write("incoming/p/b/marker")
        until_taken(house, "marker")
        os.close(kept)
        until_taken(house, "marker", "key")


def test_a_newer_version_goes_in_once_the_way_is_free(house: House) -> None:
    with serving(house):
        house.write("incoming/p/b/key", b"old")
        until_taken(house, "key")
        house.write("incoming/p/b/key", b"new")
        house.write("incoming/p/b/marker")
        until_taken(house, "key", "marker")
        assert taken(house)["key"] == b"old"
        house.clock.moment = datetime.now(timezone.utc)
        claim = house.claim(house.in_processing("key"))[0]
        house.spool.move("processing/p/b/key", "completed/p/b/key")
        records.complete(claim, "completed/p/b/key", Proof("e", None, None, 3), START)
        wait_until(lambda: taken(house).get("key") == b"new")


@pytest.mark.parametrize("under_way", [False, True])
def test_a_file_of_another_destination_does_not_wait_for_a_burst(
    house: House, under_way: bool
) -> None:
    """The kernel tells of it last, behind all of the burst, or with some of that taken."""
    stage = Path(house.spool.root).parent / "stage"
    stage.mkdir()
    burst = [f"{number}" for number in range(8 * BATCH)]
    for key in burst:
        (stage / key).write_bytes(b"x")
    came_at = 3 * BATCH if under_way else 0
    others = {"p/other": stage / "bucket", "q/b": stage / "profile"}
    for destination, path in others.items():
        path.write_bytes(b"x")
        os.makedirs(house.spool.absolute(f"incoming/{destination}"))
    mkdir(house)

    def enqueued() -> int:
        return sum(len(ids) for _, _, ids in house.enqueued)

    def enqueue(*task: Any) -> None:
        if not house.enqueued:
            for key in burst:
                os.rename(stage / key, incoming(house, key))
        if enqueued() >= came_at:
            for destination, path in others.items():
                if path.exists():
                    os.rename(path, house.spool.absolute(f"incoming/{destination}/key"))
        house.enqueued.append(task)

    with serving(house, enqueue=enqueue, profiles={"p", "q"}):
        house.write("incoming/p/b/first")
        wait_until(lambda: enqueued() == len(burst) + 3, 60.0)
    rows = house.rows()
    order = [f"{row['profile']}/{row['bucket']}" for row in rows]
    for destination in others:
        assert came_at < order.index(destination) < came_at + 2 * BATCH
    keys = [
        name_from(row["filepath"]) for row in rows if (row["profile"], row["bucket"]) == ("p", "b")
    ]
    assert keys == ["first", *burst]


def test_a_new_directory_does_not_wait_for_all_of_a_large_one(house: House) -> None:
    """Each is scanned, as what came into it before it was watched has no events."""
    stage = Path(house.spool.root).parent / "stage"
    for name, files in (("large", 3000), ("small", 3)):
        (stage / name).mkdir(parents=True)
        for number in range(files):
            (stage / name / f"{number}").write_bytes(b"x")
    place = Path(house.spool.absolute("incoming/p/b"))
    place.mkdir(parents=True)
    moved = threading.Event()

    def enqueue(*task: Any) -> None:
        if not moved.is_set():  # as the first of the large one are taken
            os.rename(stage / "small", place / "small")
            moved.set()
        house.enqueued.append(task)

    with serving(house, enqueue=enqueue):
        os.rename(stage / "large", place / "large")
        wait_until(lambda: len(house.rows()) == 3003, 60.0)
    order = [name_from(row["filepath"]).partition("/")[0] for row in house.rows()]
    assert max(n for n, name in enumerate(order) if name == "small") < 2500


def test_scans_of_many_directories_keep_few_of_them_open(house: House) -> None:
    stage = Path(house.spool.root).parent / "stage"
    for number in range(60):
        (stage / f"{number}").mkdir(parents=True)
        for name in range(SHARE + 50):
            (stage / f"{number}" / f"{name}").write_bytes(b"x")
    place = Path(house.spool.absolute("incoming/p/b"))
    place.mkdir(parents=True)
    most = 0

    def enqueue(*task: Any) -> None:
        nonlocal most
        held = [
            os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if is_open(n)
        ]
        most = max(most, sum(path.startswith(f"{place}/") for path in held))
        house.enqueued.append(task)

    with serving(house, enqueue=enqueue):
        for number in range(60):
            os.rename(stage / f"{number}", place / f"{number}")
        wait_until(lambda: len(house.rows()) == 60 * (SHARE + 50), 60.0)
    # Two for each scan that goes on, or is tried; moves keep some, too.
    assert most <= 2 * (OPEN + 1) + 16


def test_a_small_directory_does_not_wait_for_any_of_many_large_ones(house: House) -> None:
    """More than may be open at a time are under way when it comes."""
    stage = Path(house.spool.root).parent / "stage"
    sizes = {"small": 3, "medium": SHARE + 20}
    sizes |= {f"large-{number}": 20 * SHARE for number in range(OPEN + 2)}
    for name, files in sizes.items():
        (stage / name).mkdir(parents=True)
        for number in range(files):
            (stage / name / f"{number}").write_bytes(b"x")
    place = Path(house.spool.absolute("incoming/p/b"))
    place.mkdir(parents=True)

    def enqueue(*task: Any) -> None:
        begun = os.listdir(house.spool.absolute("processing/p/b"))
        if len(begun) > OPEN and (stage / "small").exists():
            for name in ("small", "medium"):
                os.rename(stage / name, place / name)
        house.enqueued.append(task)

    with serving(house, enqueue=enqueue):
        for number in range(OPEN + 2):
            os.rename(stage / f"large-{number}", place / f"large-{number}")
        wait_until(lambda: len(house.rows()) == sum(sizes.values()), 60.0)
    order = [name_from(row["filepath"]).partition("/")[0] for row in house.rows()]
    last = {name: len(order) - 1 - order[::-1].index(name) for name in sizes}
    first_through = min(at for name, at in last.items() if name.startswith("large"))
    assert last["small"] < last["medium"] < first_through


def is_open(descriptor: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{descriptor}")


# --- the start ---------------------------------------------------------------------------------


def test_nothing_waits_until_all_of_processing_was_looked_through(house: House) -> None:
    """What waits in incoming goes first, what arrives soon after its event."""
    for n in range(5 * BATCH):
        house.write(f"processing/p/b/old-{n}", b"")
    for n in range(30):
        house.write(f"incoming/p/b/waiting-{n}")
    arrived = threading.Event()

    def enqueue(*task: Any) -> None:
        # In the second batch of the look: what waits, and each batch, is a task.
        if len(house.enqueued) > 1 and not arrived.is_set():
            house.write("incoming/p/b/new-0")
            arrived.set()
        house.enqueued.append(task)

    with serving(house, enqueue=enqueue) as told:
        assert len(house.rows()) == 5 * BATCH + 31
        assert told.events().count("caught up") == 1
    order = [name_from(row["filepath"]).partition("-")[0] for row in house.rows()]
    assert order[:30] == ["waiting"] * 30
    assert order.index("new") < 3 * BATCH
    assert order[-1] == "old"


def test_a_newer_version_waits_for_one_that_has_no_record_yet(house: House) -> None:
    """Somebody took the older ones, and was killed; the look at processing comes to them last."""
    keys = ("key", "dir/key", "way")
    for key in (*keys[:2], "way/below"):
        house.write(f"processing/p/b/{key}", b"old")
    for key in keys:
        house.write(f"incoming/p/b/{key}", b"new")
    with serving(house):
        until_taken(house, "key", "dir/key", "way/below")
        assert set(taken(house).values()) == {b"old"}
        house.clock.moment = datetime.now(timezone.utc)
        for claim in house.claim():
            house.spool.move(claim.path, claim.path.replace("processing", "completed"))
            records.complete(claim, claim.path, Proof("e", None, None, 3), START)
        until_taken(house, *keys)
        assert set(taken(house).values()) == {b"new"}


def test_the_look_at_processing_begins_afresh_after_trouble_at_the_start(house: House) -> None:
    for n in range(2 * BATCH):
        house.write(f"processing/p/b/{n}", b"")
    refused = iter(range(1))

    def enqueue(*task: Any) -> None:
        if len(house.enqueued) == 2:  # with the second batch
            for _ in refused:
                raise OSError(28, "No space left on device")
        house.enqueued.append(task)

    with serving(house, enqueue=enqueue) as told:
        until_taken(house, *(f"{n}" for n in range(2 * BATCH)))
        events = told.events()
    assert events.index("takes files in again") < events.index("caught up")


def test_what_was_taken_once_needs_no_room(house: House) -> None:
    house.write("processing/p/b/taken")
    house.write("incoming/p/b/waiting")

    def check() -> None:
        raise NoRoomError("no room")

    with serving(house, check=check, caught_up=False) as told:
        until_taken(house, "taken")
    assert "caught up" not in told.events()
    assert house.files()["incoming/p/b/waiting"] == b"data"


@pytest.mark.parametrize("tree", ["incoming", "processing"])
def test_many_directories_without_files_hold_up_nobody(house: House, tree: str) -> None:
    count, ticks = 3 * BATCH, 0
    for number in range(count):
        os.makedirs(house.spool.absolute(f"{tree}/p/b/{number % 30}/{number}"))

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    with serving(house, tick=tick):
        assert ticks >= 4


def test_what_is_turned_away_as_it_starts_is_told_to_nobody_who_waits(
    house: House,
) -> None:
    """It is turned away once the look has come to it."""
    os.makedirs(house.spool.absolute("processing/p/b"))
    os.symlink("/etc/passwd", house.spool.absolute("processing/p/b/key"))
    house.write("incoming/p/b/key", b"new")
    with serving(house) as told:
        until_taken(house, "key")
        assert set(told.warnings()) == {"incoming/p/b/key.~0~"}
        os.mkfifo(house.spool.absolute("processing/p/b/fifo"))
        house.write("incoming/p/b/fifo")
        wait_until(lambda: "processing/p/b/fifo" in told.warnings())


def test_a_link_in_processing_keeps_no_file_waiting(house: House) -> None:
    os.makedirs(house.spool.absolute("processing/p/b"))
    os.symlink("/etc/passwd", house.spool.absolute("processing/p/b/key"))
    with serving(house):
        wait_until(lambda: os.path.lexists(incoming(house, "key")))
        os.rename(incoming(house, "key"), incoming(house, "link"))
        house.write("incoming/p/b/key", b"new")
        until_taken(house, "key")
    assert taken(house) == {"key": b"new"}


def test_arriving_while_it_starts_nothing_is_missed(house: House) -> None:
    for n in range(600):
        house.write(f"incoming/p/b/{n % 20}/waiting-{n}", b"")
    keys = {f"{n % 20}/waiting-{n}" for n in range(600)}
    done = threading.Event()

    def produce() -> None:
        for n in range(300):
            key = f"{n % 40}/new/{n}"
            house.write(f"incoming/p/b/{key}", b"")
            keys.add(key)
        done.set()

    producer = threading.Thread(target=produce)
    with serving(house, caught_up=False):
        producer.start()
        producer.join()
        until_taken(house, *keys, seconds=30.0)


# --- many at once ------------------------------------------------------------------------------


def test_busy_producers(house: House) -> None:
    """Trees are made, renamed and moved in beside each other; each file is taken once."""
    keys: set[str] = set()

    def produce(name: str) -> None:
        for n in range(25):
            tree = f"failed/{name}-{n}"
            for m in range(4):
                house.write(f"{tree}/sub/{m}", b"")
            os.rename(house.spool.absolute(tree), incoming(house, f"{name}-{n}"))
            house.write(f"incoming/p/b/{name}/{n}/x.part", b"")
            os.rename(incoming(house, f"{name}/{n}/x.part"), incoming(house, f"{name}/{n}/x"))
            keys.update({f"{name}-{n}/sub/{m}" for m in range(4)} | {f"{name}/{n}/x"})

    mkdir(house)
    with serving(house):
        threads = [threading.Thread(target=produce, args=[name]) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until_taken(house, *keys, seconds=30.0)


def test_an_overflow_of_events_is_followed_by_a_scan(house: House) -> None:
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
        limit = int(file.read())
    if limit > 50_000:
        pytest.skip("this system keeps more events than a test should make")
    mkdir(house)
    reading, go_on = threading.Event(), threading.Event()

    def enqueue(*task: Any) -> None:
        reading.set()
        go_on.wait(60.0)
        house.enqueued.append(task)

    count = limit // 2 + 100  # a creation with a close each
    with serving(house, enqueue=enqueue) as told:
        house.write("incoming/p/b/first")
        assert reading.wait(10.0)
        directory = os.open(incoming(house), os.O_RDONLY)
        for n in range(count):
            os.close(os.open(f"{n}", os.O_WRONLY | os.O_CREAT, dir_fd=directory))
        os.close(directory)
        go_on.set()
        wait_until(lambda: len(os.listdir(house.spool.absolute("processing/p/b"))) > count, 60.0)
        wait_until(lambda: len(house.rows()) == count + 1)
    assert "missed events" in told.events()


# --- trouble -----------------------------------------------------------------------------------


def test_a_bucket_that_only_a_scan_finds_gets_its_directories(house: House) -> None:
    with serving(house):
        os.makedirs(f"{house.spool.root}/tree/known")
        os.rename(f"{house.spool.root}/incoming/p", f"{house.spool.root}/gone")
        os.rename(f"{house.spool.root}/tree", f"{house.spool.root}/incoming/p")
        for state in STATES:
            wait_until(lambda state=state: house.spool.exists(f"{state}/p/known"))  # type: ignore[misc]  # bound now


def test_a_refused_batch_is_taken_once_the_trouble_is_over(house: House) -> None:
    trouble = threading.Event()
    trouble.set()

    def enqueue(*task: Any) -> None:
        if trouble.is_set():
            raise OSError(28, "No space left on device")
        house.enqueued.append(task)

    with serving(house, enqueue=enqueue) as told:
        house.write("incoming/p/b/one")
        wait_until(lambda: "cannot take files in" in told.events())
        assert house.rows() == []
        house.write("incoming/p/b/two")
        trouble.clear()
        until_taken(house, "one", "two")
        wait_until(lambda: "takes files in again" in told.events())
    assert told.events().count("cannot take files in") == 1


def test_a_disk_without_room_takes_nothing_in_until_there_is_some(house: House) -> None:
    full = threading.Event()

    def check() -> None:
        if full.is_set():
            raise NoRoomError("no room")

    with serving(house, check=check) as told:
        full.set()
        for number in range(700):
            house.write(f"incoming/p/b/{number % 7}/{number}")
        wait_until(lambda: "cannot take files in" in told.events())
        assert house.rows() == []
        full.clear()
        until_taken(house, *(f"{number % 7}/{number}" for number in range(700)))
        wait_until(lambda: "takes files in again" in told.events())
    assert told.events().count("cannot take files in") == 1


def test_a_server_directory_that_goes_away_and_comes_back(house: House) -> None:
    house.write("completed/p/other/old")
    home = Home(house.spool, house.database, now=house.clock.now)
    home.enter()
    root, away = house.spool.root, f"{house.spool.root}-away"
    with serving(house, check=home.check) as told:
        house.write("incoming/p/b/before")
        until_taken(house, "before")
        os.rename(root, away)
        wait_until(lambda: "cannot take files in" in told.events())
        os.mkdir(root)  # an empty mount point
        shutil.copytree(away, f"{root}-copy")
        Path(f"{root}-copy/incoming/p/b/restored").write_bytes(b"x")
        Path(f"{root}-copy/processing/p/b/taken").write_bytes(b"x")
        shutil.rmtree(f"{root}-copy/completed")
        assert os.listdir(root) == []
        os.rmdir(root)
        os.rename(f"{root}-copy", root)
        until_taken(house, "before", "restored", "taken")
        house.write("incoming/p/b/after")
        until_taken(house, "before", "restored", "taken", "after")
        assert house.spool.subdirectories("completed") == ["p"]
    assert told.events().count("cannot take files in") == 1
    home.leave()


def test_s12_is_recognised_although_the_start_had_trouble(house: House) -> None:
    [record_id] = house.admit("key")
    [claim] = house.claim(record_id)
    house.spool.move(claim.path, "incoming/p/b/key")
    records.complete(claim, "completed/p/b/key", Proof("e", None, None, 4), NEVER_YET)
    house.enqueued.clear()
    refused = iter(range(2))

    def enqueue(*task: Any) -> None:
        for _ in refused:
            raise OSError(28, "No space left on device")
        house.enqueued.append(task)

    with serving(house, enqueue=enqueue):
        until_taken(house, "key")
    assert [row["id"] for row in house.rows()] == [record_id]


def test_trouble_at_the_start_holds_nothing_up_for_good(house: House) -> None:
    house.write("processing/p/b/old")
    house.write("incoming/p/b/new")
    failures = iter(range(1))

    def enqueue(*task: Any) -> None:
        for _ in failures:
            raise OSError(28, "No space left on device")
        house.enqueued.append(task)

    with serving(house, enqueue=enqueue):
        until_taken(house, "old", "new")


@pytest.mark.parametrize("when", ["idle", "busy", "starting"])
def test_it_stops_soon_and_gives_its_watches_back(house: House, when: str) -> None:
    before = _inotify_instances()
    for n in range(0 if when == "idle" else 300):
        house.write(f"incoming/p/b/{n}/file", b"")
    ticks = threading.Event()
    with serving(house, caught_up=when == "idle", tick=ticks.set):
        if when == "busy":
            assert ticks.wait(10.0)
        began = time.monotonic()
    assert time.monotonic() - began < 5.0
    assert _inotify_instances() == before
    files = house.files()
    rows = {row["spool_path"] for row in house.rows()}
    assert rows == {path for path in files if path.startswith("processing/")}


def _inotify_instances() -> int:
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue  # the listing's own
    return links.count("anon_inode:inotify")


# --- names -------------------------------------------------------------------------------------

parts = st.binary(min_size=1, max_size=80).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


def test_any_name_is_taken_as_it_is(house: House) -> None:
    numbers = iter(range(10**6))

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(parts, min_size=1, max_size=3).map(b"/".join))
    def check(name: bytes) -> None:
        key = f"{next(numbers)}/{os.fsdecode(name)}"
        house.write(f"incoming/p/b/{key}", name)
        wait_until(lambda: house.spool.exists(f"processing/p/b/{key}"))
        wait_until(lambda: bool(house.rows("filepath = ?", name_value(key))))
        [row] = house.rows("filepath = ?", name_value(key))
        assert name_from(row["spool_path"]) == f"processing/p/b/{key}"

    with serving(house, ignore=[]):
        check()
    assert house.spool.subdirectories("incoming/p") == ["b"]
    assert [path for path in house.files() if path.startswith("incoming")] == []


def hasty() -> float:
    """A clock on which half a minute is half a second."""
    return time.monotonic() * 60


def without_watches(limit: str) -> None:
    """Set a limit of inotify's to 0 for this process, which must have no threads."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path(f"/proc/sys/user/{limit}").write_text("0")


@pytest.mark.parametrize("limit", ["max_inotify_watches", "max_inotify_instances"])
def test_without_watches_scans_come_often(house: House, limit: str) -> None:
    """As soon as a limit is reached, not when the next scan would have been due anyway."""
    if in_child(lambda: without_watches(limit)) != 0:
        pytest.skip("takes a user namespace")

    def limited_serving() -> None:
        without_watches(limit)
        with serving(house, clock=hasty):
            house.write("incoming/p/b/key", b"x")
            until_taken(house, "key", seconds=10.0)

    assert in_child(limited_serving) == 0


def test_a_limit_that_was_raised_is_noticed(house: House) -> None:
    with serving(house, clock=hasty, descriptors=0) as told:
        wait_until(lambda: any(watches()))
        house.write("incoming/p/b/key", b"x")
        until_taken(house, "key", seconds=10.0)
    assert "cannot watch every directory" not in told.events()


def watches() -> Iterator[str]:
    """The watches that this process has."""
    for number in os.listdir("/proc/self/fdinfo"):
        with suppress(FileNotFoundError):
            yield from re.findall("inotify wd:.*", Path(f"/proc/self/fdinfo/{number}").read_text())
