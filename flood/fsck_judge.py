"""Judges one record, or one file, by the one rule."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from flood import fsck_kinds as kinds
from flood import layout, queries
from flood.columns import utc_text
from flood.fsck_kinds import Finding, Kind
from flood.fsck_queries import Recorded
from flood.identity import Identity
from flood.layout import Place
from flood.record_values import Row
from flood.states import COMPLETED, FAILED, INCOMING, INCOMING_TMP, PROCESSING, STATES
from flood.whereabouts import lies_in

_ARRIVING: Final = (INCOMING_TMP, INCOMING)
_UNSETTLED: Final = (*_ARRIVING, PROCESSING)
_SUFFIX: Final = re.compile(r"\.~(\d{1,18})(?:\.\d)?~(?:/|$)")


class Directories(Protocol):
    """The spool, or a list of what it held."""

    def identify(self, path: str) -> Identity | None:
        """The identity of the regular file at `path`; None if none is there."""

    def changed_at(self, path: str) -> datetime | None:
        """When the inode last changed (aware); None if the file is gone."""

    def closed(self, path: str) -> str | None:
        """The directory on the way to `path` that this user may not look into; None if none is."""


@dataclass(frozen=True)
class Judge:
    """What one look goes by. `dead` tells whether a worker is gone; `putting` whether any flood-put
    lives; `abandoned` whether nobody copies into a file of incoming_tmp any more; nothing is due
    later than `latest` (aware) in good order."""

    directories: Directories
    dead: Callable[[str], bool]
    putting: bool
    abandoned: Callable[[str], bool]
    latest: datetime

    # --- records -----------------------------------------------------------------------------

    def record(self, recorded: Recorded) -> Finding | None:
        """What is wrong with this record, None if nothing is."""
        row = recorded.row
        if layout.parse(row.path) is None:
            return _of(recorded, kinds.CONTRADICTION, detail=f"its path is {row.path!r}")
        if row.state in _ARRIVING:
            return self._arriving(recorded)
        if row.state == PROCESSING:
            return self._processing(recorded)
        return self._settled(recorded)

    def _arriving(self, recorded: Recorded) -> Finding | None:
        row = recorded.row
        taken = _place(row, PROCESSING).path
        if self._has(taken, row):
            occupant = queries.at_paths([taken], PROCESSING).get(taken)
            if occupant is None or not _same(occupant.identity, row.identity):
                return None  # S2, which its file tells of
            return _of(recorded, kinds.SECOND_RECORD, detail=f"the other is record {occupant.id}")
        if self._has(row.path, row) or self._has(_place(row, INCOMING).path, row):
            return None
        settled = self._settled_already(recorded)
        if settled is not None:
            return settled
        if row.state == INCOMING_TMP and self.putting:
            return None  # a flood-put that lives removes its copy, then ends the record
        return self._gone(recorded)

    def _processing(self, recorded: Recorded) -> Finding | None:
        row = recorded.row
        if row.path != _place(row, PROCESSING).path:
            return _of(recorded, kinds.CONTRADICTION, detail=f"its path is {row.path!r}")
        if row.owner is not None and not self.dead(row.owner):
            return None  # S5, wherever its worker has moved the file by now
        if self._has(row.path, row):
            if row.owner is not None:
                return _of(recorded, kinds.DEAD_CLAIM, path=row.path)
            return self._due(recorded)
        settled = self._settled_already(recorded)
        if settled is not None:
            return settled
        arrived = _place(row, INCOMING).path
        if self._has(arrived, row):
            # The claim has to end before anybody may take the file.
            kind = kinds.RAN_AHEAD if row.owner is None else kinds.DEAD_CLAIM
            return _of(recorded, kind, path=arrived)
        return self._gone(recorded)

    def _gone(self, recorded: Recorded) -> Finding | None:
        row = recorded.row
        paths = (row.path, *(_place(row, state).path for state in STATES))
        if any(self.directories.closed(path) is not None for path in paths):
            return None  # it may lie there: that is told of the directory
        return _of(recorded, kinds.VANISHED, path=row.path)

    def _due(self, recorded: Recorded) -> Finding | None:
        due = recorded.next_attempt_at
        if due is not None and due <= utc_text(self.latest):
            return None
        return _of(recorded, kinds.NEVER_DUE, path=recorded.row.path, detail=f"due: {due}")

    def _settled_already(self, recorded: Recorded) -> Finding | None:
        place = lies_in(self.directories, recorded.row)
        if place is None:
            return None
        kind = kinds.PROVEN if place.state == COMPLETED else kinds.GIVEN_UP
        return _of(recorded, kind, path=place.path)

    def _settled(self, recorded: Recorded) -> Finding | None:
        row = recorded.row
        arrived = _place(row, INCOMING)
        if self.directories.identify(arrived.path) == row.identity and self.ran_ahead(
            arrived, row.identity, row.id
        ):
            return _of(recorded, kinds.RAN_AHEAD, path=arrived.path)
        return None

    def _has(self, path: str, row: Row) -> bool:
        """Whether the record's file lies there, whatever its content is by now."""
        found = self.directories.identify(path)
        return found is not None and _same(found, row.identity)

    # --- files -------------------------------------------------------------------------------

    def ran_ahead(self, place: Place, identity: Identity, record: int | None = None) -> int | None:
        """S12: the settled record of the very file at this place, unless somebody moved it back."""
        changed = self.directories.changed_at(place.path)
        if changed is None:
            return None
        row = queries.settled(place.profile, place.bucket, place.key, identity, changed)
        return row.id if row and record in (None, row.id) else None

    def file(
        self, path: str, by_inode: Mapping[tuple[int, int], Sequence[Recorded]]
    ) -> Finding | None:
        """What is wrong with the file at `path`, None if nothing is; the records that may know it
        come by device and inode."""
        identity = self.directories.identify(path)
        if identity is None:
            return None
        place = layout.parse(path)
        if place is None:
            return Finding(kinds.MISPLACED, path)
        if place.state == INCOMING_TMP:
            return _at(place, kinds.LEFT_OVER) if self.abandoned(path) else None
        own = by_inode.get((identity.device, identity.inode), ())
        if place.state == PROCESSING:
            return self._taken(place, identity, own)
        if place.state in (COMPLETED, FAILED):
            return _in_the_end(place, identity, own)
        return None

    def _taken(self, place: Place, identity: Identity, own: Sequence[Recorded]) -> Finding | None:
        if any(each.row.state == PROCESSING and each.row.path == place.path for each in own):
            return None
        occupant = queries.at_paths([place.path], PROCESSING).get(place.path)
        if occupant is not None and occupant.owner is not None and not self.dead(occupant.owner):
            return None  # its worker settles the file that was there before
        ahead = self.ran_ahead(place, identity)
        if ahead is not None:
            return _at(place, kinds.RAN_AHEAD, identity, record=ahead)
        begun = next((x.row.id for x in own if x.row.state in _ARRIVING), None)
        return _at(place, kinds.TAKEN, identity, record=begun)


