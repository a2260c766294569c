"""Builds the requests to one profile's store."""

import base64
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

import pycurl

from flood import __version__
from flood.errors import ConfigError
from workers.addresses import address, is_region, service
from workers.answer_limits import LONGEST
from workers.authorities import authorities
from workers.classify_rule import KEYS
from workers.curl_exchange import LONGEST_KEPT, Exchange
from workers.curl_payload import Payload
from workers.proxies import Proxy, proxy

if TYPE_CHECKING:
    from flood.profiles import Profile

# Options that pycurl has no names for: no CONNECT answer among the headers; a name that is still
# being looked up does not hold up the end of a transfer; how long trusted certificates are known.
_SUPPRESS_CONNECT_HEADERS: Final = 265
_QUICK_EXIT: Final = 322
_CA_CACHE_TIMEOUT: Final = 321

#: For so many seconds libcurl remembers what it read of trusted certificates: reading them takes
#: tens of milliseconds, and its own default is a day, for which what was installed since would not
#: count.
REMEMBERED: Final = 60

# libcurl lets the store say first whether it wants a body that is larger than this.
_ASK_FIRST: Final = 1024**2

_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]+")
_TOLD: Final = re.compile(rb"<Region>([^<]*)</Region>")


@dataclass(frozen=True)
class _Target:
    """Where the keys of a bucket are appended to; what is signed there; by way of which proxy."""

    address: str
    region: str
    proxy: Proxy | None


class Question(NamedTuple):
    """A request that sends nothing of a file; without a key it is about the bucket. `longest` and
    `patience` are its Exchange's."""

    operation: str
    method: str
    key: str = ""
    query: str = ""
    headers: Sequence[str] = ()
    body: bytes | None = None
    longest: int = LONGEST_KEPT
    patience: float = 0.0


def _is_plain(endpoint: str | None) -> bool:
    """Whether nothing encrypted is on the way to it, so that nobody has to be trusted: looking for
    authorities reads all of the system's certificates."""
    proxied = any(name.lower() == "http_proxy" for name in os.environ)
    return endpoint is not None and endpoint.startswith("http:") and not proxied


