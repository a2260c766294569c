"""Mends discrepancies by the one rule: the directory is right, the record follows."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from flood import (
    binding,
    departures,
    devices,
    fsck_damage,
    layout,
    leaps,
    models,
    records,
    schema,
    syscalls,
)
from flood import claims as claiming
from flood import fsck_kinds as kinds
from flood import fsck_queries as asking
from flood.config import Settings
from flood.door import Candidate
from flood.errors import FloodError
from flood.fsck_judge import Directories, Judge
from flood.fsck_kinds import Finding
from flood.fsck_queries import Recorded
from flood.fsck_survey import judge_files
from flood.identity import Identity
from flood.intake import Enqueue, Intake, arrival_of
from flood.layout import Place
from flood.locks import WorkerLocks
from flood.phrases import counted
from flood.purge import purge
from flood.record_values import Claimed, Reason
from flood.spool import Occupied, Spool
from flood.states import COMPLETED, FAILED, INCOMING, LOST, PROCESSING
from flood.tree import Vanished
from flood.walk import Found

#: Findings that one transaction takes; other writers wait meanwhile.
_BATCH: Final = 200

#: Keys that one sentence names.
_SHOWN: Final = 3

_LAST: Final = Reason(LOST, "worker_died", "the worker died during the last of all attempts")


@dataclass
class Mended:
    """What became of findings: how many were mended, why others were not."""

    done: list[Finding] = field(default_factory=list)
    left: list[tuple[Finding, str]] = field(default_factory=list)


class Mend:
    """Mends one spool, whoever else is at work on it.

    `judge` makes a judge for some directories, as for the survey; `enqueue` enqueues a task for
    records, `ring` one for whatever is due; `queue` makes the queue's tables anew.
    """

    def __init__(
        self,
        spool: Spool,
        settings: Settings,
        *,
        database: str,
        judge: Callable[[Directories], Judge],
        locks: WorkerLocks,
        enqueue: Enqueue,
        ring: Callable[[str, str], None],
        queue: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self._spool = spool
        self._settings = settings
        self._database = database
        self._judge = judge
        self._locks = locks
        self._enqueue = enqueue
        self._ring = ring
        self._queue = queue
        self._now = now
        # In this order: half a move before all else, claims before new records, rings last.
        self._steps: Mapping[kinds.Kind, Callable[[Sequence[Finding], Mended], None]] = {
            kinds.SCHEMA_OLD: self._upgrade,
            kinds.DAMAGED: self._remove_rows,
            kinds.UNBOUND: self._bind,
            kinds.CARD_OUTDATED: self._bind,
            kinds.DEVICE_CHANGED: self._renumber,
            kinds.DIRECTORY_MISSING: self._prepare,
            kinds.QUEUE_TABLES: self._make_queue,
            kinds.TWO_NAMES: self._finish_moves,
            kinds.PROVEN: self._records(self._follow),
            kinds.GIVEN_UP: self._records(self._follow),
            kinds.DEAD_CLAIM: self._records(self._take_over),
            kinds.SECOND_RECORD: self._records(self._end_second),
            kinds.VANISHED: self._records(self._end_vanished),
            kinds.NEVER_DUE: self._records(self._make_due),
            # Records that are too many have ended by now.
            kinds.INDEX_MISSING: self._make_indices,
            kinds.RAN_AHEAD: self._go_back,
            kinds.TAKEN: self._take_up,
            kinds.UNRECORDED: self._make_records,
            kinds.RETURNED: self._take_back,
            kinds.LEFT_OVER: self._purge,
            kinds.LOCK_LEFT: self._forget_locks,
            kinds.UNRUNG: self._ring_for,
        }

    def run(self, findings: Iterable[Finding]) -> Mended:
        """Mend what can be mended."""
        by_kind: dict[kinds.Kind, list[Finding]] = defaultdict(list)
        for finding in findings:
            by_kind[finding.kind].append(finding)
        mended = Mended()
        for kind, step in self._steps.items():
            if not by_kind[kind]:
                continue
            try:
                step(by_kind[kind], mended)
            except (FloodError, models.DatabaseError, OSError) as error:
                known = set(mended.done) | {each for each, _ in mended.left}
                reason = models.explain(error)
                mended.left += [(each, reason) for each in by_kind[kind] if each not in known]
        return mended

    # --- the whole -------------------------------------------------------------------------------

    def _upgrade(self, findings: Sequence[Finding], mended: Mended) -> None:
        compare = partial(binding.compare, self._spool.root, self._database, create=False)
        schema.migrate(
            self._database, create=False, server_directory=self._spool.root, check=compare
        )
        mended.done += findings

    def _remove_rows(self, findings: Sequence[Finding], mended: Mended) -> None:
        for start in range(0, len(findings), _BATCH):
            part = findings[start : start + _BATCH]
            with models.write():
                for finding in part:
                    fsck_damage.remove(finding)
            mended.done += part

    def _bind(self, findings: Sequence[Finding], mended: Mended) -> None:
        binding.bind(self._spool, self._database, create=True, now=self._now())
        mended.done += findings

    def _renumber(self, findings: Sequence[Finding], mended: Mended) -> None:
        devices.follow(self._spool)
        mended.done += findings

    def _prepare(self, findings: Sequence[Finding], mended: Mended) -> None:
        self._spool.prepare()
        mended.done += findings

    def _make_queue(self, findings: Sequence[Finding], mended: Mended) -> None:
        self._queue()
        mended.done += findings

    def _make_indices(self, findings: Sequence[Finding], mended: Mended) -> None:
        statements = schema.missing_indices()
        for finding in findings:
            with models.write():
                several = asking.several_in_processing() if finding.detail == kinds.ONE else []
                if not several and finding.detail in statements:
                    models.execute(f"DROP INDEX IF EXISTS {finding.detail}")
                    models.execute(statements[finding.detail])
            reason = f"it allows one record of a key in processing, but there are {_some(several)}"
            advice = "let consumers upload them, or delete rows that are wrong, then repair again"
            _tell(finding, not several, f"{reason}: {advice}", mended)

    def _forget_locks(self, findings: Sequence[Finding], mended: Mended) -> None:
        self._locks.forget_dead(claiming.owners())
        mended.done += findings

    def _ring_for(self, findings: Sequence[Finding], mended: Mended) -> None:
        for finding in findings:
            self._ring(str(finding.profile), str(finding.bucket))
            mended.done.append(finding)

    def _purge(self, findings: Sequence[Finding], mended: Mended) -> None:
        purge(self._spool, self._now())
        for finding in findings:
            _tell(finding, not self._spool.exists(str(finding.path)), "it is in use", mended)

    # --- records ---------------------------------------------------------------------------------

    def _records(
        self, mend: Callable[[Recorded, Finding], bool]
    ) -> Callable[[Sequence[Finding], Mended], None]:
        """A step that judges each record once more, inside a transaction, where nothing of it is in
        motion, then mends it."""

        def step(findings: Sequence[Finding], mended: Mended) -> None:
            judge = self._judge(self._spool)
            for start in range(0, len(findings), _BATCH):
                part = findings[start : start + _BATCH]
                done = []
                with models.write():
                    self._spool.check_present()
                    known = asking.by_id([each.record for each in part if each.record is not None])
                    for finding in part:
                        recorded = known.get(finding.record or 0)
                        again = judge.record(recorded) if recorded else None
                        # What is no longer wrong was mended by somebody else.
                        if recorded and again and again.kind == finding.kind:
                            mend(recorded, again)
                        done.append(finding)
                mended.done += done

        return step

    def _follow(self, recorded: Recorded, finding: Finding) -> bool:
        row = recorded.row
        state = COMPLETED if finding.kind == kinds.PROVEN else FAILED
        return records.follow(row.id, state, str(finding.path), row.identity.size, self._now())

    def _take_over(self, recorded: Recorded, _finding: Finding) -> bool:
        claim = claiming.of_record(recorded.row.id)
        if claim is None:
            return False
        settings = self._settings
        if claim.company == 1 and claim.retry_count >= settings.retry_max:
            return self._give_up(claim)
        # The formula of every retry, without its random part, which a few files do not need.
        delay = settings.retry_initial_delay * 2.0**claim.retry_count
        return records.lose(claim, delay, self._now())

    def _give_up(self, claim: Claimed) -> bool:
        place = Place(FAILED, claim.profile, claim.bucket, claim.key)
        try:
            arrived = self._spool.move_beside(claim.path, place, claim.id)
        except Vanished:
            return records.gone(claim, self._now())
        self._spool.prune(claim.path)
        now = self._now()
        leaps.note_failure(now, leaps.running)
        return records.fail(claim, arrived.path, _LAST, now)

    def _end_second(self, recorded: Recorded, _finding: Finding) -> bool:
        return records.vanish(recorded.row.id, self._now(), reason=records.SECOND)

    def _end_vanished(self, recorded: Recorded, _finding: Finding) -> bool:
        claim = claiming.of_record(recorded.row.id)
        if claim is not None:
            return records.gone(claim, self._now())
        return records.vanish(recorded.row.id, self._now())

    def _make_due(self, recorded: Recorded, _finding: Finding) -> bool:
        return records.due(recorded.row.id, self._now())

    # --- files -----------------------------------------------------------------------------------

    def _finish_moves(self, findings: Sequence[Finding], mended: Mended) -> None:
        for finding in findings:
            earlier, later = str(finding.path), str(finding.detail).removeprefix(kinds.ALSO)
            try:
                self._spool.move(earlier, later)
            except Vanished:
                mended.done.append(finding)
            except Occupied:
                reason = "no move of flood's leaves that here: remove the name that is not wanted"
                mended.left.append((finding, reason))
            else:
                mended.done.append(finding)

    def _go_back(self, findings: Sequence[Finding], mended: Mended) -> None:
        below = f"{PROCESSING}/"
        self._take_up([each for each in findings if str(each.path).startswith(below)], mended)
        arrived = [each for each in findings if str(each.path).startswith(f"{INCOMING}/")]
        if not arrived:
            return
        intake = self._intake({str(each.profile) for each in arrived})
        known = [
            (Candidate(str(x.path), ahead=True), self._spool.identify(str(x.path))) for x in arrived
        ]
        result = intake.admit(known)
        waiting = {candidate.path: why.value for candidate, why, _ in result.later}
        for finding in arrived:
            reason = waiting.get(str(finding.path))
            _tell(finding, reason is None, reason or "", mended)

    def _take_up(self, findings: Sequence[Finding], mended: Mended) -> None:
        found = []
        never = self._now()
        # The oldest first over all transactions, as ages are found by the numbers of records.
        for finding in sorted(
            findings, key=lambda each: self._spool.changed_at(str(each.path)) or never
        ):
            identity = self._spool.identify(str(finding.path))
            if identity is not None:
                found.append(Found(str(finding.path), identity, 0))
        self._intake(set()).take_up(found)
        mended.done += findings

    def _make_records(self, findings: Sequence[Finding], mended: Mended) -> None:
        # Of several versions of a key the one that was settled last has the last number: a guess,
        # as a copied spool has times of its own, on which nothing relies.
        came = {each.path: self._spool.changed_at(str(each.path)) for each in findings}
        never = self._now()
        findings = sorted(findings, key=lambda each: came[each.path] or never)
        for start in range(0, len(findings), _BATCH):
            part = findings[start : start + _BATCH]
            looked = [(each, *self._birth(str(each.path))) for each in part]
            judge = self._judge(self._spool)
            with models.write():
                again = {x.path: x for x in judge_files(judge, [str(x.path) for x in part])}
                for finding, place, birth, settled in looked:
                    if place is not None and again.get(finding.path) == finding:
                        arrival = arrival_of(place, Identity(*finding.version), birth)
                        plain = layout.without_suffix(place.key)
                        if plain and place.state == COMPLETED:
                            # Older versions in failed must know of it; nothing is sent again.
                            arrival = arrival._replace(key=plain)
                        records.found(arrival, place.state, settled or self._now(), self._now())
            mended.done += part

    def _take_back(self, findings: Sequence[Finding], mended: Mended) -> None:
        for start in range(0, len(findings), _BATCH):
            part = findings[start : start + _BATCH]
            judge = self._judge(self._spool)
            with models.write():
                again = set(judge_files(judge, [str(each.path) for each in part]))
                for finding in part:
                    if finding in again:
                        departures.returned(finding.record or 0)
            mended.done += part

    def _birth(self, path: str) -> tuple[Place | None, float | None, datetime | None]:
        absolute = self._spool.absolute(path)
        return layout.parse(path), syscalls.birth_time(absolute), self._spool.changed_at(path)

    def _intake(self, profiles: set[str]) -> Intake:
        return Intake(
            self._spool,
            profiles=lambda: profiles,
            ignore=self._settings.ignore,
            large=self._settings.multipart_threshold,
            enqueue=self._enqueue,
            now=self._now,
        )


def latest(settings: Settings, now: datetime) -> datetime:
    """No retry is due later than this, by these settings, nor after the longest wait that a store
    may ask for."""
    longest = settings.retry_initial_delay * 2.0**settings.retry_max * (1.0 + settings.retry_jitter)
    try:
        return now + timedelta(seconds=max(longest, 2 * 3600.0))
    except OverflowError:
        return datetime.max.replace(tzinfo=now.tzinfo)


def _some(groups: Sequence[str]) -> str:
    more = f", {counted(len(groups) - _SHOWN, 'more such key')}" if len(groups) > _SHOWN else ""
    return ", ".join(groups[:_SHOWN]) + more


def _tell(finding: Finding, done: bool, reason: str, mended: Mended) -> None:
    if done:
        mended.done.append(finding)
    else:
        mended.left.append((finding, reason))
