"""Whatever directories and records say, a repair with a sweep brings them together."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from flood import models
from flood.columns import utc_text
from flood.identity import Identity
from flood.record_values import Arrival, Reason
from flood.states import COMPLETED, FAILED, FAILURE, PERMANENT, PROCESSING, STATES, SUCCESS
from tests.fscking import CLEAN, consistent, fsck, names
from tests.spooling import NOBODY, START, House, quick_house
from workers.decisions import GiveUp

#: Names in each other's way among them.
KEYS = ("a", "b/c", "d", "a.~1~")
REFUSED = Reason(PERMANENT, "refused", "the store refuses it")


@dataclass(frozen=True)
class Row:
    """A record: its state, which of its key's files it is of (None for one that is gone), whether a
    dead worker has claimed it, when it is due."""

    state: str
    file: int | None
    claimed: bool
    due: str | None


@dataclass(frozen=True)
class Key:
    """A key: in which states it has a file, its records."""

    places: tuple[str, ...]
    rows: tuple[Row, ...]


moments = st.sampled_from([None, utc_text(START), "2999-01-01T00:00:00.000000Z"])
rows = st.builds(
    Row, st.sampled_from(STATES), st.none() | st.integers(0, 4), st.booleans(), moments
)
keys = st.builds(
    Key,
    st.lists(st.sampled_from(STATES), unique=True).map(tuple),
    st.lists(rows, max_size=3).map(tuple),
)


def make(house: House, key: str, what: Key) -> None:
    identities = []
    for state in what.places:
        path = f"{state}/p/b/{key.replace('/', '-') if state == 'incoming_tmp' else key}"
        identities.append((path, house.write(path, f"{state} {key}".encode())))
    in_processing = False
    for row in what.rows:
        gone = ("gone", Identity(1, 1, 1, 1))
        known = row.file is not None and row.file < len(identities)
        path, identity = identities[row.file or 0] if known else gone
        if row.state == PROCESSING and in_processing:
            continue  # the index holds that
        in_processing |= row.state == PROCESSING
        if not path.startswith(f"{row.state}/"):
            path = f"{row.state}/p/b/{key}"
        insert(row, Arrival("p", "b", key, path, identity, START))


def insert(row: Row, arrival: Arrival) -> None:
    claimed = row.claimed and row.state == PROCESSING
    outcome = {COMPLETED: SUCCESS, FAILED: FAILURE}.get(row.state)
    now = utc_text(START)
    models.execute(
        "INSERT INTO file_records (profile, bucket, filepath, file_creation_date, current_state, "
        "last_updated, upload_outcome, device, inode, size, mtime_ns, spool_path, "
        "next_attempt_at, owner, claimed_at, claim_size, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(arrival.profile, arrival.bucket, arrival.key, now, row.state, now, outcome),
            *arrival.identity,
            arrival.path,
            row.due if row.state == PROCESSING else None,
            NOBODY if claimed else None,
            now if claimed else None,
            1 if claimed else 0,
            now,
        ),
    )


@settings(max_examples=50)
@given(st.tuples(*[keys] * len(KEYS)))
def test_any_state_is_brought_together(states: tuple[Key, ...]) -> None:
    with quick_house() as house:
        for key, what in zip(KEYS, states, strict=True):
            make(house, key, what)
        before = {path: data for path, data in house.files().items() if "incoming_tmp" not in path}
        report = fsck(house, repair=True)
        assert names(report) == CLEAN, report.reasons
        assert names(fsck(house)) == CLEAN
        # No file is lost, or another by now.
        assert sorted(house.files().values()) == sorted(before.values())

        # Then flood goes on, until every file has come to its end.
        for _ in range(4 * len(KEYS)):
            house.recover()
            house.clock.advance(86_400.0 * 30)
            house.sweep()
            house.settle(*(GiveUp(claim, REFUSED) for claim in house.claim()))
        assert sorted(house.files().values()) == sorted(before.values())
        assert {path.partition("/")[0] for path in house.files()} <= {COMPLETED, FAILED}
        consistent(house)
        assert names(fsck(house)) == CLEAN
