"""What tests of uploaders need besides a server."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flood.credentials import Profile
from flood.providers import PROVIDERS
from tests.servers import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from workers.s3 import S3
from workers.transfer import Hooks, Receipt, Upload, Uploader

MIB = 1024**2
LARGE = 6 * MIB  # the multipart threshold of the uploaders made here


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


def boto3_uploader(url: str, provider: str, concurrency: int = 4) -> Uploader:
    profile = Profile(
        name="test",
        provider=PROVIDERS[provider],
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SECRET_ACCESS_KEY,
        session_token=None,
        region=REGION,
        endpoint=url,
    )
    return S3(
        profile,
        concurrency=concurrency,
        multipart_threshold=LARGE,
        multipart_part_size=5 * MIB,
        connect_timeout=5.0,
        read_timeout=10.0,
        bucket_cache_seconds=60.0,
        clock=time.monotonic,
    )


def flood_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("flood-")]


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
