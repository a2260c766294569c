"""Asks the store of one profile whether its credentials can be used."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from humanize import naturaldelta

from flood.check_directories import Remains
from flood.check_findings import ERROR, OK, STORE, WARNING, Finding
from flood.profiles import ENDPOINT, REGION, Profile
from flood.states import PERMANENT
from workers.authorities import authorities
from workers.classify import classify
from workers.classify_answers import SKEWED
from workers.classify_rule import AGAIN
from workers.failures import BucketMissing, InvalidBucket, NotS3, SocksProxy
from workers.known import Known
from workers.probe_way import STEP, Way
from workers.s3_bucket import Buckets
from workers.s3_client import Clients

#: The limit for one answer of a store, in seconds.
ANSWER: Final = 10.0

#: Amazon S3 refuses requests whose time differs by more: its answer RequestTimeTooSkewed has
#: MaxAllowedSkewMilliseconds 900000. Other stores copy that.
SKEW_MAX: Final = timedelta(minutes=15)

# A clock that nobody sets; an answer's date has whole seconds, and its way takes time.
_SKEW_ODD: Final = timedelta(seconds=60)

#: What every store takes; some have older buckets with other names.
_LEGAL: Final = "names have 3 to 63 lower-case letters, digits, dots or hyphens"

_NTP: Final = "timedatectl set-ntp true"

# How `refused` ends where it is about who asks, which a time that is off may be the cause of.
_DENIED: Final = re.compile(
    rf"\[(?:AccessDenied|Forbidden|SignatureDoesNotMatch|http_401|http_403|{SKEWED})\]$"
)


@dataclass
class Probe:
    """One profile's store. `buckets` are those that have a directory in the spool; `now` answers
    aware times; `socks` tells whether files go through SOCKS proxies, as boto3, which asks here,
    cannot."""

    profile: Profile
    buckets: Sequence[str]
    now: Callable[[], datetime]
    clock: Callable[[], float]
    stopping: Callable[[], bool]
    #: The command that looks again, with these words added.
    again: Callable[..., str]
    #: What the spool has of a bucket.
    remains: Callable[[str], Remains]
    socks: bool = False

    def ask(self) -> Iterator[Finding]:
        """Everything about it, as it is found; where the way fails, no more than that."""
        clients = Clients(self.profile, 1, STEP, ANSWER)
        try:
            # A client takes long to make, and a dead store needs none.
            address = self.profile.endpoint or str(clients.main.meta.endpoint_url)
            for finding in self._way(address).walk():
                yield finding
                if finding.status == ERROR:
                    return
            yield from self._ask(clients.main)
        except Exception as error:  # noqa: BLE001  whatever a client cannot be made of is a finding
            if isinstance(error, SocksProxy) and self.socks:
                yield self._unasked(error)
            else:
                yield refused("client", self.profile, error)
        finally:
            clients.close()

    def _unasked(self, error: SocksProxy) -> Finding:
        place = f"s3://{self.profile.name}/{self.buckets[0] if self.buckets else 'BUCKET'}"
        return Finding(
            STORE,
            "client",
            WARNING,
            f"{error.variable} is a SOCKS proxy, through which flood-check cannot ask for buckets, "
            "nor for the time",
            "files go through it; in a bucket that the store does not list they wait",
            f"a real upload is tried by {self.again('--probe', place)}",
            self.profile.name,
        )

    def _way(self, address: str) -> Way:
        return Way(
            profile=self.profile.name,
            address=address,
            hint=ENDPOINT if self.profile.endpoint else REGION,
            authorities=authorities(),
            now=self.now,
            clock=self.clock,
            stopping=self.stopping,
        )

    def _ask(self, client: Any) -> Iterator[Finding]:
        skews: list[timedelta] = []
        client.meta.events.register("after-call.s3", self._clocked(skews))
        buckets = Buckets(self.profile, Known(0.0, self.clock))
        names: set[str] | None = None
        try:
            names = buckets.names(client)
        except Exception as error:  # noqa: BLE001  classify knows every one
            yield refused("ListBuckets", self.profile, error)
            yield from map(self._skewed, skews[-1:])
            return
        yield from map(self._skewed, skews[-1:])
        yield self._listed(names, far_off=any(abs(skew) > SKEW_MAX for skew in skews[-1:]))
        for bucket in self.buckets:
            if self.stopping():
                return
            yield self._bucket(client, buckets, bucket, names or set())

    def _listed(self, names: set[str] | None, *, far_off: bool) -> Finding:
        if names is None and far_off:
            text = "the store refuses to list buckets, as it may everything while the clock is off"
            meaning = "whether this key may list them is not known"
            return Finding(STORE, "ListBuckets", WARNING, text, meaning, _NTP, self.profile.name)
        if names is None:
            text = "this key may not list buckets, so each is asked for by itself"
        else:
            text = f"{len(names)} bucket{'' if len(names) == 1 else 's'}"
        return Finding(STORE, "ListBuckets", OK, text, profile=self.profile.name)

    def _bucket(self, client: Any, buckets: Buckets, bucket: str, names: set[str]) -> Finding:
        about, name = f"bucket {bucket}", self.profile.name
        try:
            known = bucket in names or buckets.find(client, bucket)
        except (BucketMissing, InvalidBucket) as error:
            kept, removal = self.remains(bucket)
            # A bucket that is gone has taken what was uploaded to it along.
            only = f"; there may be no other copy of {kept}" if kept else ""
            if removal is not None:
                return self._unneeded(about, bucket, removal, only)
            if isinstance(error, InvalidBucket):
                return refused(about, self.profile, error)
            return Finding(
                STORE,
                about,
                ERROR,
                "the store does not have it, as far as this key can see",
                f"files below incoming/{name}/{bucket} fail{only}",
                "create it, or move its files below another bucket's directory",
                name,
            )
        except Exception as error:  # noqa: BLE001  classify knows every one
            return refused(about, self.profile, error)
        if known:
            return Finding(STORE, about, OK, "it is there", profile=name)
        return Finding(
            STORE,
            about,
            WARNING,
            "this key may not ask whether it exists",
            "files are uploaded without knowing",
            self.again("--probe", f"s3://{name}/{bucket}"),
            name,
        )

    def _unneeded(self, about: str, bucket: str, removal: str, only: str) -> Finding:
        first = "move those files away, then " if only else ""
        return Finding(
            STORE,
            about,
            WARNING,
            "the store does not have it, as far as this key can see; no file waits for it",
            f"what is put into incoming/{self.profile.name}/{bucket} will fail{only}",
            f"create it; if nobody wants it any more, {first}this removes its empty directories: "
            f"{removal}",
            self.profile.name,
        )

    def _clocked(self, skews: list[timedelta]) -> Callable[..., None]:
        def heard(http_response: Any, **_: object) -> None:
            try:
                skews.append(parsedate_to_datetime(http_response.headers["date"]) - self.now())
            except (KeyError, TypeError, ValueError):
                return  # it has no date, or none with a time zone

        return heard

    def _skewed(self, skew: timedelta) -> Finding:
        name = self.profile.name
        if abs(skew) <= _SKEW_ODD:
            text = "this machine's agrees with the store's"
            return Finding(STORE, "clock", OK, text, profile=name)
        order = "behind" if skew > timedelta() else "ahead of"
        text = f"this machine's is {naturaldelta(abs(skew))} {order} the store's"
        if abs(skew) <= SKEW_MAX:
            meaning = "with more than 15 minutes the store refuses every request"
            return Finding(STORE, "clock", WARNING, text, meaning, _NTP, name)
        return Finding(
            STORE, "clock", ERROR, text, "stores refuse more than 15 minutes", _NTP, name
        )


def blame_clock(found: Sequence[Finding]) -> list[Finding]:
    """The same, where the clock is so far off that the store refuses whoever asks: then nobody
    knows yet what the key may do."""
    far_off = {each.profile for each in found if (each.about, each.status) == ("clock", ERROR)}
    return [
        replace(each, remedy=_NTP)
        if each.profile in far_off and each.status == ERROR and _DENIED.search(each.found)
        else each
        for each in found
    ]


def refused(about: str, profile: Profile, error: BaseException) -> Finding:
    """What an error of the store's means, in the words that a failed file's record would have."""
    if isinstance(error, BucketMissing):
        return _unusable(about, profile, "NoSuchBucket", error, "create it, or name another bucket")
    if isinstance(error, InvalidBucket):
        return _unusable(about, profile, "InvalidBucketName", error, "name another bucket")
    verdict = classify(error)
    found = verdict.message.removesuffix(f"; {verdict.advice}") if verdict.advice else ""
    # A record's file is to be retried; here there may be none.
    advice = verdict.advice.removeprefix(AGAIN).removeprefix("; ")
    advice = advice.replace("then retry the file", "then run flood-check again")
    if isinstance(error, NotS3):
        advice = f"correct {ENDPOINT}, or log in to the network, then run flood-check again"
    meaning = (
        "files fail with this reason"
        if verdict.kind == PERMANENT
        else "files wait, and are tried again for hours"
    )
    return Finding(
        STORE,
        about,
        ERROR,
        f"{found or verdict.message} [{verdict.code}]",
        meaning,
        advice or "wait a while, then run flood-check again",
        profile.name,
    )


def _unusable(
    about: str, profile: Profile, code: str, error: BaseException, remedy: str
) -> Finding:
    """What is wrong with a bucket; what the error says of a file to be retried is left out."""
    seen = str(error).partition(": create it")[0].partition("; move the file")[0]
    remedy = f"{remedy} ({_LEGAL}), then run flood-check again"
    return Finding(
        STORE, about, ERROR, f"{seen} [{code}]", "files for it fail", remedy, profile.name
    )
