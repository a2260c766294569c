"""Any course of events, with deaths at any line, ends with every file where it belongs."""

import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from flood import models
from flood.columns import utc_text
from flood.door import Candidate
from flood.identity import Identity, identity_of
from flood.record_values import Claimed, Reason
from flood.spool import Occupied
from flood.states import INTERRUPTED, PERMANENT, TRANSIENT
from flood.tree import Vanished
from tests.spooling import House, dying_at, quick_house
from workers.decisions import Decision, GiveUp, LetGo, Prove, TryAgain
from workers.transfer import Receipt

RECEIPT = Receipt(etag="e", version_id=None, checksum=None, bytes_sent=1)
BROKEN = Reason(TRANSIENT, "broken", "the connection broke")
REFUSED = Reason(PERMANENT, "refused", "the store refuses it")
STOPPED = Reason(INTERRUPTED, "stopped", "the worker was told to stop")

#: Where a process may die: in whatever changes files or rows.
STEPS = (
    *("_transaction", "_move", "_record", "_rename", "take_up", "_back", "write", "prune"),
    *("settle", "_settle", "_prove", "_give_up", "_try_again", "_missing", "_take_over"),
)

#: Names in each other's way among them.
KEYS = ("a", "b", "dir/a", "dir/b", "dir", "a/below")

lines = st.integers(1, 60) | st.just(10**9)  # at which it dies; the latter never comes
kinds = st.sampled_from(["prove", "prove", "retry", "give up", "let go"])


