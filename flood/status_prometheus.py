"""Tells Prometheus what one spool is doing."""

from typing import TYPE_CHECKING

from flood.status import STAGES, WAITING, Amount, Status
from flood.text import printable

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def registry(status: Status) -> "CollectorRegistry":
    """The figures as metrics; docs/commands.md explains them."""
    # Imported here, as only who wants this needs it.
    from prometheus_client import CollectorRegistry, Gauge

    made = CollectorRegistry()
    _up(made, True)

    def gauge(name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"flood_{name}", words, labels, registry=made)

    files = gauge("files", "Files by stage.", "profile", "bucket", "stage")
    size = gauge("bytes", "Bytes of files by stage.", "profile", "bucket", "stage")
    oldest = gauge(
        "oldest_waiting_timestamp_seconds",
        "Since when the oldest file waits that is not uploaded yet.",
        "profile",
        "bucket",
    )
    failed = gauge("failed_files", "Files in failed by error code.", "profile", "bucket", "code")
    for place, stages in status.amounts.items():
        names = [printable(name) for name in place]
        waiting = Amount()
        for stage in STAGES:
            amount = stages.get(stage, Amount())
            files.labels(*names, stage).set(amount.files)
            size.labels(*names, stage).set(amount.size)
            if stage in WAITING:
                waiting.add(amount.files, amount.size, amount.oldest)
        if waiting.oldest is not None:
            oldest.labels(*names).set(waiting.oldest.timestamp())
    for failure in status.failures:
        for place, count in failure.destinations.items():
            failed.labels(*map(printable, (*place, failure.code))).set(count)
    gauge("held_back_files", "Files in incoming that wait for an earlier one of their key.").set(
        status.held_back
    )
    gauge("lingering_files", "Files in incoming that a running flood-watch does not take.").set(
        status.lingering
    )
    unserved = gauge("unserved", "Profiles that the credentials may lack.", "profile")
    for profile in status.unserved:
        unserved.labels(printable(profile)).set(1)
    gauge("failed_records", "Records of files that have failed, retried or not.").set(
        status.failed_records
    )
    gauge("watch_running", "Whether flood-watch runs, and is not stopped.").set(
        status.watching and status.watch_stopped is None
    )
    gauge("consumers_running", "Whether any consumer runs.").set(status.consuming)
    gauge("consumers_stalled", "Whether consumers run that take nothing of what is due.").set(
        bool(status.stalled)
    )
    gauge("workers", "Workers that live.").set(len(status.workers))
    gauge("workers_busy", "Workers that have claimed files, or sweep.").set(len(status.busy))
    gauge("stranded_files", "Files in processing without a record.").set(status.stranded)
    gauge("misplaced_files", "Files in incoming above the buckets, which nobody takes.").set(
        len(status.misplaced)
    )
    gauge("ignored_files", "Files in incoming that are left alone for their names.").set(
        status.ignored.files
    )
    if status.ignored.since is not None:
        gauge("oldest_ignored_timestamp_seconds", "Since when the oldest of those lies there.").set(
            status.ignored.since.timestamp()
        )
    gauge("closed_directories", "Directories that could not be looked into.").set(
        len(status.closed)
    )
    gauge("whole", "Whether all files could be counted.").set(status.whole)
    if status.queue is not None:
        queue = gauge("tasks", "Tasks that wait, in the queue or in its schedule.", "where")
        for where, count in zip(("queue", "schedule"), status.queue, strict=True):
            queue.labels(where).set(count)
    if status.last_sweep is not None:
        gauge("last_sweep_timestamp_seconds", "When the last sweep began.").set(
            status.last_sweep.timestamp()
        )
    return made


def unknown() -> "CollectorRegistry":
    """What is told where nothing can be known of the spool, as while its disk is away."""
    from prometheus_client import CollectorRegistry

    made = CollectorRegistry()
    _up(made, False)
    return made


def _up(made: "CollectorRegistry", up: bool) -> None:
    from prometheus_client import Gauge

    Gauge("flood_up", "Whether the spool could be looked at.", registry=made).set(up)
