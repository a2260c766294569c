"""Processes that are killed at work."""

import random
import signal

import pytest

from tests.acceptance.harness import Flood, MakeFlood, check_promises, credentials
from tests.faults import Pass
from tests.proxy import FaultProxy
from tests.servers import S3Server

MIB = 1024**2
SLOW = Pass(bytes_per_second=MIB // 8)
SIZES = {"multipart_threshold": "8MiB", "multipart_part_size": "5MiB"}


@pytest.fixture
def server(moto_server: S3Server) -> S3Server:
    """rclone sometimes answers 500 where keys share a prefix; here every attempt counts."""
    return moto_server


@pytest.fixture
def slow(make_flood: MakeFlood, proxy: FaultProxy, bucket: str) -> Flood:
    """A spool with two uploads under way that take their time, one of them in parts."""
    proxy.inject(SLOW, "PUT", times=None)
    flood = make_flood(credentials(("main", proxy.url)), **SIZES)
    flood.start_watch()
    flood.start_consumer()
    flood.drop(bucket, "small", bytes(4 * MIB))
    flood.drop(bucket, "large", random.randbytes(12 * MIB))
    flood.wait_for(
        lambda: proxy.count("PUT", "/small$") and proxy.count("PUT", r"/large\?.*partNumber"),
        "both uploads",
    )
    return flood


def check_second_try(flood: Flood, server: S3Server, proxy: FaultProxy) -> None:
    flood.wait_delivered()
    check_promises(flood, server)
    for row in flood.rows():
        kinds = [each["kind"] for each in flood.attempts(row["id"])]
        assert kinds == ["lost", None]
    assert proxy.count("PUT", "/small$") == 2, "uploaded twice at worst"
    assert proxy.count("POST", r"/large\?uploads") == 2


def test_a_consumer_is_killed_in_mid_upload(
    slow: Flood, server: S3Server, proxy: FaultProxy
) -> None:
    _, consumer = slow.running
    consumer.kill()
    assert all(row["owner"] for row in slow.rows()), "nobody could let go of the claims"
    proxy.heal()
    slow.start_consumer()
    check_second_try(slow, server, proxy)


def test_a_worker_process_is_killed_with_its_consumer(
    make_flood: MakeFlood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(SLOW, "PUT", times=1)
    flood = make_flood(credentials(("main", proxy.url)))
    flood.start_watch()
    consumer = flood.start_consumer(2, "process")
    flood.drop(bucket, "key", bytes(4 * MIB))
    flood.wait_for(lambda: proxy.count("PUT"), "the upload")
    consumer.kill()
    flood.start_consumer(2, "process")
    flood.wait_delivered()
    check_promises(flood, server)
    kinds = [each["kind"] for each in flood.attempts(flood.row()["id"])]
    assert kinds == ["lost", None]


def test_another_consumer_goes_on_meanwhile(
    slow: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    _, consumer = slow.running
    slow.start_consumer()
    proxy.heal()
    consumer.kill()
    slow.drop(bucket, "other", b"not held up")
    slow.wait_for(lambda: slow.rows(filepath="other", current_state="completed"))
    slow.start_consumer()
    slow.wait_delivered()
    check_promises(slow, server)


def test_a_stopped_consumer_keeps_its_claim(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(SLOW, "PUT")
    proxied.start_watch()
    consumer = proxied.start_consumer()
    proxied.drop(bucket, "slow", bytes(MIB // 4))
    proxied.wait_for(lambda: proxy.count("PUT"), "the upload")
    proxied.wait_for(lambda: proxied.stopped_at_rest(consumer.pid), "a moment to stop at")
    owner = proxied.row()["owner"]
    assert owner
    proxied.tamper("UPDATE spool SET last_swept_at = NULL")
    proxied.start_consumer()
    proxied.drop(bucket, "other", b"not held up")
    proxied.wait_for(lambda: proxied.rows(filepath="other", current_state="completed"))
    proxied.wait_for(lambda: proxied.query("SELECT last_swept_at AS at FROM spool")[0]["at"])
    assert proxied.row(filepath="slow")["owner"] == owner
    consumer.signal(signal.SIGCONT)
    proxied.wait_delivered()
    check_promises(proxied, server)
    assert [len(proxied.attempts(row["id"])) for row in proxied.rows()] == [1, 1]


def test_both_are_killed_in_mid_upload(
    slow: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    for one in slow.running:
        one.kill()
    slow.drop(bucket, "meanwhile", b"while nobody looked")
    proxy.heal()
    slow.start_watch()
    slow.start_consumer()
    slow.wait_delivered()
    check_promises(slow, server)
