"""Tells a person what one spool is doing."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

from humanize import naturaldelta, naturalsize

from flood import stall
from flood.advice import Advice
from flood.record_values import which_attempt
from flood.states import COMPLETED, FAILED, INCOMING_TMP
from flood.status import (
    AGES,
    NO_RECORD,
    RETRY,
    STAGES,
    SUPERSEDED,
    UNKNOWN,
    WAITING,
    WINDOWS,
    Back,
    Failure,
    Status,
    Upload,
)
from flood.status_fit import Part
from flood.status_layout import Columns, Flow, name
from flood.status_queries import Destination
from flood.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

#: A worker that is at work says so every second: one that has not for so long is told of.
_SILENCE: Final = timedelta(seconds=10)

#: How many destinations a failure names.
_PLACES: Final = 3

_MIB: Final = 1024**2

_STYLES: Final = {FAILED: "red", SUPERSEDED: "dim", COMPLETED: "dim"}


def render(status: Status, advice: Advice) -> "Iterator[RenderableType]":
    """What is to be shown; rich makes it fit the terminal's width."""
    for part in parts(status, advice):
        yield from part.shown


def parts(status: Status, advice: Advice) -> list[Part]:
    """The same for a terminal that may lack the height, too. What keeps everything from going on
    comes before what has failed, that before what goes well."""
    found = (
        Part(4, list(_head(status)), stays=True),
        Part(1, list(_warnings(status, advice)), stays=True),
        Part(5, list(_uploads(status)), lead=2),
        Part(6, list(_silent(status))),
        Part(8, list(_amounts(status)), lead=2),
        Part(10, list(_ages(status)), lead=2),
        Part(9, list(_back(status)), lead=2),
        Part(7, list(_retries(status)), lead=2),
        Part(2, list(_failed(status)), lead=2, stays=True),
        Part(3, list(_hints(status, advice)), stays=True),
        Part(11, list(_superseded(status)), lead=1),
        Part(12, list(_workers(status)), lead=2),
    )
    return [part for part in found if part.shown]


# --- parts ---------------------------------------------------------------------------------------


def _head(status: Status) -> "Iterator[RenderableType]":
    yield _facts(
        ("spool", (f"{status.server_directory},", f"database {status.database}")),
        ("at work", _at_work(status)),
        ("queue", _queue(status)),
        ("speed", _speed(status)),
    )


def _warnings(status: Status, advice: Advice) -> "Iterator[RenderableType]":
    """Why nothing goes on, where that is so."""
    waiting = status.total((*WAITING, INCOMING_TMP)).files
    if waiting and not (status.watching or status.consuming):
        yield _text(f"Nobody is at work, so all of it waits; to start: {advice.start()}", "yellow")
    elif waiting and not status.consuming:
        yield _text(
            f"No consumer runs, so nothing is uploaded; to start one: {advice.consumers()}",
            "yellow",
        )
    elif status.idle:
        yield _text(
            "All consumers are stopped, so nothing is uploaded; to let them go on: "
            f"{stall.go_on(status.stopped)}",
            "yellow",
        )
    elif status.stalled:
        yield _text(
            f"Files are due, yet {stall.WHY}; {stall.remedy(status.stalled)}",
            "yellow",
        )
    elif waiting and not status.watching:
        yield _text(
            f"flood-watch does not run, so what is in incoming waits; to start it: "
            f"{advice.watch()}",
            "yellow",
        )
    if status.stopped and not status.idle:
        count = len(status.stopped)
        told = f"{count} consumers are stopped, so what they have begun waits; to let them go on"
        if count == 1:
            told = "1 consumer is stopped, so what it has begun waits; to let it go on"
        yield _text(f"{told}: {stall.go_on(status.stopped)}", "yellow")
    if not status.whole:
        yield _text("Too many files to count them all in time: there are more", "yellow")


def _at_work(status: Status) -> Sequence[str]:
    busy = sum(upload.worker is not None for upload in status.uploads)
    watch = "flood-watch" if status.watching else "no flood-watch"
    if not status.consuming:
        return f"{watch},", "no consumer"
    processes = len({worker.doing.pid for worker in status.workers if worker.doing})
    consumers = f"{processes} consumer{'s' * (processes != 1)}" if processes else "consumers"
    workers = f"{len(status.workers)} worker{'s' * (len(status.workers) != 1)}"
    return f"{watch},", f"{consumers} with {workers},", f"{busy} busy"


def _queue(status: Status) -> Sequence[str]:
    facts = ["its tables are missing", "the next consumer makes them anew"]
    if status.queue is not None:
        tasks = "1 task" if status.queue[0] == 1 else f"{status.queue[0]} tasks"
        facts = [tasks, f"{status.queue[1]} scheduled"]
    if status.last_sweep is not None:
        facts.append(f"swept {_ago(status, status.last_sweep)}")
    return [*(f"{fact}," for fact in facts[:-1]), facts[-1]]


