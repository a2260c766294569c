"""Faults of the machine that flood runs on."""

import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from flood.options import IGNORE
from flood.temporary import Temporary
from tests.chaos import namespace
from tests.chaos.ledger import Delivery, Ledger
from tests.chaos.network import Network
from tests.chaos.processes import Crew, Member, survivors
from tests.chaos.producers import BUCKET, Producers, profile_of
from tests.chaos.programs import Programs

HOST: Final = "store.flood.test"

#: How far clocks are set forward or back, in seconds: more, and a store refuses the signatures.
CLOCK_SPAN: Final = 600

#: A file of so many bytes tells which delivery it is.
_TELLING: Final = 12

#: How long, in seconds, a worker that goes on may still be at what it had claimed.
_AFTERWARDS: Final = 10.0

_CLAIMED_BY: Final = (
    "SELECT DISTINCT owner FROM file_records WHERE current_state = 'processing' "
    "AND owner IS NOT NULL"
)


class Clock:
    """The time of day of flood's processes, through libfaketime."""

    def __init__(self, directory: Path) -> None:
        self.library = _faketime()
        self._file = directory / "clock"
        self.set(0)

    def environ(self) -> dict[str, str]:
        """What a process needs to live by this clock."""
        if self.library is None:
            return {}
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, offset: int) -> None:
        """Have it go on from so many seconds after the real time."""
        self._file.with_suffix(".new").write_text(f"{offset:+d}\n")
        self._file.with_suffix(".new").rename(self._file)
        self.offset = offset


def _faketime() -> Path | None:
    try:
        import libfaketime
    except ImportError:
        return None
    library = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
    return library if library.exists() else None


