"""Two versions of one key, one after the other."""

import pytest

from tests.acceptance.harness import Flood, check_promises
from tests.faults import Pass
from tests.proxy import FaultProxy
from tests.servers import S3Server


@pytest.fixture
def server(moto_server: S3Server) -> S3Server:
    """rclone sometimes answers 500 where keys share a prefix; here every attempt counts."""
    return moto_server


def test_the_second_version_waits_for_the_slow_first(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    first, second = b"1" * 400_000, b"2" * 300_000
    proxy.inject(Pass(bytes_per_second=400_000), "PUT")
    proxied.start_watch()
    for _ in range(2):
        proxied.start_consumer()
    proxied.drop(bucket, "dir/key", first)
    proxied.wait_for(lambda: proxy.count("PUT"), "the first upload")
    waiting = proxied.drop(bucket, "dir/key", second)
    proxied.drop(bucket, "dir/other", b"not held up")
    proxied.wait_for(lambda: proxied.rows(filepath="dir/other", current_state="completed"))
    assert waiting.read_bytes() == second
    assert proxied.row(filepath="dir/key")["current_state"] == "processing"

    proxied.wait_delivered()
    check_promises(proxied, server)
    assert server.read(bucket, "dir/key") == second
    assert proxy.count("PUT", "/dir/key$") == 2
    one, two = proxied.rows(filepath="dir/key")
    assert one["spool_path"] == f"completed/main/{bucket}/dir/key"
    assert two["spool_path"] == f"completed/main/{bucket}/dir/key.~{two['id']}~"
    assert (proxied.spool / one["spool_path"]).read_bytes() == first
    assert (proxied.spool / two["spool_path"]).read_bytes() == second
    assert two["created_at"] >= one["completed_at"]


def test_every_version_of_a_quick_writer_arrives(
    proxied: Flood, server: S3Server, bucket: str
) -> None:
    proxied.start_watch()
    proxied.start_consumer()
    target = proxied.incoming(bucket) / "key"
    for number in range(12):
        # A rename over the last version would be the producer's own doing, no loss of flood's.
        proxied.wait_for(lambda: not target.exists(), "the way to be free")
        proxied.drop(bucket, "key", b"version %d" % number)
    proxied.wait_delivered()
    check_promises(proxied, server)
    assert server.read(bucket, "key") == b"version 11"
    contents = [(proxied.spool / row["spool_path"]).read_bytes() for row in proxied.rows()]
    assert contents == [b"version %d" % number for number in range(12)]
