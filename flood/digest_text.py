"""Tells a digest to a person, or a program."""

import json
from collections.abc import Iterator
from datetime import datetime
from shlex import quote
from typing import Any, Final

from humanize import naturaldelta, naturalsize

from flood.columns import utc_text
from flood.digest import TEST, TROUBLE, Cause, Digest
from flood.phrases import counted, files
from flood.states import MISNAMED
from flood.text import printable

#: The form of `as_json`: another number once a key means something else, or is gone.
VERSION: Final = 1

#: How many causes a person is told of.
_CAUSES: Final = 10


def title(digest: Digest) -> str:
    """The digest in a few words."""
    where = f"flood on {digest.host}"
    if digest.kind == TEST:
        return f"{where}: a test"
    if digest.kind != TROUBLE:
        return f"{where}: all is well again"
    parts = _counts(digest)
    if digest.late:
        parts.append(f"{files(digest.waiting.files)} waiting, for up to {_age(digest)}")
    return f"{where}: {', '.join(parts)}"


def text(digest: Digest) -> str:
    """The digest in lines for a person; whatever a file is named, each of them prints."""
    return "\n".join(map(printable, _lines(digest)))


def _lines(digest: Digest) -> Iterator[str]:
    if digest.kind == TEST:
        yield "This is a test: what flood has to tell arrives here."
        return
    if digest.kind == TROUBLE:
        yield from _failures(digest)
        yield from _late(digest)
    else:
        yield from _well(digest)
    yield ""
    yield "What waits, what has failed, what to do about it:"
    yield f"  {_command(digest, 'flood-status')}"
    if digest.failed and digest.kind == TROUBLE:
        yield from _put_back(digest)


def _put_back(digest: Digest) -> Iterator[str]:
    """What puts the failed files back, unless a person has to move all of them that are told of."""
    codes = {cause.code for cause in digest.causes if not cause.gone}
    mended = sorted(codes.difference(MISNAMED))
    if codes and not mended:
        return
    named = all(mended) and (len(mended) == 1 or len(mended) < len(codes))
    which = " ".join(f"--error {quote(code)}" for code in mended) if named else "--all"
    yield "Once the cause is mended, this puts failed files back:"
    yield f"  {_command(digest, f'flood-retry {which}')}"


def _failures(digest: Digest) -> Iterator[str]:
    if not digest.causes:
        return
    since = f" since {_moment(digest.since)}" if digest.since else ""
    size = sum(one.size for one in digest.causes)
    yield f"{', '.join(_counts(digest))}{since}, {_size(size)}:"
    for cause in digest.causes[:_CAUSES]:
        yield from _cause(cause)
    more = digest.causes[_CAUSES:]
    if more:
        yield ""
        left = files(sum(one.files for one in more))
        yield f"{left} more, for {counted(len(more), 'other cause')}"
    if digest.failed > sum(one.files for one in digest.causes if not one.gone):
        yield ""
        yield f"Altogether {files(digest.failed)} in failed."


def _counts(digest: Digest) -> list[str]:
    """How many files have failed, how many went before they could."""
    failed = sum(one.files for one in digest.causes if not one.gone)
    gone = sum(one.files for one in digest.causes if one.gone)
    counts = ((failed, "failed"), (gone, "gone"))
    return [f"{files(count)} {what}" for count, what in counts if count]


def _cause(cause: Cause) -> Iterator[str]:
    yield ""
    yield f"  {files(cause.files)} of s3://{'/'.join(cause.destination)}: {cause.code}"
    if cause.hint:
        yield f"    {cause.hint}"
    for record, key in cause.named:
        yield f"      {key}, record {record}"
    if cause.files > len(cause.named):
        yield f"      ... {cause.files - len(cause.named)} more"


def _late(digest: Digest) -> Iterator[str]:
    if not digest.late or digest.oldest is None or digest.max_age is None:
        return
    if digest.causes:
        yield ""
    waiting = f"{files(digest.waiting.files)} waiting, {_size(digest.waiting.size)}, the oldest"
    if not digest.waiting.files:
        waiting = "A directory has waited"
    limit = naturaldelta(digest.max_age)
    yield f"{waiting} for {_age(digest)}, which is more than {limit}:"
    yield ""
    record = "" if digest.oldest.record is None else f", record {digest.oldest.record}"
    yield f"  s3://{'/'.join(digest.oldest.destination)}/{digest.oldest.key}{record}"
    yield f"    {digest.oldest.reason}"


def _well(digest: Digest) -> Iterator[str]:
    longer = (
        "" if digest.max_age is None else f", none for more than {naturaldelta(digest.max_age)}"
    )
    but = f" but {digest.superseded} with a later version" if digest.superseded else ""
    yield f"No file is in failed{but}, none waits to be tried again{longer}."
    if digest.trouble is not None:
        yield f"There was trouble since {_moment(digest.trouble)}."
    if digest.waiting.files:
        yield f"{files(digest.waiting.files)} waiting, the oldest for {_age(digest)}."


def as_json(digest: Digest) -> str:
    """The digest as one JSON object; docs/notifications.md explains its keys."""
    return json.dumps(
        {
            "version": VERSION,
            "kind": digest.kind,
            "title": title(digest),
            "text": text(digest),
            "host": digest.host,
            "server_directory": digest.server_directory,
            "database": digest.database,
            "at": utc_text(digest.at),
            "since": _json_moment(digest.since),
            "trouble_since": _json_moment(digest.trouble),
            "failed": {
                "files": sum(one.files for one in digest.causes),
                "bytes": sum(one.size for one in digest.causes),
                "altogether": digest.failed,
                "superseded": digest.superseded,
                "causes": [_json_cause(one) for one in digest.causes],
            },
            "waiting": {
                "files": digest.waiting.files,
                "bytes": digest.waiting.size,
                "late": digest.late,
                "max_age_seconds": digest.max_age,
                "oldest": _json_oldest(digest),
            },
        },
        indent=1,
    )


def _json_cause(cause: Cause) -> dict[str, Any]:
    return {
        "profile": cause.destination[0],
        "bucket": cause.destination[1],
        "error_code": cause.code,
        "files": cause.files,
        "bytes": cause.size,
        "oldest": utc_text(cause.oldest),
        "newest": utc_text(cause.newest),
        "hint": cause.hint,
        "named": [{"record": record, "key": key} for record, key in cause.named],
    }


def _json_oldest(digest: Digest) -> dict[str, Any] | None:
    oldest = digest.oldest
    if oldest is None:
        return None
    return {
        "profile": oldest.destination[0],
        "bucket": oldest.destination[1],
        "key": oldest.key,
        "record": oldest.record,
        "stage": oldest.stage,
        "since": utc_text(oldest.since),
        "age_seconds": digest.age,
        "reason": oldest.reason,
    }


def _json_moment(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)


def _command(digest: Digest, words: str) -> str:
    # Whoever reads it is in another shell, perhaps on another machine, without any setting.
    return f"{words} --server-directory {quote(digest.server_directory)}"


def _size(count: int) -> str:
    return naturalsize(count, binary=True)


def _age(digest: Digest) -> str:
    return str(naturaldelta(digest.age))


def _moment(moment: datetime) -> str:
    return f"{utc_text(moment)[:16].replace('T', ' ')} UTC"
