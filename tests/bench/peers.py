"""Other programs that upload a directory, each as somebody would run it who knows it well."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.workloads import BUCKET, MIB, Workload

#: Of these sizes on, files are sent in parts.
_LARGE: Final = 64 * MIB


@dataclass(frozen=True)
class Peer:
    """A program; `command` gives its command line for a workload, a directory, the store's URL."""

    name: str
    program: Callable[[], str | None]
    command: Callable[[Workload, Path, str], list[str]]
    asks_version: str = "version"


def environ(home: Path, authority: Path | None) -> dict[str, str]:
    """Return what the programs are told by variables; nothing of the user's own gets in."""
    trusted = str(authority) if authority else ""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "NO_PROXY": "127.0.0.1",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(home / "aws.conf"),
        "RCLONE_CONFIG": os.devnull,
    } | ({"SSL_CERT_FILE": trusted, "AWS_CA_BUNDLE": trusted} if trusted else {})


def prepare(home: Path) -> None:
    """Write the one file that a setting of the AWS CLI needs."""
    # Its own client is slower than the one in C, and 10 requests at once is its default.
    (home / "aws.conf").write_text(
        "[default]\ns3 =\n  preferred_transfer_client = crt\n  max_concurrent_requests = 64\n"
    )


def _at_once(workload: Workload, small: int) -> str:
    """Return how many files are sent at once: `small` of them to a near store, fewer where one of
    them keeps a processor busy, more to a store that is far away."""
    if workload.latency:
        return "256"
    return str(small if workload.size < MIB else 16)


def _s5cmd(workload: Workload, tree: Path, url: str, workers: str = "") -> list[str]:
    copy = ["cp"]
    if workload.size >= _LARGE:
        copy += ["--concurrency", "16", "--part-size", "16"]
    # It keeps two idle connections, Go's default, and opens others anew for each file or two: more
    # workers than that spend their time on handshakes where a store is near.
    workers = workers or (
        "2" if workload.tls and not workload.latency else _at_once(workload, small=64)
    )
    return [
        *("s5cmd", "--endpoint-url", url, "--log", "error", "--numworkers", workers),
        *(*copy, f"{tree}/", f"s3://{BUCKET}/"),
    ]


def _rclone(workload: Workload, tree: Path, url: str) -> list[str]:
    transfers = _at_once(workload, small=32)
    large = ["--s3-chunk-size", "16M", "--s3-upload-concurrency", "16", "--s3-disable-checksum"]
    return [
        *("rclone", "copy", "--transfers", transfers, "--checkers", "32"),
        *("--no-check-dest", "--ignore-checksum", "--stats", "0", "--s3-no-check-bucket"),
        *(large if workload.size >= _LARGE else ()),
        *("--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", url),
        *(str(tree), f":s3:{BUCKET}"),
    ]


def _aws(workload: Workload, tree: Path, url: str) -> list[str]:
    return [
        *("aws", "s3", "cp", "--recursive", "--only-show-errors", "--endpoint-url", url),
        *(str(tree), f"s3://{BUCKET}/"),
    ]


def _beside(name: str) -> Callable[[], str | None]:
    """A program of this virtual environment, or else of PATH."""

    def look() -> str | None:
        beside = Path(sys.executable).with_name(name)
        return str(beside) if beside.exists() else shutil.which(name)

    return look


def _find_s5cmd() -> str | None:
    # The package's own command is a Python script around this program, which costs s5cmd time.
    inside = Path(sysconfig.get_path("purelib"), "s5cmd", "bin", "s5cmd")
    return str(inside) if inside.exists() else shutil.which("s5cmd")


PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer("s5cmd", _find_s5cmd, _s5cmd),
        Peer("s5cmd-2", _find_s5cmd, partial(_s5cmd, workers="2")),
        Peer("rclone", _beside("rclone"), _rclone),
        Peer("aws", _beside("aws"), _aws, "--version"),
    )
}

#: What is measured unless somebody chooses.
USUAL: Final = ("s5cmd", "rclone")
