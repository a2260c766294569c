"""A store that is away for a while, then one that stays away."""

import itertools
from datetime import datetime

import pytest

from tests.acceptance.harness import Flood, MakeFlood, Row, check_promises, credentials
from tests.faults import Stall, s3_error
from tests.proxy import FaultProxy
from tests.servers import S3Server

INITIAL = 0.2
JITTER = 0.25

#: How late an attempt may begin, in seconds: the schedule is read once a second.
LATE = 10.0


@pytest.fixture
def server(moto_server: S3Server) -> S3Server:
    """rclone sometimes answers 500 where keys share a prefix; here every attempt counts."""
    return moto_server


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def check_delays(attempts: list[Row], initial: float = INITIAL) -> None:
    """Check what was waited after each attempt but the last."""
    for number, (attempt, following) in enumerate(itertools.pairwise(attempts)):
        base = initial * 2**number
        assert base <= attempt["delay_seconds"] <= base * (1 + JITTER)
        due = moment(attempt["next_attempt_at"])
        waited = (due - moment(attempt["finished_at"])).total_seconds()
        assert waited == pytest.approx(attempt["delay_seconds"], abs=1e-5)
        assert 0 <= (moment(following["started_at"]) - due).total_seconds() < LATE


def test_the_store_comes_back_during_the_third_retry(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxy.down()
    # What the third retry asks first is answered late: the store comes up while it waits.
    proxy.inject(Stall("request", seconds=0.5))
    proxied.start_watch()
    proxied.start_consumer()
    proxied.drop(bucket, "key", b"data")
    proxied.wait_for(lambda: proxied.rows(retry_count=3), "three failed attempts")
    proxy.up()
    proxied.wait_delivered()
    check_promises(proxied, server)
    attempts = proxied.attempts(proxied.row()["id"])
    assert [each["retry_number"] for each in attempts] == [0, 1, 2, 3]
    assert [each["outcome"] for each in attempts] == ["failure"] * 3 + ["success"]
    assert {(each["kind"], each["error_code"]) for each in attempts[:3]} == {
        ("transient", "connection_refused")
    }
    check_delays(attempts)
    assert attempts[3]["delay_seconds"] is None


def test_many_files_wait_for_the_store(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxy.down()
    proxied.start_watch()
    for _ in range(2):
        proxied.start_consumer()
    for number in range(30):
        proxied.drop(bucket, f"key-{number}", b"%d" % number)
    proxied.wait_for(
        lambda: proxied.count() == 30 and all(row["retry_count"] for row in proxied.rows()),
        "a failed attempt of every file",
    )
    proxy.up()
    proxied.wait_delivered()
    check_promises(proxied, server)
    delays = set()
    for row in proxied.rows():
        attempts = proxied.attempts(row["id"])
        assert [each["retry_number"] for each in attempts] == list(range(len(attempts)))
        check_delays(attempts)
        delays.add(attempts[0]["delay_seconds"])
    assert len(delays) > 10, "files that failed together come back apart"


def test_ten_failed_retries_are_the_end(
    make_flood: MakeFlood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    flood = make_flood(credentials(("main", proxy.url)), retry_initial_delay="1ms")
    proxy.inject(s3_error(503, "SlowDown", "Please reduce your request rate."), "PUT", times=None)
    flood.start_watch()
    consumer = flood.start_consumer()
    flood.drop(bucket, "hopeless", b"data")
    flood.wait_delivered()
    row = flood.row()
    assert (row["current_state"], row["upload_outcome"]) == ("failed", "failure")
    assert row["error_code"] == "SlowDown"
    attempts = flood.attempts(row["id"])
    assert [each["retry_number"] for each in attempts] == list(range(11))
    assert {(each["outcome"], each["kind"]) for each in attempts} == {("failure", "transient")}
    check_delays(attempts, 0.001)
    flood.wait_for(lambda: consumer.events("failed"), "its line, which comes after the commit")
    [line] = consumer.events("failed")
    assert (line["record"], line["error"]) == (row["id"], "SlowDown")

    # Nothing rings for it any more: what comes later goes its way without it.
    assert flood.query("SELECT * FROM schedule") == []
    proxy.heal()
    flood.drop(bucket, "later", b"more")
    flood.wait_delivered()
    assert proxy.count("PUT", "/hopeless$") == 11
    check_promises(flood, server, failed={"hopeless"})