class AnyCourse(RuleBasedStateMachine):
    """A producer, flood-watch and a worker, each of which may die; a person who removes files."""

    def __init__(self) -> None:
        super().__init__()
        self._context = quick_house()
        self.house: House = self._context.__enter__()
        # Later than any rename of this run, as a power failure leaves rows that ran ahead.
        self.house.clock.moment = datetime.now(timezone.utc) + timedelta(hours=1)
        self.versions = 0
        self.put: dict[bytes, str] = {}
        self.removed: set[bytes] = set()
        self.identities: dict[Identity, bytes] = {}
        #: What flood-watch has found in incoming as it started, and that is there yet.
        self.waiting: set[str] = set()
        #: What the store was sent for each key, in that order.
        self.sent: dict[str, list[int]] = {key: [] for key in KEYS}

    def teardown(self) -> None:
        try:
            self.ends_well()
        finally:
            self._context.__exit__(None, None, None)

    def may_die(self, line: int, call: Callable[[], object]) -> None:
        if line == 10**9:
            call()
        else:
            dying_at(line, STEPS, call)

    # --- what happens ----------------------------------------------------------------------------

    @rule(key=st.sampled_from(KEYS))
    def puts(self, key: str) -> None:
        path = self.house.spool.absolute(f"incoming/p/b/{key}")
        self.house.spool.remove_empty("incoming")
        content = b"%d" % self.versions
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.write(content)
                file.flush()
                self.identities[identity_of(os.fstat(file.fileno()))] = content
        except (FileExistsError, NotADirectoryError):
            return  # another waits there
        self.put[content] = key
        self.versions += 1
        self.waiting.discard(f"incoming/p/b/{key}")

    @rule(line=lines, starting=st.booleans())
    def watcher_admits(self, line: int, starting: bool) -> None:
        def admit() -> None:
            paths = [each.path for each in self.house.found("incoming")]
            there = [Candidate(path, ahead=starting or path in self.waiting) for path in paths]
            self.house.intake().admit([(each, None) for each in there])

        self.may_die(line, admit)

    @rule(line=lines, incoming_first=st.booleans())
    def watcher_starts(self, line: int, incoming_first: bool) -> None:
        self.may_die(line, lambda: self.house.recover(incoming_first=incoming_first))
        self.waiting = {each.path for each in self.house.found("incoming")}

    @rule(line=lines, how=st.lists(kinds, min_size=1, max_size=4))
    def worker_works(self, line: int, how: list[str]) -> None:
        # The claim is taken, the store has the object; then it may die.
        claims = self.house.claim()
        plans = [(claim, how[n % len(how)]) for n, claim in enumerate(claims)]
        opened = {claim.id: self.sends(claim) for claim, kind in plans if kind == "prove"}

        def settle() -> None:
            decisions = [_decision(claim, kind, opened.get(claim.id)) for claim, kind in plans]
            self.house.settle(*(one for one in decisions if one is not None))

        try:
            self.may_die(line, settle)
        finally:
            for descriptor in opened.values():
                if descriptor is not None:
                    os.close(descriptor)

    def sends(self, claim: Claimed) -> int | None:
        try:
            descriptor, _ = self.house.spool.open(claim.path)
        except Exception:  # noqa: BLE001  somebody has removed it
            return None
        self.sent[claim.key].append(int(os.pread(descriptor, 20, 0)))
        return descriptor

    @rule(line=lines)
    def worker_sweeps(self, line: int) -> None:
        self.may_die(line, self.house.sweep)

    @rule(seconds=st.sampled_from([1.0, 60.0, 86400.0]))
    def time_passes(self, seconds: float) -> None:
        self.house.clock.advance(seconds)

    @precondition(lambda self: self.house.found("processing"))
    @rule(data=st.data())
    def somebody_removes(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(x.path for x in self.house.found("processing"))))
        self.removed.add(self.house.files()[path])
        os.unlink(self.house.spool.absolute(path))

    @rule(key=st.sampled_from(KEYS[:2]), uploaded=st.booleans())
    def another_version_comes(self, key: str, uploaded: bool) -> None:
        """Nobody dies meanwhile."""
        self.puts(key)
        self.watcher_admits(10**9, starting=False)
        if uploaded:
            self.worker_works(10**9, ["prove"])

    @precondition(lambda self: self.house.rows())
    @rule(data=st.data(), renames=st.integers(1, 4), incoming_first=st.booleans())
    def power_fails(self, data: st.DataObject, renames: int, incoming_first: bool) -> None:
        """Renames are not flushed one by one: files may be back where they were. flood-watch starts
        after that."""
        key = data.draw(st.sampled_from([row["filepath"] for row in self.house.rows()]))
        # Filesystems keep the order of renames: with an earlier one, later ones are undone.
        steps = self.undone(key)
        for _ in range(renames):
            source, target, record = next(steps, ("", "", 0))
            if not record or not self.house.spool.vacant(target):
                break
            content = self.house.files().get(source, b"0")
            try:
                self.house.spool.move(source, target)
            except (Occupied, Vanished):
                break
            # It goes to the store once more, and so do all that came after it.
            self.sent[key] = [version for version in self.sent[key] if version < int(content)]
            with models.write():  # its row was written after the renames that were lost
                models.execute(
                    "UPDATE file_records SET last_updated = ? WHERE id = ?",
                    (utc_text(self.house.clock.now()), record),
                )
        self.watcher_starts(10**9, incoming_first)

    def undone(self, key: str) -> Iterator[tuple[str, str, int]]:
        """The renames of this key's files, the last first: from where, to where, of which record.
        No file is where another has been since."""
        arrived, taken = f"incoming/p/b/{key}", f"processing/p/b/{key}"
        order = "ORDER BY COALESCE(completed_at, '9999') DESC, id DESC"
        for row in self.house.rows(
            f"filepath = ? AND error_code IS NOT 'vanished' {order} --", key
        ):
            if row["current_state"] in ("completed", "failed"):
                yield row["spool_path"], taken, row["id"]
            elif row["current_state"] != "processing":
                return
            yield taken, arrived, row["id"]

    # --- how it ends -----------------------------------------------------------------------------

    def ends_well(self) -> None:
        """Once nobody dies any more, everything comes to its end."""
        house = self.house
        for _ in range(3 * len(KEYS) + 12):
            house.recover()
            house.clock.advance(86400.0 * 30)
            house.sweep()
            self.worker_works(10**9, ["prove"])
        files = house.files()
        assert not [path for path in files if path.startswith(("incoming", "processing"))], files
        assert sorted(files.values()) == sorted(set(self.put) - self.removed)
        rows = house.rows()
        assert {row["current_state"] for row in rows} <= {"completed", "failed"}
        of = [Identity(*(row[name] for name in Identity._fields)) for row in rows]
        # Nobody can know that a completed file, which a power failure put back, was removed before
        # flood-watch could take note of it.
        there = [
            row
            for each, row in zip(of, rows, strict=True)
            if self.identities[each] not in self.removed
        ]
        assert sorted(row["spool_path"] for row in there) == sorted(files)
        assert len(of) == len(set(of)), "a file has two records"
        vanished = {
            self.identities[each]
            for each, row in zip(of, rows, strict=True)
            if row["error_code"] == "vanished"
        }
        assert vanished <= self.removed, "what is there is told of as removed"
        for path, content in files.items():
            [row] = [row for row in there if row["spool_path"] == path and _ended_there(row)]
            assert row["filepath"] == self.put[content]
            assert path.startswith(f"{row['current_state']}/p/b/")
        for key, versions in self.sent.items():
            assert versions == sorted(versions), f"{key}: an older version came after a newer one"
        completed = {int(data) for path, data in files.items() if path.startswith("completed")}
        assert completed <= {version for versions in self.sent.values() for version in versions}
        for row in rows:
            expected = {0}
            for one in house.attempts(row["id"]):
                assert one["retry_number"] in expected
                free = one["kind"] in ("interrupted", "lost")
                expected = {one["retry_number"] + 1, *([one["retry_number"]] if free else [])}
                last = one["kind"] == "permanent" or one["retry_number"] == 10
                if one["outcome"] == "success" or (last and not free):
                    expected = {0}  # should it go back after a power failure
                assert max(expected) <= 11
        models.close()


def _ended_there(row: dict[str, object]) -> bool:
    return row["error_code"] != "vanished"


def _decision(claim: Claimed, kind: str, descriptor: int | None) -> Decision | None:
    if kind == "prove":
        if descriptor is None:
            return None
        return Prove(claim, RECEIPT, descriptor, os.fstat(descriptor).st_ctime_ns)
    if kind == "retry":
        if claim.retry_count < 10:
            return TryAgain(claim, claim.identity, BROKEN, 30.0)
        return GiveUp(claim, BROKEN)
    return GiveUp(claim, REFUSED) if kind == "give up" else LetGo(claim, STOPPED)


TestAnyCourse = AnyCourse.TestCase
TestAnyCourse.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
