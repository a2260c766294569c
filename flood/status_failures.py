"""Shows a person what has failed."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from flood.advice import Advice
from flood.phrases import files
from flood.states import MISNAMED
from flood.status import NO_RECORD, SUPERSEDED, UNKNOWN, Failure, Status
from flood.status_layout import Columns, section
from flood.status_queries import Destination
from flood.status_words import ago, name, size, text

if TYPE_CHECKING:
    from rich.console import RenderableType

#: How many destinations a failure names.
_PLACES: Final = 3


def superseded(status: Status) -> "Iterator[RenderableType]":
    """What flood-retry would refuse."""
    count = status.total((SUPERSEDED,)).files
    if count:
        have = "has" if count == 1 else "have"
        yield ""
        yield text(
            f"{files(count)} in failed {have} a later version under way or completed; flood-retry "
            "goes over that only with --overwrite-newer",
            "dim",
        )


def failed(status: Status) -> "Iterator[RenderableType]":
    """What waits for a person."""
    if not status.failures:
        return
    headers = ("FAILED", ">FILES", ">SIZE", ">LATEST", "WHERE")
    table = Columns(*headers, style="bold red", giving=(4,), expendable=(2, 3, 4))
    for failure in status.failures:
        table.add_row(
            text(failure.code),
            str(failure.files),
            size(failure.size),
            ago(status, failure.newest) if failure.newest else "",
            name(_places([place for place, _ in failure.destinations.most_common()])),
        )
    yield from section(table)


def hints(status: Status, advice: Advice) -> "Iterator[RenderableType]":
    """What each of the failures says, with what puts its files back."""
    from rich.console import Group

    for failure in status.failures:
        told = list(_hint(failure, advice))
        if told:
            yield Group(*told)


def _hint(failure: Failure, advice: Advice) -> "Iterator[RenderableType]":
    from rich.padding import Padding

    if failure.hint:
        yield Padding(text(f"{failure.code}: {failure.hint}"), (0, 0, 0, 2))
    what, command = "once that is mended", advice.retry("--error", failure.code)
    if failure.code == NO_RECORD:
        what, command = f"{NO_RECORD}: to make records of them", advice.repair()
    if failure.code != UNKNOWN and failure.code not in MISNAMED:
        yield Padding(text(f"{what}: {command}"), (0, 0, 0, 4 if failure.hint else 2))


def _places(places: Sequence[Destination]) -> str:
    more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    return ", ".join("/".join(place) for place in places[:_PLACES]) + more
