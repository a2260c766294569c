"""Where buckets are, as boto3 would have it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.exceptions import BotoCoreError
from hypothesis import given, settings
from hypothesis import strategies as st

from flood.profiles import Profile
from tests.uploading import profile
from workers.addresses import address, service
from workers.curl_store import Question, Store
from workers.s3_client import Clients

#: A profile, a bucket, a region.
Boto3 = Callable[[Profile, str, str | None], str | None]

ENDPOINT = "https://s3.example.com:9000"
REGIONS = (
    "us-east-1",
    "eu-central-1",
    "ap-southeast-3",
    "mx-central-1",
    "cn-north-1",
    "us-gov-west-1",
)
NAMES = (
    *(
        "bucket",
        "my-bucket-2",
        "with.dots",
        "abc",
        "Upper",
        "under_score",
        "two--hyphens",
        "-begins",
    ),
    *("a" * 63, "ends-", "xn--name", "name-s3alias", "name--x-s3", "1.2.3.4", "sthree-x", "a..b"),
)


@pytest.fixture(scope="module")
def boto3s() -> Iterator[Boto3]:
    """What boto3 answers to the same question; None where it refuses the name."""
    with ExitStack() as stack:
        made: dict[tuple[str, str, str | None], Clients] = {}

        def ask(known: Profile, bucket: str, region: str | None) -> str | None:
            name = (known.provider.name, known.region, known.endpoint)
            if name not in made:
                made[name] = stack.enter_context(closing(Clients(known, 1, 5.0, 5.0)))
            try:
                return made[name].address(bucket, region)
            except BotoCoreError:
                return None

        yield ask


@pytest.mark.parametrize("region", REGIONS)
def test_amazons_buckets_are_where_boto3_has_them(boto3s: Boto3, region: str) -> None:
    known = profile(None, "amazon", region=region)
    for bucket in NAMES:
        found = address(known, bucket, None)
        assert found in (None, boto3s(known, bucket, None)), bucket


def test_most_names_of_amazons_take_no_boto3() -> None:
    known = profile(None, "amazon", region="eu-west-1")
    assert address(known, "my-bucket", None) == "https://my-bucket.s3.eu-west-1.amazonaws.com/"
    assert (
        address(known, "my-bucket", "us-east-2") == "https://my-bucket.s3.us-east-2.amazonaws.com/"
    )
    assert address(known, "with.dots", None) is None
    assert address(known, "my-bucket", "cn-north-1") is None
    assert service(known) == "https://s3.eu-west-1.amazonaws.com/"


@pytest.mark.parametrize("provider", ["cloudflare", "backblaze", "s3"])
@pytest.mark.parametrize("url", [ENDPOINT, "http://127.0.0.1:80", "https://[::1]:443"])
def test_other_buckets_are_where_boto3_has_them(boto3s: Boto3, provider: str, url: str) -> None:
    known = profile(url, provider)
    for bucket in ("bucket", "with.dots", "Upper", "under_score"):
        assert address(known, bucket, None) == boto3s(known, bucket, None)
    assert address(known, "bucket", "eu-west-9") == boto3s(known, "bucket", "eu-west-9")
    assert address(known, "no name", None) is None
    assert service(known) == f"{url}/"


def test_an_endpoint_of_amazons_is_boto3s_matter() -> None:
    known = profile(ENDPOINT, "amazon")
    assert address(known, "bucket", None) is None
    assert service(known) is None


@given(bucket=st.from_regex(r"[a-z0-9.-]{3,30}", fullmatch=True))
@settings(max_examples=60, deadline=None)
def test_any_name_is_where_boto3_has_it(boto3s: Boto3, bucket: str) -> None:
    for known in (profile(None, "amazon"), profile(ENDPOINT)):
        found = address(known, bucket, None)
        assert found is None or found == boto3s(known, bucket, None)


class _Sent(Exception):
    """A request that is not sent."""


@pytest.mark.parametrize("bucket", ["bucket", "with.dots", "Upper"])
@pytest.mark.parametrize(
    ("provider", "endpoint"), [("amazon", None), ("s3", ENDPOINT), ("cloudflare", ENDPOINT)]
)
def test_buckets_themselves_are_asked_where_boto3_asks(
    provider: str, endpoint: str | None, bucket: str
) -> None:
    def reveal(request: Any, **_: object) -> None:
        raise _Sent(request.url)

    known = profile(endpoint, provider)
    with closing(Clients(known, 1, 5.0, 5.0)) as clients:
        clients.main.meta.events.register_first("before-send.s3", reveal)
        with pytest.raises(_Sent) as caught:
            clients.main.list_multipart_uploads(Bucket=bucket, Prefix="a key/+%")
        query = "uploads&prefix=a%20key%2F%2B%25"
        question = Question("ListMultipartUploads", "GET", query=query)
        url = Store(known, clients.address).ask(bucket, question).url
    assert _parts(url) == _parts(str(caught.value))


def _parts(url: str) -> tuple[str, str, dict[str, list[str]]]:
    parts = urlsplit(url)
    return parts.netloc, parts.path or "/", parse_qs(parts.query, keep_blank_values=True)
