"""Locks that the kernel gives back, shown with real processes."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from flood import bell, owners, users, writers
from flood.errors import SpoolError
from flood.layout import CARD
from flood.locks import WORKERS, FileLock, WorkerLocks
from flood.put_locks import put_lock
from flood.spool import Spool
from tests.spooling import fork, in_child

OTHER = 65534

OWN = """
import sys
from flood.locks import WorkerLocks
from flood.spool import Spool
locks = WorkerLocks(Spool(sys.argv[1]))
print(locks.own(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(str(tmp_path / "spool"))
    made.prepare()
    return made


@pytest.fixture
def locks(spool: Spool) -> Iterator[WorkerLocks]:
    made = WorkerLocks(spool)
    yield made
    made.disown()


def start_worker(spool: Spool) -> "tuple[subprocess.Popen[str], str]":
    process = subprocess.Popen(
        [sys.executable, "-c", OWN, spool.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_file_lock_is_held_by_one(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    one, two = FileLock(path), FileLock(path)
    assert one.try_exclusive()
    assert not two.try_exclusive()
    one.release()
    one.release()  # twice is no error
    assert two.try_exclusive()
    two.release()


def test_a_file_lock_stands_while_its_file_is_there(tmp_path: Path) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    lock = FileLock(str(directory))
    assert not lock.stands()
    assert lock.try_exclusive()
    assert lock.stands()
    directory.rename(tmp_path / "elsewhere")
    assert not lock.stands()
    directory.mkdir()
    assert not lock.stands()  # another one
    lock.release()


def test_a_file_lock_survives_in_no_child(tmp_path: Path) -> None:
    lock = FileLock(str(tmp_path / "lock"))
    assert lock.try_exclusive()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lock.release()
    assert lock.try_exclusive()
    lock.release()
    child.communicate(b"\n")


@pytest.fixture
def owned() -> Iterator[Path]:
    """A directory of another user's than root, who can reach it."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    with tempfile.TemporaryDirectory() as made:  # pytest's own are closed to others
        os.chown(made, OTHER, OTHER)
        Path(made).chmod(0o777)
        yield Path(made)


def become(number: int) -> None:
    os.umask(0o077)
    os.setgroups([])
    os.setgid(number)
    os.setuid(number)


def as_user(number: int, path: Path) -> int:
    """Take a lock exclusively as this user; 0 if that went well."""

    def take() -> None:
        become(number)
        assert FileLock(str(path)).try_exclusive()

    return in_child(take)


def test_what_root_locks_is_the_owners(owned: Path) -> None:
    lock = FileLock(str(owned / "lock"))
    assert lock.try_shared()
    lock.release()
    assert (owned / "lock").stat().st_uid == OTHER
    assert as_user(OTHER, owned / "lock") == 0


def test_what_root_makes_beside_the_database_is_the_databases_owners(owned: Path) -> None:
    database = owned / "flood.db"
    database.touch()
    os.chown(database, OTHER, OTHER)
    os.chown(owned, 0, 0)  # as /var/lib is root's, whoever has files in it
    bell.ring(str(database))
    with writers.turn(str(database), writers.Waiting(lambda: False)):
        pass
    writers.leave()
    for suffix in ("-bell", *writers.QUEUES):
        made = Path(f"{database}{suffix}").stat()
        assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (OTHER, OTHER, 0o600)


def test_nothing_is_made_beside_the_database_at_the_end_of_a_link(owned: Path) -> None:
    (owned / "flood.db-bell").symlink_to(owned / "elsewhere")
    with pytest.raises(FileNotFoundError):
        owners.beside(str(owned / "flood.db"), "-bell")
    assert not (owned / "elsewhere").exists()


def test_what_another_user_locks_the_owner_can_lock(owned: Path) -> None:
    assert as_user(OTHER - 1, owned / "lock") == 0
    assert as_user(OTHER, owned / "lock") == 0


def test_a_worker_of_roots_keeps_nobody_else_from_work(owned: Path) -> None:
    """The first one makes the directory; the locks of the dead stay until a sweep."""
    (owned / ".flood").mkdir()
    os.chown(owned / ".flood", OTHER, OTHER)
    spool = Spool(str(owned))
    spool.keep(CARD, "{}")
    roots = WorkerLocks(spool)
    name = roots.own()

    def work() -> None:
        become(OTHER)
        spool.check_workers()
        locks = WorkerLocks(spool)
        assert not locks.dead(name)
        locks.forget_dead(())
        assert locks.dead(locks.own()) is False

    assert in_child(work) == 0
    roots.disown()

    def sweep() -> None:
        become(OTHER)
        locks = WorkerLocks(spool)
        assert locks.dead(name)
        locks.forget_dead(())
        assert os.listdir(spool.absolute(WORKERS)) == []

    assert in_child(sweep) == 0


def test_a_worker_of_roots_is_the_owners_before_the_directory_is(owned: Path) -> None:
    """Which another thread of root's has made, and not given away yet."""
    (owned / ".flood/workers").mkdir(parents=True)
    os.chown(owned / ".flood", OTHER, OTHER)

    def work() -> None:
        os.umask(0o077)
        WorkerLocks(Spool(str(owned))).own()

    assert in_child(work) == 0
    [lock] = (owned / ".flood/workers").iterdir()
    assert (lock.stat().st_uid, lock.stat().st_gid) == (OTHER, OTHER)


def test_a_flood_put_of_roots_keeps_nobody_else_out(owned: Path) -> None:
    (owned / ".flood").mkdir()
    os.chown(owned / ".flood", OTHER, OTHER)
    spool = Spool(str(owned))

    def put(user: int) -> None:
        if user:
            become(user)
        os.umask(0o077)
        with put_lock(spool, time.sleep, lambda: True):
            pass

    for user in (0, OTHER):
        assert in_child(partial(put, user)) == 0
    assert (owned / ".flood/put.lock").stat().st_uid == OTHER


def test_no_worker_begins_where_it_could_not_tell_that_it_lives(owned: Path) -> None:
    (owned / ".flood" / "workers").mkdir(parents=True)
    os.chown(owned / ".flood", OTHER, OTHER)
    owner = users.name(OTHER)
    chown = f"sudo chown -R {owner} {owned}/.flood/workers"
    for user, mended in ((OTHER, chown), (1, f"run flood as {owner}")):

        def check(user: int = user, mended: str = mended) -> None:
            become(user)
            with pytest.raises(SpoolError, match=mended):
                Spool(str(owned)).check_workers()

        assert in_child(check) == 0


def test_no_lock_is_made_through_a_link(owned: Path, tmp_path: Path) -> None:
    for target in (tmp_path / "missing", tmp_path / "there"):
        (tmp_path / "there").touch()
        (owned / target.name).symlink_to(target)
        with pytest.raises(OSError, match="symbolic links"):
            FileLock(str(owned / target.name)).try_shared()
    assert not (tmp_path / "missing").exists()


def test_a_worker_lives_until_its_process_is_killed(spool: Spool, locks: WorkerLocks) -> None:
    process, owner = start_worker(spool)
    try:
        assert not locks.dead(owner)
        process.send_signal(signal.SIGSTOP)
        assert not locks.dead(owner)  # it may go on
    finally:
        process.kill()
        process.communicate()
    assert locks.dead(owner)


def test_an_unknown_worker_is_dead_unless_the_whole_spool_is_away(
    spool: Spool, locks: WorkerLocks
) -> None:
    spool.keep(CARD, "{}")
    assert locks.dead("0" * 32)
    os.rename(spool.root, f"{spool.root}-away")
    assert not locks.dead("0" * 32)
    with pytest.raises(FileNotFoundError):
        locks.own()
    assert not os.path.exists(spool.root)
    os.rename(f"{spool.root}-away", spool.root)
    assert locks.dead("0" * 32)


def test_each_thread_is_a_worker_of_its_own(locks: WorkerLocks) -> None:
    owners: list[str] = []
    again: list[str] = []
    together, done = threading.Barrier(5), threading.Event()

    def work() -> None:
        together.wait()
        owners.append(locks.own())
        again.append(locks.own())
        together.wait()
        done.wait()
        locks.disown()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    together.wait()
    together.wait()
    alive = [not locks.dead(owner) for owner in owners]
    known = locks.of_process()
    done.set()
    for thread in threads:
        thread.join()
    assert alive == [True] * 4
    assert known == sorted(owners) == sorted(again)
    assert len(set(owners)) == 4
    assert [locks.dead(owner) for owner in owners] == [True] * 4
    assert locks.of_process() == []


def test_who_disowns_gets_a_new_name(locks: WorkerLocks) -> None:
    first = locks.own()
    assert locks.own() == first
    assert not locks.dead(first)
    locks.disown()
    assert locks.dead(first)
    second = locks.own()
    assert second != first
    assert locks.of_process() == [second]


def test_who_lost_its_lock_gets_a_new_name(spool: Spool, locks: WorkerLocks) -> None:
    spool.keep(CARD, "{}")
    first = locks.own()
    os.unlink(f"{spool.absolute(WORKERS)}/{first}")
    assert locks.dead(first)
    second = locks.own()
    assert second != first
    assert not locks.dead(second)
    assert locks.own() == second
    assert locks.of_process() == [second]


def test_a_forked_worker_is_another_one(spool: Spool, locks: WorkerLocks) -> None:
    parent = locks.own()

    def child() -> None:
        assert locks.of_process() == []
        mine = locks.own()
        assert mine != parent
        assert locks.of_process() == [mine]
        assert not locks.dead(parent)
        locks.disown()
        assert locks.dead(mine)

    assert in_child(child) == 0
    assert locks.own() == parent
    assert not locks.dead(parent)


def test_the_child_does_not_keep_its_parent_alive(spool: Spool, locks: WorkerLocks) -> None:
    """A parent that dies after a fork is dead, once the child has a name of its own."""
    parent = locks.own()
    reader, writer = os.pipe()
    release, hold = os.pipe()
    child = fork()
    if child == 0:
        try:
            os.close(hold)
            os.write(writer, locks.own().encode())
            os.read(release, 1)
        finally:
            os._exit(0)
    os.close(writer)
    os.close(release)
    assert os.read(reader, 100)
    locks.disown()
    gone = locks.dead(parent)
    os.close(hold)
    os.waitpid(child, 0)
    os.close(reader)
    assert gone


def test_locks_of_the_dead_are_removed_but_not_those_who_still_own(
    spool: Spool, locks: WorkerLocks
) -> None:
    living = locks.own()
    for name in ("a" * 32, "b" * 32):
        Path(spool.absolute(f".flood/workers/{name}")).touch()
    locks.forget_dead({"a" * 32})
    left = set(os.listdir(spool.absolute(".flood/workers")))
    assert left == {living, "a" * 32}
    assert not locks.dead(living)


def test_forgetting_before_any_worker_was(locks: WorkerLocks) -> None:
    locks.forget_dead(())


def test_owning_beside_a_busy_sweep(spool: Spool, locks: WorkerLocks) -> None:
    """A name whose file a sweep removes in the instant between making and locking is not used."""
    stop = threading.Event()
    other = WorkerLocks(spool)

    def sweep() -> None:
        while not stop.is_set():
            other.forget_dead(())

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        for _ in range(200):
            assert os.path.exists(spool.absolute(f".flood/workers/{locks.own()}"))
            assert not other.dead(locks.own())
            locks.disown()
    finally:
        stop.set()
        thread.join()
