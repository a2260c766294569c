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
    "UPPER",
    "upper",
    "n" * 200,
    "deep/" * 30 + "file",
)

# Simultaneous uploads into one directory can make rclone forget these, hence their own test.
CONTROL = ("line\nbreak", "tab\tand\rreturn", "\x01\x7f", "\x1b[31mred")


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


def test_control_characters_in_names(make_flood: MakeFlood, server: S3Server, bucket: str) -> None:
    flood = make_flood(credentials(("main", server.url)), concurrency=1)
    flood.start_watch()
    flood.start_consumer(1)
    for name in CONTROL:
        flood.outside(name).write_bytes(name.encode())
        flood.expect(bucket, name, name.encode())
    names = [str(flood.outside(name)) for name in CONTROL]
    put = flood.put("--wait", *names, f"s3://main/{bucket}/")
    assert put.returncode == 0, put
    check_promises(flood, server)
    for one in flood.running:
        assert not set(one.output()) & set("\x01\x1b\x7f"), "logs show them escaped"


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
    watch.signal(signal.SIGTERM)
    assert watch.wait() == 0
    tree = flood.outside("tree")
    tree.mkdir()
    for number in range(2000):
        (tree / f"file-{number}").write_bytes(b"%d" % number * 50)
    put = flood.start("put", "-m", "flood.commands.put", "-r", str(tree), f"s3://main/{bucket}/")
    flood.wait_for(
        lambda: flood.files("incoming_tmp") and flood.files("incoming"), "copies on their way"
    )
    put.kill()
    arrived = [Path(path).name for path in flood.files("incoming")]
    assert 0 < len(arrived) < 2000
    for name in arrived:
        flood.expect(bucket, f"tree/{name}", (tree / name).read_bytes())
    begun = {row["filepath"] for row in flood.rows()}
    abandoned = begun - {given.key for given in flood.given}

    flood.start_watch()
    flood.start_consumer()
    flood.wait_settled(len(arrived) + len(abandoned))
    check_promises(flood, server, failed=abandoned)
    assert flood.count(error_code="abandoned") == len(abandoned)


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
