"""One attempt to upload what this worker has claimed."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import Final

from flood import claims as claiming
from flood import models
from flood.identity import identity_of, touched
from flood.profiles import Profile
from flood.record_values import Claimed, Reason
from flood.states import INTERRUPTED, PERMANENT, TRANSIENT
from workers.agent import Agent
from workers.classify_rule import AGAIN, Verdict
from workers.decisions import Decision, LetGo, Prove, PutOff
from workers.judgement import CHANGED, decision
from workers.lanes import carried
from workers.opened import Files, Opened
from workers.pace import Steps
from workers.source import Watch
from workers.transfer import Hooks, Interrupted, Receipt, Upload, Uploader
from workers.turns import LONG
from workers.verdict import judge

#: Decisions are settled together, at most so many seconds after the first of them.
GROUPING: Final = 0.1

#: Claims more records of an attempt's destination, which has so many files on their way: none where
#: nothing is due there, or others come first.
More = Callable[[int], Sequence[Claimed]]

# After so many seconds an attempt begins to look whether others wait, and looks again so often: a
# store that takes a second for each answer would keep every worker for as long as it may take.
_YIELDING: Final = 2.0
_LOOK: Final = 0.5

_ASKED: Final = Reason(
    INTERRUPTED,
    "asked_to_wait",
    "the store has asked to be left alone for a while: it is tried after that",
)
_NO_PROFILE: Final = Reason(INTERRUPTED, "no_profile", "the credentials have its profile no more")
_REPLACED: Final = Verdict(
    TRANSIENT,
    "credentials_changed",
    f"it failed with credentials that were replaced meanwhile: {AGAIN} with the new ones",
)
_CORRECT: Final = (
    "the credentials file has changed, but cannot be used as it is now, which the log tells of: "
    "correct it, or put it back; "
    f"{AGAIN}"
)


def no_more(_under_way: int) -> Sequence[Claimed]:
    """The attempt ends with what it was given."""
    return ()


def nobody_waits() -> bool:
    """The attempt ends in its own time."""
    return False


class _Group:
    """Decisions that are to be settled together."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = 0.0
        self._decisions: list[Decision] = []

    def add(self, decisions: Sequence[Decision]) -> None:
        """Take these in, too."""
        if decisions and not self._decisions:
            self._since = self._clock()
        self._decisions += decisions

    def due(self, *, idle: bool) -> bool:
        """Whether to settle them now: nothing else happens (`idle`), or the first has waited."""
        if not self._decisions:
            return False
        return idle or self._clock() - self._since >= GROUPING

    def take(self) -> list[Decision]:
        """Give the decisions up, for their settlement."""
        taken, self._decisions = self._decisions, []
        return taken


class _Flow:
    """The uploads of an attempt, as they are asked for: of what was claimed, then of what `more`
    claims, until this worker has been at it for long, or others are waited for. On what cannot be
    opened the group decides."""

    def __init__(
        self,
        agent: Agent,
        profile: Profile,
        files: Files,
        more: More,
        group: _Group,
        others_wait: Callable[[], bool],
    ) -> None:
        self._agent = agent
        self._profile = profile
        self._files = files
        self._more = more
        self._group = group
        self._others_wait = others_wait
        self._end = agent.clock() + LONG.total_seconds()
        self._next_look = agent.clock() + _YIELDING
        self._waiting = _in_turn(files.every())

    def __iter__(self) -> Iterator[Upload]:
        scarce = False
        while True:
            while self._waiting and not self._is_over():
                yield self._waiting.popleft().upload
            if scarce or self._waiting:
                return
            if self._is_over() or self._agent.profiles.get(self._profile.name) != self._profile:
                return
            added, decided = self._files.add(self._more(len(self._files)))
            if not (added or decided):
                return
            self._agent.progress.add([one.upload.size for one in added])
            self._group.add(decided)
            self._waiting = _in_turn(added)
            scarce = any(isinstance(one, PutOff) for one in decided)

    def _is_over(self) -> bool:
        now = self._agent.clock()
        if self._next_look <= now < self._end:
            self._next_look = now + _LOOK
            if self._others_wait():
                self._end = now
        return now >= self._end or self._agent.stopping()

    def next_size(self) -> int | None:
        """Return how many bytes the next one has; None while more are yet to be claimed."""
        return self._waiting[0].upload.size if self._waiting else None

    def give_back(self, *, over: bool, pause: float) -> list[Decision]:
        """Return what has not begun once this worker has been at it for long, or others are waited
        for: somebody else may have it, and it thinks of others itself. So it does where the store
        wants a `pause` of so many seconds, or where no more is begun as it is `over`."""
        if not self._waiting or not (pause or over or self._is_over()):
            return []
        left, self._waiting = self._waiting, deque()
        self._agent.progress.leave([one.upload.size for one in left])
        return [PutOff(one.claim, _ASKED, pause, ring=not pause) for one in left]


