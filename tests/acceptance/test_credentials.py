"""Credentials that change while flood runs."""

import signal
import threading
from dataclasses import dataclass, field
from typing import Literal

import pytest

from tests.acceptance.harness import PATIENCE, Flood, check_promises, credentials
from tests.faults import Exchange, Pass, s3_error
from tests.proxy import FaultProxy
from tests.servers import (
    ACCESS_KEY_ID,
    OTHER_KEY_ID,
    OTHER_SECRET,
    SECRET_ACCESS_KEY,
    S3Server,
)

MIB = 1024**2


@dataclass(frozen=True)
class Held(Pass):
    """Takes no byte of a body before its gate is opened."""

    gate: threading.Event = field(default_factory=threading.Event)

    def play(self, exchange: Exchange) -> None:
        assert self.gate.wait(PATIENCE)
        super().play(exchange)


def rewrite(flood: Flood, text: str) -> None:
    """Replace the credentials file, as an editor does."""
    new = flood.credentials.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.rename(flood.credentials)


def rotated(text: str) -> str:
    """Return the same profiles with the other key."""
    text = text.replace(SECRET_ACCESS_KEY, OTHER_SECRET)
    return text.replace(ACCESS_KEY_ID, OTHER_KEY_ID)


def test_a_new_profile_needs_no_restart(flood: Flood, server: S3Server, bucket: str) -> None:
    watch = flood.start_watch("--consumers", "1")
    flood.drop(bucket, "dir/early", b"data", profile="new")
    flood.wait_for(lambda: watch.events("left alone"), "the warning")
    [line] = watch.events("left alone")
    assert "add it to their file" in line["reason"]
    alone = flood.credentials.read_text()
    rewrite(flood, alone + credentials(("new", server.url)))
    flood.wait_delivered()
    for state in ("incoming_tmp", "processing", "completed", "failed"):
        assert (flood.spool / state / "new" / bucket).is_dir()
    # Without its profile a file waits; nothing else does.
    rewrite(flood, alone)
    flood.wait_for(lambda: watch.events("credentials changed")[-1].get("removed"), "the loss")
    flood.drop(bucket, "late", b"late", profile="new")
    flood.drop(bucket, "main", b"main")
    flood.wait_for(lambda: len(watch.events("left alone")) == 2, "the second warning")
    flood.wait_for(lambda: flood.settled(2), "the other profile's file")
    rewrite(flood, alone + credentials(("new", server.url)))
    flood.wait_delivered()
    check_promises(flood, server)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_new_keys_are_used_by_the_next_attempt(
    proxied: Flood,
    server: S3Server,
    proxy: FaultProxy,
    bucket: str,
    kind: Literal["thread", "process"],
) -> None:
    proxied.start_watch()
    proxied.start_consumer(1, kind)
    proxy.inject(s3_error(503, "SlowDown"), "PUT", times=None)
    for number in range(5):
        proxied.drop(bucket, f"key-{number}", b"data")
    proxied.wait_for(lambda: proxy.count("PUT"), "the first attempt")
    rewrite(proxied, rotated(proxied.credentials.read_text()))

    def signed_with(key: str) -> int:
        return sum(f"Credential={key}/" in one.headers["authorization"] for one in proxy.requests)

    proxied.wait_for(lambda: signed_with(OTHER_KEY_ID), "the new key")
    proxy.heal()
    proxied.wait_delivered()
    before = signed_with(ACCESS_KEY_ID)
    proxied.drop(bucket, "later", b"data")
    proxied.wait_delivered()
    assert signed_with(ACCESS_KEY_ID) == before
    check_promises(proxied, server)


