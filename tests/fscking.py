"""flood-fsck on the spool of one test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flood import models
from flood.fsck import Fsck
from flood.fsck_report import Report
from flood.states import COMPLETED, FAILED, PROCESSING
from flood.tasks import enqueue, enqueue_ring
from huey_config import huey
from tests.spooling import Clock, House

#: What a spool in order says of itself.
CLEAN: list[tuple[str, str | None]] = []


def fsck(house: House, *, repair: bool = False, waits: Callable[[], None] | None = None) -> Report:
    """One run; `waits` is called whenever it waits."""
    passing = Clock()

    def sleep(seconds: float) -> None:
        passing.advance(seconds)
        if waits is not None:
            waits()

    @contextmanager
    def bar() -> Iterator[Callable[[int], None]]:
        yield lambda _count: None

    models.close()
    try:
        return Fsck(
            house.spool,
            house.database,
            house.settings(),
            now=house.clock.now,
            clock=passing.seconds,
            sleep=sleep,
            bar=bar,
            enqueue=enqueue,
            ring=enqueue_ring,
            queue=huey.storage.make_anew,
        ).run(repair=repair)
    finally:
        models.bind(house.database)  # its connection may not write


def names(report: Report) -> list[tuple[str, str | None]]:
    """Each discrepancy by its kind and state."""
    return sorted((x.kind.name, x.kind.state) for x in report.found if x.kind.counts)


def consistent(house: House) -> None:
    """Every file has its record, every record its file; nothing is claimed by the dead."""
    files = house.files()
    for state in (PROCESSING, COMPLETED, FAILED):
        places = {row["spool_path"] for row in house.rows("current_state = ?", state)}
        lying = {path for path in files if path.startswith(f"{state}/")}
        assert lying <= places
        if state == PROCESSING:
            assert lying == places
    assert house.rows("current_state IN ('incoming_tmp', 'incoming')") == []
    assert house.rows("owner IS NOT NULL") == []
