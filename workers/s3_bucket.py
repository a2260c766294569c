"""Finds out whether a bucket can be used, as far as the credentials let anyone know."""

import logging
import re
import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from flood.log import event
from workers.classify import classify
from workers.classify_answers import SKEWED
from workers.failures import BucketMissing, InvalidBucket, NotS3, not_s3
from workers.known import Known

if TYPE_CHECKING:
    from flood.profiles import Profile

_log = logging.getLogger(__name__)

# Wider than the rules of Amazon, whose own older buckets break them; narrow enough that no name
# can be taken for an ARN or change the path of the request.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")

# A store's answers that say nothing about the bucket: it does not let this key ask, or it has no
# such question.
_NO_ANSWER: Final = frozenset(
    {
        *("AccessDenied", "AllAccessDisabled", "Forbidden", "Unauthorized", "UnauthorizedAccess"),
        *("NotImplemented", "MethodNotAllowed", "InvalidArgument", "InvalidRequest"),
        *("400", "401", "403", "405", "501"),
    }
)
_NOT_FOUND: Final = 404
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# A redirect without a code of its own, as each is that answers HEAD.
_ELSEWHERE: Final = frozenset(map(str, _REDIRECTS))
_NO_BUCKET: Final = frozenset({"NoSuchBucket", "404", "NotFound"})


class _Untold(Exception):
    """The store does not let this key list buckets."""


class Buckets:
    """Remembers which buckets of a profile can be used, never which cannot.

    Any thread may ask.
    """

    def __init__(self, profile: "Profile", known: Known) -> None:
        self._profile = profile
        self._known = known
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    def ensure(self, client: Any, bucket: str, *, is_listed: bool | None = None) -> None:
        """Return if the bucket exists or nobody can tell; the list is not asked for again where
        somebody knows that the bucket is not in it.

        Raises BucketMissing, InvalidBucket, NotS3, or what the client raises. A list that can be
        had but lacks the bucket is no proof: it leaves out other accounts' buckets.
        """
        if bucket in self._known:
            return
        if not self.find(client, bucket, is_listed=is_listed):
            self._warn_once(bucket)
        self._known.add(bucket)

    def find(self, client: Any, bucket: str, *, is_listed: bool | None = None) -> bool:
        """Ask the store; return whether the bucket exists, False if nobody can tell. Raises as
        `ensure`."""
        if not _NAME.fullmatch(bucket):
            raise InvalidBucket(
                f"no store accepts a bucket named {bucket!a}, since names have 3 to 63"
                " lower-case letters, digits, dots or hyphens; move the file to another bucket's"
                " directory in incoming"
            )
        # Prefix keeps the answer of an account with thousands of buckets to one page, also for R2,
        # which pages in its own way.
        try:
            pages = self._pages(client, Prefix=bucket) if is_listed is None else ()
            for names in pages:
                self._known.add_listed(names)
                if bucket in names:
                    return True
        except _Untold:
            pass
        return self._probed(client, bucket)

    def names(self, client: Any) -> set[str] | None:
        """The buckets that this key can list, R2's only the first thousand; None if it may list
        none. Raises as `ensure`."""
        try:
            return {name for names in self._pages(client) for name in names}
        except _Untold:
            return None

    def _pages(self, client: Any, **question: object) -> Iterator[set[str]]:
        # Amazon rejects unpaged lists of large accounts.
        question["MaxBuckets"] = 1000
        while True:
            try:
                answer = client.list_buckets(**question)
            except ClientError as error:
                code = error.response["Error"].get("Code", "")
                if code in _NO_ANSWER and classify(error).code != SKEWED:
                    raise _Untold from None
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                # A store that sends elsewhere says so in a code of its own.
                if status == _NOT_FOUND or (status in _REDIRECTS and code in ("", str(status))):
                    raise self._not_s3() from None
                raise
            if "Buckets" not in answer:
                raise self._not_s3()
            yield {each["Name"] for each in answer["Buckets"] if "Name" in each}
            token = answer.get("ContinuationToken")
            if not token or token == question.get("ContinuationToken"):
                return
            question["ContinuationToken"] = token

    def _probed(self, client: Any, bucket: str) -> bool:
        """Ask for the bucket itself; return False if the store does not tell."""
        head = partial(client.head_bucket, Bucket=bucket)
        listing = partial(client.list_objects_v2, Bucket=bucket, MaxKeys=1)
        for ask, no_answer in ((head, _NO_ANSWER | _ELSEWHERE), (listing, _NO_ANSWER)):
            try:
                ask()
            except ClientError as error:
                code = error.response["Error"].get("Code", "")
                if code in _NO_BUCKET:
                    raise BucketMissing(
                        f"profile {self._profile.name!r} has no bucket {bucket!r} at"
                        f" {self._endpoint()}: create it, then retry the file, or move the file to"
                        " the right bucket's directory in incoming"
                    ) from None
                if code not in no_answer:
                    raise
            else:
                return True
        return False

    def _warn_once(self, bucket: str) -> None:
        with self._lock:
            if bucket in self._warned:
                return
            self._warned.add(bucket)
        event(
            _log,
            logging.WARNING,
            "bucket not verified",
            profile=self._profile.name,
            bucket=bucket,
            reason="this access key may not ask whether it exists; uploading without knowing",
        )

    def _endpoint(self) -> str:
        return self._profile.endpoint or f"Amazon S3, region {self._profile.region}"

    def _not_s3(self) -> NotS3:
        return not_s3(f"{self._endpoint()} for profile {self._profile.name!r}")