def records_named(path: str) -> list[int]:
    """The records after which a file, whose place was taken, was named."""
    return [int(number) for number in _SUFFIX.findall(path)]


def _in_the_end(place: Place, identity: Identity, own: Sequence[Recorded]) -> Finding | None:
    rows = [each.row for each in own]
    every = [x for x in own if x.row.state == place.state and x.row.path == place.path]
    here = [x.row for x in every if x.left_at is None]
    if any(row.identity == identity for row in here):
        return None
    if any(row.state in _UNSETTLED for row in rows):
        return None  # its record is behind, or about to follow
    left = [x.row for x in every if x.left_at is not None]
    if left and not here:
        return _at(place, kinds.RETURNED, identity, left[-1].id)
    if here and place.state == FAILED:
        return None  # a file may be mended there before it is moved back
    if here:
        return _at(place, kinds.ALTERED, identity, here[-1].id)
    return _at(place, kinds.UNRECORDED, identity)


def _same(one: Identity, other: Identity) -> bool:
    return one[:2] == other[:2]


def _place(row: Row, state: str) -> Place:
    return Place(state, row.profile, row.bucket, row.key)


def _at(
    place: Place, kind: Kind, version: tuple[Any, ...] = (), record: int | None = None
) -> Finding:
    return Finding(kind, place.path, record, place.profile, place.bucket, place.key, None, version)


def _of(
    recorded: Recorded, kind: Kind, *, path: str | None = None, detail: str | None = None
) -> Finding:
    row = recorded.row
    version = (recorded.last_updated, recorded.claim_number, row.owner)
    return Finding(kind, path, row.id, row.profile, row.bucket, row.key, detail, version)
