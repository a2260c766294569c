"""Whatever is done to the tree of incoming, what is taken in is what a model says."""

import os
import shutil
import threading
from collections.abc import Callable, Collection
from itertools import count
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from flood.columns import name_from
from flood.server import Server
from flood.stop import Stop
from tests.spooling import House, quick_house
from workers.decisions import Prove
from workers.transfer import Receipt

RECEIPT = Receipt("etag", None, None, 1)
NEVER = 1e9
T = TypeVar("T")

#: Names that are often in each other's way.
NAMES = ("a", "b", "c")
keys = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map("/".join)


#: What a producer may do, some of it more often: the deed, which file or directory, where to.
deeds = st.tuples(
    st.sampled_from(
        [
            *("writes", "writes", "writes", "renames_a_file", "renames_a_file"),
            *("renames_a_directory", "renames_a_directory", "moves_a_directory_in"),
            *("makes_a_directory", "makes_a_directory", "writes", "writes"),
            *("begins_to_write", "closes", "makes_a_directory", "deletes_a_file"),
            *("moves_a_directory_out", "moves_the_bucket_out", "deletes_a_directory"),
        ]
    ),
    st.integers(0, 7),
    keys,
)


class Steps:
    """Lets the server's loop go one turn at a time; in between it reads no events."""

    def __init__(self) -> None:
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._asked = False

    def tick(self) -> None:
        """What the server calls after each turn."""
        self._done.release()
        self._go.acquire()

    def turn(self, wake: Callable[[], None]) -> None:
        """One turn, from beginning to end; `wake` makes an event of no meaning."""
        wake()
        if self._asked:
            self._go.release()
        self._asked = True
        for _ in range(3000):
            if self._done.acquire(timeout=0.01):
                return
            wake()  # a server that has just started did not wait for the first one
        raise AssertionError("the server hangs")

    def free(self) -> None:
        """Let it run on, to where it sees its stop."""
        self._go.release()


