"""From flood-put to the bucket."""

import random
import signal
from pathlib import Path

import pytest

from tests.acceptance.harness import Flood, MakeFlood, check_promises, credentials
from tests.faults import Pass, s3_error
from tests.proxy import FaultProxy
from tests.servers import S3Server

MIB = 1024**2
SIZES = {"multipart_threshold": "8MiB", "multipart_part_size": "5MiB"}

ODD = (
    "two words",
    " blanks around ",
    "'single' \"double\" `back`",
    "100%",
    "%20%2F%00",
    "a+b=c&d;e,f",
    "line\nbreak",
    "tab\tand\rreturn",
    "-rf",
    "--help",
    ".hidden",
    "...",
    "~",
    "$HOME",
    "back\\slash",
    "question?hash#",
    "colon:star*pipe|<angles>",
    "\N{PARTY POPPER} emoji",
    "ünïcödé",
    "日本語",
    "\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT}",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "\N{RIGHT-TO-LEFT OVERRIDE}txt",
    "\x01\x7f",
    "UPPER",
    "upper",
    "n" * 200,
    "deep/" * 30 + "file",
)


def make_files(flood: Flood, bucket: str) -> Path:
    """Make 200 files of all kinds in a directory, expected below its name in the bucket."""
    files = {f"odd/{name}": 100 + number for number, name in enumerate(ODD)}
    files |= {"large": 20 * MIB, "empty": 0, "one": 1}
    for number in range(200 - len(files)):
        size = (0, 1, 5 * 1024)[number % 3]
        files[f"level-{number % 7}/{'sub/' * (number % 4)}file-{number}"] = size
    root = flood.outside("tree")
    for name, size in files.items():
        data = random.randbytes(size)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        flood.expect(bucket, f"tree/{name}", data)
    assert len(flood.given) == 200
    return root


@pytest.mark.parametrize("consumers", ["children", "thread", "process"])
def test_200_files_of_all_kinds_arrive(
    make_flood: MakeFlood, server: S3Server, bucket: str, consumers: str
) -> None:
    flood = make_flood(credentials(("main", server.url)), **SIZES)
    if consumers == "children":
        flood.start_watch("--consumers", "2")
    else:
        flood.start_watch()
        for _ in range(2):
            flood.start_consumer(2, "process" if consumers == "process" else "thread")
    put = flood.put("-r", "--wait", str(make_files(flood, bucket)), f"s3://main/{bucket}/")
    assert put.returncode == 0, put
    assert flood.settled(200), "flood-put --wait returns when everything is uploaded"
    check_promises(flood, server)
    [large] = [row for row in flood.rows() if row["filepath"] == "tree/large"]
    assert large["etag"].endswith("-4"), "sent in parts"


def test_files_that_are_put_wait_for_flood_watch(
    flood: Flood, server: S3Server, bucket: str
) -> None:
    watch = flood.start_watch()
    watch.signal(signal.SIGTERM)
    assert watch.wait() == 0
    put = flood.put("-r", str(make_files(flood, bucket)), f"s3://main/{bucket}/")
    assert put.returncode == 0, put
    assert len(flood.files("incoming")) == flood.count(current_state="incoming") == 200
    flood.start_watch()
    flood.start_consumer()
    flood.wait_delivered()
    check_promises(flood, server)


def test_waiting_tells_of_failures(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(s3_error(403, "AccessDenied", "no"), "PUT", "/bad$", times=None)
    proxied.start_watch("--consumers", "1")
    for name in ("good", "bad"):
        proxied.outside(name).write_bytes(name.encode())
        proxied.expect(bucket, name, name.encode())
    names = [str(proxied.outside(name)) for name in ("good", "bad")]
    put = proxied.put("--wait", *names, f"s3://main/{bucket}/")
    assert put.returncode == 1, put
    assert f"s3://main/{bucket}/bad" in put.stderr
    assert proxied.row(filepath="bad")["error_message"] in put.stderr
    check_promises(proxied, server, failed={"bad"})


def test_a_put_that_is_killed_leaves_no_half_file(
    flood: Flood, server: S3Server, bucket: str
) -> None:
    watch = flood.start_watch()
    big = flood.outside("big")
    with big.open("wb") as file:
        file.truncate(2048 * MIB)
    put = flood.start("put", "-m", "flood.commands.put", str(big), f"s3://main/{bucket}/big")
    flood.wait_for(lambda: flood.files("incoming_tmp") and flood.rows(), "the copy")
    put.kill()
    assert flood.files("incoming") == []
    watch.signal(signal.SIGTERM)
    assert watch.wait() == 0
    flood.start_watch("--consumers", "1")
    flood.drop(bucket, "other", b"data")
    flood.wait_settled(2)
    [row] = flood.rows(filepath="big")
    assert (row["current_state"], row["upload_outcome"]) == ("failed", "failure")
    assert row["error_code"] == "abandoned"
    assert flood.files() == [f"completed/main/{bucket}/other"]


def test_a_consumer_is_killed_while_flood_put_waits(
    proxied: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(Pass(bytes_per_second=MIB // 4), "PUT")
    proxied.start_watch()
    consumer = proxied.start_consumer()
    data = bytes(4 * MIB)
    proxied.outside("file").write_bytes(data)
    proxied.expect(bucket, "file", data)
    put = proxied.start(
        "put",
        "-m",
        "flood.commands.put",
        "--wait",
        str(proxied.outside("file")),
        f"s3://main/{bucket}/",
    )
    proxied.wait_for(lambda: proxy.count("PUT"), "the upload")
    consumer.kill()
    proxied.start_consumer()
    assert put.wait() == 0, put.output()
    check_promises(proxied, server)
