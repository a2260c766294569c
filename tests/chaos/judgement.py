"""Holds what is left after a trial to the invariants."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from botocore.exceptions import ClientError

from tests import evidence, invariants
from tests.chaos import story
from tests.chaos.ledger import Ledger
from tests.chaos.producers import BUCKET
from tests.chaos.samples import Samples
from tests.evidence import Evidence, Input
from tests.invariants import Backoff, Violation
from tests.servers import SECRET_ACCESS_KEY, S3Server

#: What nobody but the store's own key holder should see.
_SECRETS: Final = (SECRET_ACCESS_KEY, "Signature=")

#: Whoever cannot write says so; what it was at is told by a traceback.
_NO_DISK: Final = re.compile(
    r"disk is full|No space left|readonly database|read-only|Read-only|disk I/O error"
    r"|unable to open database|database is locked|no such table: (task|schedule)"
)

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
            whole=partial(ledger.content, one) if one.partial else None,
        )
        for one in ledger
        if one.word != "withdrawn"
    ]
    keys = sorted(
        {row["filepath"] for row in found.rows if row["bucket"] == BUCKET},
    )
    with ThreadPoolExecutor(4) as pool:
        for key, digest in zip(keys, pool.map(partial(_digest, server), keys), strict=True):
            if digest is not None:
                found.objects[BUCKET, key] = digest
    found.unfinished = server.unfinished(BUCKET)
    return found


def _digest(server: S3Server, key: str) -> str | None:
    try:
        return sha256(server.read(BUCKET, key)).hexdigest()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise


def judge(found: Evidence, backoff: Backoff, samples: Samples) -> list[Violation]:
    """Return every violation of every invariant."""
    checks: list[Iterator[Violation]] = [
        invariants.database_is_sound(found),
        invariants.all_is_settled(found),
        invariants.no_file_has_two_places(found),
        invariants.rows_say_where_files_are(found),
        invariants.settled_rows_are_whole(found),
        invariants.nobody_dead_owns_a_row(found),
        invariants.due_rows_are_rung_for(found),
        invariants.attempts_are_numbered(found, backoff),
        invariants.delays_obey_the_formula(found, backoff),
        invariants.inputs_are_accounted_for(found),
        invariants.vanished_rows_have_a_cause(found),
        invariants.the_bucket_has_the_last_version(found),
        invariants.waiting_was_worth_it(found),
        invariants.no_upload_is_unfinished(found),
        invariants.no_secret_is_told(found, _SECRETS),
        invariants.no_traceback_is_logged(found, lambda line: bool(_NO_DISK.search(line))),
        samples.growth(),
    ]
    return [violation for check in checks for violation in check]


def stories(found: Evidence, ledger: Ledger, violations: list[Violation]) -> list[str]:
    """Return the whole story of each file that a violation is about, the first few."""
    places = {(one.bucket, one.key): None for one in violations if one.bucket and one.key}
    return [
        "\n".join(story.tell(found, ledger, str(bucket), str(key)))
        for bucket, key in list(places)[:_MOST_STORIES]
    ]
