"""flood-status beside flood's real processes."""

import json
import signal
from typing import Any

import pytest

from tests.acceptance.harness import Flood
from tests.faults import Pass
from tests.proxy import FaultProxy
from tests.servers import S3Server

SLOW = Pass(bytes_per_second=1024**2)
MIB = 1024**2


@pytest.fixture
def server(rclone_server: S3Server) -> S3Server:
    return rclone_server


def status(flood: Flood) -> dict[str, Any]:
    done = flood.run("-m", "flood.commands.status", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("transfer", ["curl", "boto3"])
def test_what_is_uploaded_now_is_seen_until_its_worker_dies(
    proxied: Flood, proxy: FaultProxy, bucket: str, transfer: str
) -> None:
    proxied.environ |= {
        "FLOOD_TRANSFER": transfer,
        "FLOOD_MULTIPART_THRESHOLD": "5MiB",
        "FLOOD_MULTIPART_PART_SIZE": "5MiB",
        "FLOOD_CONCURRENCY": "1",
    }
    proxy.inject(SLOW, "PUT", times=None)
    proxied.start_watch()
    consumer = proxied.start_consumer(workers=3)
    proxied.wait_for(lambda: len(status(proxied)["workers"]) == 3, "workers that wait")
    assert {one["pid"] for one in status(proxied)["workers"]} == {consumer.pid}
    proxied.drop(bucket, "film", bytes(40 * MIB))

    def sent() -> int:
        uploads = status(proxied)["uploads"]
        return int(uploads[0]["bytes_sent"] or 0) if uploads else 0

    proxied.wait_for(lambda: 0 < sent() < 40 * MIB, "some of it to be sent")
    before = sent()
    proxied.wait_for(lambda: sent() > before, "more of it to be sent")
    proxied.drop(bucket, "film", b"newer")
    proxied.wait_for(lambda: status(proxied)["held_back"]["files"] == 1, "the newer one")
    [upload] = status(proxied)["uploads"]
    assert (upload["key"], upload["pid"], upload["worker_lives"]) == ("film", consumer.pid, True)
    assert status(proxied)["held_back"]["oldest"][0]["behind"]["record"] == upload["record"]
    story = proxied.run("-m", "flood.commands.status", f"s3://main/{bucket}/film").stdout
    assert "a worker is at it" in story
    assert f"waits for record {upload['record']}" in story
    consumer.signal(signal.SIGKILL)
    consumer.wait()
    found = status(proxied)
    assert found["workers"] == []
    assert not found["consumers_run"]
    assert [one["worker_lives"] for one in found["uploads"]] == [False]


def test_a_batch_says_how_many_are_done(proxied: Flood, proxy: FaultProxy, bucket: str) -> None:
    proxied.environ["FLOOD_CONCURRENCY"] = "1"
    proxied.start_watch()
    for number in range(8):
        proxied.drop(bucket, str(number), bytes(MIB))
    proxied.wait_for(lambda: proxied.count(current_state="processing") == 8, "all of them")
    proxy.inject(SLOW, "PUT", times=None)
    proxied.start_consumer(workers=1)

    def done() -> bool:
        return any(0 < one["files_done"] < one["files"] for one in status(proxied)["uploads"])

    proxied.wait_for(done, "some of them to be done")
