"""flood-watch with consumers of its own."""

import os
import resource
import signal
from pathlib import Path

from flood.record_values import TASK_FILES
from tests.acceptance.harness import Flood, MakeFlood, Running, check_promises, credentials, gone
from tests.faults import Pass, Stall
from tests.proxy import FaultProxy
from tests.servers import S3Server


def children(watch: Running) -> list[int]:
    """Return the consumers that it has started, the dead ones included."""
    return [line["pid"] for line in watch.events("consumer started")]


def test_one_command_runs_everything(flood: Flood, server: S3Server, bucket: str) -> None:
    watch = flood.start_watch("--consumers", "2")
    for number in range(50):
        flood.drop(bucket, f"key-{number}", b"%d" % number)
    flood.wait_delivered()
    pids = children(watch)
    assert len(pids) == 2
    assert not any(gone(pid) for pid in pids)
    watch.signal(signal.SIGTERM)
    assert watch.wait() == 0
    assert all(gone(pid) for pid in pids)
    check_promises(flood, server)


def test_each_process_has_as_many_open_files_as_it_may(flood: Flood) -> None:
    limited = 'ulimit -Sn 200 && ulimit -Hn 3000 && exec "$@"'
    flood.python = ["sh", "-c", limited, "sh", *flood.python]
    watch = flood.start_watch("--consumers", "1")
    flood.wait_for(lambda: watch.events("ready")[1:], "its consumer")
    for pid in (watch.pid, *children(watch)):
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (3000, 3000)


def deliver_some(flood: Flood, bucket: str) -> None:
    """Files of the profile whose store answers, each long before a request to the other ends."""
    for number in range(3):
        flood.drop(bucket, f"key-{number}", b"data")
        flood.wait_for(
            lambda: flood.count(profile="main", current_state="completed") > number,  # noqa: B023  now
            "a file of the other profile",
            seconds=20.0,
        )


