"""One trial: flood's processes, whoever brings files, everything that goes wrong, the judgement."""

import heapq
import itertools
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flood.options import IGNORE
from flood.states import EXIT_FAILED, EXIT_OK, EXIT_TRY_AGAIN, EXIT_USAGE
from flood.temporary import Temporary
from tests import servers
from tests.chaos import judgement, namespace, plan
from tests.chaos.ledger import Ledger
from tests.chaos.machine import CLOCK_SPAN, HOST, Clock, Machine
from tests.chaos.network import CHANCES, Network
from tests.chaos.operators import ONCE, Operators
from tests.chaos.processes import Crew, Member, survivors
from tests.chaos.producers import BUCKET, CALM, Producers, profile_of
from tests.chaos.programs import Programs
from tests.chaos.samples import Samples
from tests.evidence import files
from tests.invariants import Backoff, Violation
from tests.servers import S3Server, credentials_section

CHECKOUT: Final = Path(__file__).parents[2]

#: Faults that only a trial with mounts of its own can have.
MOUNTED: Final = ("DNS failure", "full disk", "read-only disk")

#: Faults in which flood's programs may find that they cannot start.
_REFUSING: Final = frozenset({"full disk", "read-only disk", "locked database"})

_TICK: Final = 0.02
_SAMPLING: Final = 2.0
_PROGRESS: Final = 15.0

#: Whatever is due later, flood has so many seconds to come to rest.
_LONGEST_CALM: Final = 600.0

#: In a trial of more than so many seconds flood-watch, too, lives on in the last part.
_LONG: Final = 500.0

#: For how long an event is tried that finds nothing to happen to, in seconds: a fault of the
#: machine through every calm between two waves of files, what is done to processes until others
#: come.
_PERSISTENCE: Final = 180.0
_IMPATIENCE: Final = 25.0

#: How many times its minutes a storm may last until everything has happened often enough.
_LONGEST_STORM: Final = 2.0

#: How long, in seconds, a consumer may live on whose flood-watch was killed.
_LAST_WORDS: Final = 20.0

#: The share of a trial in which operators delete what was uploaded.
_PRUNED: Final = 0.5

#: How often operators run a command, in seconds; less often in longer trials.
_OFTEN: Final = 6.0
_SELDOM: Final = 15.0


@dataclass(frozen=True)
class Options:
    """What a trial is asked for; `retry_initial` in seconds, `calm` is how long, in seconds, the
    end may take once the last retry was due; each class of faults is to happen `each` times."""

    seed: int
    minutes: float
    files: int
    consumers: int = 2
    faults: tuple[str, ...] = ()
    defect: str | None = None
    retry_initial: float = 0.2
    actions: float = 14.0
    calm: float = 120.0
    each: int = 0


@dataclass
class Outcome:
    """How a trial ended; `short` are the classes that happened too rarely, in words."""

    violations: list[Violation]
    stories: list[str]
    counts: dict[str, Counter[str]]
    figures: dict[str, float]
    skipped: dict[str, str] = field(default_factory=dict)
    short: list[str] = field(default_factory=list)


def every_fault() -> tuple[str, ...]:
    """The classes of faults, besides those of processes."""
    return (*CHANCES, *plan.MACHINE)


def lacking(
    counts: Counter[str], kinds: Collection[str], each: int, brought: int, files: int
) -> list[str]:
    """Which kinds of faults have not happened `each` times, in words; also, whether fewer than
    `files` files were brought."""
    wanted = [(kind, counts[kind], each) for kind in sorted(kinds)]
    wanted.append(("files brought", brought, files))
    return [f"{name}: {times:,} of {least:,}" for name, times, least in wanted if times < least]


