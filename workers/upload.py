"""One attempt to upload what this worker has claimed."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from flood import claims as claiming
from flood import layout, models, syscalls
from flood.identity import Identity, changed_ns, identity_of, touched
from flood.layout import Place
from flood.profiles import Profile
from flood.record_values import Claimed, Reason
from flood.states import INTERRUPTED, PERMANENT, STATES, TRANSIENT
from flood.tree import NotRegular, Vanished
from workers.agent import Agent
from workers.backoff import decide
from workers.classify_rule import AGAIN, Verdict
from workers.decisions import Decision, GiveUp, LetGo, Missing, Prove, PutOff, TryAgain
from workers.lanes import carried
from workers.pace import Pace, Steps
from workers.source import Watch
from workers.transfer import Hooks, Interrupted, Receipt, Upload, Uploader
from workers.turns import LONG
from workers.verdict import judge

#: Decisions are settled together, at most so many seconds after the first of them.
GROUPING: Final = 0.1

#: How long files wait for which this machine had no descriptor or memory left, in seconds, unless
#: others got through meanwhile.
SCARCE_PAUSE: Final = 30.0

#: Files that an attempt closes again, at most, where it has run out of descriptors.
SPARE_DESCRIPTORS: Final = 32

#: What a message says where no retry is left.
TRIED: Final = "it was tried again and again"
TRIED_ONCE: Final = "it was tried once"
SPENT: Final = "no retry is left: when the cause is mended, flood-retry puts the file back"

#: What a message says where the file has a name that no store takes.
RENAMED: Final = "move it to incoming under its new name"

_ASKED: Final = Reason(
    INTERRUPTED,
    "asked_to_wait",
    "the store has asked to be left alone for a while: it is tried after that",
)
_STOPPED: Final = Reason(INTERRUPTED, "stopped", "the consumer was told to stop")
_NO_PROFILE: Final = Reason(INTERRUPTED, "no_profile", "the credentials have its profile no more")
_REPLACED: Final = Verdict(
    TRANSIENT,
    "credentials_changed",
    f"it failed with credentials that were replaced meanwhile: {AGAIN} with the new ones",
)
_CHANGED: Final = Verdict(
    TRANSIENT, "changed", "somebody changed the file while it was uploaded: it is sent once more"
)
_LINKED: Final = Verdict(
    TRANSIENT,
    "hard_link",
    "the file has another name (hard link), which this kernel lets every user give to any file: "
    "remove that name, or run sysctl fs.protected_hardlinks=1",
)
_WRITING: Final = Verdict(
    TRANSIENT, "being_written", "somebody has the file open for writing: it is sent once closed"
)


class _Opened(NamedTuple):
    """A file on its way; `changed_ns` as `flood.identity` has it."""

    claim: Claimed
    upload: Upload
    identity: Identity
    changed_ns: int


def attempt(agent: Agent, claims: Sequence[Claimed]) -> Iterator[list[Decision]]:
    """Upload these records, all of one profile with one bucket; yield decisions in groups.

    Files stay open until the group that decides on them has been settled, which is when the next
    one is asked for.
    """
    opened: dict[int, _Opened] = {}
    proven: list[int] = []
    if not claims:
        return
    profile = agent.profiles.get(claims[0].profile)
    if profile is None:  # it went as the records were claimed
        yield [LetGo(claim, _NO_PROFILE) for claim in claims]
        return
    try:
        early: list[Decision] = []
        for number, claim in enumerate(claims):
            decision = _open(agent, profile, claim, opened, proven)
            if decision is not None:
                early.append(decision)
            if isinstance(decision, PutOff):
                # The transfers need descriptors, too, and so does the settlement.
                every = (claim, *_close_some(opened), *claims[number + 1 :])
                delay = 0.0 if opened else SCARCE_PAUSE
                early[-1:] = [replace(decision, claim=each, delay=delay) for each in every]
                break
        if early:
            yield early
        if opened:
            with agent.uploader(profile) as uploader:
                yield from _transfer(agent, profile, uploader, opened)
    finally:
        agent.progress.end()
        for descriptor in (*proven, *(one.upload.descriptor for one in opened.values())):
            os.close(descriptor)


def _close_some(opened: dict[int, _Opened]) -> list[Claimed]:
    count = min(SPARE_DESCRIPTORS, len(opened) // 2)
    spared = [opened.pop(record_id) for record_id in list(opened)[len(opened) - count :]]
    for one in spared:
        os.close(one.upload.descriptor)
    return [one.claim for one in spared]


def _open(
    agent: Agent,
    profile: Profile,
    claim: Claimed,
    opened: dict[int, _Opened],
    proven: list[int],
) -> Decision | None:
    """Open the claimed file, or decide at once; `proven` gets descriptors of files that need no
    upload any more."""
    if claim.verdict is not None:
        return GiveUp(claim, claim.verdict)
    problem = layout.key_problem(claim.key, normalizes=profile.provider.normalizes_keys)
    if problem is not None:
        code, told = problem
        return GiveUp(claim, Reason(PERMANENT, code, f"{told}; {RENAMED}"))
    try:
        descriptor, identity = agent.spool.open(claim.path)
    except (Vanished, NotRegular):
        return Missing(claim)
    except OSError as error:
        return _decision(agent, claim, claim.identity, judge(error))
    # Not by its device, which has another number once it was mounted again; the attempt takes the
    # new one down.
    if identity.inode != claim.identity.inode:
        os.close(descriptor)
        return Missing(claim)  # another file took its place
    verdict = None
    if identity != claim.identity:
        verdict = _CHANGED
    elif syscalls.open_for_writing(descriptor):
        verdict = _WRITING
    elif _has_foreign_name(agent, claim, status := os.fstat(descriptor)):
        verdict = _LINKED
    if verdict is not None:
        os.close(descriptor)
        return _decision(agent, claim, identity, verdict)
    changed = changed_ns(status)
    if claim.proof is not None and claim.proof.changed_ns == changed:
        proven.append(descriptor)
        return Prove(claim, Receipt(*claim.proof[:4]), descriptor, changed)
    upload = Upload(
        record_id=claim.id,
        bucket=claim.bucket,
        key=claim.key,
        descriptor=descriptor,
        size=identity.size,
        multipart_upload_id=claim.multipart_upload_id,
    )
    opened[claim.id] = _Opened(claim, upload, identity, changed)
    return None


def _has_foreign_name(agent: Agent, claim: Claimed, status: os.stat_result) -> bool:
    """Whether an open file has a name elsewhere than on its own way through the spool, where a
    crash between link and unlink may have left a second one, and the kernel lets anybody link."""
    if status.st_nlink == 1 or agent.links_guarded():
        return False
    places = (Place(state, claim.profile, claim.bucket, claim.key) for state in STATES)
    inode = identity_of(status)[:2]
    names = [path for one in places for path in (one, *layout.beside(one, claim.id))]
    found = [agent.spool.identify(one.path) for one in names]
    return status.st_nlink > sum(one is not None and one[:2] == inode for one in found)


def _transfer(
    agent: Agent, profile: Profile, uploader: Uploader, opened: dict[int, _Opened]
) -> Iterator[list[Decision]]:
    first = next(iter(opened.values())).claim
    pace = agent.pace(profile)
    pause = pace.pause()
    if pause:
        yield [PutOff(one.claim, _ASKED, pause) for one in opened.values()]
        return
    asked = pace.begin(1)
    error = _bucket_error(agent, uploader, first.bucket)
    if error is not None:
        verdict = _verdict(agent, profile, error)
        every = list(opened.values())
        if verdict.fewer:
            pace.refused(asked, verdict.retry_after)
        pause = pace.pause()
        # One file pays for the question, else a store that says so for ever is asked for ever.
        paying = every[:1] if pause else every
        decisions = [_decision(agent, one.claim, one.identity, verdict) for one in paying]
        yield [*decisions, *(PutOff(one.claim, _ASKED, pause) for one in every[len(paying) :])]
        return
    pending: list[Decision] = []
    got_through = False
    since = 0.0
    steps = Steps(pace)
    uploads = _within(LONG.total_seconds(), [one.upload for one in opened.values()], agent.clock)
    claims = {record_id: one.claim for record_id, one in opened.items()}
    hooks = _hooks(agent, claims, pace, steps)
    agent.progress.begin([one.upload.size for one in opened.values()])
    for outcome in uploader.transfer(steps.of(uploads), hooks):
        if outcome is not None:
            upload, result = outcome
            agent.progress.done(upload.size)
            since = since if pending else agent.clock()
            judged = _judged(agent, profile, result)
            steps.ended(upload, judged)
            decision = _judge(agent, opened[upload.record_id], judged)
            if not isinstance(decision, PutOff):
                got_through = True
            elif got_through:
                decision = replace(decision, delay=0.0)
            pending.append(decision)
        if pending and (outcome is None or agent.clock() - since >= GROUPING):
            yield pending
            for decision in pending:
                os.close(opened.pop(decision.claim.id).upload.descriptor)
            pending = []
    ended = {decision.claim.id for decision in pending}
    left = [one.claim for one in opened.values() if one.claim.id not in ended]
    pending += [PutOff(claim, _ASKED, pace.pause()) for claim in left]
    if pending:
        yield pending


def _within(
    seconds: float, uploads: Sequence[Upload], clock: Callable[[], float]
) -> Iterator[Upload]:
    """Those of the uploads that are asked for so soon: a worker that is at a slow store for long
    thinks of others between two files."""
    end = clock() + seconds
    for upload in uploads:
        if clock() > end:
            return
        yield upload


def _bucket_error(agent: Agent, uploader: Uploader, bucket: str) -> BaseException | None:
    watch = Watch(agent.stopping, agent.clock)
    try:
        carried(partial(uploader.ensure_bucket, bucket), watch.expired)
    except (Exception, Interrupted) as error:  # noqa: BLE001  every failure is an outcome
        return error
    return None


def _hooks(agent: Agent, claims: dict[int, Claimed], pace: Pace, steps: Steps) -> Hooks:
    def started(upload: Upload, upload_id: str) -> None:
        claiming.remember_multipart(claims[upload.record_id], upload_id)

    def ended(upload: Upload) -> None:
        # Should this not be written, the next attempt aborts an upload that is gone: no harm.
        with suppress(models.DatabaseError):
            claiming.remember_multipart(claims[upload.record_id], None)

    return Hooks(
        stopping=agent.stopping,
        multipart_started=started,
        multipart_ended=ended,
        sending=agent.progress.sending,
        at_most=pace.limit,
        part_begins=steps.part,
        pause=pace.pause,
        # What fails for longer waits for its retry, which sends all parts once more.
        patience=agent.settings.retry_initial_delay,
    )


def _verdict(agent: Agent, profile: Profile, error: BaseException) -> Verdict:
    """What the error means; what the store refuses, it has not refused of other credentials."""
    verdict = judge(error)
    return _REPLACED if verdict.kind == PERMANENT and agent.replaced(profile) else verdict


def _judged(agent: Agent, profile: Profile, result: Receipt | BaseException) -> Receipt | Verdict:
    return result if isinstance(result, Receipt) else _verdict(agent, profile, result)


def _judge(agent: Agent, one: _Opened, outcome: Receipt | Verdict) -> Decision:
    status = os.fstat(one.upload.descriptor)
    now = identity_of(status)
    if not isinstance(outcome, Receipt):
        return _decision(agent, one.claim, now, outcome)
    # Removing or renaming it counts as a change, too; the settlement sees to that.
    if now != one.identity or (
        touched(status, one.changed_ns) and agent.spool.identify(one.claim.path) == now
    ):
        return _decision(agent, one.claim, now, _CHANGED)
    return Prove(one.claim, outcome, one.upload.descriptor, one.changed_ns)


def _decision(agent: Agent, claim: Claimed, identity: Identity, verdict: Verdict) -> Decision:
    if verdict.kind == INTERRUPTED:
        if verdict.code == "local_resources":
            reason = Reason(INTERRUPTED, verdict.code, verdict.message)
            return PutOff(claim, reason, SCARCE_PAUSE)
        return LetGo(claim, _STOPPED)
    reason = Reason(verdict.kind, verdict.code, verdict.message)
    settings = agent.settings
    retry = decide(
        verdict.kind,
        verdict.retry_after,
        claim.retry_count,
        retry_max=settings.retry_max,
        initial=settings.retry_initial_delay,
        jitter=settings.retry_jitter,
        uniform=agent.uniform,
    )
    if retry is None:
        if verdict.kind == TRANSIENT:
            tried = TRIED if claim.retry_count else TRIED_ONCE
            reason = reason._replace(message=f"{reason.message.replace(AGAIN, tried)}; {SPENT}")
        return GiveUp(claim, reason)
    return TryAgain(claim, identity, reason, retry.delay)