def _speed(status: Status) -> Sequence[str]:
    speeds = [(seconds, *status.speeds.get(seconds, (0, 0))) for seconds in WINDOWS]
    files = ", ".join(f"{files / seconds:.1f}" for seconds, files, _ in speeds)
    sizes = ", ".join(f"{size / seconds / _MIB:.1f}" for seconds, _, size in speeds)
    spans = ", ".join(str(seconds // 60) for seconds in WINDOWS)
    return f"{files} files/s;", f"{sizes} MiB/s", f"(last {spans} min)"


def _uploads(status: Status) -> "Iterator[RenderableType]":
    if not status.uploads:
        return
    from rich.progress_bar import ProgressBar

    table = Columns(
        *("UPLOADING", "", ">SENT", ">OF", ">RATE", ">LEFT", ">WORKER"),
        expendable=(1, 4, 6, 2, 3, 5),
    )
    for upload in status.uploads:
        known = upload.sent is not None
        table.add_row(
            name(_what(upload)),
            ProgressBar(total=max(upload.size, 1), completed=upload.sent or 0, width=10)
            if known
            else "",
            _size(upload.sent) if upload.sent is not None else "",
            _size(upload.size),
            f"{_size(round(upload.rate))}/s" if upload.rate else "",
            _clock(upload.left),
            _worker(upload),
        )
    yield from _section(table)


def _silent(status: Status) -> "Iterator[RenderableType]":
    """Which of the uploads may not be going on."""
    for upload in status.uploads:
        silence = _silence(status, upload)
        if silence is not None:
            yield _text(
                f"Worker {_worker(upload)} has been silent for {naturaldelta(silence)}: its store "
                "does not answer, or it is stopped",
                "yellow",
            )
        if upload.worker is None:
            yield _text(
                f"The worker of record {upload.record} died: a sweep of any consumer gives its "
                "files back within a minute",
                "yellow",
            )


def _what(upload: Upload) -> str:
    place = "/".join(upload.destination)
    if upload.key is not None:
        retry = f" (retry {upload.retry_count})" if upload.retry_count else ""
        return f"{place}/{upload.key}{retry}"
    return f"{place}: {upload.files_done} of {upload.files} files"


def _worker(upload: Upload) -> str:
    if upload.worker is None:
        return "dead"
    doing = upload.worker.doing
    return str(doing.pid) if doing else upload.owner[:8]


def _silence(status: Status, upload: Upload) -> timedelta | None:
    """For how long its worker, which lives, has not said how far it is, where that is long."""
    if upload.worker is None:
        return None
    doing = upload.worker.doing
    silence = status.at - (max(upload.since, doing.at) if doing else upload.since)
    return silence if silence > _SILENCE else None


def _amounts(status: Status) -> "Iterator[RenderableType]":
    table = Columns(*("DESTINATION", "STAGE", ">FILES", ">SIZE", ">OLDEST"), expendable=(3, 4))
    for place, stages in status.amounts.items():
        first = True
        for stage in STAGES:
            amount = stages.get(stage)
            if amount is None or not amount.files:
                continue
            table.add_row(
                name("/".join(place) if first else ""),
                _text(stage, _STYLES.get(stage, "")),
                f"{amount.files}",
                _size(amount.size),
                naturaldelta(status.at - amount.oldest) if amount.oldest else "",
            )
            first = False
    if table.row_count:
        yield from _section(table)
    else:
        yield _text("\nNo file has come yet.")
    gone = status.gone_before
    history = status.failed_records - status.total((FAILED, SUPERSEDED)).files - gone
    if history > 0:
        more = "1 more has" if history == 1 else f"{history} more have"
        file = "file is" if history == 1 else "files are"
        yield _text(f"{more} failed, whose {file} not in failed any more", "dim")
    if gone:
        more = "1 more has" if gone == 1 else f"{gone} more have"
        file = "its file was" if gone == 1 else "their files were"
        yield _text(
            f"{more} failed as {file} gone before the upload: put again what is needed", "dim"
        )


def _ages(status: Status) -> "Iterator[RenderableType]":
    places = {place: counts for place, counts in status.ages.items() if any(counts)}
    if not places:
        return
    bounds = [f"><{_short(seconds)}" for seconds in AGES]
    table = Columns(
        *("WAITING BY AGE", ">ALL", *bounds, f">>{_short(AGES[-1])}"),
        expendable=range(2, len(AGES) + 2),
    )
    for place, counts in places.items():
        cells = [str(count) if count else "." for count in counts]
        table.add_row(name("/".join(place)), str(sum(counts)), *cells)
    if len(places) > 1:
        sums = [sum(column) for column in zip(*places.values(), strict=True)]
        table.add_row("all", str(sum(sums)), *(str(each) if each else "." for each in sums))
    yield from _section(table)


def _back(status: Status) -> "Iterator[RenderableType]":
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
            naturaldelta(status.at - back.lying.since),
            name(_behind(status, back)),
        )
    if count > len(status.back):
        table.add_row(f"and {count - len(status.back)} more", "", "")
    yield from _section(table)


def _behind(status: Status, back: Back) -> str:
    behind = back.behind
    if behind is None:
        return back.in_the_way
    if behind.claimed:
        return f"record {behind.id}, being uploaded"
    if behind.due <= status.at:
        return f"record {behind.id}, due"
    return f"record {behind.id}, {which_attempt(behind.retry_count)} {_in(status, behind.due)}"


def _retries(status: Status) -> "Iterator[RenderableType]":
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
            str(coming.retry_count),
            _in(status, coming.due),
            name(coming.code or ""),
        )
    yield from _section(table)


