"""All that is known of one file, for the reader of a violation."""

from collections.abc import Iterator

from tests.chaos.ledger import Ledger
from tests.evidence import Evidence

_MOST_LINES = 60


def tell(found: Evidence, ledger: Ledger, bucket: str, key: str) -> Iterator[str]:
    """Every delivery, row, attempt, place and log line of this key."""
    yield f"the story of {bucket}/{key!r}:"
    for one in ledger:
        if (one.bucket, one.key) == (bucket, key):
            yield f"  brought: {one}"
    digests = {one.digest: one.number for one in ledger}
    ids = []
    for row in found.rows:
        if (row["bucket"], row["filepath"]) == (bucket, key):
            ids.append(row["id"])
            yield f"  row: {row}"
            for attempt in found.attempts.get(row["id"], []):
                yield f"    attempt: {attempt}"
    for file in found.files:
        parts = file.path.split("/", 3)
        if parts[2:3] == [bucket] and len(parts) == 4 and parts[3].startswith(key):
            version = digests.get(file.digest, "unknown")
            yield f"  file: {file.path!r}, version {version}, {file.identity}"
    actual = found.objects.get((bucket, key))
    yield f"  bucket: {'nothing' if actual is None else f'version {digests.get(actual)}'}"
    marks = [f'"record": {number},' for number in ids]
    lines = [
        f"  {name}: {line}"
        for name, log in found.logs.items()
        for line in log
        if any(mark in line for mark in marks)
    ]
    yield from lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        yield f"  ... {len(lines) - _MOST_LINES} more lines"
