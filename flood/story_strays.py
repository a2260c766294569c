"""Says what happens to files of one key that lie where no record of it has them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flood import put_locks, queries
from flood.advice import Advice
from flood.layout import Place
from flood.record_values import Row
from flood.spool import Spool
from flood.stall import go_on
from flood.states import COMPLETED, FAILED, INCOMING, INCOMING_TMP, PROCESSING
from flood.story_queries import Record


@dataclass(frozen=True)
class Stray:
    """A file by its path from the server directory, its state, and what happens next."""

    path: str
    state: str
    next: str


def look(
    spool: Spool, place: Place, records: Sequence[Record], lying: Sequence[str], advice: Advice
) -> Iterator[Stray]:
    """Those of the paths that are `lying`, outside of incoming, where none of these `records` of
    the key at `place` has its file."""
    for state in (INCOMING_TMP, PROCESSING, COMPLETED, FAILED):
        path = place.moved(state).path
        if state == PROCESSING and begun(spool, place, records) is not None:
            continue
        if path in lying and not any(
            one.path == path and one.state == state and one.left is None for one in records
        ):
            yield Stray(path, state, _next(spool, place, path, state, advice))


def begun(spool: Spool, place: Place, records: Sequence[Record]) -> Record | None:
    """The one of these records that does not say yet that its file was taken, as who took it died;
    None if there is none."""
    found = spool.identify(place.moved(PROCESSING).path)
    if found is None:
        return None
    arriving = (one for one in records if one.state in (INCOMING, INCOMING_TMP))
    return next((one for one in arriving if one.identity[:2] == found[:2]), None)


def _next(spool: Spool, place: Place, path: str, state: str, advice: Advice) -> str:
    kind = spool.oddity(path)
    if kind is not None:
        return f"left alone, as it is no regular file but a {kind}: remove it"
    if state == INCOMING_TMP:
        return (
            "the next start of flood-watch deletes it, as a copy that flood-put has not finished; "
            "to have it uploaded, move it to incoming"
        )
    row = _owner(spool, path, path, state)
    if row is not None and row.key != place.key:
        return f"it is the file of record {row.id}, whose place was taken: {_uri(row)}"
    if state == PROCESSING:
        if row is not None:
            return f"it was taken at this moment, as record {row.id}"
        return taken_up(spool, advice)
    coming = _owner(spool, path, place.moved(PROCESSING).path, PROCESSING)
    if coming is not None:
        return f"record {coming.id} is about to say so, at the latest with a consumer's next sweep"
    if row is not None:
        return f"record {row.id} says that it has left; to let it take it back: {advice.repair()}"
    if state == COMPLETED:
        return (
            "nothing, as nothing tells whether it was uploaded; to have it uploaded, move it to "
            f"incoming; to have a record made of it: {advice.repair()}"
        )
    return (
        "a person moves it to incoming, where flood-watch takes it as a new file, or has a record "
        f"made of it, which flood-retry can put back: {advice.repair()}"
    )


def taken_up(spool: Spool, advice: Advice) -> str:
    """Who takes up a file in processing that no record has there, and when."""
    if not put_locks.watching(spool):
        return f"the next start of flood-watch takes it up; at once: {advice.once()}"
    stopped = put_locks.watch_stopped(spool)
    goes_on = "" if stopped is None else f", once it goes on, as it is stopped: {go_on([stopped])}"
    return (
        "flood-watch takes it up when it looks through processing again, as a rule within "
        f"--rescan-interval{goes_on}; at once: {advice.repair()}"
    )


def _owner(spool: Spool, path: str, said: str, state: str) -> Row | None:
    """The record that says, in this state, of the very file at `path` that it lies at `said`."""
    row = queries.at_paths([said], state).get(said)
    found = spool.identify(path)
    return row if row and found and found[:2] == row.identity[:2] else None


def _uri(row: Row) -> str:
    return f"s3://{row.profile}/{row.bucket}/{row.key}"