class Machine:
    """Begins faults; each method returns what ends it, or None if it did not take hold."""

    def __init__(
        self,
        disk: Path,
        rng: random.Random,
        *,
        crew: Crew,
        producers: Producers,
        programs: Programs,
        network: Network,
        clock: Clock,
        hosts: Path | None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        #: What the trial could not do, in words.
        self.flaws: list[str] = []
        self._disk = disk
        self._rng = rng
        self._crew = crew
        self._producers = producers
        self._programs = programs
        self._network = network
        self._clock = clock
        self._hosts = hosts
        self._trash = disk / "trash"
        self._trash.mkdir()
        self._ledger: Ledger = producers.ledger

    def black_hole(self) -> Callable[[], None] | None:
        self._network.blackhole()
        return self._network.light

    def no_names(self) -> Callable[[], None] | None:
        assert self._hosts is not None
        known = self._hosts.read_text()
        self._hosts.write_text("127.0.0.1 localhost\n")
        self.counts["DNS failure"] += 1
        self._network.hang_up()
        return lambda: _write(self._hosts, known)

    def full_disk(self) -> Callable[[], None] | None:
        balloon = self._disk / "balloon"
        with balloon.open("wb") as output, suppress(OSError):
            while True:
                room = os.statvfs(self._disk)
                free = max(4096, room.f_bavail * room.f_frsize)
                os.posix_fallocate(output.fileno(), os.fstat(output.fileno()).st_size, free)
        self.counts["full disk"] += 1
        return balloon.unlink

    def read_only_disk(self) -> Callable[[], None] | None:
        self._programs.empty_out()
        self._crew.kill_all()
        for _ in range(100):
            if namespace.remount(self._disk, read_only=True):
                break
            time.sleep(0.1)
        else:
            left = survivors(self._disk) or "nobody of flood's"
            self.flaws.append(f"with everything killed, the disk was in use by {left}")
            self._programs.gate.open()
            self._crew.work()
            return lambda: None  # another try at once would fail as well
        self._crew.work()
        self.counts["read-only disk"] += 1

        def end() -> None:
            namespace.remount(self._disk, read_only=False)
            self._programs.gate.open()

        return end

    def locked_database(self) -> Callable[[], None] | None:
        connection = self._connect()
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            connection.close()
            return None
        self.counts["locked database"] += 1

        def end() -> None:
            connection.rollback()
            connection.close()

        return end

    def lost_queue(self) -> Callable[[], None] | None:
        words = self._rng.choice(("DROP TABLE IF EXISTS", "DELETE FROM"))
        try:
            with closing(self._connect()) as connection:
                connection.execute("BEGIN IMMEDIATE")
                for table in ("task", "schedule"):
                    connection.execute(f"{words} {table}")
                connection.commit()
        except sqlite3.Error:
            return None
        self.counts["lost queue"] += 1
        return None

    def clock_step(self) -> Callable[[], None] | None:
        self._clock.set(self._rng.randrange(-CLOCK_SPAN, CLOCK_SPAN))
        self.counts["clock step"] += 1
        return lambda: self._clock.set(self._rng.randrange(-60, 60))

    def third_hand(self) -> Callable[[], None] | None:
        """Somebody takes a file away that flood is about to upload."""
        state = self._rng.choice(("processing", "incoming"))
        path = self._victim(state)
        if path is not None and self._take_away(path) is not None:
            self.counts["removed by a third hand"] += 1
        return None

    def replacement(self) -> Callable[[], None] | None:
        """Somebody takes a file away while it is being uploaded, and puts another there."""
        path = self._claimed()
        if path is None:
            return None
        _, _, bucket, key = os.path.relpath(path, self._disk / "spool").split("/", 3)
        if not self._ledger.take(bucket, key):
            return None  # somebody is delivering it
        if self._take_away(path) is None:
            self._ledger.give_back(bucket, key)
            return None
        self._producers.replace(bucket, key)
        self.counts["replaced by a third hand"] += 1
        return None

    def lost_locks(self) -> Callable[[], None] | None:
        """Somebody removes the locks of a worker that is stopped, so that it passes for dead."""
        stopped = self._stopped_in_mid_upload()
        if stopped is None:
            return None
        pid, locks, claimed = stopped
        # It may send them once more when it goes on. No store keeps the order of versions then.
        held = [one for one in claimed if self._hold(*one)]
        if held != claimed or any(self._has_next(bucket, key) for bucket, key, _ in claimed):
            # The next version waits, or somebody is about to deliver it.
            self._release(held)
            _send(pid, signal.SIGCONT)
            return None
        for path in locks:
            with suppress(FileNotFoundError):
                os.unlink(path)
        # Who starts sweeps.
        others = [one for one in self._crew.members if not one.spared and not _is_of(one, pid)]
        if others:
            self._crew.kill(self._rng.choice(others))
        self.counts["locks removed by a third hand"] += 1

        def end() -> None:
            _send(pid, signal.SIGCONT)
            later = threading.Timer(_AFTERWARDS, self._release, [held])
            later.daemon = True
            later.start()

        return end

    def _has_next(self, bucket: str, key: str) -> bool:
        return os.path.lexists(f"{self._disk}/spool/incoming/{profile_of(bucket)}/{bucket}/{key}")

    def _hold(self, bucket: str, key: str, path: str) -> bool:
        """Have nobody deliver this key again, of which this version is being uploaded."""
        number = None
        with suppress(OSError), open(f"{self._disk}/spool/{path}", "rb") as file:
            number = self._ledger.number_in(file.read(100))
        return self._ledger.hold(bucket, key, number)

    def _release(self, held: list[tuple[str, str, str]]) -> None:
        for bucket, key, _ in held:
            self._ledger.release(bucket, key)

    def kill_in_mid_upload(self) -> bool:
        """End a worker that has claims; False where there is none."""
        stopped = self._stopped_in_mid_upload(to_die=True)
        if stopped is not None:
            for one in self._crew.members:
                if one.process is not None and one.process.pid == stopped[0]:
                    one.was_sent(signal.SIGKILL)
            if not self._programs.kill(stopped[0]):
                _send(stopped[0], signal.SIGKILL)
        return stopped is not None

    def _stopped_in_mid_upload(
        self, *, to_die: bool = False
    ) -> tuple[int, list[str], list[tuple[str, str, str]]] | None:
        """A process that was stopped while it had claims: its number, its locks, the buckets, keys,
        paths of what it had claimed."""
        pid = self._uploading(to_die)
        if pid is None:
            return None
        _send(pid, signal.SIGSTOP)
        locks = _locks(pid)
        claimed = self._rows(
            "SELECT bucket, filepath, spool_path FROM file_records "
            "WHERE current_state = 'processing' "
            f"AND owner IN ({','.join('?' * len(locks))})",
            tuple(os.path.basename(path) for path in locks),
        )
        if not claimed:
            _send(pid, signal.SIGCONT)
            return None
        names = [(os.fsdecode(x), os.fsdecode(y), os.fsdecode(z)) for x, y, z in claimed]
        return pid, locks, names

    def _uploading(self, to_die: bool) -> int | None:
        """A process with claims, by its number."""
        owners = {row[0] for row in self._rows(_CLAIMED_BY)}
        members = [one for one in self._crew.members if not (to_die and one.spared)]
        pids = [one.process.pid for one in members if one.process is not None]
        pids += [pid for one in members for pid in one.children()]
        pids += self._programs.pids()
        busy = [pid for pid in pids if owners & {os.path.basename(path) for path in _locks(pid)}]
        return self._rng.choice(sorted(busy)) if busy else None

    def _rows(self, sql: str, parameters: tuple[object, ...] = ()) -> list[Any]:
        with suppress(sqlite3.Error), closing(self._connect()) as connection:
            return connection.execute(sql, parameters).fetchall()
        return []

    def _take_away(self, path: str) -> Delivery | None:
        # A rename tells for certain which version it was.
        trash = f"{self._trash}/{len(os.listdir(self._trash))}"
        try:
            os.rename(path, trash)
            with open(trash, "rb") as file:
                number = self._ledger.number_in(file.read(100))
        except OSError:
            return None
        if number is None:
            # Its writer has not got far: it goes back, unless its place is taken by now.
            with suppress(OSError):
                os.link(trash, path)
                os.unlink(trash)
            return None
        one = self._ledger.deliveries[number]
        one.removed = True
        return one

    def _victim(self, state: str) -> str | None:
        found: list[str] = []
        temporary = Temporary(IGNORE)
        for folder, _, names in os.walk(self._disk / "spool" / state / profile_of(BUCKET) / BUCKET):
            for name in names:
                path = f"{folder}/{name}"
                with suppress(OSError):
                    inside = os.path.relpath(path, self._disk / "spool")
                    if os.stat(path).st_size >= _TELLING and temporary.pattern(inside) is None:
                        found.append(path)
        return self._rng.choice(sorted(found)) if found else None

    def _claimed(self) -> str | None:
        rows = self._rows(
            "SELECT spool_path FROM file_records WHERE current_state = 'processing' "
            "AND owner IS NOT NULL AND size >= ? ORDER BY id",
            (_TELLING,),
        )
        if not rows:
            return None
        return f"{self._disk}/spool/{os.fsdecode(self._rng.choice(rows)[0])}"

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{self._disk}/flood.db?mode=rw",
            uri=True,
            timeout=20,
            isolation_level=None,
            check_same_thread=False,
        )


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _locks(pid: int) -> list[str]:
    """The locks of workers that a process holds, by their paths."""
    found = []
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                path = os.readlink(f"/proc/{pid}/fd/{number}")
                if "/.flood/workers/" in path and not path.endswith(" (deleted)"):
                    found.append(path)
    return found


def _is_of(member: Member, pid: int) -> bool:
    return member.process is not None and pid in (member.process.pid, *member.children())


def _write(path: Path | None, text: str) -> None:
    assert path is not None
    path.write_text(text)
