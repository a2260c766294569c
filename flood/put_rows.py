"""Keeps the records of files that flood-put is copying."""

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial

from flood import binding, cards, database_files, devices, models, read_only, records, schema
from flood.destination import Destination
from flood.errors import FloodError, NoRoomError, SpoolError
from flood.put_copy import Copy
from flood.record_values import Arrival, Reason
from flood.spool import Spool


def check_set_up(spool: Spool, database: str | None) -> str:
    """Return the database that this spool was set up with; raise SpoolError if it never was, or is
    not where `database`, which flood-watch would use here, has it.

    What looks like a new spool may be a disk that is not mounted: nothing must be put there.
    """
    cards.check_outside(spool.root)
    recorded = cards.database_of(spool.root)
    if recorded is None:
        if database is not None:
            binding.check_lost(spool.root, database)
        raise SpoolError(
            f"{spool.root} is no spool yet, or its disk is not mounted",
            "start flood-watch on it first, or set --server-directory (FLOOD_SERVER_DIRECTORY) to "
            "the one that flood-watch uses",
        )
    return recorded


def connect(spool: Spool, database: str | None, now: datetime) -> str | None:
    """Open the spool's database, `database` or where that is None the one that the spool was set
    up with. Returns None, or why files have to be put without rows.

    Raises SpoolError if the spool was never set up, or does not belong to the database.
    """
    recorded = check_set_up(spool, database)
    path = recorded if database is None else database
    try:
        os.stat(path)
    except PermissionError:
        return f"this user may not look at the database {path}"
    except OSError:
        if path != recorded and os.path.exists(recorded):
            raise SpoolError(
                f"the database {path} does not exist, and {spool.root} belongs to {recorded}: "
                "correct --database (FLOOD_DATABASE) or leave it out"
            ) from None
        return f"there is no database {path}"
    if read_only.mounted(path):
        return f"the database {path} is on a filesystem that is mounted read-only"
    if not _writable(path):
        return f"this user may not write to the database {path}"
    compare = partial(binding.compare, spool.root, path, create=False)
    schema.migrate(path, create=False, server_directory=spool.root, check=compare)
    binding.bind(spool, path, create=False, now=now)
    devices.follow(spool)
    return None


def _writable(path: str) -> bool:
    # SQLite makes files beside the database.
    needed = (os.path.dirname(path), path, *filter(os.path.exists, database_files.files(path)))
    return all(os.access(each, os.R_OK | os.W_OK, effective_ids=True) for each in needed)


class Rows:
    """The records of one run. Files come before rows: when the database fails, the run goes on
    without, unless rows are `required` to tell how the uploads end; `notice` is told."""

    def __init__(
        self,
        destination: Destination,
        *,
        recording: bool,
        required: bool,
        now: Callable[[], datetime],
        notice: Callable[[str], None],
    ) -> None:
        self._destination = destination
        self._recording = recording
        self._required = required
        self._now = now
        self._notice = notice

    def begin(self, copies: Sequence[Copy]) -> None:
        """Make a row for each copy. Raises FloodError where rows are required."""
        if not copies:
            return
        arrivals = [self._arrival(copy) for copy in copies]
        ids: list[int] = []
        self._write(lambda: ids.extend(records.put_begun(arrivals, self._now())), self._required)
        for copy, record in zip(copies, ids, strict=self._recording):
            copy.record = record

    def correct(self, copies: Sequence[Copy]) -> None:
        """Note what these copies became, other than announced. Raises as `begin` does."""
        self._each(
            copies,
            lambda record, copy: records.put_changed(record, copy.identity, self._now()),
            required=self._required,
        )

    def arrive(self, copies: Sequence[Copy]) -> None:
        """Note that these are in incoming; the watcher brings forward what this does not."""
        self._each(
            copies,
            lambda record, copy: records.put_arrived(record, copy.target, self._now()),
            required=False,
        )

    def abandon(self, copies: Sequence[Copy], reason: Reason) -> None:
        """Note that these copies were removed; a sweep ends what this does not."""
        self._each(
            copies,
            lambda record, _: records.vanish(record, self._now(), reason=reason),
            required=False,
        )

    def _each(
        self, copies: Sequence[Copy], change: Callable[[int, Copy], bool], *, required: bool
    ) -> None:
        known = [(copy.record, copy) for copy in copies if copy.record is not None]

        def change_all() -> None:
            for record, copy in known:
                change(record, copy)

        if known:
            self._write(change_all, required)

    def _write(self, work: Callable[[], None], required: bool) -> None:
        if not self._recording:
            return
        try:
            with models.write():
                work()
        except (models.DatabaseError, OSError) as error:
            if required:
                kind = NoRoomError if models.no_room(error) else FloodError
                raise kind(f"cannot write to the database: {models.explain(error)}") from error
            self._recording = False
            self._notice(f"cannot write to the database ({error}): files are put without records")

    def _arrival(self, copy: Copy) -> Arrival:
        destination = self._destination
        return Arrival(
            destination.profile,
            destination.bucket,
            copy.source.key,
            copy.path,
            copy.identity,
            _moment(copy),
        )


def _moment(copy: Copy) -> datetime:
    seconds = copy.identity.mtime_ns / 1e9 if copy.birth is None else copy.birth
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, timezone.utc)  # a time that no calendar has
