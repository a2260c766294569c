"""The open files of one attempt."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from flood import layout, syscalls
from flood.identity import Identity, changed_ns, identity_of
from flood.layout import Place
from flood.profiles import Profile
from flood.record_values import Claimed, Reason
from flood.states import PERMANENT, STATES, TRANSIENT
from flood.tree import NotRegular, Vanished
from workers.agent import Agent
from workers.classify_rule import Verdict
from workers.decisions import Decision, GiveUp, Missing, Prove, PutOff
from workers.judgement import CHANGED, decision
from workers.transfer import Receipt, Upload
from workers.verdict import judge

#: Files that an attempt closes again, at most, where it has run out of descriptors.
SPARE_DESCRIPTORS: Final = 32

# So many descriptors a settlement needs, for directories and the database.
_SETTLEMENT: Final = 8

#: What a message says where the file has a name that no store takes.
RENAMED: Final = "move it to incoming under its new name"

_LINKED: Final = Verdict(
    TRANSIENT,
    "hard_link",
    "the file has another name (hard link), which this kernel lets every user give to any file: "
    "remove that name, or run sysctl fs.protected_hardlinks=1",
)
_WRITING: Final = Verdict(
    TRANSIENT, "being_written", "somebody has the file open for writing: it is sent once closed"
)


class Opened(NamedTuple):
    """A file on its way; `changed_ns` as `flood.identity` has it."""

    claim: Claimed
    upload: Upload
    identity: Identity
    changed_ns: int


class Files:
    """Those of records of one profile, each open from when it is added until what is decided on it
    has been settled."""

    def __init__(self, agent: Agent, profile: Profile) -> None:
        self._agent = agent
        self._profile = profile
        self._opened: dict[int, Opened] = {}
        self._proven: set[int] = set()

    def __len__(self) -> int:
        """Return how many are on their way."""
        return len(self._opened)

    def __getitem__(self, record_id: int) -> Opened:
        return self._opened[record_id]

    def every(self) -> list[Opened]:
        """All that are on their way, in the order in which they were added."""
        return list(self._opened.values())

    def add(self, claims: Sequence[Claimed]) -> tuple[list[Opened], list[Decision]]:
        """Open the claimed files; return those that are on their way now, and what is decided on
        the others at once."""
        added: list[Opened] = []
        decided: list[Decision] = []
        for number, claim in enumerate(claims):
            found = self._open(claim)
            if isinstance(found, PutOff):
                self._put_off(found, [*claims[number:]], added, decided)
                return added, decided
            if isinstance(found, Opened):
                self._opened[claim.id] = found
                added.append(found)
            else:
                decided.append(found)
        shortage = _shortage()
        if claims and shortage is not None:
            verdict = decision(self._agent, claims[0], claims[0].identity, judge(shortage))
            if isinstance(verdict, PutOff):
                self._put_off(verdict, [], added, decided)
        return added, decided

    def _put_off(
        self, scarce: PutOff, left: list[Claimed], added: list[Opened], decided: list[Decision]
    ) -> None:
        """Leave room for the transfers and the settlement, which need descriptors, too: put off
        what is `left`, with some of those that were just opened."""
        left += self._close_some(added) or self._close_proven(decided)
        delay = 0.0 if self._opened or self._proven else scarce.delay
        decided += [replace(scarce, claim=each, delay=delay) for each in left]

    def _close_some(self, added: list[Opened]) -> list[Claimed]:
        """Close the last of those that were just added; what is left stays in the list."""
        count = min(SPARE_DESCRIPTORS, len(added) // 2)
        spared = added[len(added) - count :]
        del added[len(added) - count :]
        for one in spared:
            os.close(self._opened.pop(one.claim.id).upload.descriptor)
        return [one.claim for one in spared]

    def _close_proven(self, decided: list[Decision]) -> list[Claimed]:
        """Close the last of those that are only to be moved; what is left stays in the list."""
        proven = [one for one in decided if isinstance(one, Prove)]
        spared = proven[len(proven) - min(SPARE_DESCRIPTORS, len(proven) // 2) :]
        decided[:] = [one for one in decided if one not in spared]
        self._close(spared)
        return [one.claim for one in spared]

    def _close(self, proven: Iterable[Prove]) -> None:
        for one in proven:
            self._proven.remove(one.descriptor)
            os.close(one.descriptor)

    def settled(self, decisions: Iterable[Decision]) -> None:
        """Close the files that these were about."""
        for one in decisions:
            opened = self._opened.pop(one.claim.id, None)
            if opened is not None:
                os.close(opened.upload.descriptor)
            elif isinstance(one, Prove):
                self._close([one])

    def close(self) -> None:
        """Close what is open."""
        for descriptor in (*self._proven, *(one.upload.descriptor for one in self.every())):
            os.close(descriptor)
        self._proven.clear()
        self._opened.clear()

    def _open(self, claim: Claimed) -> Opened | Decision:
        """Open the claimed file, or decide at once: where it is only to be moved, too."""
        if claim.verdict is not None:
            return GiveUp(claim, claim.verdict)
        problem = layout.key_problem(claim.key, normalizes=self._profile.provider.normalizes_keys)
        if problem is not None:
            code, told = problem
            return GiveUp(claim, Reason(PERMANENT, code, f"{told}; {RENAMED}"))
        try:
            descriptor, identity = self._agent.spool.open(claim.path)
        except (Vanished, NotRegular):
            return Missing(claim)
        except OSError as error:
            return decision(self._agent, claim, claim.identity, judge(error))
        # Not by its device, which has another number once it was mounted again; the attempt takes
        # the new one down.
        if identity.inode != claim.identity.inode:
            os.close(descriptor)
            return Missing(claim)  # another file took its place
        verdict = None
        if identity != claim.identity:
            verdict = CHANGED
        elif syscalls.open_for_writing(descriptor):
            verdict = _WRITING
        elif _has_foreign_name(self._agent, claim, status := os.fstat(descriptor)):
            verdict = _LINKED
        if verdict is not None:
            os.close(descriptor)
            return decision(self._agent, claim, identity, verdict)
        changed = changed_ns(status)
        if claim.proof is not None and claim.proof.changed_ns == changed:
            self._proven.add(descriptor)
            return Prove(claim, Receipt(*claim.proof[:4]), descriptor, changed)
        upload = Upload(
            record_id=claim.id,
            bucket=claim.bucket,
            key=claim.key,
            descriptor=descriptor,
            size=identity.size,
            multipart_upload_id=claim.multipart_upload_id,
        )
        return Opened(claim, upload, identity, changed)


def _shortage() -> OSError | None:
    """Why a settlement could not open what it has to; None if it can."""
    spare: list[int] = []
    try:
        for _ in range(_SETTLEMENT):
            spare.append(os.open("/", os.O_PATH | os.O_CLOEXEC))
    except OSError as error:
        return error
    finally:
        for descriptor in spare:
            os.close(descriptor)
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
