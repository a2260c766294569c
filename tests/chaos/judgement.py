"""Holds what is left after a trial to the invariants."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Final

from botocore.exceptions import ClientError

from tests import evidence, invariants
from tests.chaos import story
from tests.chaos.ledger import Ledger
from tests.chaos.producers import BUCKET, CALM, NOWHERE, profile_of
from tests.chaos.samples import Samples
from tests.evidence import Evidence, Input
from tests.invariants import Backoff, Causes, Violation
from tests.servers import SECRET_ACCESS_KEY, S3Server

#: What nobody but the store's own key holder should see.
_SECRETS: Final = (SECRET_ACCESS_KEY, "Signature=")

#: How long the store gets before it is asked again for an object, in seconds.
_PAUSE: Final = 2.0

#: What is wrong for good with files of a trial; whatever else happens passes.
_CAUSES: Final[Causes] = {
    "NoSuchBucket": lambda row: row["bucket"] == NOWHERE,
    "key_not_utf8": lambda row: not _is_utf8(row["filepath"]),
}

#: Whoever cannot write says so; what it was at is told by a traceback.
_NO_DISK: Final = re.compile(
    r"disk is full|No space left|readonly database|read-only|Read-only|disk I/O error"
    r"|unable to open database|database is locked|no such table: (task|schedule)"
)

#: Answers that no store of a trial gives by itself.
_SAID_BY_NETWORK: Final = frozenset(("SlowDown", "TooManyRequests", "http_503", "http_429"))

_MOST_STORIES: Final = 10


def collect(disk: Path, logs: Path, server: S3Server, ledger: Ledger) -> Evidence:
    """Return everything there is to judge by."""
    found = evidence.collect(disk / "spool", disk / "flood.db", sorted(logs.glob("*.log")))
    found.inputs = [
        Input(
            one.number,
            one.bucket,
            one.key,
            one.digest,
            certain=one.word == "delivered",
            removed=one.removed,
            awaited=one.awaited,
            content=partial(ledger.content, one),
            partial=one.partial,
        )
        for one in ledger
        if one.word != "withdrawn"
    ]
    keys = sorted(
        {(row["bucket"], row["filepath"]) for row in found.rows if row["bucket"] in (BUCKET, CALM)},
    )
    with ThreadPoolExecutor(4) as pool:
        for key, digest in zip(keys, pool.map(partial(_digest, server), keys), strict=True):
            if digest is not None:
                found.objects[key] = digest
    found.unfinished = [*server.unfinished(BUCKET), *server.unfinished(CALM)]
    return found


def _digest(server: S3Server, place: tuple[str, str]) -> str | None:
    for last in (False, False, True):
        try:
            return sha256(server.read(*place)).hexdigest()
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == HTTPStatus.NOT_FOUND:
                return None
            # The store was at work for an hour with everything that could go wrong.
            if last or status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise RuntimeError(f"the store does not show {place}: {error}") from error
            time.sleep(_PAUSE)
    raise AssertionError


def _is_utf8(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def judge(found: Evidence, backoff: Backoff, samples: Samples) -> list[Violation]:
    """Return every violation of every invariant."""
    excused = _NO_DISK.search
    found.command_lines = sorted(samples.command_lines)
    held = invariants.every(found, backoff, _SECRETS, _CAUSES, lambda line: bool(excused(line)))
    return [*held, *faults_stay_with_their_profile(found), *samples.growth()]


def faults_stay_with_their_profile(found: Evidence) -> Iterator[Violation]:
    """What only the network between flood and one profile's store said is told of no other's."""
    for row in found.rows:
        if row["profile"] != profile_of(CALM):
            continue
        for attempt in found.attempts.get(row["id"], []):
            if attempt["error_code"] in _SAID_BY_NETWORK:
                words = f"attempt {attempt['retry_number']} was told {attempt['error_code']}"
                place = (row["bucket"], row["filepath"])
                yield Violation("faults_stay_with_their_profile", words, *place)


def stories(found: Evidence, ledger: Ledger, violations: list[Violation]) -> list[str]:
    """Return the whole story of each file that a violation is about, the first few."""
    places = {(one.bucket, one.key): None for one in violations if one.bucket and one.key}
    return [
        "\n".join(story.tell(found, ledger, str(bucket), str(key)))
        for bucket, key in list(places)[:_MOST_STORIES]
    ]