def _in_turn(added: Sequence[Opened]) -> deque[Opened]:
    """The one that has waited longest, then the smallest; or all from the smallest on, if that one
    was given back the last time: over a slow line what is large goes nearly by itself, and must
    neither hold up the others nor wait for ever."""
    first = added[: added[0].claim.number % 2] if added else []
    return deque([*first, *sorted(added[len(first) :], key=lambda one: one.upload.size)])


def attempt(
    agent: Agent,
    claims: Sequence[Claimed],
    more: More = no_more,
    others_wait: Callable[[], bool] = nobody_waits,
) -> Iterator[list[Decision]]:
    """Upload these records, all of one profile with one bucket; yield decisions in groups. As soon
    as the last of them has begun, so do those that `more` claims. `others_wait` tells whether this
    worker is wanted elsewhere: then nothing more begins.

    Files stay open until the group that decides on them has been settled, which is when the next
    one is asked for.
    """
    if not claims:
        return
    profile = agent.profiles.get(claims[0].profile)
    if profile is None:  # it went as the records were claimed
        yield [LetGo(claim, _NO_PROFILE) for claim in claims]
        return
    files = Files(agent, profile)
    agent.progress.claimed(profile.name)
    try:
        _, decided = files.add(claims)
        if decided:
            yield decided
            files.settled(decided)
        if files:
            # Nothing reads from the files any more once the transfers are closed.
            with (
                agent.uploader(profile) as uploader,
                closing(_transfer(agent, profile, uploader, files, more, others_wait)) as groups,
            ):
                for decisions in groups:
                    yield decisions
                    files.settled(decisions)
    finally:
        agent.progress.end()
        files.close()


