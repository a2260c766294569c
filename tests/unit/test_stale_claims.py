"""Two workers with claims of all ages: only one that still stands changes anything."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flood import claims as claiming
from flood import models
from flood.locks import WorkerLocks
from flood.record_values import Claimed, Reason
from flood.states import INTERRUPTED, PERMANENT, TRANSIENT
from tests.spooling import House, quick_house
from workers.decisions import Decision, GiveUp, LetGo, Prove, TryAgain
from workers.transfer import Receipt

RECEIPT = Receipt("etag", None, None, 1)
BROKEN = Reason(TRANSIENT, "broken", "the connection broke")
REFUSED = Reason(PERMANENT, "refused", "the store refuses it")
STOPPED = Reason(INTERRUPTED, "stopped", "the worker was told to stop")
KINDS = ("prove", "retry", "give up", "let go")
ENDS = {"prove": "completed", "give up": "failed"}

kinds = st.sampled_from(KINDS)
which = st.integers(0, 1)


@dataclass
class Held:
    """A claim as its worker remembers it, with the file open as during an upload."""

    claim: Claimed
    descriptor: int

    def decided(self, kind: str) -> Decision:
        if kind == "prove":
            return Prove(
                self.claim, RECEIPT, self.descriptor, os.fstat(self.descriptor).st_ctime_ns
            )
        if kind == "retry":
            return TryAgain(self.claim, self.claim.identity, BROKEN, 30.0)
        if kind == "give up":
            return GiveUp(self.claim, REFUSED)
        return LetGo(self.claim, STOPPED)


@dataclass
class Worker:
    """`held` has every claim that it ever made, settled, lost or standing."""

    locks: WorkerLocks
    held: list[Held] = field(default_factory=list)


@dataclass
class Known:
    """What a record has to be."""

    key: str
    state: str = "processing"
    owner: str | None = None
    number: int = 0
    attempts: int = 0


class StaleClaims(RuleBasedStateMachine):
    """A worker that dies here goes on, as one does that was stopped while others took over."""

    def __init__(self) -> None:
        super().__init__()
        self._context = quick_house()
        self.house: House = self._context.__enter__()
        self.workers = [Worker(WorkerLocks(self.house.spool)) for _ in range(2)]
        self.known: dict[int, Known] = {}

    def teardown(self) -> None:
        for worker in self.workers:
            worker.locks.disown()
            for held in worker.held:
                os.close(held.descriptor)
        models.close()
        self._context.__exit__(None, None, None)

    # --- what happens ----------------------------------------------------------------------------

    @rule(count=st.integers(1, 3))
    def files_arrive(self, count: int) -> None:
        keys = [f"dir/{len(self.known) + number}" for number in range(count)]
        for record_id, key in zip(self.house.admit(*keys, data=b"x"), keys, strict=True):
            self.known[record_id] = Known(key)

    @rule(worker=which)
    def one_claims(self, worker: int) -> None:
        self._took(worker, self.house.claim(owner=self.workers[worker].locks.own()))

    @rule(first=which)
    def both_are_told_of_the_same_files(self, first: int) -> None:
        """As when one of two tasks was rung for again. Not at once: who gets them must not depend
        on chance."""
        for number in (first, 1 - first):
            owner = self.workers[number].locks.own()
            self._took(number, self.house.claim(*self.known, owner=owner))

    def _took(self, worker: int, claims: list[Claimed]) -> None:
        for claim in claims:
            known = self.known[claim.id]
            assert (known.state, known.owner) == ("processing", None), "nobody else has it"
            known.owner, known.number = claim.owner, known.number + 1
            assert claim.number == known.number
            descriptor, _ = self.house.spool.open(claim.path)
            self.workers[worker].held.append(Held(claim, descriptor))

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data(), kind=kinds)
    def one_settles(self, data: st.DataObject, kind: str) -> None:
        held = data.draw(st.sampled_from(list(self._held())))
        self.house.settle(held.decided(kind))
        self._was_settled(held, kind)

    @precondition(lambda self: all(worker.held for worker in self.workers))
    @rule(data=st.data(), first=kinds, second=kinds)
    def both_settle_at_once(self, data: st.DataObject, first: str, second: str) -> None:
        """Preferably the same file."""
        one = data.draw(st.sampled_from(self.workers[0].held))
        same = [held for held in self.workers[1].held if held.claim.id == one.claim.id]
        other = data.draw(st.sampled_from(same or self.workers[1].held))

        def settle(held: Held, kind: str) -> None:
            self.house.settle(held.decided(kind))
            models.close()

        _together(lambda: settle(one, first), lambda: settle(other, second))
        # Of two claims to one file at most one stands, so that their order makes no difference.
        self._was_settled(one, first)
        self._was_settled(other, second)

    def _was_settled(self, held: Held, kind: str) -> None:
        known = self.known[held.claim.id]
        if known.owner != held.claim.owner or known.number != held.claim.number:
            return
        known.owner = None
        known.attempts += 1
        known.state = ENDS.get(kind, "processing")

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data())
    def one_notes_a_multipart_upload(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(list(self._held())))
        known = self.known[held.claim.id]
        stands = (known.owner, known.number) == (held.claim.owner, held.claim.number)
        assert claiming.remember_multipart(held.claim, "upload") == stands
        assert claiming.remember_multipart(held.claim, None) == stands

    @rule(worker=which)
    def one_dies(self, worker: int) -> None:
        self.workers[worker].locks.disown()

    @rule()
    def somebody_sweeps(self) -> None:
        alive = {worker.locks.own() for worker in self.workers}
        self.house.sweep()
        for known in self.known.values():
            if known.owner is not None and known.owner not in alive:
                known.owner = None
                known.attempts += 1

    @rule(seconds=st.sampled_from([10.0, 86400.0]))
    def time_passes(self, seconds: float) -> None:
        self.house.clock.advance(seconds)

    # --- what holds ------------------------------------------------------------------------------

    @invariant()
    def rows_and_files_are_as_they_have_to_be(self) -> None:
        rows = {row["id"]: row for row in self.house.rows()}
        assert {number: _facts(rows[number]) for number in rows} == {
            number: (known.state, known.owner, known.number) for number, known in self.known.items()
        }
        for number, known in self.known.items():
            assert len(self.house.attempts(number)) == known.attempts
            due = rows[number]["next_attempt_at"]
            assert (due is None) == (known.state != "processing")
        assert set(self.house.files()) == {
            f"{known.state}/p/b/{known.key}" for known in self.known.values()
        }

    def _held(self) -> Iterator[Held]:
        for worker in self.workers:
            yield from worker.held


def _facts(row: dict[str, object]) -> tuple[object, ...]:
    return (row["current_state"], row["owner"], row["claim_number"])


def _together(*calls: object) -> None:
    threads = [threading.Thread(target=call) for call in calls]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


TestStaleClaims = StaleClaims.TestCase
TestStaleClaims.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
