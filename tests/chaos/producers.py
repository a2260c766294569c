"""Whoever brings files to flood, each in a thread of its own."""

import os
import random
import shutil
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from flood.syscalls import rename_noreplace
from tests.chaos import names
from tests.chaos.ledger import Delivery, Ledger, Word
from tests.chaos.programs import Programs

BUCKET: Final = "trial"
NOWHERE: Final = "nowhere"  # a bucket that the store does not have
CALM: Final = "calm"  # of a profile whose way to the store has no faults

#: The shares of single new files that go there.
_ASTRAY: Final = 0.15
_CALM: Final = 0.15


def profile_of(bucket: str) -> str:
    """The profile through which a trial's files go to this bucket."""
    return CALM if bucket == CALM else "main"


class Producers:
    """Threads that deliver `files` files over `seconds`, each with chance of its own.

    They go on at the same rate after that while `keep_on` says so.
    """

    def __init__(
        self,
        ledger: Ledger,
        disk: Path,
        programs: Programs,
        *,
        files: int,
        seconds: float,
        threads: int,
        put: list[str],
    ) -> None:
        self.ledger = ledger
        self.keep_on = False
        self.counts: Counter[str] = Counter()
        self._incoming = disk / "spool" / "incoming"
        self._outside = disk / "outside"
        self._outside.mkdir()
        self._programs = programs
        self._files = files
        self._seconds = seconds
        self._put = [sys.executable, *put]
        self._lock = threading.Lock()
        self._made = 0
        self._stop = threading.Event()
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number, threads), daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def finish(self, seconds: float) -> None:
        """Let everybody come to an end; kill what has not within so many seconds."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        self._stop.set()
        while any(thread.is_alive() for thread in self._threads):
            self._programs.kill_any(random.Random(0))
            time.sleep(0.1)

    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def replace(self, bucket: str, key: str) -> None:
        """Deliver new content at once under this key, which was taken in the ledger."""
        one = self.ledger.begin(bucket, key, 2000, "replacement")
        source = self._prepared(one)
        if source is not None:
            self._move(one, source, patience=0.5)

    # --- threads -----------------------------------------------------------------------------

    def _run(self, number: int, threads: int) -> None:
        rng = random.Random(f"{self.ledger.seed}:producer:{number}")
        ways = [getattr(self, f"_{name}") for name in WAYS]
        weights = list(WAYS.values())
        try:
            while not self._stop.is_set():
                share = (time.monotonic() - self._began) / self._seconds
                if not self.keep_on:
                    share = min(1.0, share)
                # What was withdrawn never came to flood.
                brought = self.ledger.brought
                ahead = brought - share * self._files
                if brought >= self._files and not self.keep_on:
                    return
                if ahead > 0:
                    time.sleep(min(1.0, 0.02 + ahead / self._files * self._seconds))
                    continue
                [way] = rng.choices(ways, weights)
                with self._programs.gate.inside():
                    way(rng)
        except Exception as error:
            self.errors.append(f"producer {number}: {error!r}")
            raise

    def _new(self, rng: random.Random, way: str, *, bucket: str = BUCKET) -> Delivery:
        with self._lock:
            self._made += 1
            number = self._made
        if bucket == BUCKET:
            bucket = rng.choices((NOWHERE, CALM, BUCKET), (_ASTRAY, _CALM, 1.0 - _ASTRAY - _CALM))[
                0
            ]
        name = names.refused if bucket == NOWHERE else names.key
        large = rng.random() < 0.008
        return self.ledger.begin(bucket, name(rng, number), names.size(rng, large), way)

    def _again(self, rng: random.Random, way: str) -> Delivery | None:
        """A key that was delivered before, with new content."""
        chosen = self.ledger.take_key(rng)
        if chosen is None:
            return None
        return self.ledger.begin(*chosen, names.size(rng, False), way)

    def _one(self, rng: random.Random, way: str) -> Delivery:
        return (self._again(rng, way) if rng.random() < 0.3 else None) or self._new(rng, way)

    def _place(self, one: Delivery) -> Path:
        return self._incoming / profile_of(one.bucket) / one.bucket / one.key

    def _prepared(self, one: Delivery) -> Path | None:
        """The file, made outside the spool; None if the disk would not take it."""
        path = self._outside / f"file-{one.number}"
        try:
            path.write_bytes(self.ledger.content(one))
        except OSError:
            path.unlink(missing_ok=True)
            self.ledger.end(one, "withdrawn")
            return None
        return path

    # --- ways --------------------------------------------------------------------------------

    def _rename(self, rng: random.Random) -> None:
        one = self._one(rng, "rename")
        source = self._prepared(one)
        if source is None:
            return
        self._move(one, source)

    def _move(self, one: Delivery, source: Path, patience: float = 5.0) -> None:
        """Rename into incoming; wait while an earlier file of that name has not been taken."""
        target = self._place(one)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and not self._stop.is_set():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with ExitStack() as stack:
                    at, to = (_directory(path, stack) for path in (source.parent, target.parent))
                    rename_noreplace(at, source.name, to, target.name)
            except OSError:
                time.sleep(0.05)
                continue
            self.ledger.end(one, "delivered")
            self.counts["files renamed"] += 1
            return
        source.unlink()
        self._withdraw(one)

    def _withdraw(self, one: Delivery) -> None:
        self.ledger.end(one, "withdrawn")

    def _write(self, rng: random.Random) -> None:
        """A writer that takes its time, in incoming itself."""
        one = self._one(rng, "write")
        target = self._place(one)
        data = self.ledger.content(one)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            output = target.open("xb", buffering=0)
        except OSError:
            self._withdraw(one)
            return
        complete = False
        try:
            with output:
                broken_off = rng.random() < 0.1
                data_end = rng.randrange(len(data) + 1) if broken_off else len(data)
                step = max(1, data_end // rng.randrange(1, 5))
                for start in range(0, data_end, step):
                    chunk = data[start : min(start + step, data_end)]
                    if output.write(chunk) != len(chunk):
                        raise OSError("short write")
                    time.sleep(rng.uniform(0, 0.05))
                complete = data_end == len(data)
        except OSError:
            pass  # the disk is full
        word: Word = "delivered" if complete else "unsure"
        self.ledger.end(one, word, partial=not complete)
        self.counts["files written in place"] += 1

    def _move_tree(self, rng: random.Random) -> None:
        count = rng.randrange(2, 60)
        with self._lock:
            tree = self._outside / f"tree-{self._made}"
            name = f"tree-{self._made}-{rng.randrange(10**6)}"
        made = self._filled(rng, tree, name, count, "mv of a tree")
        target = self._incoming / profile_of(BUCKET) / BUCKET
        try:
            target.mkdir(parents=True, exist_ok=True)
            tree.rename(target / name)
        except OSError:
            for one in made:
                self._withdraw(one)
            shutil.rmtree(tree, ignore_errors=True)
            return
        for one in made:
            self.ledger.end(one, "delivered")
        self.counts["files in trees that were moved"] += len(made)

    def _copy(self, rng: random.Random) -> None:
        self._foreign(rng, "cp", ["cp"])

    def _rsync(self, rng: random.Random) -> None:
        if shutil.which("rsync") is None:
            return
        self._foreign(rng, "rsync", ["rsync", "--quiet"])

    def _foreign(self, rng: random.Random, way: str, command: list[str]) -> None:
        """A program that knows nothing of flood copies one new file into incoming."""
        one = self._new(rng, way)
        source = self._prepared(one)
        if source is None:
            return
        target = self._place(one)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            source.unlink()
            self._withdraw(one)
            return
        status = self._programs.run([*command, "--", str(source), str(target)], way).status
        source.unlink()
        self.ledger.end(one, "unsure" if status else "delivered", partial=bool(status))
        self.counts[f"files by {way}"] += 1

    def _flood_put(self, rng: random.Random) -> None:
        """flood-put of one file to its own key, or of a directory."""
        wait = rng.random() < 0.3
        if rng.random() < 0.5:
            one = self._one(rng, "flood-put")
            while one.bucket == NOWHERE and "\udcff" in one.key:
                self._withdraw(one)  # it refuses such names
                one = self._new(rng, "flood-put")
            source = self._prepared(one)
            if source is None:
                return
            self._put_files([one], [str(source)], one.bucket, wait, one.key)
            source.unlink()
            return
        with self._lock:
            number = self._made
        folder = self._outside / f"put-{number}-{rng.randrange(10**6)}"
        made = self._filled(rng, folder, folder.name, rng.randrange(2, 40), "flood-put -r")
        if made:
            self._put_files(made, ["-r", str(folder)], BUCKET, wait)
        shutil.rmtree(folder, ignore_errors=True)

    def _filled(
        self, rng: random.Random, folder: Path, name: str, count: int, way: str
    ) -> list[Delivery]:
        """New files below a folder that nobody watches, with keys below `name`."""
        made: list[Delivery] = []
        for _ in range(count):
            with self._lock:
                self._made += 1
                number = self._made
            key = f"{name}/{names.key(rng, number)}"
            one = self.ledger.begin(BUCKET, key, names.size(rng, False), way)
            path = folder / one.key.partition("/")[2]
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.ledger.content(one))
            except OSError:
                path.unlink(missing_ok=True)
                self._withdraw(one)
                continue
            made.append(one)
        return made

    def _put_files(
        self,
        made: list[Delivery],
        sources: list[str],
        bucket: str,
        wait: bool,
        key: str = "",
    ) -> None:
        options = ["--wait"] if wait else []
        *flags, last = sources
        destination = f"s3://{profile_of(bucket)}/{bucket}" + (f"/{key}" if key else "")
        command = [*self._put, *options, *flags, "--", last, destination]
        status = self._programs.run(command, "flood-put").status
        # With --wait a status of 1 may also say that an upload failed.
        for one in made:
            one.awaited = wait and status == 0
            self.ledger.end(one, "unsure" if status else "delivered")
        self.counts[f"flood-put{' --wait' if wait else ''}: exit status {status}"] += 1
        self.counts["files by flood-put"] += len(made)


def _directory(path: Path, stack: ExitStack) -> int:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    stack.callback(os.close, descriptor)
    return descriptor


#: The ways to deliver, with how often each is chosen.
WAYS: Final = {
    "rename": 30,
    "write": 15,
    "move_tree": 4,
    "copy": 10,
    "rsync": 6,
    "flood_put": 14,
}
