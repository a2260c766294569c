"""Shows a person who is at work on a spool."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

from humanize import intcomma, naturaldelta

from flood import stall
from flood.advice import Advice
from flood.door import FORGOTTEN
from flood.phrases import files, named
from flood.states import INCOMING_TMP
from flood.status import WAITING, WINDOWS, Status, Upload
from flood.status_layout import Columns, facts, section
from flood.status_words import ago, clock, name, size, text

if TYPE_CHECKING:
    from rich.console import RenderableType

#: A worker that is at work says so every second: one that has not for so long is told of, as is one
#: that says of its store that this has taken nothing for so long.
_SILENCE: Final = timedelta(seconds=10)

_MIB: Final = 1024**2


def head(status: Status) -> "Iterator[RenderableType]":
    """Which spool it is, what happens there."""
    yield facts(
        ("spool", (f"{status.server_directory},", f"database {status.database}")),
        ("at work", _at_work(status)),
        ("queue", _queue(status)),
        ("speed", _speed(status)),
    )


def warnings(status: Status, advice: Advice) -> "Iterator[RenderableType]":
    """Why nothing goes on, where that is so."""
    if status.kept:
        yield text(f"Nobody can write to the database: {status.kept}", "yellow")
    waiting = status.total((*WAITING, INCOMING_TMP)).files
    if waiting and status.starting and not status.idle:
        yield text(
            f"No consumer takes files yet: {stall.STARTING}; so does: {advice.check()}", "yellow"
        )
    if waiting and not (status.watching or status.started):
        yield text(f"Nobody is at work, so all of it waits; to start: {advice.start()}", "yellow")
    elif waiting and not status.started:
        yield text(
            f"No consumer runs, so nothing is uploaded; to start one: {advice.consumers()}",
            "yellow",
        )
    elif status.idle:
        yield text(
            "All consumers are stopped, so nothing is uploaded; to let them go on: "
            f"{stall.go_on(status.stopped)}",
            "yellow",
        )
    elif status.stalled and not status.kept:
        yield text(
            f"Files are due, yet {stall.WHY}; {stall.remedy(status.stalled)}",
            "yellow",
        )
    elif waiting and not status.watching:
        yield text(
            f"flood-watch does not run, so what is in incoming waits; to start it: "
            f"{advice.watch()}",
            "yellow",
        )
    if status.watch_stopped is not None:
        yield text(
            "flood-watch is stopped, so what is put into incoming stays there; to let it go on: "
            f"{stall.go_on([status.watch_stopped])}",
            "yellow",
        )
    if status.unserved:
        yield text(
            f"Files are due that no worker takes, though one is free: the credentials may lack "
            f"the profile{'s' * (len(status.unserved) > 1)} {', '.join(status.unserved)}; to see "
            f"why: {advice.check()}",
            "yellow",
        )
    if status.stranded:
        have = "has" if status.stranded == 1 else "have"
        yield text(
            f"{files(status.stranded)} in processing {have} no record, as whoever took them was "
            f"killed; they count as incoming; {_taken_up(status, advice)}",
            "yellow",
        )
    if status.lack is not None:
        yield text(
            f"Nothing is taken in: {status.lack.seen}; to make room: {status.lack.remedy}", "yellow"
        )
    elif status.lingering:
        have = "has" if status.lingering == 1 else "have"
        yield text(
            f"{files(status.lingering)} {have} waited in incoming for over a minute: where "
            "flood-watch leaves files there, its log says why; of profiles that the "
            f"credentials lack tells: {advice.check()}"
        )
    if status.stopped and not status.idle:
        count = len(status.stopped)
        told = f"{count} consumers are stopped, so what they have begun waits; to let them go on"
        if count == 1:
            told = "1 consumer is stopped, so what it has begun waits; to let it go on"
        yield text(f"{told}: {stall.go_on(status.stopped)}", "yellow")
    if status.misplaced:
        yield text(
            f"Nobody takes what lies outside of incoming/PROFILE/BUCKET/: {named(status.misplaced)}"
            "; to have it uploaded, move it to where it belongs",
            "yellow",
        )
    yield from _ignored(status)
    if status.closed:
        paths = named([one.path for one in status.closed])
        yield text(
            f"Nothing counts that lies in {paths}: this user cannot look into "
            f"{'it' if len(status.closed) == 1 else 'them'}; flood's own user has to be able to, "
            f"to take it: {advice.check()}",
            "yellow",
        )
    elif not (status.whole or status.unsought):
        yield text("Too many files to count them all in time: there may be more", "yellow")


def _ignored(status: Status) -> "Iterator[RenderableType]":
    count, since = status.ignored.files, status.ignored.since
    if since is None:
        return
    left = "file in incoming is left alone for its name, as if it were still being written, for"
    if count > 1:
        left = (
            "files in incoming are left alone for their names, as if they were still being "
            "written, the oldest for"
        )
    age = status.at - since
    yield text(
        f"{intcomma(count)} {left} {naturaldelta(age)}: {status.ignored.oldest}; to have such a "
        "file uploaded, rename it, or take the pattern back (--ignore '!PATTERN')",
        "yellow" if age.total_seconds() > FORGOTTEN else "",
    )


def _taken_up(status: Status, advice: Advice) -> str:
    if not status.watching:
        return f"the next start of flood-watch takes them up; at once: {advice.once()}"
    goes_on = "" if status.watch_stopped is None else ", once it goes on"
    return (
        "flood-watch takes them up when it looks through processing again, as a rule within "
        f"--rescan-interval{goes_on}; at once: {advice.repair()}"
    )


def _at_work(status: Status) -> Sequence[str]:
    watch = "flood-watch" if status.watching else "no flood-watch"
    if status.watch_stopped is not None:
        watch = "flood-watch (stopped)"
    if not status.consuming:
        start = f"consumers at their start{' (stopped)' if status.idle else ''}"
        return f"{watch},", start if status.starting else "no consumer"
    processes = len({worker.doing.pid for worker in status.workers if worker.doing})
    consumers = f"{processes} consumer{'s' * (processes != 1)}" if processes else "consumers"
    workers = f"{len(status.workers)} worker{'s' * (len(status.workers) != 1)}"
    return f"{watch},", f"{consumers} with {workers},", f"{len(status.busy)} busy"


def _queue(status: Status) -> Sequence[str]:
    facts = ["its tables are missing", "the next consumer makes them anew"]
    if status.queue is not None:
        tasks = "1 task" if status.queue[0] == 1 else f"{status.queue[0]} tasks"
        facts = [tasks, f"{status.queue[1]} scheduled"]
    if status.last_sweep is not None:
        facts.append(f"swept {ago(status, status.last_sweep)}")
    return [*(f"{fact}," for fact in facts[:-1]), facts[-1]]


def _speed(status: Status) -> Sequence[str]:
    speeds = [(seconds, *status.speeds.get(seconds, (0, 0))) for seconds in WINDOWS]
    files = ", ".join(f"{files / seconds:.1f}" for seconds, files, _ in speeds)
    sizes = ", ".join(f"{size / seconds / _MIB:.1f}" for seconds, _, size in speeds)
    spans = ", ".join(str(seconds // 60) for seconds in WINDOWS)
    return f"{files} files/s;", f"{sizes} MiB/s", f"(last {spans} min)"


def uploads(status: Status) -> "Iterator[RenderableType]":
    """What workers are sending."""
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
            size(upload.sent) if upload.sent is not None else "",
            size(upload.size),
            f"{size(round(upload.rate))}/s" if upload.rate else "",
            clock(upload.left),
            _worker(upload),
        )
    yield from section(table)


def silent(status: Status) -> "Iterator[RenderableType]":
    """Which of the uploads may not be going on."""
    for upload in status.uploads:
        silence = _silence(status, upload)
        if silence is not None:
            yield text(
                f"Worker {_worker(upload)} has been silent for {naturaldelta(silence)}: "
                f"{_why_silent(status, upload)}",
                "yellow",
            )
        still = _standstill(status, upload)
        if silence is None and still is not None:
            yield text(
                f"Worker {_worker(upload)} has sent nothing for {naturaldelta(still)}: its store "
                "does not answer, or wants to be left alone",
                "yellow",
            )
        if upload.worker is None:
            soon = "a sweep of any consumer gives its files back within a minute"
            if not status.consuming:
                soon = "a consumer, or flood-drain, gives its files back once one runs"
            yield text(f"The worker of record {upload.record} died: {soon}", "yellow")


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


def _why_silent(status: Status, upload: Upload) -> str:
    doing = upload.worker.doing if upload.worker else None
    if status.kept and not (doing and doing.pid in status.stopped):
        return "it waits for the database"
    return "its store does not answer, or it is stopped"


def _standstill(status: Status, upload: Upload) -> timedelta | None:
    """For how long nothing has left its worker, which says so, where that is long."""
    doing = upload.worker.doing if upload.worker else None
    if doing is None or not doing.still or doing.at < upload.since:
        return None
    still = status.at - doing.at + timedelta(seconds=doing.still)
    return still if still > _SILENCE else None


def workers(status: Status) -> "Iterator[RenderableType]":
    """The consumers with their workers."""
    if not status.workers:
        return
    table = Columns(">CONSUMER", ">WORKERS", ">BUSY", ">LAST AT WORK")
    for pid, group in groupby(status.workers, key=lambda one: one.doing.pid if one.doing else 0):
        workers = list(group)
        said = [worker.doing.at for worker in workers if worker.doing]
        table.add_row(
            str(pid) if pid else "?",
            str(len(workers)),
            str(sum(worker.owner in status.busy for worker in workers)),
            "stopped" if pid in status.stopped else ago(status, max(said)) if said else "",
        )
    yield from section(table)
