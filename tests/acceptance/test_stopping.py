"""Signals to a consumer in mid-upload."""

import signal
from typing import Literal

import pytest

from tests.acceptance.harness import MakeFlood, check_promises, credentials
from tests.faults import Pass
from tests.proxy import FaultProxy
from tests.servers import S3Server

MIB = 1024**2


@pytest.fixture
def server(moto_server: S3Server) -> S3Server:
    """rclone sometimes answers 500 where keys share a prefix; here every attempt counts."""
    return moto_server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_claims_are_released_at_no_cost(
    make_flood: MakeFlood,
    server: S3Server,
    proxy: FaultProxy,
    bucket: str,
    kind: Literal["thread", "process"],
    number: signal.Signals,
) -> None:
    proxy.inject(Pass(bytes_per_second=MIB // 8), "PUT", times=None)
    flood = make_flood(
        credentials(("main", proxy.url)), multipart_threshold="8MiB", multipart_part_size="5MiB"
    )
    watch = flood.start_watch()
    consumer = flood.start_consumer(2, kind)
    flood.drop(bucket, "small", bytes(6 * MIB))
    flood.drop(bucket, "large", bytes(9 * MIB))
    flood.wait_for(
        lambda: proxy.count("PUT", "/small$") and proxy.count("PUT", r"/large\?.*partNumber"),
        "both uploads",
    )
    consumer.signal(number)
    assert consumer.wait() == 0
    rows = flood.rows()
    assert [row["owner"] for row in rows] == [None, None]
    assert [row["current_state"] for row in rows] == ["processing"] * 2
    for row in rows:
        [attempt] = flood.attempts(row["id"])
        assert (attempt["retry_number"], attempt["kind"]) == (0, "interrupted")

    # The next consumer takes them up at once: they are due, and cost nothing.
    proxy.heal()
    flood.start_consumer(2, kind)
    flood.wait_delivered()
    check_promises(flood, server)
    for row in flood.rows():
        attempts = flood.attempts(row["id"])
        assert [each["retry_number"] for each in attempts] == [0, 0]
    assert watch.alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_an_idle_consumer_ends_at_once(
    make_flood: MakeFlood, server: S3Server, bucket: str, number: signal.Signals
) -> None:
    flood = make_flood(credentials(("main", server.url)))
    flood.start_watch()
    consumer = flood.start_consumer()
    flood.drop(bucket, "key", b"data")
    flood.wait_delivered()
    consumer.signal(number)
    assert consumer.wait(5) == 0
