"""Shows a person how far files have come."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from flood.phrases import named
from flood.record_values import which_attempt
from flood.states import COMPLETED, FAILED
from flood.status import AGES, RETRY, STAGES, SUPERSEDED, Back, Status
from flood.status_layout import Columns, section
from flood.status_words import name, short, size, text, until, waited

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES: Final = {FAILED: "red", SUPERSEDED: "dim", COMPLETED: "dim"}


def amounts(status: Status) -> "Iterator[RenderableType]":
    """How many files are where."""
    table = Columns(*("DESTINATION", "STAGE", ">FILES", ">SIZE", ">OLDEST"), expendable=(3, 4))
    for place, stages in status.amounts.items():
        first = True
        for stage in STAGES:
            amount = stages.get(stage)
            if amount is None or not amount.files:
                continue
            table.add_row(
                name("/".join(place) if first else ""),
                text(stage, _STYLES.get(stage, "")),
                f"{amount.files}",
                size(amount.size),
                waited(status, amount.oldest) if amount.oldest else "",
            )
            first = False
    if table.row_count:
        yield from section(table)
    else:
        yield text(f"\n{_none(status)}")
    gone = len(status.gone_before)
    history = status.failed_files - status.total((FAILED, SUPERSEDED)).files - gone
    # What was not counted may well lie there.
    if history > 0 and (status.whole or status.unsought):
        more = "1 more has" if history == 1 else f"{history} more have"
        file = "file is" if history == 1 else "files are"
        yield text(f"{more} failed, whose {file} not in failed any more", "dim")
    if gone:
        more = "1 more has" if gone == 1 else f"{gone} more have"
        file = "its file was" if gone == 1 else "their files were"
        keys = dict.fromkeys(f"s3://{'/'.join(key)}" for key in status.gone_before)
        yield text(
            f"{more} failed as {file} gone before the upload: put again what is needed of "
            f"{named(list(keys))}",
            "dim",
        )


def _none(status: Status) -> str:
    """What is true where no file is counted."""
    if status.in_processing or status.left_alone or not status.whole:
        return "No file is counted."
    if status.recorded:
        return "Nothing waits, and nothing lies in failed."
    return "No file has come yet."


def ages(status: Status) -> "Iterator[RenderableType]":
    """How long files wait."""
    places = {place: counts for place, counts in status.ages.items() if any(counts)}
    if not places:
        return
    bounds = [f"><{short(seconds)}" for seconds in AGES]
    table = Columns(
        *("WAITING BY AGE", ">ALL", *bounds, f">>{short(AGES[-1])}"),
        expendable=range(2, len(AGES) + 2),
    )
    for place, counts in places.items():
        cells = [str(count) if count else "." for count in counts]
        table.add_row(name("/".join(place)), str(sum(counts)), *cells)
    if len(places) > 1:
        sums = [sum(column) for column in zip(*places.values(), strict=True)]
        table.add_row("all", str(sum(sums)), *(str(each) if each else "." for each in sums))
    yield from section(table)


def held_back(status: Status) -> "Iterator[RenderableType]":
    """What waits for an earlier file."""
    if not status.held_back:
        return
    count = status.held_back
    table = Columns(
        *(f"HELD BACK IN INCOMING: {count}", ">FOR", "BEHIND"), giving=(0, 2), expendable=(1,)
    )
    for back in status.back:
        place = back.lying.place
        table.add_row(
            name(f"{place.profile}/{place.bucket}/{place.key}"),
            waited(status, back.lying.since),
            name(_behind(status, back)),
        )
    if count > len(status.back):
        table.add_row(f"and {count - len(status.back)} more", "", "")
    yield from section(table)


def _behind(status: Status, back: Back) -> str:
    behind = back.behind
    if behind is None:
        return f"{back.in_the_way}, a {back.oddity}" if back.oddity else back.in_the_way
    if behind.claimed:
        return f"record {behind.id}, being uploaded"
    if behind.due <= status.at:
        return f"record {behind.id}, due"
    attempt = which_attempt(behind.retry_count, behind.move_to)
    return f"record {behind.id}, {attempt} {until(status, behind.due)}"


def retries(status: Status) -> "Iterator[RenderableType]":
    """What is tried again next."""
    if not status.retries:
        return
    table = Columns(
        *(f"NEXT RETRIES OF {status.total((RETRY,)).files}", ">RETRY", ">DUE", "REASON"),
        giving=(0, 3),
        expendable=(1,),
    )
    for coming in status.retries:
        table.add_row(
            name(f"{'/'.join(coming.destination)}/{coming.key}"),
            "move" if coming.move_to else str(coming.retry_count),
            until(status, coming.due),
            name(coming.code or ""),
        )
    yield from section(table)
