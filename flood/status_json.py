"""Tells a program what one spool is doing."""

import json
from datetime import datetime
from typing import Any

from flood.columns import utc_text
from flood.status import AGES, Amount, Back, Failure, Status, Upload
from flood.status_queries import Coming, Destination
from flood.status_workers import Worker


def as_json(status: Status) -> str:
    """The status as one JSON object; docs/commands.md explains its keys."""
    return json.dumps(
        {
            "server_directory": status.server_directory,
            "database": status.database,
            "at": utc_text(status.at),
            "flood_watch_runs": status.watching,
            "flood_watch_stopped": status.watch_stopped,
            "consumers_run": status.consuming,
            "stopped": status.stopped,
            "stalled": status.stalled,
            "workers": [_worker(one) for one in status.workers],
            "destinations": [
                {
                    **_names(place),
                    "stages": {stage: _amount(one) for stage, one in stages.items()},
                    "waiting_by_age": _by_age(status.ages.get(place)),
                }
                for place, stages in status.amounts.items()
            ],
            "speeds": [
                {"seconds": seconds, "files": files, "bytes": size}
                for seconds, (files, size) in status.speeds.items()
            ],
            "uploads": [_upload(one) for one in status.uploads],
            "retries": [_coming(one) for one in status.retries],
            "held_back": {"files": status.held_back, "oldest": [_back(x) for x in status.back]},
            "stranded": status.stranded,
            "lingering": status.lingering,
            "no_room": None if status.lack is None else status.lack.seen,
            "unserved": status.unserved,
            "failures": [_failure(one) for one in status.failures],
            "failed_records": status.failed_records,
            "queue": None
            if status.queue is None
            else {"tasks": status.queue[0], "scheduled": status.queue[1]},
            "last_sweep": _text(status.last_sweep),
            "misplaced": status.misplaced,
            "ignored": {
                "files": status.ignored.files,
                "oldest": status.ignored.oldest,
                "since": _text(status.ignored.since),
            },
            "closed": [{"path": one.path, "since": utc_text(one.since)} for one in status.closed],
            "whole": status.whole,
        },
        indent=1,
    )


def _names(place: Destination) -> dict[str, str]:
    return {"profile": place[0], "bucket": place[1]}


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)


def _amount(amount: Amount) -> dict[str, Any]:
    return {"files": amount.files, "bytes": amount.size, "oldest": _text(amount.oldest)}


def _by_age(counts: list[int] | None) -> list[dict[str, int | None]]:
    bounds = (*AGES, None)
    counted = counts or [0] * len(bounds)
    return [
        {"under_seconds": bound, "files": files}
        for bound, files in zip(bounds, counted, strict=True)
    ]


def _worker(worker: Worker) -> dict[str, Any]:
    doing = worker.doing
    return {
        "worker": worker.owner,
        "pid": doing.pid if doing else None,
        "said": _text(doing.at) if doing else None,
        "sweeps": doing.sweeps if doing else None,
    }


def _upload(upload: Upload) -> dict[str, Any]:
    doing = upload.worker.doing if upload.worker else None
    return {
        **_names(upload.destination),
        "key": upload.key,
        "record": upload.record,
        "files": upload.files,
        "files_done": upload.files_done,
        "bytes": upload.size,
        "bytes_sent": upload.sent,
        "bytes_per_second": None if upload.rate is None else round(upload.rate),
        "seconds_left": None if upload.left is None else round(upload.left),
        "retry": upload.retry_count,
        "since": utc_text(upload.since),
        "worker": upload.owner,
        "worker_lives": upload.worker is not None,
        "pid": doing.pid if doing else None,
    }


def _coming(coming: Coming) -> dict[str, Any]:
    return {
        **_names(coming.destination),
        "key": coming.key,
        "record": coming.id,
        "retry": coming.retry_count,
        "due": utc_text(coming.due),
        "move_to": coming.move_to,
        "claimed": coming.claimed,
        "error_code": coming.code,
        "error_message": coming.message,
    }


def _back(back: Back) -> dict[str, Any]:
    place = back.lying.place
    return {
        **_names((place.profile, place.bucket)),
        "key": place.key,
        "bytes": back.lying.size,
        "since": utc_text(back.lying.since),
        "in_the_way": back.in_the_way,
        "oddity": back.oddity,
        "behind": None if back.behind is None else _coming(back.behind),
    }


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "error_code": failure.code,
        "files": failure.files,
        "bytes": failure.size,
        "destinations": [
            {**_names(place), "files": files} for place, files in failure.destinations.most_common()
        ],
        "oldest": _text(failure.oldest),
        "newest": _text(failure.newest),
        "hint": failure.hint,
    }