class Store:
    """What all requests of a profile have in common; any thread may use it.

    `ask` tells a bucket's address where it takes boto3 to know that; `remembered` is how many
    seconds the trusted certificates are known that were read.
    """

    def __init__(
        self,
        profile: "Profile",
        ask: Callable[[str, str | None], str],
        remembered: int = REMEMBERED,
    ) -> None:
        self.provider = profile.provider
        self._profile = profile
        self._ask = ask
        self._regions: dict[str, str] = {}
        self._targets: dict[str, _Target] = {}
        self._trusted = None if _is_plain(profile.endpoint) else authorities()
        self._remembered = remembered
        values = (profile.access_key_id, profile.session_token, profile.region)
        self._sound = all(_HEADER_VALUE.fullmatch(each) for each in values if each is not None)
        #: What HEAD asks for besides.
        self.asked = ["x-amz-checksum-mode: ENABLED"] if self.provider.checksum_on_head else []
        self._head_headers = self.asked + self._token()
        self._lock = Lock()

    def configure(self, handle: Any) -> None:
        """Set what is the same for each request of this profile."""
        profile = self._profile
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(_QUICK_EXIT, 1)
        handle.setopt(_SUPPRESS_CONNECT_HEADERS, 1)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.USERNAME, profile.access_key_id)
        handle.setopt(pycurl.PASSWORD, profile.secret_access_key)
        handle.setopt(pycurl.USERAGENT, f"flood/{__version__} {pycurl.version.split()[1]}")
        handle.setopt(pycurl.TCP_KEEPALIVE, 1)
        # `proxy` decides, not the environment.
        handle.setopt(pycurl.PROXY, "")
        handle.setopt(pycurl.NOPROXY, "")
        handle.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        handle.setopt(_CA_CACHE_TIMEOUT, self._remembered)
        self._trust(handle)

    def _trust(self, handle: Any) -> None:
        if self._trusted is None:
            return
        file, directory = self._trusted
        for option, path in (
            (pycurl.CAINFO, file),
            (pycurl.PROXY_CAINFO, file),
            (pycurl.CAPATH, directory),
            (pycurl.PROXY_CAPATH, directory),
        ):
            if path is None:
                # pycurl has a file of its own choice there, which would count as well.
                handle.unsetopt(option)
            else:
                handle.setopt(option, os.fsencode(path))  # pycurl takes ASCII only as text

    def check(self) -> None:
        """Raise ConfigError if the profile has what no header can carry; libcurl would not."""
        if not self._sound:
            raise ConfigError(
                "the access key, token or region has a character that no HTTP header can carry;"
                f" {KEYS}"
            )

    def moved(self, bucket: str, exchange: Exchange) -> bool:
        """Whether the request belongs to another region, as far as the refusal tells.

        Requests that are built from now on go there.
        """
        told = exchange.answer_header("x-amz-bucket-region")
        if not told:
            found = _TOLD.search(exchange.content)
            told = found.group(1).decode("latin-1") if found else ""
        if not is_region(told) or told == exchange.region:
            return False
        with self._lock:
            self._regions[bucket] = told
            self._targets.pop(bucket, None)
        return True

    def is_signed(self, bucket: str) -> bool:
        """Whether the signature covers the SHA-256 of bodies.

        Over TLS a CRC32 that the signature covers is check enough, as it is for boto3.
        """
        return not (self.has_sums and self._target(bucket).address.startswith("https:"))

    @property
    def has_sums(self) -> bool:
        """Whether requests announce the CRC32 of their bodies."""
        return self.provider.checksums == "when_supported"

    def put(self, bucket: str, key: str, media_type: str, payload: Payload) -> Exchange:
        """Return the request that stores an object."""
        headers = [f"Content-Type: {media_type}", *self._sums(payload)]
        # libcurl would ask the store first whether it wants a body of this size.
        if payload.size > _ASK_FIRST and not self.provider.expect_continue:
            headers.append("Expect:")
        return self._exchange("PutObject", bucket, key, headers, payload)

    def put_part(
        self, bucket: str, key: str, upload_id: str, number: int, payload: Payload
    ) -> Exchange:
        """Return the request that stores a part of an object."""
        # Without a type libcurl would call the part a form. The store has agreed to the upload,
        # so that it need not be asked about each part.
        headers = ["Content-Type: application/octet-stream", "Expect:", *self._sums(payload)]
        exchange = self._exchange("UploadPart", bucket, key, headers, payload)
        exchange.url += f"?partNumber={number}&{query_of(upload_id)}"
        return exchange

    def ask(self, bucket: str, question: Question) -> Exchange:
        """Return the request that asks this."""
        target, body = self._target(bucket), question.body
        if question.key:
            url = target.address + quote(question.key, safe="/~")
        else:
            url = _bucket_address(target.address)
        headers = [*question.headers, *self._token()]
        if body is not None:
            headers.append(f"x-amz-content-sha256: {hashlib.sha256(body).hexdigest()}")
        return Exchange(
            question.operation,
            f"{url}?{question.query}" if question.query else url,
            target.region,
            headers,
            target.proxy,
            body,
            len(body or b""),
            method=question.method,
            longest=question.longest,
            patience=question.patience,
        )

    def head(self, last: Exchange) -> Exchange:
        """Return the request that asks for the object that the last one was about."""
        headers = self._head_headers
        return Exchange("HeadObject", last.url, last.region, headers, last.proxy, method="HEAD")

    def list_buckets(self, prefix: str) -> Exchange | None:
        """Return the request for the buckets whose names begin so; None where it takes boto3."""
        root, region = service(self._profile), self._profile.region
        if root is None:
            return None
        url = f"{root}?max-buckets=1000&prefix={quote(prefix, safe='~')}"
        # A store that does not know the prefix sends the names of all buckets.
        return Exchange(
            *("ListBuckets", url, region, self._token(), proxy(root)),
            method="GET",
            longest=LONGEST,
        )

    def _token(self) -> list[str]:
        token = self._profile.session_token
        return [f"x-amz-security-token: {token}"] if token else []

    def _exchange(
        self,
        operation: str,
        bucket: str,
        key: str,
        headers: list[str],
        payload: Payload,
    ) -> Exchange:
        target = self._target(bucket)
        headers += self._token()
        url = target.address + quote(key, safe="/~")
        return Exchange(
            operation, url, target.region, headers, target.proxy, payload.body, payload.size
        )

    def _sums(self, payload: Payload) -> list[str]:
        sums = [f"x-amz-content-sha256: {payload.sha256 or 'UNSIGNED-PAYLOAD'}"]
        if self.has_sums:
            crc32 = base64.b64encode(payload.announced).decode()
            sums += ["x-amz-sdk-checksum-algorithm: CRC32", f"x-amz-checksum-crc32: {crc32}"]
        return sums

    def _target(self, bucket: str) -> _Target:
        with self._lock:
            found = self._targets.get(bucket)
            region = self._regions.get(bucket)
        if found is None:
            url = address(self._profile, bucket, region) or self._ask(bucket, region)
            found = _Target(url, region or self._profile.region, proxy(url))
            with self._lock:
                self._targets[bucket] = found
        return found


def query_of(upload_id: str) -> str:
    """Return the query that names a multipart upload."""
    return f"uploadId={quote(upload_id, safe='~')}"


def _bucket_address(address: str) -> str:
    """Return a bucket's own URL: where its name is in the path, no slash follows it."""
    return address if urlsplit(address).path == "/" else address.removesuffix("/")