class AnyTree(RuleBasedStateMachine):
    """Producers with every means of a filesystem, a server on real inotify, nobody who waits."""

    def __init__(self) -> None:
        super().__init__()
        self._context = quick_house()
        self.house: House = self._context.__enter__()
        self.bucket = self.house.spool.absolute("incoming/p/b")
        self.outside = f"{self.house.spool.root}/../outside"
        os.mkdir(self.outside)
        self.numbers = count()
        self.overflown = False
        self.writers: dict[bytes, int] = {}  # what is still being written
        #: The model: what waits in the bucket by key, what lies outside by path, what was taken.
        self.waiting: dict[str, bytes] = {}
        self.elsewhere: dict[str, bytes] = {}
        self.processing: dict[str, bytes] = {}
        self.taken: list[tuple[str, bytes]] = []
        self._start()

    def _start(self) -> None:
        self.steps, self.stop = Steps(), Stop()
        server = Server(
            self.house.spool,
            self.house.intake(),
            check=lambda: None,
            profiles=lambda: {"p"},
            rescan_interval=NEVER,
            clock=self.house.clock.seconds,
            stop=self.stop,
            tick=self.steps.tick,
        )
        server.prepare()
        self.house.spool.prepare_destination("p", "b")
        self.thread = threading.Thread(target=server.run)
        self.thread.start()
        self.turns()

    def teardown(self) -> None:
        try:
            self.ends_well()
        finally:
            self.stop.set()
            self.steps.free()
            self.thread.join(30.0)
            self.stop.close()
            for descriptor in self.writers.values():
                os.close(descriptor)
            self._context.__exit__(None, None, None)

    # --- what producers do -----------------------------------------------------------------------

    def path(self, key: str) -> str:
        return f"{self.bucket}/{key}" if key else self.bucket

    def content(self) -> bytes:
        return b"%d" % next(self.numbers)

    @rule(deeds=st.lists(deeds, min_size=2, max_size=12))
    def producers_go_on(self, deeds: list[tuple[str, int, str]]) -> None:
        self.producers_are_busy(deeds)

    def producers_are_busy(self, deeds: list[tuple[str, int, str]]) -> None:
        """Faster than the server looks."""
        for deed, number, key in deeds:
            try:
                getattr(self, deed)(number, key)
            except OSError:
                continue  # something is in the way, or nothing there

    def writes(self, _number: int, key: str) -> None:
        os.makedirs(os.path.dirname(self.path(key)), exist_ok=True)
        if self.waiting.get(key) in self.writers:
            return  # two at one file is a producer's own fault
        with open(self.path(key), "wb") as file:
            content = self.content()
            file.write(content)
        self.waiting[key] = content

    def begins_to_write(self, _number: int, key: str) -> None:
        os.makedirs(os.path.dirname(self.path(key)), exist_ok=True)
        descriptor = os.open(self.path(key), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        content = self.content()
        os.write(descriptor, content)
        self.writers[content] = descriptor
        self.waiting[key] = content

    def closes(self, number: int, _key: str) -> None:
        if self.writers:
            self.writer_ends(nth(self.writers, number))

    def writer_ends(self, content: bytes) -> None:
        descriptor = self.writers.pop(content, None)
        if descriptor is not None:
            os.close(descriptor)

    def makes_a_directory(self, _number: int, key: str) -> None:
        os.makedirs(self.path(key))

    def renames_a_file(self, number: int, key: str) -> None:
        source = nth(self.waiting, number)
        if source is None or key == source or self.waiting.get(key) in self.writers:
            return
        os.makedirs(os.path.dirname(self.path(key)), exist_ok=True)
        os.rename(self.path(source), self.path(key))
        self.waiting[key] = self.waiting.pop(source)

    def deletes_a_file(self, number: int, _key: str) -> None:
        key = nth(self.waiting, number)
        if key is not None:
            os.unlink(self.path(key))
            self.writer_ends(self.waiting.pop(key))

    def directories(self) -> list[str]:
        """Every directory below the bucket."""
        found = [os.path.relpath(at, self.bucket) for at, _, _ in os.walk(self.bucket)]
        return [name for name in found if name != "."]

    def renames_a_directory(self, number: int, key: str) -> None:
        source = nth(self.directories(), number)
        if source is None or source == key:
            return
        os.makedirs(os.path.dirname(self.path(key)), exist_ok=True)
        os.rename(self.path(source), self.path(key))
        for name in below(self.waiting, source):
            self.waiting[f"{key}{name.removeprefix(source)}"] = self.waiting.pop(name)

    def moves_a_directory_out(self, number: int, _key: str) -> None:
        self._moves_out(nth(self.directories(), number))

    def moves_the_bucket_out(self, number: int, _key: str) -> None:
        if number == 7:  # seldom, as it takes everything with it
            self._moves_out("")

    def _moves_out(self, source: str | None) -> None:
        if source is None:
            return
        target = f"{next(self.numbers)}"
        os.rename(self.path(source), f"{self.outside}/{target}")
        for name in below(self.waiting, source):
            rest = name.removeprefix(source).lstrip("/")
            self.elsewhere[f"{target}/{rest}"] = self.waiting.pop(name)

    def moves_a_directory_in(self, number: int, key: str) -> None:
        source = nth(os.listdir(self.outside), number)
        if source is None:
            return
        if not os.path.isdir(self.bucket):
            key = ""
        os.makedirs(os.path.dirname(self.path(key)), exist_ok=True)
        os.rename(f"{self.outside}/{source}", self.path(key))
        for name in below(self.elsewhere, source):
            rest = name.removeprefix(f"{source}/")
            self.waiting[f"{key}/{rest}".lstrip("/")] = self.elsewhere.pop(name)

    def deletes_a_directory(self, number: int, _key: str) -> None:
        key = nth(self.directories(), number)
        if key is not None:
            shutil.rmtree(self.path(key))
            for name in below(self.waiting, key):
                self.writer_ends(self.waiting.pop(name))

    @precondition(lambda self: not self.overflown)
    @rule(chance=st.integers(0, 9))
    def overflows(self, chance: int) -> None:
        if chance == 9:
            self.does_more_than_the_kernel_remembers()

    def does_more_than_the_kernel_remembers(self) -> None:
        """Its queue of events overflows; from then on it tells nothing until it is read."""
        self.overflown = True
        with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
            most = min(int(file.read()), 20_000)
        os.makedirs(self.bucket, exist_ok=True)
        one, two = self.path(".nfs1"), self.path(".nfs2")  # names that flood leaves alone
        with open(one, "wb"):
            pass
        for _ in range(most // 4 + 1):
            os.rename(one, two)
            os.rename(two, one)
        os.unlink(one)

    # --- what flood does -------------------------------------------------------------------------

    @rule(deeds=st.lists(deeds, max_size=3))
    def flood_watch_looks(self, deeds: list[tuple[str, int, str]]) -> None:
        self.producers_are_busy(deeds)
        self.turns()

    def turns(self) -> None:
        """The server hears of everything; what can be taken is taken."""
        for _ in range(2):  # the second works off the scans that the first found necessary
            self.house.clock.advance(60.0)  # so that everything has its next look
            self.steps.turn(self._wake)
        for key, content in sorted(self.waiting.items()):
            if content not in self.writers and not self._blocked(key):
                self.processing[key] = self.waiting.pop(key)
                self.taken.append((key, content))
        assert in_state(self.house, "processing") == self.processing
        assert in_state(self.house, "incoming") == self.waiting

    def _wake(self) -> None:
        place = self.house.spool.absolute("incoming/p/.nfs0")
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT))

    def _blocked(self, key: str) -> bool:
        return any(
            key == other or key.startswith(f"{other}/") or other.startswith(f"{key}/")
            for other in self.processing
        )

    @rule()
    def a_worker_uploads(self) -> None:
        claims = self.house.claim()
        opened = {claim.id: self.house.spool.open(claim.path)[0] for claim in claims}
        self.house.settle(
            *(
                Prove(claim, RECEIPT, opened[claim.id], os.fstat(opened[claim.id]).st_ctime_ns)
                for claim in claims
            )
        )
        for descriptor in opened.values():
            os.close(descriptor)
        for claim in claims:
            del self.processing[claim.key]

    @rule(chance=st.integers(0, 3))
    def flood_watch_is_restarted(self, chance: int) -> None:
        if chance < 3:
            return
        self.stop.set()
        self.steps.free()
        self.thread.join(30.0)
        assert not self.thread.is_alive()
        self.stop.close()
        self._start()

    def ends_well(self) -> None:
        """Once everything is closed, everything is taken, each file once."""
        for content in list(self.writers):
            self.writer_ends(content)
        for _ in range(20):
            self.turns()
            while self.processing:
                self.a_worker_uploads()
            if not self.waiting:
                break
        assert self.waiting == {}
        rows = [
            (name_from(row["filepath"]), self.house.files()[row["spool_path"]])
            for row in self.house.rows()
        ]
        assert sorted(rows) == sorted(self.taken)


def nth(choices: Collection[T], number: int) -> T | None:
    """One of these, if there is any."""
    return sorted(choices)[number % len(choices)] if choices else None  # type: ignore[type-var]  # texts or bytes


def below(files: dict[str, bytes], directory: str) -> list[str]:
    """The files of a directory, at any depth; all for that of the bucket."""
    return [key for key in files if not directory or key.startswith(f"{directory}/")]


def in_state(house: House, state: str) -> dict[str, bytes]:
    prefix = f"{state}/p/b/"
    return {
        path.removeprefix(prefix): data
        for path, data in house.files().items()
        if path.startswith(prefix) and ".nfs" not in path
    }


TestAnyTree = AnyTree.TestCase
TestAnyTree.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