def test_a_store_that_hangs_from_the_start_holds_up_no_other_profile(
    make_flood: MakeFlood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    """A burst for it comes first, more than all workers could claim at once."""
    proxy.inject(Stall("request"), "PUT", times=None)
    flood = make_flood(credentials(("main", server.url), ("other", proxy.url)), read_timeout="60s")
    for number in range(4 * TASK_FILES + 50):
        flood.drop(bucket, f"key-{number}", b"data", profile="other")
    flood.start_watch("--consumers", "2")
    flood.wait_for(
        lambda: len({row["owner"] for row in flood.rows()} - {None}) == 3, "three of four workers"
    )
    deliver_some(flood, bucket)
    assert len({row["owner"] for row in flood.rows(profile="other")} - {None}) == 3
    assert flood.rows(profile="main")[-1]["retry_count"] == 0


def test_another_worker_stands_in_while_all_wait_for_a_store_that_has_begun_to_hang(
    make_flood: MakeFlood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    """A moment ago it answered, so that no worker was left for others."""
    flood = make_flood(credentials(("main", server.url), ("other", proxy.url)), read_timeout="60s")
    watch = flood.start_watch("--consumers", "1")
    flood.drop(bucket, "before", b"data", profile="other")
    flood.wait_for(lambda: flood.count(current_state="completed"), "the first file")
    proxy.inject(Stall("request"), "PUT", times=None)
    for number in range(2):
        flood.drop(bucket, f"key-{number}", b"data", profile="other")
        flood.wait_for(
            lambda: len({row["owner"] for row in flood.rows()} - {None}) > number,  # noqa: B023  now
            "one more worker that hangs",
        )
    deliver_some(flood, bucket)
    assert len({row["owner"] for row in flood.rows(profile="other")} - {None}) == 2
    assert len(watch.events("stands in")) == 1
    watch.signal(signal.SIGTERM)
    assert watch.wait() == 0
    assert not any(row["owner"] for row in flood.rows())


def test_a_consumer_that_is_stopped_keeps_no_other_from_its_work(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    """One at what is heavy, of which two of them would not both be at it."""
    proxy.inject(Pass(bytes_per_second=1_000_000), "PUT")
    watch = proxied.start_watch()
    first = proxied.start_consumer(1)
    proxied.drop(bucket, "first", bytes(9 * 2**20))
    proxied.wait_for(lambda: proxy.count("PUT"), "its upload")
    first.signal(signal.SIGSTOP)
    proxied.start_consumer(1)
    proxied.drop(bucket, "second", bytes(9 * 2**20))
    proxied.wait_for(lambda: proxied.count(current_state="completed") == 1, "the other file")
    assert proxied.row(filepath="second")["current_state"] == "completed"
    first.signal(signal.SIGCONT)
    proxied.wait_delivered()
    check_promises(proxied, server)
    assert watch.alive()


def test_a_consumer_that_dies_is_started_again(flood: Flood, server: S3Server, bucket: str) -> None:
    watch = flood.start_watch("--consumers", "1")
    flood.wait_for(lambda: watch.events("ready")[1:], "the consumer")
    os.kill(children(watch)[0], signal.SIGKILL)
    flood.drop(bucket, "key", b"data")
    flood.wait_delivered()
    check_promises(flood, server)
    [line] = watch.events("consumer died")
    assert (line["pid"], line["status"]) == (children(watch)[0], -signal.SIGKILL)
    assert len(children(watch)) == 2


def test_consumers_end_with_a_flood_watch_that_was_killed(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(Pass(bytes_per_second=100_000), "PUT")
    watch = proxied.start_watch("--consumers", "2")
    proxied.drop(bucket, "key", bytes(4_000_000))
    proxied.wait_for(lambda: proxy.count("PUT"), "the upload")
    watch.kill()
    proxied.wait_for(lambda: all(gone(pid) for pid in children(watch)), "the consumers' end")
    assert proxied.row()["owner"] is None, "they ended in order"
    proxied.start_watch("--consumers", "2")
    proxied.wait_delivered()
    check_promises(proxied, server)


def test_a_consumer_that_is_started_again_has_the_same_credentials(flood: Flood) -> None:
    watch = flood.start_watch("--consumers", "1")
    flood.wait_for(lambda: len(watch.events("credentials")) == 2, "the first consumer")
    searched = Path(flood.environ["HOME"]) / ".aws/credentials"
    searched.parent.mkdir()
    searched.touch(mode=0o600)
    searched.write_text(flood.credentials.read_text().replace("[main]", "[other]"))
    [started] = watch.events("consumer started")
    os.kill(started["pid"], signal.SIGKILL)
    flood.wait_for(lambda: len(watch.events("credentials")) == 3, "the second consumer")
    flood.credentials.rename(flood.outside("credentials"))
    os.kill(watch.events("consumer started")[1]["pid"], signal.SIGKILL)
    flood.wait_for(lambda: len(watch.events("consumer died")) == 3, "the third consumer's end")
    assert watch.events("consumer died")[2]["status"] == 2
    assert {line["file"] for line in watch.events("credentials")} == {str(flood.credentials)}


def test_a_consumer_finds_no_other_credentials_while_its_own_are_gone(flood: Flood) -> None:
    searched = Path(flood.environ["HOME"]) / ".aws/credentials"
    searched.parent.mkdir()
    searched.touch(mode=0o600)
    searched.write_text(flood.credentials.read_text())
    watch = flood.start_watch("--consumers", "1", "--credentials-first")
    flood.wait_for(lambda: watch.events("ready")[1:], "the first consumer")
    flood.credentials.rename(flood.credentials.with_suffix(".away"))
    os.kill(children(watch)[0], signal.SIGKILL)
    flood.wait_for(lambda: "no credentials file was found" in watch.output(), "its refusal")
    flood.credentials.with_suffix(".away").rename(flood.credentials)
    flood.wait_for(lambda: watch.events("ready")[2:], "a consumer")
    assert {line["file"] for line in watch.events("credentials") if "file" in line} == {
        str(flood.credentials)
    }