def _superseded(status: Status) -> "Iterator[RenderableType]":
    count = status.total((SUPERSEDED,)).files
    if count:
        files, have = ("1 file", "has") if count == 1 else (f"{count} files", "have")
        yield ""
        yield _text(
            f"{files} in failed {have} a later version under way or completed; flood-retry goes "
            "over that only with --overwrite-newer",
            "dim",
        )


def _failed(status: Status) -> "Iterator[RenderableType]":
    if not status.failures:
        return
    headers = ("FAILED", ">FILES", ">SIZE", ">LATEST", "WHERE")
    table = Columns(*headers, style="bold red", giving=(4,), expendable=(2, 3, 4))
    for failure in status.failures:
        table.add_row(
            _text(failure.code),
            str(failure.files),
            _size(failure.size),
            _ago(status, failure.newest) if failure.newest else "",
            name(_places([place for place, _ in failure.destinations.most_common()])),
        )
    yield from _section(table)


def _hints(status: Status, advice: Advice) -> "Iterator[RenderableType]":
    """What each of the failures says, with what puts its files back."""
    from rich.console import Group

    for failure in status.failures:
        told = list(_hint(failure, advice))
        if told:
            yield Group(*told)


def _hint(failure: Failure, advice: Advice) -> "Iterator[RenderableType]":
    from rich.padding import Padding

    if failure.hint:
        yield Padding(_text(f"{failure.code}: {failure.hint}"), (0, 0, 0, 2))
    what, command = "once that is mended", advice.retry("--error", failure.code)
    if failure.code == NO_RECORD:
        what, command = f"{NO_RECORD}: to make records of them", advice.repair()
    if failure.code != UNKNOWN:
        yield Padding(_text(f"{what}: {command}"), (0, 0, 0, 4 if failure.hint else 2))


def _places(places: Sequence[Destination]) -> str:
    more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    return ", ".join("/".join(place) for place in places[:_PLACES]) + more


def _workers(status: Status) -> "Iterator[RenderableType]":
    if not status.workers:
        return
    busy = {upload.owner for upload in status.uploads}
    table = Columns(">CONSUMER", ">WORKERS", ">BUSY", ">LAST AT WORK")
    for pid, group in groupby(status.workers, key=lambda one: one.doing.pid if one.doing else 0):
        workers = list(group)
        said = [worker.doing.at for worker in workers if worker.doing]
        table.add_row(
            str(pid) if pid else "?",
            str(len(workers)),
            str(sum(worker.owner in busy for worker in workers)),
            "stopped" if pid in status.stopped else _ago(status, max(said)) if said else "",
        )
    yield from _section(table)


# --- words ---------------------------------------------------------------------------------------


def _ago(status: Status, moment: datetime) -> str:
    return f"{naturaldelta(status.at - moment)} ago"


def _in(status: Status, moment: datetime) -> str:
    return f"in {naturaldelta(moment - status.at)}"


def _size(count: int) -> str:
    return naturalsize(count, binary=True).replace(" Bytes", " B").replace(" Byte", " B")


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _short(seconds: int) -> str:
    return f"{seconds // 3600}h" if seconds >= 3600 else f"{seconds // 60}m"


def _text(words: str, style: str = "") -> "Text":
    from rich.text import Text

    return Text(printable(words) if not words.startswith("\n") else words, style=style)


def _facts(*facts: tuple[str, Sequence[str]]) -> "Table":
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for title, pieces in facts:
        table.add_row(_text(title, "bold"), Flow(*pieces))
    return table


def _section(table: Columns) -> "Iterator[RenderableType]":
    yield ""
    yield table