def test_a_broken_file_is_refused_and_the_old_keys_go_on(
    flood: Flood, server: S3Server, bucket: str
) -> None:
    watch = flood.start_watch()
    consumer = flood.start_consumer()
    good = flood.credentials.read_text()
    broken = good.replace(f"AWS_ACCESS_KEY_ID = {ACCESS_KEY_ID}\n", "")
    rewrite(flood, broken)
    flood.wait_for(lambda: watch.events("credentials refused"), "flood-watch's refusal")
    flood.drop(bucket, "one", b"data")
    flood.wait_delivered()
    flood.wait_for(lambda: consumer.events("credentials refused"), "the consumer's refusal")
    flood.drop(bucket, "two", b"data")
    flood.wait_delivered()
    for process in (watch, consumer):
        [line] = process.events("credentials refused")
        assert line["level"] == "ERROR"
        assert "profile main: missing: AWS_ACCESS_KEY_ID" in line["reason"]
        assert SECRET_ACCESS_KEY not in process.output()
        process.signal(signal.SIGHUP)
    flood.wait_for(
        lambda: all(len(one.events("credentials refused")) == 2 for one in (watch, consumer)),
        "an answer to those who ask",
    )
    rewrite(flood, good + credentials(("more", server.url)))
    flood.wait_for(lambda: watch.events("credentials changed"), "the mended file")
    flood.drop(bucket, "three", b"data", profile="more")
    flood.wait_delivered()
    assert watch.alive()
    check_promises(flood, server)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_an_idle_consumer_has_the_keys_that_a_wrong_file_followed(
    proxied: Flood,
    server: S3Server,
    proxy: FaultProxy,
    bucket: str,
    kind: Literal["thread", "process"],
) -> None:
    proxied.start_watch()
    consumer = proxied.start_consumer(2, kind)
    proxied.drop(bucket, "early", b"data")
    proxied.wait_delivered()
    good = proxied.credentials.read_text()
    rewrite(proxied, rotated(good))
    # Worker processes have the keys each for itself.
    workers = 1 if kind == "thread" else 2
    proxied.wait_for(
        lambda: len(consumer.events("credentials changed")) == workers, "the new keys", 30
    )
    rewrite(proxied, "[main]\n")
    proxied.wait_for(lambda: consumer.events("credentials refused"), "the refusal", 30)
    before = len(proxy.requests)
    proxied.drop(bucket, "late", b"data")
    proxied.wait_delivered()
    for request in proxy.requests[before:]:
        assert f"Credential={OTHER_KEY_ID}/" in request.headers["authorization"]
    check_promises(proxied, server)


def test_what_a_store_refuses_waits_until_a_wrong_file_is_mended(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxied.start_watch("--consumers", "1")
    good = proxied.credentials.read_text()
    proxied.drop(bucket, "early", b"data")
    proxied.wait_delivered()
    rewrite(proxied, "[main]\n")
    proxy.inject(s3_error(403, "InvalidAccessKeyId"), "PUT", times=None)
    proxied.drop(bucket, "late", b"data")
    proxied.wait_for(
        lambda: {x["error_code"] for x in proxied.attempts(2)} == {"credentials_refused"},
        "the refusal",
    )
    assert proxied.rows(id=2)[0]["current_state"] == "processing"
    proxy.heal()
    rewrite(proxied, rotated(good))
    proxied.wait_delivered()
    check_promises(proxied, server)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_hang_up_costs_no_attempt(
    proxied: Flood,
    server: S3Server,
    proxy: FaultProxy,
    bucket: str,
    kind: Literal["thread", "process"],
) -> None:
    held = Held()
    proxy.inject(held, "PUT", times=None)
    watch = proxied.start_watch()
    consumer = proxied.start_consumer(2, kind)
    for number in range(4):
        proxied.drop(bucket, f"key-{number}", bytes(2 * MIB))
    proxied.wait_for(lambda: proxy.count("PUT"), "the uploads")
    for process in (watch, consumer):
        for count in (1, 2):
            process.signal(signal.SIGHUP)
            proxied.wait_for(
                lambda: len(process.events("credentials unchanged")) == count,  # noqa: B023  now
                "an answer",
            )
    assert {row["current_state"] for row in proxied.rows()} == {"processing"}
    held.gate.set()
    proxied.wait_delivered()
    assert proxy.count("PUT") == 4
    assert [len(proxied.attempts(row["id"])) for row in proxied.rows()] == [1] * 4
    assert len(consumer.events("ready")) == 1, "it did not start anew"
    for process in (consumer, watch):
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    check_promises(proxied, server)
