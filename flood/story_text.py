"""Tells one file's story to a person or a program."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from humanize import naturaldelta, naturalsize

from flood.columns import utc_text
from flood.departures import REMOVED, RETRIED
from flood.phrases import counted
from flood.story import Chapter, Story
from flood.story_queries import Attempt
from flood.text import printable
from flood.versions import REMADE


def lines(story: Story) -> Iterator[str]:
    """The story in lines that are safe on any terminal."""
    place = story.place
    yield printable(f"s3://{place.profile}/{place.bucket}/{place.key}")
    for path in story.lying:
        yield printable(f"  lies in {path}")
    for path in story.closed:
        yield printable(f"  may lie in {path}, which this user cannot look into")
    if not (story.lying or story.closed):
        yield "  lies nowhere in the spool any more"
    for path in story.directories:
        yield printable(f"  {path} is a directory")
    for chapter in story.chapters:
        yield ""
        yield from _chapter(chapter)
    for stray in story.strays:
        yield ""
        yield f"in {stray.state}, without a record of this key"
        yield f"  next      {printable(stray.next)}"
    if story.arriving is not None:
        yield ""
        yield "no record yet"
        yield f"  next      {printable(story.arriving)}"


def as_json(story: Story) -> str:
    """The story as one JSON object; docs/commands.md explains its keys."""
    place = story.place
    return json.dumps(
        {
            "profile": place.profile,
            "bucket": place.bucket,
            "key": place.key,
            "at": utc_text(story.at),
            "lies_in": list(story.lying),
            "directories": list(story.directories),
            "closed": list(story.closed),
            "strays": [{"path": stray.path, "next": stray.next} for stray in story.strays],
            "arriving": story.arriving,
            "records": [_object(chapter) for chapter in story.chapters],
        },
        indent=1,
    )


def _chapter(chapter: Chapter) -> Iterator[str]:
    record = chapter.record
    size = naturalsize(record.size, binary=True)
    yield f"record {record.id}, {record.state}, {size}"
    came = _time(record.made)
    if record.code == REMADE:
        came = f"nobody knows when: flood-fsck made this record again at {came}"
    yield f"  came      {came}, the file is of {_time(record.created)}"
    for attempt in record.attempts:
        yield f"  attempt   {_time(attempt.started)}: {_attempt(attempt)}"
    if record.claimed is not None and record.owner is not None:
        yield f"  uploading since {_time(record.claimed)}{_progress(chapter)}"
    if record.settled is not None:
        known = bool(record.attempts) and record.attempts[-1].message == record.message
        code = f" ({record.code})" if record.code else ""
        said = f": {record.message}{code}" if record.message and not known else ""
        yield printable(f"  {record.state:<9} {_time(record.settled)}{said}")
    if record.left is not None:
        yield f"  left      {_time(record.left)}: {_left(chapter)}"
    if record.etag is not None:
        receipt = (
            ("ETag", record.etag),
            ("version", record.version),
            ("checksum", record.checksum),
        )
        told = ", ".join(f"{name} {value}" for name, value in receipt if value is not None)
        yield printable(f"  receipt   {told}")
    yield printable(f"  next      {chapter.next}")


def _left(chapter: Chapter) -> str:
    if chapter.record.left_how == RETRIED:
        later = chapter.successor
        return "put back" if later is None else f"put back as record {later}"
    return "deleted by retention" if chapter.record.left_how == REMOVED else "not there any more"


def _attempt(attempt: Attempt) -> str:
    retry = f"retry {attempt.number}, " if attempt.number else ""
    took = f"after {naturaldelta(attempt.finished - attempt.started, minimum_unit='milliseconds')}"
    if attempt.kind is None:
        return f"{retry}{attempt.outcome} {took}"
    said = printable(f"{attempt.message} ({attempt.code})")
    again = f"; again at {_time(attempt.next)}" if attempt.next else ""
    return f"{retry}{attempt.kind} {took}: {said}{again}"


def _progress(chapter: Chapter) -> str:
    doing = chapter.doing
    if doing is None:
        return ""
    if doing.files > 1:
        return f", with {counted(doing.files - 1, 'other')}, {doing.files_done} done"
    sent = naturalsize(doing.sent, binary=True)
    rate = f", {naturalsize(doing.rate, binary=True)}/s" if doing.rate else ""
    return f", {sent} sent{rate}"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _object(chapter: Chapter) -> dict[str, Any]:
    record, doing = chapter.record, chapter.doing
    return {
        "record": record.id,
        "state": record.state,
        "outcome": record.outcome,
        "path": record.path,
        "present": chapter.present,
        "bytes": record.size,
        "made": utc_text(record.made),
        "created": utc_text(record.created),
        "settled": _text(record.settled),
        "left": _text(record.left),
        "left_how": record.left_how,
        "successor": chapter.successor,
        "origin": record.origin,
        "retry": record.retry_count,
        "due": _text(record.due),
        "move_to": chapter.move_to,
        "claimed": _text(record.claimed) if record.owner else None,
        "bytes_sent": doing.sent if doing and doing.files == 1 else None,
        "etag": record.etag,
        "version_id": record.version,
        "checksum": record.checksum,
        "error_code": record.code,
        "error_message": record.message,
        "next": chapter.next,
        "attempts": [
            {
                "retry": attempt.number,
                "started": utc_text(attempt.started),
                "finished": utc_text(attempt.finished),
                "outcome": attempt.outcome,
                "kind": attempt.kind,
                "error_code": attempt.code,
                "error_message": attempt.message,
                "next": _text(attempt.next),
            }
            for attempt in record.attempts
        ],
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)