class Trial:
    """A trial in a directory of its own, as a context manager."""

    def __init__(self, directory: Path, options: Options, say: Callable[[str], None]) -> None:
        self.directory = directory
        self.options = options
        self.skipped: dict[str, str] = {}
        self._say = say
        self._stack = ExitStack()
        self._ends: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._stormy = True
        self._fault_on = False
        self._began = 0.0
        self._short: list[str] = []

    def __enter__(self) -> "Trial":
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def _set_up(self) -> None:
        options, directory = self.options, self.directory
        disk = directory / "disk"
        logs = directory / "logs"
        home = directory / "home"
        store = directory / "store"
        for path in (disk, logs, home, store / BUCKET, store / CALM):
            path.mkdir(parents=True)
        kinds = set(options.faults)
        hosts = None
        if namespace.inside():
            namespace.mount_disk(disk, 96 * 2**20 + options.files * 80 * 1024)
            self._stack.callback(self._unmount, disk)
            if "DNS failure" in kinds:
                hosts = namespace.own_names(directory, HOST)
        else:
            self._skip(kinds, MOUNTED, "this machine does not let the trial mount anything")
        clock = Clock(directory)
        if clock.library is None:
            self._skip(kinds, ("clock step",), "libfaketime is not installed")
        self._kinds = kinds

        process = self._stack.enter_context(servers.rclone(store))
        self.server = S3Server("rclone", process.port, verifies=True)
        self.network = Network(
            self.server.address, random.Random(f"{options.seed}:network"), kinds, stall=3.0
        )
        self._stack.enter_context(self.network)
        host = HOST if hosts else "127.0.0.1"
        credentials = directory / "credentials"
        credentials.touch(mode=0o600)
        stormy, calm = f"http://{host}:{self.network.port}", self.server.address
        credentials.write_text(
            credentials_section(profile_of(BUCKET), stormy)
            + credentials_section(profile_of(CALM), f"http://{calm[0]}:{calm[1]}")
        )
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "NO_PROXY": f"127.0.0.1,{HOST}",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "FLOOD_SERVER_DIRECTORY": str(disk / "spool"),
            "FLOOD_DATABASE": str(disk / "flood.db"),
            "FLOOD_CREDENTIALS": str(credentials),
            "FLOOD_RETRY_INITIAL_DELAY": f"{options.retry_initial}s",
            "FLOOD_LOG_FORMAT": "json",
            "FLOOD_MULTIPART_THRESHOLD": "5MiB",
            "FLOOD_MULTIPART_PART_SIZE": "5MiB",
            "FLOOD_CONNECT_TIMEOUT": "1s",
            "FLOOD_READ_TIMEOUT": "2s",
            "FLOOD_BUCKET_CACHE_SECONDS": "20s",
            "FLOOD_RESCAN_INTERVAL": "20s",
            **clock.environ(),
        }
        self.crew = Crew(logs, environ)
        self._add_watch()
        self._start_watch_once()
        self._add_consumers()
        self.ledger = Ledger(options.seed)
        self.programs = Programs(logs, environ)
        self.producers = Producers(
            self.ledger,
            disk,
            self.programs,
            files=options.files,
            seconds=options.minutes * 60 * 0.97,
            threads=4,
            put=self._python("flood.commands.put"),
        )
        seconds = options.minutes * 60
        self.operators = Operators(
            self.programs,
            self._python,
            options.seed,
            refusing=bool(self._kinds & _REFUSING),
            early=seconds * (1.0 if options.defect else _PRUNED),
            pause=_SELDOM if seconds > _LONG else _OFTEN,
        )
        self.machine = Machine(
            disk,
            random.Random(f"{options.seed}:faults"),
            crew=self.crew,
            producers=self.producers,
            programs=self.programs,
            network=self.network,
            clock=clock,
            hosts=hosts,
        )
        self.clock = clock
        self.disk = disk
        self.samples = Samples()

    def _unmount(self, disk: Path) -> None:
        if os.path.ismount(disk):
            os.system(f"umount -l '{disk}'")  # noqa: S605  a path of the trial's own

    def _skip(self, kinds: set[str], classes: tuple[str, ...], why: str) -> None:
        for kind in classes:
            if kind in kinds:
                kinds.discard(kind)
                self.skipped[kind] = why

    def _python(self, module: str) -> list[str]:
        if self.options.defect is None:
            return ["-m", module]
        return ["-m", "tests.chaos.planted", self.options.defect, module]

    def _add_watch(self) -> None:
        # What flood-watch starts itself has no defect planted.
        own = [] if self.options.defect else ["--consumers", "1"]
        self.crew.add(
            "watch",
            *self._python("flood.commands.watch"),
            *own,
            # flood-watch --once may have its place.
            statuses=(*self._statuses(), EXIT_TRY_AGAIN),
        )

    def _add_consumers(self) -> None:
        consumer = [*self._python("huey.bin.huey_consumer"), "flood.tasks.huey"]
        threads, processes = ([*consumer, "-w", "2", "-k", kind] for kind in ("thread", "process"))
        statuses = self._statuses()
        self._veteran = self.crew.add("consumer-threads", *threads, statuses=statuses)
        if self.options.consumers > 1:
            self.crew.add("consumer-processes", *processes, statuses=statuses)
        for number in range(2, self.options.consumers):
            self.crew.add(f"consumer-{number}", *threads, statuses=statuses)

    def _statuses(self) -> tuple[int, ...]:
        """What programs may end with; more where disk or database may refuse as they start."""
        refused = (EXIT_FAILED, EXIT_USAGE, EXIT_TRY_AGAIN) if self._kinds & _REFUSING else ()
        return (EXIT_OK, *refused)

    def _start_watch_once(self) -> None:
        """Let the spool come into being."""
        watch = self.crew.members[0]
        self.crew.work()
        deadline = time.monotonic() + 60
        while '"event": "ready"' not in _text(watch):
            if time.monotonic() > deadline:
                raise RuntimeError(f"flood-watch does not start:\n{_text(watch)[-4000:]}")
            self.crew.tend()
            time.sleep(_TICK)

    # --- the storm ---------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Go through the storm, wait for the calm, judge."""
        options = self.options
        seconds = options.minutes * 60
        machine = [kind for kind in plan.MACHINE if kind in self._kinds]
        share = plan.THICK if options.defect else plan.SHARE
        events = plan.draw(options.seed, seconds, machine, options.actions, share)
        for event in events:
            self._say(f"plan: {event.at:7.1f} s {event.kind} ({event.lasting:.1f} s)")
        rng = random.Random(f"{options.seed}:choices")
        self._began = time.monotonic()
        self.network.rough = True
        self.producers.keep_on = bool(options.each)
        self.producers.start()
        self.operators.start()
        waiting = list(reversed(events))
        more = random.Random(f"{options.seed}:more")
        round_ends = seconds
        next_progress = next_sample = 0.0
        while (now := self._now()) < seconds or self._goes_on(now, seconds):
            if now >= round_ends:
                if round_ends == seconds:
                    self._say("the storm goes on until everything has happened often enough")
                lagging = [kind for kind in machine if self._times(kind) < options.each]
                added, round_ends = plan.draw_more(more, now, lagging, options.actions)
                waiting = [*reversed(added), *waiting]
            while self._ends and self._ends[0][0] <= now:
                heapq.heappop(self._ends)[2]()
            if waiting and waiting[-1].at <= now:
                self._begin(waiting.pop(), rng)
            self._veteran.spared = now > seconds * plan.QUIETER
            self.crew.members[0].spared = now > seconds * plan.QUIETER and seconds > _LONG
            self.crew.tend()
            if now >= next_sample:
                self.samples.take(self.crew.members)
                next_sample = now + _SAMPLING
            if now >= next_progress:
                self._say(self._progress(now))
                next_progress = now + max(_PROGRESS, seconds / 40)
            time.sleep(_TICK)
        late = [event.kind for event in waiting]
        if late:
            self._say(f"no time was left for {len(late)} events")
        self._say("the storm is over")
        self._short = self._lacking() if options.each else []
        calm = self._calm_down()
        self.samples.take(self.crew.members)
        problems = [*calm, *self.machine.flaws, *self.crew.end_all()]
        problems += self._survivors()
        self._say("judging")
        return self._judge(problems, self._now())

    def _survivors(self) -> list[str]:
        """Who is alive though everything was ended, in words."""
        deadline = time.monotonic() + _LAST_WORDS
        while left := survivors(self.disk):
            if time.monotonic() > deadline:
                return [f"alive though everything was ended: {left}"]
            time.sleep(0.1)
        return []

    def _goes_on(self, now: float, seconds: float) -> bool:
        """Whether something has yet to happen, and there is time for it."""
        if not self.options.each or now >= seconds * _LONGEST_STORM:
            return False
        return bool(self._lacking())

    def _lacking(self) -> list[str]:
        counts = self.network.counts + self.machine.counts
        options = self.options
        return lacking(counts, self._kinds, options.each, self.ledger.brought, options.files)

    def _times(self, kind: str) -> int:
        """How often this fault has happened."""
        return self.network.counts[kind] + self.machine.counts[kind]

    def _begin(self, event: plan.Event, rng: random.Random, until: float | None = None) -> None:
        """Have an event happen; where nothing is there for it to happen to, soon again, until
        then."""
        if not self._stormy:
            return
        fault = event.kind in self._FAULTS
        lasts = fault and event.lasting > 0
        if lasts and self._fault_on:
            # Other faults are in the way: that is no attempt.
            self._at(self._now() + 0.2, lambda: self._begin(event, rng, until))
            return
        if until is None:
            until = self._now() + (_PERSISTENCE if fault else _IMPATIENCE)
        before = self._times(event.kind) if fault else self.crew.counts.total()
        if fault:
            end = self._FAULTS[event.kind](self.machine)
        else:
            end = self._ACTIONS[event.kind](self, rng)
        now = self._now()
        after = self._times(event.kind) if fault else self.crew.counts.total()
        if end is not None:
            self._fault_on = self._fault_on or lasts
            self._at(now + event.lasting, lambda: self._end(end, lasts))
        elif after == before and now < until:
            self._at(now + 0.1, lambda: self._begin(event, rng, until))

    def _end(self, end: Callable[[], None], lasts: bool) -> None:
        end()
        if lasts:
            self._fault_on = False

    def _now(self) -> float:
        """Seconds since the storm began."""
        return time.monotonic() - self._began

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._ends, (moment, next(self._order), action))

    def _kill(self, rng: random.Random) -> None:
        self.crew.kill(self.crew.choose(rng))

    def _kill_in_mid_upload(self, _rng: random.Random) -> None:
        self.crew.counts["kill in mid-upload"] += self.machine.kill_in_mid_upload()

    def _kill_child(self, rng: random.Random) -> None:
        parents = [one for one in self.crew.members if one.children() and not one.spared]
        if parents:
            self.crew.kill_child(rng.choice(parents), rng)

    def _kill_program(self, rng: random.Random) -> None:
        self.crew.counts["kill program"] += self.programs.kill_any(rng)

    def _halt(self, rng: random.Random) -> Callable[[], None]:
        member = rng.choice(self.crew.members)
        process = member.process
        self.crew.halt(member)

        def resume() -> None:
            if member.process is process:
                self.crew.resume(member)

        return resume

    def _halt_program(self, rng: random.Random) -> Callable[[], None] | None:
        return self.programs.halt_any(rng, self.crew.counts)

    def _cron(self, _rng: random.Random) -> Callable[[], None] | None:
        """For a while nobody starts flood-watch again; flood-watch --once does its work."""
        watch = self.crew.members[0]
        if watch.spared or watch.away or not watch.alive():
            return None
        self.crew.kill(watch)
        watch.away = True
        self.operators.ask(ONCE)
        self.crew.counts["cron in place of flood-watch"] += 1

        def end() -> None:
            watch.away = False

        return end

    def _terminate(self, rng: random.Random) -> None:
        self.crew.end(self.crew.choose(rng), signal.SIGTERM)

    def _interrupt(self, rng: random.Random) -> None:
        self.crew.end(self.crew.choose(rng), signal.SIGINT)

    _ACTIONS: Final[dict[str, Callable[["Trial", random.Random], Any]]] = {
        "kill": _kill,
        "kill in mid-upload": _kill_in_mid_upload,
        "kill a child": _kill_child,
        "kill a program": _kill_program,
        "stop and continue": _halt,
        "stop and continue a program": _halt_program,
        "cron in place of flood-watch": _cron,
        "SIGTERM": _terminate,
        "SIGINT": _interrupt,
    }
    _FAULTS: Final[dict[str, Callable[[Machine], Callable[[], None] | None]]] = {
        "black-holed connect": Machine.black_hole,
        "DNS failure": Machine.no_names,
        "full disk": Machine.full_disk,
        "read-only disk": Machine.read_only_disk,
        "locked database": Machine.locked_database,
        "lost queue": Machine.lost_queue,
        "clock step": Machine.clock_step,
        "removed by a third hand": Machine.third_hand,
        "replaced by a third hand": Machine.replacement,
        "locks removed by a third hand": Machine.lost_locks,
    }

    # --- the calm ----------------------------------------------------------------------------

    def _calm_down(self) -> list[str]:
        """End every fault, start everything afresh, wait until nothing is left to do."""
        self._stormy = False
        while self._ends:
            heapq.heappop(self._ends)[2]()
        self.network.rough = False
        self.network.light()
        for member in self.crew.members:
            self.crew.resume(member)
        # What was put off while the clock was ahead is due, too.
        self.clock.set(CLOCK_SPAN if "clock step" in self._kinds else 0)
        self.producers.keep_on = False
        self.operators.finish(5.0)
        deadline = time.monotonic() + 60
        while self.producers.busy() and time.monotonic() < deadline:
            self.crew.tend()
            time.sleep(_TICK)
        self.producers.finish(1.0)
        self._remove_rests()
        # A new flood-watch purges incoming_tmp; a new consumer sweeps.
        for member in self.crew.members:
            self.crew.kill(member)
        began = time.monotonic()
        limit = self.options.calm
        # A defect shows by then; whether it would have come to rest later does not matter.
        longest = limit if self.options.defect else _LONGEST_CALM
        while time.monotonic() - began < limit:
            self.crew.tend()
            if self._quiet():
                return [f"a flaw of the trial: {error}" for error in self.producers.errors]
            due = self._last_due()
            if due is not None:
                waited = time.monotonic() - began
                limit = max(limit, min(waited + due + self.options.calm, longest))
            time.sleep(0.25)
        return [f"not quiet {limit:.0f} s after the storm", *self.producers.errors]

    def _remove_rests(self) -> None:
        """Somebody tidies up what a killed rsync left, which flood leaves alone."""
        temporary = Temporary(IGNORE)
        spool = self.disk / "spool"
        for folder, _, names in os.walk(spool / "incoming"):
            for name in names:
                path = f"{folder}/{name}"
                if temporary.pattern(os.path.relpath(path, spool)) is not None:
                    os.unlink(path)

    def _query(self, sql: str) -> list[Any]:
        with (
            suppress(sqlite3.Error),
            closing(
                sqlite3.connect(f"file:{self.disk}/flood.db?mode=ro", uri=True, timeout=5)
            ) as connection,
        ):
            return connection.execute(sql).fetchall()
        return []

    def _states(self) -> dict[str, int]:
        return dict(
            self._query("SELECT current_state, count(*) FROM file_records GROUP BY current_state")
        )

    def _quiet(self) -> bool:
        states = self._states()
        if not states or any(states.get(x) for x in ("incoming_tmp", "incoming", "processing")):
            return False
        if self._query("SELECT 1 FROM file_records WHERE multipart_upload_id IS NOT NULL LIMIT 1"):
            return False
        # What flood-retry took out before it was killed is noted by the next sweep.
        failed = self._query(
            "SELECT spool_path FROM file_records WHERE current_state = 'failed' "
            "AND left_at IS NULL AND spool_path LIKE 'failed/%'"
        )
        spool = os.fsencode(self.disk / "spool")
        if not all(os.path.lexists(b"/".join((spool, os.fsencode(path)))) for (path,) in failed):
            return False
        return not files(self.disk / "spool", ("incoming_tmp", "incoming", "processing"))

    def _last_due(self) -> float | None:
        """In how many seconds the last retry is due, as flood's clock has it."""
        rows = self._query(
            "SELECT max(julianday(next_attempt_at)) FROM file_records "
            "WHERE current_state = 'processing' AND owner IS NULL"
        )
        if not rows or rows[0][0] is None:
            return None
        now = time.time() + self.clock.offset
        return float((rows[0][0] - 2440587.5) * 86400 - now)

    def _progress(self, now: float) -> str:
        states = self._states()
        kills = sum(n for kind, n in self.crew.counts.items() if kind.startswith("kill"))
        faults = self.network.counts.total() + self.machine.counts.total()
        done, failed = states.get("completed", 0), states.get("failed", 0)
        return (
            f"{now:6.0f} s: {len(self.ledger.deliveries)} files brought, {done} completed, "
            f"{failed} failed, {states.get('processing', 0)} in processing; "
            f"{kills} kills, {faults} faults"
        )

    def _judge(self, problems: list[str], seconds: float) -> Outcome:
        options = self.options
        backoff = Backoff(initial=options.retry_initial, longest=1.0)
        self.ledger.write(self.directory / "ledger.jsonl")
        try:
            found = judgement.collect(self.disk, self.directory / "logs", self.server, self.ledger)
            found.prunings_broken_off = self.operators.broken_off
        except BaseException:
            self._keep()  # an hour's work, which somebody may judge by hand
            raise
        violations = [Violation("the_trial_ends_well", words) for words in problems]
        odd = [*self.crew.odd_endings, *self.operators.odd_endings]
        violations += [Violation("endings_are_explained", words) for words in odd]
        violations += judgement.judge(found, backoff, self.samples)
        stories = judgement.stories(found, self.ledger, violations)
        counts = {
            "processes": self.crew.counts,
            "faults": self.network.counts + self.machine.counts,
            "producers": self.producers.counts,
            "operators": self.operators.counts,
            "requests": self.network.requests_seen,
            "departures": Counter(row["left_how"] for row in found.rows if row["left_how"]),
            "records": Counter(row["current_state"] for row in found.rows),
            "errors": Counter(row["error_code"] for row in found.rows if row["error_code"]),
            "attempts": Counter(
                each["kind"] or "success" for rows in found.attempts.values() for each in rows
            ),
            "endings": self.crew.endings,
        }
        figures = {
            "seconds": round(seconds, 1),
            "files brought": sum(one.word != "withdrawn" for one in self.ledger),
            "bytes brought": sum(one.size for one in self.ledger if one.word != "withdrawn"),
            "bytes received by the store": self.network.bytes_received,
            "kills": sum(n for kind, n in self.crew.counts.items() if kind.startswith("kill")),
            "retries": sum(
                each["retry_number"] > 0 for rows in found.attempts.values() for each in rows
            ),
            "violations": len(violations),
        }
        if violations:
            self._keep()
        return Outcome(violations, stories, counts, figures, self.skipped, self._short)

    def _keep(self) -> None:
        """Copy what lies on a disk that ends with the trial."""
        if not namespace.inside():
            return
        kept = self.directory / "kept"
        shutil.copytree(self.disk, kept, symlinks=True, ignore=shutil.ignore_patterns("outside"))


def _text(member: Member) -> str:
    return member.log.read_text("utf-8", "replace") if member.log.exists() else ""
