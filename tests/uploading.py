"""What tests of uploaders need besides a server."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from flood.profiles import Profile
from flood.providers import PROVIDERS
from tests.servers import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from workers.curl import Curl
from workers.s3 import S3
from workers.transfer import Hooks, Receipt, Upload, Uploader

MIB = 1024**2
LARGE = 6 * MIB  # the multipart threshold of the uploaders made here

#: Opens a new file with this content.
Open = Callable[[bytes], int]


@dataclass
class Record:
    """Hooks that remember what they were told."""

    stop: threading.Event = field(default_factory=threading.Event)
    events: list[tuple[str, str | None]] = field(default_factory=list)

    def hooks(self) -> Hooks:
        return Hooks(
            self.stop.is_set,
            lambda upload, upload_id: self.events.append(("started", upload_id)),
            lambda upload: self.events.append(("ended", None)),
        )


def profile(url: str | None, provider: str = "s3", **changes: object) -> Profile:
    """Return a profile for one of the test servers."""
    known = Profile(
        name="test",
        provider=PROVIDERS[provider],
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SECRET_ACCESS_KEY,
        session_token=None,
        region=REGION,
        endpoint=url,
    )
    return replace(known, **changes)  # type: ignore[arg-type]  # whatever a test wants


def _uploader(
    kind: Callable[..., Uploader],
    used: Profile,
    *,
    concurrency: int = 4,
    connect_timeout: float = 5.0,
    read_timeout: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> Uploader:
    return kind(
        used,
        concurrency=concurrency,
        multipart_threshold=LARGE,
        multipart_part_size=5 * MIB,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        bucket_cache_seconds=60.0,
        clock=clock,
    )


boto3_uploader = partial(_uploader, S3)
curl_uploader = partial(_uploader, Curl)


#: Makes an uploader for a profile.
MakeUploader = Callable[..., Uploader]

#: Every implementation, by the name that its tests have.
UPLOADERS: dict[str, MakeUploader] = {"boto3": boto3_uploader, "curl": curl_uploader}


def transferred(
    uploader: Uploader, uploads: Iterable[Upload], hooks: Hooks
) -> Iterator[tuple[Upload, Receipt | BaseException]]:
    """What transfer yields, without the Nones in between."""
    for outcome in uploader.transfer(uploads, hooks):
        if outcome is not None:
            yield outcome


def send(uploader: Uploader, upload: Upload, record: Record | None = None) -> object:
    """Transfer one file; return its receipt or the exception that ended it."""
    [(answered, result)] = transferred(uploader, [upload], (record or Record()).hooks())
    assert answered is upload
    return result


def flood_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("flood-")]


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
