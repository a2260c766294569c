"""flood-put as a process, with real files and the spool's real database."""

import errno
import fcntl
import os
import resource
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flood import binding, destination, layout, models
from flood.errors import ConfigError, NoRoomError
from flood.locks import WATCH_LOCK
from flood.purge import purge
from flood.put_plan import Refusal, Source, batches
from flood.put_room import check_room
from flood.spool import Spool
from tests.servers import S3Server, credentials_section

NOBODY = 65534


def now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class Place:
    """A spool that flood-watch has set up, with credentials that know the profile `p`."""

    home: Path
    environ: dict[str, str]

    @property
    def root(self) -> Path:
        return self.home / "spool"

    @property
    def database(self) -> Path:
        return self.home / "db" / "flood.db"

    @property
    def incoming(self) -> Path:
        return self.root / "incoming" / "p" / "b"

    def command(self, *arguments: str | bytes) -> list[str | bytes]:
        return [sys.executable, "-m", "flood.commands.put", *arguments]

    def put(self, *arguments: str | bytes, **options: Any) -> "subprocess.CompletedProcess[str]":
        options = {"timeout": 60, **options}
        return subprocess.run(
            self.command(*arguments),
            cwd=self.home,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            **options,
        )

    def start(self, *arguments: str | bytes) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.home,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, name: str | bytes, data: bytes = b"data") -> Path:
        path = Path(os.fsdecode(os.path.join(os.fsencode(self.home), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def rows(self) -> list[tuple[Any, ...]]:
        """Key, state, outcome, error code, path of every record."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(
                "SELECT filepath, current_state, upload_outcome, error_code, spool_path "
                "FROM file_records ORDER BY id"
            ).fetchall()

    def files(self, state: str = "incoming") -> dict[str, bytes]:
        """Every file of a state, by its path below the state's directory."""
        top = self.root / state
        found = (path for path in top.rglob("*") if path.is_file())
        return {str(path.relative_to(top)): path.read_bytes() for path in found}

    def untouched(self) -> bool:
        return not self.files("incoming_tmp") and not self.files() and not self.rows()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    credentials = tmp_path / "credentials"
    credentials.write_text(
        credentials_section("p", "http://127.0.0.1:9")
        + credentials_section("r2", "http://127.0.0.1:9", "cloudflare")
    )
    credentials.chmod(0o600)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLOOD_")}
    environ |= {
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "FLOOD_SERVER_DIRECTORY": str(tmp_path / "spool"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONWARNINGS": "error",
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    made = Place(tmp_path, environ)
    made.database.parent.mkdir()
    set_up(made)
    return made


def set_up(place: Place) -> None:
    spool = Spool(str(place.root))
    spool.prepare()
    models.migrate(str(place.database), create=True)
    binding.bind(spool, str(place.database), create=True, now=now())
    purge(spool, now())
    models.close()


@pytest.fixture
def watch_lock(place: Place) -> Iterator[None]:
    """As if flood-watch ran."""
    with open(place.root / WATCH_LOCK, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- where files go ------------------------------------------------------------------------------


def test_one_file_is_renamed(place: Place) -> None:
    source = place.write("a.txt", b"content")
    os.utime(source, ns=(1_700_000_000_111_222_333, 1_600_000_000_123_456_789))

    done = place.put("a.txt", "s3://p/b/new/name.txt")

    assert (done.returncode, done.stdout) == (
        0,
        "1 file, 7 Bytes delivered to s3://p/b/new/name.txt\n",
    )
    assert done.stderr == "flood-put: flood-watch is not running: the files wait until it is started\n"
    assert place.files() == {"p/b/new/name.txt": b"content"}
    assert (place.incoming / "new/name.txt").stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert place.rows() == [
        ("new/name.txt", "incoming", None, None, "incoming/p/b/new/name.txt"),
    ]
    assert place.files("incoming_tmp") == {}


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["one", "s3://p/b"], ["one"]),
        (["one", "s3://p/b/"], ["one"]),
        (["one", "s3://p/b/x"], ["x"]),
        (["one", "s3://p/b/x/"], ["x/one"]),
        (["one", "two", "s3://p/b/x"], ["x/one", "x/two"]),
        (["-r", "tree", "s3://p/b/x/"], ["x/tree/f", "x/tree/sub/g"]),
        (["-r", "tree/", "s3://p/b/x/"], ["x/tree/f", "x/tree/sub/g"]),
        (["-r", "tree", "s3://p/b/x"], ["x/f", "x/sub/g"]),
        (["-r", "tree", "s3://p/b"], ["tree/f", "tree/sub/g"]),
        (["-r", "tree/.", "s3://p/b/x/"], ["x/f", "x/sub/g"]),
        (["-r", "tree/sub/..", "s3://p/b/"], ["f", "sub/g"]),
        (["-r", "tree", "one", "s3://p/b/x"], ["x/one", "x/tree/f", "x/tree/sub/g"]),
        (["tree/f", "s3://p/b/x", "-r"], ["x"]),
        (["one", "s3://p/b/100%/a+b%20c"], ["100%/a+b%20c"]),
    ],
)
def test_keys_are_made_as_cp_makes_names(
    place: Place, arguments: list[str], keys: list[str]
) -> None:
    for name in ("one", "two", "tree/f", "tree/sub/g"):
        place.write(name, name.encode())
    (place.home / "tree/empty").mkdir()

    done = place.put("--quiet", *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(place.files()) == [f"p/b/{key}" for key in keys]
    assert sorted(row[0] for row in place.rows()) == keys


def test_dry_run_shows_and_leaves_nothing(place: Place) -> None:
    place.write("tree/f")
    place.write("tree/né w")
    before = sorted(place.home.rglob("*"))

    done = place.put("--dry-run", "-r", "tree", "s3://p/b/x")

    assert done.returncode == 0
    assert done.stdout == "tree/f -> s3://p/b/x/f\ntree/né w -> s3://p/b/x/né w\n"
    assert sorted(place.home.rglob("*")) == before


ODD = (
    b"line\nbreak",
    b"100% %41+&=?#",
    "emoji \U0001f30a".encode(),
    "ü".encode() * 127 + b"x",
    b"-r",
    b" blank ",
    b"a\\b\"'`$(x)*",
    b"\x1b[31mred",
    b".hidden",
    b"~",
)


def test_names_that_linux_allows(place: Place) -> None:
    for number, name in enumerate(ODD):
        place.write(b"odd/" + name, str(number).encode())

    done = place.put("-r", "odd", "s3://p/b")

    assert done.returncode == 0, done.stderr
    expected = {f"p/b/odd/{os.fsdecode(name)}": str(i).encode() for i, name in enumerate(ODD)}
    assert place.files() == expected


def test_a_leading_dash_comes_after_two(place: Place) -> None:
    place.write("-r", b"dash")

    assert place.put("--quiet", "--", "-r", "s3://p/b/-x").returncode == 0
    assert place.files() == {"p/b/-x": b"dash"}


def test_what_no_store_takes_is_refused_alone(place: Place) -> None:
    place.write(b"odd/\xff\xfe")
    place.write("odd/" + "/".join(["d" * 200] * 6) + "/f")
    place.write("odd/good")
    place.write("odd/half.tmp")

    done = place.put("-r", "odd", "s3://p/b")

    assert done.returncode == 1
    assert sorted(place.files()) == ["p/b/odd/good"]
    lines = sorted(line for line in done.stderr.splitlines() if "odd/" in line)
    assert len(lines) == 3
    assert any("odd/\\udcff\\udcfe: the file's name is not valid UTF-8" in line for line in lines)
    assert any("S3 allows 1024" in line for line in lines)
    assert any("odd/half.tmp: flood-watch takes no files named '*.tmp'" in line for line in lines)
    assert done.stdout == "1 file, 4 Bytes delivered to s3://p/b/\n"


def test_names_that_this_provider_would_change_are_refused(place: Place) -> None:
    place.write("decomposed")

    done = place.put("decomposed", "s3://r2/b/u\u0308")

    assert done.returncode == 1
    assert "normal form C" in done.stderr
    assert place.untouched()
    assert place.put("decomposed", "s3://p/b/u\u0308").returncode == 0


def test_an_ignored_name_can_be_taken_back(place: Place) -> None:
    place.write("x.tmp")

    assert place.put("x.tmp", "s3://p/b/").returncode == 1
    assert place.untouched()
    assert place.put("--ignore", "!*.tmp", "x.tmp", "s3://p/b/").returncode == 0


def test_links_and_special_files(place: Place) -> None:
    place.write("tree/real", b"real")
    (place.home / "tree/link").symlink_to("real")
    (place.home / "tree/dangling").symlink_to("nowhere")
    (place.home / "tree/loop").symlink_to(".")
    (place.home / "named").symlink_to("tree/real")
    (place.home / "directory").symlink_to("tree")

    linked = place.put("named", "s3://p/b/followed")
    tree = place.put("-r", "directory", "s3://p/b/t")

    assert linked.returncode == tree.returncode == 0
    assert place.files() == {"p/b/followed": b"real", "p/b/t/real": b"real"}
    assert tree.stderr.count("symbolic link skipped\n") == 3

    os.mkfifo(place.home / "tree/fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(place.home / "tree/socket"))
    special = place.put("-r", "tree", "s3://p/b/s")
    named = place.put("tree/fifo", "/dev/null", "s3://p/b/n")

    assert special.returncode == named.returncode == 1
    assert special.stderr.count("it is no regular file\n") == 2
    assert named.stderr.count("it is no regular file\n") == 2
    assert "p/b/s/real" in place.files()


def test_one_bad_source_does_not_stop_the_others(place: Place) -> None:
    place.write("good")
    place.write("tree/f")

    done = place.put("missing", "tree", "good/", "good", "s3://p/b/x")

    assert done.returncode == 1
    assert place.files() == {"p/b/x/good": b"data"}
    assert "flood-put: missing: No such file or directory\n" in done.stderr
    assert "flood-put: tree: it is a directory: add -r to put what is in it\n" in done.stderr
    assert "flood-put: good/: Not a directory\n" in done.stderr


def test_files_of_proc_are_not_put_as_empty(place: Place) -> None:
    done = place.put("/proc/version", "s3://p/b/x")

    assert done.returncode == 1
    assert "it keeps changing" in done.stderr
    assert place.files() == place.files("incoming_tmp") == {}
    assert [row[1:4] for row in place.rows()] == [("failed", "failure", "put_failed")]


def test_empty_files_and_large_ones(place: Place) -> None:
    place.write("empty", b"")
    large = os.urandom(20 * 1024**2 + 7)
    place.write("large", large)

    assert place.put("empty", "large", "s3://p/b").returncode == 0
    assert place.files() == {"p/b/empty": b"", "p/b/large": large}
    assert {row[1] for row in place.rows()} == {"incoming"}


def test_copies_from_another_filesystem(place: Place) -> None:
    data = os.urandom(3 * 1024**2 + 1)
    path = Path("/dev/shm") / f"flood-test-{os.getpid()}-{threading.get_ident()}"
    try:
        path.write_bytes(data)
        done = place.put(str(path), "s3://p/b/x")
    finally:
        path.unlink()

    assert done.returncode == 0
    assert place.files() == {"p/b/x": data}


# --- what is refused before anything is touched ----------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("p/b/x", "does not begin with s3://"),
        ("s3:///b/x", "names no profile"),
        ("s3://p", "names no profile or no bucket"),
        ("s3://p/", "names no profile or no bucket"),
        ("s3://p//x", "names no profile or no bucket"),
        ("s3://../b/x", "names no profile"),
        ("s3://p/../x", "no store has a bucket"),
        ("s3://p/b ucket/x", "no store has a bucket"),
        ("s3://p/x", "no store has a bucket"),
        ("s3://p/b/../../x", "'..'"),
        ("s3://p/b/./x", "'.'"),
        ("s3://p/b//x", "nothing between two slashes"),
        ("s3://p/b//", "nothing between two slashes"),
        ("s3://p/b/x/..", "'..'"),
        ("s3://p/b/x/../", "'..'"),
        (b"s3://p/b/\xff", "not valid UTF-8"),
        ("s3://p/b/" + "n" * 256, "longer than 255 bytes"),
        ("s3://p/b/" + "nnnn/" * 205, "S3 allows 1024"),
        ("s3://nobody/b/x", "no profile 'nobody'"),
    ],
)
def test_wrong_destinations(place: Place, uri: str | bytes, words: str) -> None:
    place.write("a")

    done = place.put("a", uri)

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert place.untouched()


def test_two_sources_for_one_key(place: Place) -> None:
    place.write("one/f")
    place.write("two/f")

    done = place.put("one/f", "two/f", "s3://p/b/x")

    assert done.returncode == 2
    assert done.stderr == (
        "flood-put: one/f and two/f would both become s3://p/b/x/f: put them to different places\n"
    )
    assert place.untouched()


def test_wrong_usage_and_credentials(place: Place) -> None:
    place.write("a")

    assert place.put("a").returncode == 2
    assert place.put("--recurs", "a", "s3://p/b/").returncode == 2
    place.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(place.home / "none")
    assert place.put("a", "s3://p/b/").returncode == 2
    assert place.untouched()


def test_a_directory_that_is_no_spool(place: Place) -> None:
    place.write("a")
    for directory in ("nowhere", "empty"):
        (place.home / "empty").mkdir(exist_ok=True)
        done = place.put("--server-directory", directory, "a", "s3://p/b/")
        assert done.returncode == 2
        assert "start flood-watch on it first" in done.stderr
    assert not (place.home / "nowhere").exists()
    assert list((place.home / "empty").iterdir()) == []


def test_a_database_of_another_spool(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other", place.environ)
    other.database.parent.mkdir(parents=True)
    set_up(other)
    place.write("a")

    done = place.put("--database", str(other.database), "a", "s3://p/b/")
    missing = place.put("--database", str(tmp_path / "none.db"), "a", "s3://p/b/")

    assert done.returncode == missing.returncode == 2
    assert "does not belong to the database" in done.stderr
    assert "does not exist" in missing.stderr
    assert not (tmp_path / "none.db").exists()
    assert place.untouched()
    assert not other.rows()


# --- without rows ----------------------------------------------------------------------------------


def test_without_a_database_files_are_put_all_the_same(place: Place) -> None:
    place.write("a")
    for path in place.database.parent.iterdir():
        path.unlink()

    waiting = place.put("--wait", "a", "s3://p/b/w")
    done = place.put("a", "s3://p/b/x")

    assert waiting.returncode == 2
    assert "nothing was put" in waiting.stderr
    assert done.returncode == 0
    assert "files are put without records" in done.stderr
    assert place.files() == {"p/b/x": b"data"}
    assert list(place.database.parent.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="takes root to become another user")
def test_another_user_with_no_access_to_the_database(place: Place) -> None:
    place.write("a")
    for path in (place.home, *place.home.parents):
        if path.stat().st_uid == os.getuid() and len(path.parts) > 2:
            path.chmod(path.stat().st_mode | 0o055)
    (place.home / "credentials").chmod(0o644)
    for state in ("incoming", "incoming_tmp"):
        (place.root / state).chmod(0o777)
    user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}

    waiting = place.put("--wait", "a", "s3://p/b/w", **user)
    done = place.put("a", "s3://p/b/x", **user)

    assert waiting.returncode == 2, waiting.stderr
    assert done.returncode == 0, done.stderr
    assert "may not write to the database" in done.stderr
    assert place.files() == {"p/b/x": b"data"}
    assert (place.incoming / "x").stat().st_uid == NOBODY
    assert place.rows() == []


@pytest.mark.skipif(os.getuid() != 0, reason="takes root to become another user")
def test_another_user_with_no_access_to_the_directories(place: Place) -> None:
    place.write("a")
    for path in (place.home, *place.home.parents):
        if path.stat().st_uid == os.getuid() and len(path.parts) > 2:
            path.chmod(path.stat().st_mode | 0o055)
    (place.home / "credentials").chmod(0o644)

    done = place.put("a", "s3://p/b/x", user=NOBODY, group=NOBODY, extra_groups=[])

    assert done.returncode == 2
    assert "cannot write to" in done.stderr
    assert place.untouched()


# --- nothing is replaced ---------------------------------------------------------------------------


def test_a_name_that_waits_is_refused(place: Place) -> None:
    place.write("old", b"old")
    place.write("new", b"new")
    assert place.put("old", "s3://p/b/x").returncode == 0

    done = place.put("new", "s3://p/b/x")
    below = place.put("new", "s3://p/b/x/below")

    assert done.returncode == below.returncode == 75
    assert "new: an earlier file for s3://p/b/x," in done.stderr
    assert place.files() == {"p/b/x": b"old"}
    assert place.files("incoming_tmp") == {}
    assert [row[1] for row in place.rows()] == ["incoming"]


def test_a_directory_in_the_way(place: Place) -> None:
    place.write("a")
    (place.incoming / "x/empty/too").mkdir(parents=True)
    full = place.incoming / "y/file"
    full.parent.mkdir()
    full.write_bytes(b"waits")

    assert place.put("a", "s3://p/b/x").returncode == 0
    assert place.put("a", "s3://p/b/y").returncode == 75
    assert place.files() == {"p/b/x": b"data", "p/b/y/file": b"waits"}


def test_links_in_incoming_are_not_followed(place: Place) -> None:
    place.write("a")
    outside = place.home / "outside"
    outside.mkdir()
    place.incoming.mkdir(parents=True)
    (place.incoming / "link").symlink_to(outside)

    assert place.put("a", "s3://p/b/link/x").returncode == 75
    assert list(outside.iterdir()) == []


def test_waits_for_its_turn(place: Place, watch_lock: None) -> None:
    place.write("old", b"old")
    place.write("new", b"new")
    place.write("other", b"other")
    assert place.put("old", "s3://p/b/into/new").returncode == 0

    process = place.start("new", "other", "s3://p/b/into/")
    wait_for(lambda: "p/b/into/other" in place.files())
    assert process.poll() is None
    (place.incoming / "into/new").rename(place.root / "processing" / "new")

    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out == "2 files, 8 Bytes delivered to s3://p/b/into/\n"
    assert place.files() == {"p/b/into/other": b"other", "p/b/into/new": b"new"}


def test_two_at_once_to_the_same_keys(place: Place) -> None:
    for name in ("one", "two"):
        for number in range(100):
            place.write(f"{name}/{number:03}", name.encode())

    both = [place.start("--quiet", "-r", name, "s3://p/b/x") for name in ("one", "two")]
    errors = [process.communicate(timeout=60)[1] for process in both]

    files = place.files()
    assert len(files) == 100
    for name, process, error in zip((b"one", b"two"), both, errors, strict=True):
        won = sum(content == name for content in files.values())
        assert process.returncode == (0 if won == 100 else 75)
        assert error.count("still waits in incoming") == 100 - won
    states = [row[1] for row in place.rows()]
    assert states.count("incoming") == 100
    assert {row[3] for row in place.rows() if row[1] == "failed"} <= {"put_refused"}
    assert place.files("incoming_tmp") == {}


# --- what goes wrong meanwhile ---------------------------------------------------------------------


def stalled(place: Place, *arguments: str) -> "tuple[subprocess.Popen[str], Path]":
    """A flood-put that has begun to copy a file, and was stopped in the middle of that."""
    large = place.home / "large"
    with large.open("wb") as file:
        file.truncate(64 * 1024**3)  # a hole: it takes long to copy and no room to have
    process = place.start(*arguments, "large", "s3://p/b/x")
    folder = place.root / "incoming_tmp/p/b"

    def growing() -> bool:
        return folder.exists() and any(path.stat().st_size for path in folder.iterdir())

    wait_for(growing)
    return process, large


@pytest.fixture
def small_spool(place: Place) -> Place:
    return place


def test_killed_in_the_middle_of_a_copy(place: Place) -> None:
    process, large = stalled(place)
    process.kill()
    process.communicate()
    assert len(place.files_there("incoming_tmp")) == 1
    assert [row[1] for row in place.rows()] == ["incoming_tmp"]

    spool = Spool(str(place.root))
    models.bind(str(place.database))
    try:
        assert purge(spool, now()) == 1
    finally:
        models.close()

    assert place.files_there("incoming_tmp") == []
    assert [row[1:4] for row in place.rows()] == [("failed", "failure", "abandoned")]