def _transfer(
    agent: Agent,
    profile: Profile,
    uploader: Uploader,
    files: Files,
    more: More,
    others_wait: Callable[[], bool],
) -> Generator[list[Decision], None, None]:
    every = files.every()
    pace = agent.pace(profile)
    bucket = every[0].claim.bucket
    pause = pace.pause(bucket)
    if pause:
        yield [PutOff(one.claim, _ASKED, pause) for one in every]
        return
    asked, since = pace.begin(1), agent.clock()
    error = _bucket_error(agent, uploader, bucket)
    if error is not None:
        verdict = _verdict(agent, profile, error)
        if verdict.fewer:
            pace.refused(asked, verdict.retry_after, bucket)
        pause = pace.pause(bucket)
        # One file pays for the question, else a store that says so for ever is asked for ever.
        paying = every[:1] if pause else every
        decisions = [decision(agent, one.claim, one.identity, verdict) for one in paying]
        if isinstance(decisions[0], LetGo):
            # One of them tells for how long the store has not answered.
            decisions[0] = replace(decisions[0], seconds=agent.clock() - since)
        yield [*decisions, *(PutOff(one.claim, _ASKED, pause) for one in every[len(paying) :])]
        return
    group = _Group(agent.clock)
    got_through = False
    flow = _Flow(agent, profile, files, more, group, others_wait)
    steps = Steps(
        pace,
        agent.settings.multipart_threshold,
        flow.next_size,
        bucket,
        again=lambda record_id: files[record_id].claim.retry_count > 0,
    )
    agent.progress.begin([one.upload.size for one in every])
    hooks = _hooks(agent, files, steps)
    for outcome in uploader.transfer(steps.of(flow), hooks):
        if outcome is not None:
            upload, result = outcome
            agent.progress.done(upload.size)
            judged = _judged(agent, profile, result)
            seconds = steps.ended(upload, judged)
            decided = _judge(agent, files[upload.record_id], judged)
            if isinstance(decided, LetGo):
                decided = replace(decided, seconds=seconds)
            if not isinstance(decided, PutOff):
                got_through = True
            elif got_through:
                decided = replace(decided, delay=0.0)
            group.add([decided])
        group.add(flow.give_back(over=steps.over, pause=steps.pause()))
        if group.due(idle=outcome is None):
            yield group.take()
    ended = group.take()
    decided_on = {one.claim.id for one in ended}
    left = [one.claim for one in files.every() if one.claim.id not in decided_on]
    ended += [PutOff(claim, _ASKED, steps.pause()) for claim in left]
    if ended:
        yield ended


def _bucket_error(agent: Agent, uploader: Uploader, bucket: str) -> BaseException | None:
    watch = Watch(agent.stopping, agent.clock)
    try:
        carried(partial(uploader.ensure_bucket, bucket), watch.expired)
    except (Exception, Interrupted) as error:  # noqa: BLE001  every failure is an outcome
        return error
    return None


def _hooks(agent: Agent, files: Files, steps: Steps) -> Hooks:
    def started(upload: Upload, upload_id: str) -> None:
        claiming.remember_multipart(files[upload.record_id].claim, upload_id)

    def ended(upload: Upload) -> None:
        # Should this not be written, the next attempt aborts an upload that is gone: no harm.
        with suppress(models.DatabaseError):
            claiming.remember_multipart(files[upload.record_id].claim, None)

    return Hooks(
        stopping=agent.stopping,
        multipart_started=started,
        multipart_ended=ended,
        sending=agent.progress.sending,
        at_most=steps.at_most,
        taken=steps.taken,
        part_begins=steps.part,
        pause=steps.pause,
        # What fails for longer waits for its retry, which sends all parts once more.
        patience=agent.settings.retry_initial_delay,
        left_behind=agent.left_behind,
    )


def _verdict(agent: Agent, profile: Profile, error: BaseException) -> Verdict:
    """What the error means; what the store refuses, it has not refused of other credentials, which
    this process may have yet to learn of."""
    verdict = judge(error)
    if verdict.kind != PERMANENT:
        return verdict
    if agent.replaced(profile):
        return _REPLACED
    if verdict.credentials and agent.outdated():
        return Verdict(TRANSIENT, "credentials_refused", f"{verdict.cause}; {_CORRECT}")
    return verdict


def _judged(agent: Agent, profile: Profile, result: Receipt | BaseException) -> Receipt | Verdict:
    return result if isinstance(result, Receipt) else _verdict(agent, profile, result)


def _judge(agent: Agent, one: Opened, outcome: Receipt | Verdict) -> Decision:
    status = os.fstat(one.upload.descriptor)
    now = identity_of(status)
    if not isinstance(outcome, Receipt):
        return decision(agent, one.claim, now, outcome)
    # Removing or renaming it counts as a change, too; the settlement sees to that.
    if now != one.identity or (
        touched(status, one.changed_ns) and agent.spool.identify(one.claim.path) == now
    ):
        return decision(agent, one.claim, now, CHANGED)
    return Prove(one.claim, outcome, one.upload.descriptor, one.changed_ns)
