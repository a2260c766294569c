"""Huey's tables may go at any time: nothing depends on them."""

from datetime import datetime, timezone

import pytest

from tests.acceptance.harness import Flood, check_promises
from tests.proxy import FaultProxy
from tests.servers import S3Server

LOSSES = {
    "emptied": ("DELETE FROM task", "DELETE FROM schedule", "DELETE FROM kv"),
    "dropped": ("DROP TABLE task", "DROP TABLE schedule", "DROP TABLE kv"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_queue_is_lost_while_files_wait(
    flood: Flood, server: S3Server, bucket: str, loss: str
) -> None:
    flood.start_watch()
    for number in range(250):
        flood.drop(bucket, f"key-{number}", b"%d" % number)
    flood.wait_for(lambda: flood.count(current_state="processing") == 250, "all rows")
    assert flood.query("SELECT count(*) AS tasks FROM task")[0]["tasks"] > 0
    flood.tamper(*LOSSES[loss])
    flood.start_consumer()
    flood.wait_delivered()
    check_promises(flood, server)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_schedule_is_lost_while_retries_wait(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str, loss: str
) -> None:
    proxy.down()
    proxied.start_watch()
    consumer = proxied.start_consumer()
    for number in range(20):
        proxied.drop(bucket, f"key-{number}", b"%d" % number)
    proxied.wait_for(
        lambda: proxied.count() == 20 and all(row["retry_count"] for row in proxied.rows()),
        "a failed attempt of every file",
    )
    consumer.kill()
    due = max(row["next_attempt_at"] for row in proxied.rows())
    proxied.wait_for(lambda: due < f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}")
    proxied.tamper(*LOSSES[loss])
    proxy.up()
    proxied.start_consumer()
    proxied.wait_delivered()
    check_promises(proxied, server)


def test_the_tables_are_dropped_under_a_running_consumer(
    flood: Flood, server: S3Server, bucket: str
) -> None:
    flood.start_watch()
    consumer = flood.start_consumer()
    for number in range(3):
        flood.drop(bucket, f"key-{number}", b"%d" % number)
        flood.wait_delivered()
        flood.tamper(*LOSSES["dropped"])
    flood.drop(bucket, "last", b"last")
    flood.wait_delivered()
    check_promises(flood, server)
    assert consumer.alive()


def test_somebody_elses_tasks_do_no_harm(flood: Flood, server: S3Server, bucket: str) -> None:
    flood.start_watch()
    flood.tamper(
        "INSERT INTO task (queue, data, priority) VALUES ('flood', x'80049500', 5)",
        "INSERT INTO task (queue, data, priority) VALUES ('flood', 'not JSON', 5)",
        "INSERT INTO task (queue, data, priority) VALUES ('flood', '[1, 2]', 5)",
        """INSERT INTO task (queue, data, priority) VALUES ('flood', '{"name": "rm"}', 5)""",
    )
    consumer = flood.start_consumer()
    flood.drop(bucket, "key", b"data")
    flood.wait_delivered()
    check_promises(flood, server)
    assert consumer.alive()
