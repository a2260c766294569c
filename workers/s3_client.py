"""Builds boto3 clients that know nothing but one profile."""

import os
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

from flood import __version__
from workers.addresses import is_region
from workers.answer_limits import SHORT_CONNECT, SHORT_READ
from workers.answer_xml import is_page, readable
from workers.authorities import authorities
from workers.failures import SocksProxy, not_s3
from workers.proxies import Proxy, proxy
from workers.s3_session import Session, send_again, sender

if TYPE_CHECKING:
    from flood.profiles import Profile

# botocore looks for its description of S3 in ~/.aws/models first. This one is read once a process:
# reading it takes several times as long as all else that makes a client.
_DESCRIPTIONS: Final = Loader([Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)

# Every setting that botocore would take from the environment or from ~/.aws, with the value that
# stands instead. Only the CA bundle is
# the machine's own business, as HTTPS_PROXY is.
_ISOLATED: Final[dict[str, Any]] = {
    name: (None, variable, value, None)
    for name, variable, value in (
        ("ca_bundle", "AWS_CA_BUNDLE", None),
        ("config_file", None, os.devnull),
        ("credentials_file", None, os.devnull),
        ("defaults_mode", None, "legacy"),
        ("request_min_compression_size_bytes", None, 10240),
        ("disable_request_compression", None, False),
        ("account_id_endpoint_mode", None, "preferred"),
        ("retry_mode", None, "standard"),
        ("sts_regional_endpoints", None, "regional"),
        ("endpoint_discovery_enabled", None, "auto"),
        ("profile", None, None),
        ("region", None, None),
        ("data_path", None, None),
        ("csm_enabled", None, False),
        ("use_dualstack_endpoint", None, None),
        ("use_fips_endpoint", None, None),
        ("max_attempts", None, None),
        ("user_agent_appid", None, None),
        ("auth_scheme_preference", None, None),
        ("sigv4a_signing_region_set", None, None),
        ("tcp_keepalive", None, None),
        ("disable_host_prefix_injection", None, None),
        ("s3_disable_express_session_auth", None, None),
        ("ignore_configured_endpoint_urls", None, None),
    )
}

_LARGEST_POOL: Final = 1024
_SUCCESS: Final = range(200, 300)
# What may come before the first byte of XML: white space, a byte order mark.
_BLANK: Final = b" \t\r\n\xef\xbb\xbf"


class Clients:
    """One profile's clients, made when they are first needed; any thread may ask.

    Time-outs are seconds. `concurrency` is the number of transfers at once in one calling thread;
    several such threads share the connections.
    """

    def __init__(
        self, profile: "Profile", concurrency: int, connect_timeout: float, read_timeout: float
    ) -> None:
        self._profile = profile
        self._pool = min(_LARGEST_POOL, max(64, 4 * concurrency))
        self._timeouts = {
            "main": (connect_timeout, read_timeout),
            "short": (min(connect_timeout, SHORT_CONNECT), min(read_timeout, SHORT_READ)),
        }
        self._made: dict[str, Any] = {}
        self._sessions: list[Session] = []
        self._lock = threading.Lock()

    @property
    def main(self) -> Any:
        """The client for everything but aborts."""
        return self._client("main")

    @property
    def short(self) -> Any:
        """A client that gives up soon."""
        return self._client("short")

    def address(self, bucket: str, region: str | None) -> str:
        """Return the URL that keys of a bucket are appended to, as boto3 would choose it; `region`
        is where the bucket lies if that is not the profile's. No request is sent."""
        with self._lock:
            name = f"address {region or ''}"
            if name not in self._made:
                profile = replace(self._profile, region=region) if region else self._profile
                self._made[name] = _build(profile, 1, *self._timeouts["short"])
                self._made[name].meta.events.register("before-send.s3.HeadObject", _reveal)
            client = self._made[name]
        try:
            client.head_object(Bucket=bucket, Key="-")
        except _Address as found:
            return str(found).removesuffix("-")
        raise AssertionError  # pragma: no cover  botocore passes on what its hooks raise

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            ended = [*self._made.values(), *self._sessions]
            self._made.clear()
            self._sessions.clear()
        for each in ended:
            each.close()

    def _client(self, name: str) -> Any:
        with self._lock:
            if name not in self._made:
                client = _build(self._profile, self._pool, *self._timeouts[name])
                session = Session(
                    verify=authorities(),
                    proxy=_proxy(client.meta.endpoint_url),
                    timeout=self._timeouts[name],
                    max_pool_connections=self._pool,
                )
                client.meta.events.register("before-send.s3", sender(session))
                client.meta.events.register_first("needs-retry.s3", send_again)
                self._made[name] = client
                self._sessions.append(session)
            return self._made[name]


def _proxy(address: str) -> Proxy | None:
    """The proxy on the way to this address; raises SocksProxy where only libcurl knows how to
    speak to it."""
    found = proxy(address)
    if found is None or found.speaks_http:
        return found
    parts = urlsplit(address)
    raise SocksProxy(parts.netloc, f"{parts.scheme.upper()}_PROXY")


def _build(profile: "Profile", pool: int, connect_timeout: float, read_timeout: float) -> Any:
    provider = profile.provider
    settings: dict[str, Any] = {
        "signature_version": "s3v4",
        "connect_timeout": connect_timeout,
        "read_timeout": read_timeout,
        "max_pool_connections": pool,
        "retries": {"mode": "standard", "total_max_attempts": 1},
        "ignore_configured_endpoint_urls": True,
        "request_checksum_calculation": provider.checksums,
        "response_checksum_validation": provider.checksums,
        "user_agent_extra": f"flood/{__version__}",
        "s3": {
            "addressing_style": provider.addressing_style,
            "us_east_1_regional_endpoint": "regional",
            "use_arn_region": False,
            "s3_disable_multiregion_access_points": True,
        },
    }
    core = botocore.session.Session(session_vars=_ISOLATED)
    core.register_component("data_loader", _DESCRIPTIONS)
    client = boto3.session.Session(botocore_session=core).client(
        "s3",
        region_name=profile.region,
        endpoint_url=profile.endpoint,
        aws_access_key_id=profile.access_key_id,
        aws_secret_access_key=profile.secret_access_key,
        aws_session_token=profile.session_token,
        config=Config(**settings),
        # What is asked for goes through a Session, which has its own; so nothing is looked up here.
        verify=True,
    )
    # By this pattern it comes before botocore's own look at such answers, which is for s3 only.
    client.meta.events.register_first("before-parse.*.*", _make_readable)
    where = profile.endpoint or f"Amazon S3, region {profile.region}"
    client.meta.events.register_first("before-parse.*.*", partial(_refuse_pages, where))
    client.meta.events.register_first("needs-retry.s3", _follow_named_regions)
    if not provider.expect_continue:
        for operation in ("PutObject", "UploadPart"):
            client.meta.events.register(f"before-sign.s3.{operation}", _remove_expect)
    return client


class _Address(Exception):
    """The address of a request that is not sent."""


def _reveal(request: Any, **_: object) -> None:
    raise _Address(request.url)


def _follow_named_regions(request_dict: Any, response: Any, **_: object) -> None:
    """Have botocore follow no answer that does not name the bucket's region. It would ask HEAD for
    that; where HEAD is sent elsewhere without a region, too, it would ask without end."""
    if response is None:
        return
    asked = request_dict["context"].setdefault("s3_redirect", {})
    told = response[1]["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    told = told or response[1].get("Error", {}).get("Region")
    if asked.get("bucket") is None or not isinstance(told, str) or not is_region(told):
        asked["redirected"] = True


def _remove_expect(request: Any, **_: object) -> None:
    if "Expect" in request.headers:
        del request.headers["Expect"]


def _refuse_pages(
    where: str, response_dict: dict[str, Any], operation_model: Any, **_: object
) -> None:
    # botocore would take most of them for an answer that was cut off, and so for a failure.
    body = response_dict.get("body")
    if not isinstance(body, bytes) or response_dict["status_code"] not in _SUCCESS:
        return
    # What lists buckets is XML from its first byte on, however much of it has come.
    beginning = body.lstrip(_BLANK)[:1]
    if is_page(body) or (operation_model.name == "ListBuckets" and beginning not in (b"", b"<")):
        raise not_s3(where)


def _make_readable(response_dict: dict[str, Any], **_: object) -> None:
    # botocore would take such an answer for one that was cut off, and so for a failure.
    body = response_dict.get("body")
    if isinstance(body, bytes) and body.startswith(b"<"):
        response_dict["body"] = readable(body)
