"""flood-put as a process, with real files and the spool's real database."""

import os
import resource
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flood import binding, destination, layout, models, schema
from flood.errors import ConfigError
from flood.locks import CONSUMERS_LOCK, WATCH_LOCK, FileLock
from flood.purge import purge
from flood.put_plan import Refusal, Source, batches
from flood.spool import Spool
from flood.writers import QUEUES
from tests.mounts import mounting
from tests.servers import S3Server, credentials_section

NOT_RUNNING = (
    "flood-put: flood-watch is not running: the files wait until it is started: "
    "flood-watch --consumers 2 --database {database}\n"
)

NO_CONSUMER = (
    "flood-put: no consumer is running: the files wait until one is started: "
    "flood-watch again with --consumers 2, or: {variable} huey_consumer flood.tasks.huey\n"
)


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
        return self.root / "incoming" / "p" / "box"

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
    schema.migrate(str(place.database), create=True)
    binding.bind(spool, str(place.database), create=True, now=now())
    purge(spool, now())
    models.close()


@pytest.fixture
def watch_lock(place: Place) -> Iterator[None]:
    """As if flood-watch ran, with a consumer."""
    watch, consumers = (FileLock(str(place.root / name)) for name in (WATCH_LOCK, CONSUMERS_LOCK))
    assert watch.try_exclusive()
    assert consumers.try_shared()
    yield
    watch.release()
    consumers.release()


# --- where files go --------------------------------------------------------------------------


def test_one_file_is_renamed(place: Place) -> None:
    source = place.write("a.txt", b"content")
    os.utime(source, ns=(1_700_000_000_111_222_333, 1_600_000_000_123_456_789))

    done = place.put("a.txt", "s3://p/box/new/name.txt")

    assert (done.returncode, done.stdout) == (
        0,
        "1 file, 7 Bytes delivered to s3://p/box/new/name.txt\n",
    )
    assert done.stderr == NOT_RUNNING.format(database=place.database)
    assert place.files() == {"p/box/new/name.txt": b"content"}
    assert (place.incoming / "new/name.txt").stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert place.rows() == [
        ("new/name.txt", "incoming", None, None, "incoming/p/box/new/name.txt"),
    ]
    assert place.files("incoming_tmp") == {}


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["one", "s3://p/box"], ["one"]),
        (["one", "s3://p/box/"], ["one"]),
        (["one", "s3://p/box/x"], ["x"]),
        (["one", "s3://p/box/x/"], ["x/one"]),
        (["one", "two", "s3://p/box/x"], ["x/one", "x/two"]),
        (["-r", "tree", "s3://p/box/x/"], ["x/tree/f", "x/tree/sub/g"]),
        (["-r", "tree/", "s3://p/box/x/"], ["x/tree/f", "x/tree/sub/g"]),
        (["-r", "tree", "s3://p/box/x"], ["x/f", "x/sub/g"]),
        (["-r", "tree", "s3://p/box"], ["tree/f", "tree/sub/g"]),
        (["-r", "tree/.", "s3://p/box/x/"], ["x/f", "x/sub/g"]),
        (["-r", "tree/sub/..", "s3://p/box/"], ["f", "sub/g"]),
        (["-r", "tree", "one", "s3://p/box/x"], ["x/one", "x/tree/f", "x/tree/sub/g"]),
        (["tree/f", "s3://p/box/x", "-r"], ["x"]),
        (["one", "s3://p/box/100%/a+b%20c"], ["100%/a+b%20c"]),
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
    assert sorted(place.files()) == [f"p/box/{key}" for key in keys]
    assert sorted(row[0] for row in place.rows()) == keys


def test_dry_run_shows_and_leaves_nothing(place: Place) -> None:
    place.write("tree/f")
    place.write("tree/né w")
    before = sorted(place.home.rglob("*"))

    done = place.put("--dry-run", "-r", "tree", "s3://p/box/x")

    assert done.returncode == 0
    assert done.stdout == "tree/f -> s3://p/box/x/f\ntree/né w -> s3://p/box/x/né w\n"
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

    done = place.put("-r", "odd", "s3://p/box")

    assert done.returncode == 0, done.stderr
    expected = {f"p/box/odd/{os.fsdecode(name)}": str(i).encode() for i, name in enumerate(ODD)}
    assert place.files() == expected


def test_a_leading_dash_comes_after_two(place: Place) -> None:
    place.write("-r", b"dash")

    assert place.put("--quiet", "--", "-r", "s3://p/box/-x").returncode == 0
    assert place.files() == {"p/box/-x": b"dash"}


def test_what_no_store_takes_is_refused_alone(place: Place) -> None:
    place.write(b"odd/\xff\xfe")
    place.write("odd/" + "/".join(["d" * 200] * 6) + "/f")
    place.write("odd/good")
    place.write("odd/half.tmp")

    done = place.put("-r", "odd", "s3://p/box")

    assert done.returncode == 1
    assert sorted(place.files()) == ["p/box/odd/good"]
    lines = sorted(line for line in done.stderr.splitlines() if "odd/" in line)
    assert len(lines) == 3
    assert any("odd/\\udcff\\udcfe: the file's name is not valid UTF-8" in line for line in lines)
    assert any("S3 allows 1024" in line for line in lines)
    assert any("odd/half.tmp: flood-watch takes no files named '*.tmp'" in line for line in lines)
    assert done.stdout == "1 file, 4 Bytes delivered to s3://p/box/\n"


def test_names_that_this_provider_would_change_are_refused(place: Place) -> None:
    place.write("decomposed")

    done = place.put("decomposed", "s3://r2/box/u\u0308")

    assert done.returncode == 1
    assert "normal form C" in done.stderr
    assert place.untouched()
    assert place.put("decomposed", "s3://p/box/u\u0308").returncode == 0


def test_an_ignored_name_can_be_taken_back(place: Place) -> None:
    place.write("x.tmp")

    assert place.put("x.tmp", "s3://p/box/").returncode == 1
    assert place.untouched()
    assert place.put("--ignore", "!*.tmp", "x.tmp", "s3://p/box/").returncode == 0


def test_the_spool_is_no_source(place: Place) -> None:
    place.write("tree/file", b"x")
    os.rename(place.root, place.home / "tree/spool")
    os.symlink(place.home / "tree/spool", place.root)

    itself = place.put("-r", "tree/spool", "s3://p/box")
    around = place.put("-r", "tree", "s3://p/box")

    assert (itself.returncode, around.returncode) == (1, 0)
    assert "tree/spool: it is the spool itself" in itself.stderr
    assert "tree/spool: the spool itself, skipped" in around.stderr
    assert place.files() == {"p/box/tree/file": b"x"}


def test_links_and_special_files(place: Place) -> None:
    place.write("tree/real", b"real")
    (place.home / "tree/link").symlink_to("real")
    (place.home / "tree/dangling").symlink_to("nowhere")
    (place.home / "tree/loop").symlink_to(".")
    (place.home / "named").symlink_to("tree/real")
    (place.home / "directory").symlink_to("tree")

    linked = place.put("named", "s3://p/box/followed")
    tree = place.put("-r", "directory", "s3://p/box/t")

    assert linked.returncode == tree.returncode == 0
    assert place.files() == {"p/box/followed": b"real", "p/box/t/real": b"real"}
    assert tree.stderr.count("symbolic link skipped\n") == 3

    os.mkfifo(place.home / "tree/fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(place.home / "tree/socket"))
    special = place.put("-r", "tree", "s3://p/box/s")
    named = place.put("tree/fifo", "/dev/null", "s3://p/box/n")

    assert special.returncode == named.returncode == 1
    assert special.stderr.count("it is no regular file\n") == 2
    assert named.stderr.count("it is no regular file\n") == 2
    assert "p/box/s/real" in place.files()


def test_one_bad_source_does_not_stop_the_others(place: Place) -> None:
    place.write("good")
    place.write("tree/f")

    done = place.put("missing", "tree", "good/", "good", "s3://p/box/x")

    assert done.returncode == 1
    assert place.files() == {"p/box/x/good": b"data"}
    assert "flood-put: missing: No such file or directory\n" in done.stderr
    assert "flood-put: tree: it is a directory: add -r to put what is in it\n" in done.stderr
    assert "flood-put: good/: Not a directory\n" in done.stderr


def test_files_of_proc_are_not_put_as_empty(place: Place) -> None:
    done = place.put("/proc/version", "s3://p/box/x")

    assert done.returncode == 1
    assert "it keeps changing" in done.stderr
    assert place.files() == place.files("incoming_tmp") == {}
    assert [row[1:4] for row in place.rows()] == [("failed", "failure", "put_failed")]


def test_empty_files_and_large_ones(place: Place) -> None:
    place.write("empty", b"")
    large = os.urandom(20 * 1024**2 + 7)
    place.write("large", large)

    assert place.put("empty", "large", "s3://p/box").returncode == 0
    assert place.files() == {"p/box/empty": b"", "p/box/large": large}
    assert {row[1] for row in place.rows()} == {"incoming"}


def test_copies_from_another_filesystem(place: Place) -> None:
    data = os.urandom(3 * 1024**2 + 1)
    path = Path("/dev/shm") / f"flood-test-{os.getpid()}-copied"
    try:
        path.write_bytes(data)
        done = place.put(str(path), "s3://p/box/x")
    finally:
        path.unlink()

    assert done.returncode == 0
    assert place.files() == {"p/box/x": data}


# --- what is refused before anything is touched ------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("p/box/x", "does not begin with s3://"),
        ("s3:///b/x", "names no profile"),
        ("s3://p", "names no profile or no bucket"),
        ("s3://p/", "names no profile or no bucket"),
        ("s3://p//x", "names no profile or no bucket"),
        ("s3://../b/x", "names no profile"),
        ("s3://p/../x", "names no profile or no bucket"),
        ("s3://p/b ucket/x", "no store has a bucket"),
        ("s3://p/x", "no store has a bucket"),
        (b"s3://p/b\xff/x", r"no store has a bucket of the name 'b\udcff'"),
        ("s3://p/box/../../x", "'..'"),
        ("s3://p/box/./x", "'.'"),
        ("s3://p/box//x", "nothing between two slashes"),
        ("s3://p/box//", "nothing between two slashes"),
        ("s3://p/box/x/..", "'..'"),
        ("s3://p/box/x/../", "'..'"),
        (b"s3://p/box/\xff", "not valid UTF-8"),
        ("s3://p/box/" + "n" * 256, "longer than 255 bytes"),
        ("s3://p/box/" + "nnnn/" * 206, "S3 allows 1024"),
        ("s3://nobody/box/x", "no profile 'nobody'"),
    ],
)
def test_wrong_destinations(place: Place, uri: str | bytes, words: str) -> None:
    place.write("a")

    done = place.put("a", uri)

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert place.untouched()


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (">/dev/full", 0),
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&- <&-", 0),
        ("| true; exit ${PIPESTATUS[0]}", 0),
        ("--dry-run >/dev/full", 1),
        ("--dry-run | true; exit ${PIPESTATUS[0]}", 0),
    ],
)
def test_files_are_delivered_though_nobody_listens(place: Place, ending: str, status: int) -> None:
    place.write("f")
    put = shlex.join(map(os.fsdecode, place.command("f", "s3://p/box/")))

    done = subprocess.run(
        ["bash", "-c", f"{put} {ending}"],
        cwd=place.home,
        env=place.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert place.files() == ({} if "--dry-run" in ending else {"p/box/f": b"data"})


@pytest.mark.parametrize("kind", ["link", "FIFO"])
@pytest.mark.parametrize("key", ["x", "x/below"])
def test_what_is_no_file_stands_in_the_way(place: Place, kind: str, key: str) -> None:
    place.write("f")
    place.incoming.mkdir(parents=True)
    if kind == "link":
        place.incoming.joinpath("x").symlink_to("/nowhere")
    else:
        os.mkfifo(place.incoming / "x")

    done = place.put("f", f"s3://p/box/{key}")

    assert done.returncode == 1
    assert f"flood-put: f: {place.incoming}/x is a " in done.stderr
    assert "remove it" in done.stderr
    assert not place.files("incoming_tmp")


@pytest.mark.parametrize("name", ["f", "file"])
def test_one_source_twice(place: Place, name: str) -> None:
    place.write(name)

    done = place.put(name, name, "s3://p/box/x/")

    assert done.returncode == 2
    assert f"{name} and {name} would both become s3://p/box/x/{name}" in done.stderr
    assert place.untouched()


def test_two_sources_for_one_key(place: Place) -> None:
    place.write("one/f")
    place.write("two/f")

    done = place.put("one/f", "two/f", "s3://p/box/x")

    assert done.returncode == 2
    assert done.stderr == (
        "flood-put: one/f and two/f would both become s3://p/box/x/f: "
        "put them to different places\n"
    )
    assert place.untouched()


def test_wrong_usage_and_credentials(place: Place) -> None:
    place.write("a")

    assert place.put("a").returncode == 2
    assert place.put("--recurs", "a", "s3://p/box/").returncode == 2
    place.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(place.home / "none")
    assert place.put("a", "s3://p/box/").returncode == 2
    assert place.untouched()


def test_a_directory_that_is_no_spool(place: Place) -> None:
    place.write("a")
    for directory in ("nowhere", "empty"):
        (place.home / "empty").mkdir(exist_ok=True)
        done = place.put("--server-directory", directory, "a", "s3://p/box/")
        assert done.returncode == 2
        assert "start flood-watch on it first" in done.stderr
    assert not (place.home / "nowhere").exists()
    assert list((place.home / "empty").iterdir()) == []


def test_the_database_is_not_put_while_it_is_in_use(place: Place) -> None:
    folder = place.database.parent
    (folder / "f").write_bytes(b"data")
    os.link(place.database, folder / "linked")
    (folder / "pointing").symlink_to(place.database)

    with closing(sqlite3.connect(place.database)) as connection:  # so that there is a WAL
        connection.execute("SELECT count(*) FROM file_records").fetchone()
        done = place.put("-r", str(folder), "s3://p/box/")
        named = [
            place.put(str(folder / name), "s3://p/box/")
            for name in (place.database.name, "linked", "pointing")
        ]

    assert done.returncode == 0
    assert f"{place.database}: flood's own database, skipped" in done.stderr
    assert f"{folder}/linked: flood's own database, skipped" in done.stderr
    assert place.files() == {f"p/box/{folder.name}/f": b"data"}
    assert [each.returncode for each in named] == [1, 1, 1]
    assert all("it is flood's own database, which is in use" in each.stderr for each in named)


def test_a_database_of_another_spool(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other", place.environ)
    other.database.parent.mkdir(parents=True)
    set_up(other)
    place.write("a")

    done = place.put("--database", str(other.database), "a", "s3://p/box/")
    missing = place.put("--database", str(tmp_path / "none.db"), "a", "s3://p/box/")

    assert done.returncode == missing.returncode == 2
    assert "does not belong to the database" in done.stderr
    assert "does not exist" in missing.stderr
    assert not (tmp_path / "none.db").exists()
    assert place.untouched()
    assert not other.rows()


# --- without rows ------------------------------------------------------------------------------


def test_without_a_database_files_are_put_all_the_same(place: Place) -> None:
    place.write("a")
    for path in place.database.parent.iterdir():
        path.unlink()

    waiting = place.put("--wait", "a", "s3://p/box/w")
    done = place.put("a", "s3://p/box/x")

    assert waiting.returncode == 2
    assert "nothing was put" in waiting.stderr
    assert done.returncode == 0
    assert "files are put without records" in done.stderr
    assert place.files() == {"p/box/x": b"data"}
    assert list(place.database.parent.iterdir()) == []


def put_without_privileges(place: Place, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run flood-put as somebody to whom permissions apply, even if the tests run as root."""
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.getuid() == 0 else []
    return subprocess.run(
        [*drop, *place.command(*arguments)],
        cwd=place.home,
        env=place.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("forbidden", ["flood.db", *(f"flood.db{queue}" for queue in QUEUES), "."])
def test_without_write_access_to_the_database(place: Place, forbidden: str) -> None:
    place.write("a")
    for lock in (place.root / ".flood").glob("*.lock"):
        lock.chmod(0o444)
    (place.root / ".flood").chmod(0o555)
    (place.database.parent / forbidden).chmod(0o555)

    waiting = put_without_privileges(place, "--wait", "a", "s3://p/box/w")
    done = put_without_privileges(place, "a", "s3://p/box/x")

    assert waiting.returncode == 2, waiting.stderr
    assert "nothing was put" in waiting.stderr
    assert done.returncode == 0, done.stderr
    assert "may not write to the database" in done.stderr
    assert place.files() == {"p/box/x": b"data"}
    (place.database.parent / forbidden).chmod(0o755)
    assert place.rows() == []


def test_without_write_access_to_the_directories(place: Place) -> None:
    place.write("a")
    (place.root / "incoming_tmp").chmod(0o555)

    done = put_without_privileges(place, "a", "s3://p/box/x")

    assert done.returncode == 2
    denied = place.root / "incoming_tmp"
    assert f"this user may not write to {denied}: let {denied.owner()} allow it" in done.stderr
    assert place.untouched()


@pytest.mark.parametrize(
    ("forbidden", "mode", "what"),
    [
        ("incoming_tmp/p/box", 0o555, "write to"),
        ("incoming/p/box", 0o555, "write to"),
        ("incoming/p", 0o555, "write to"),
        ("incoming/p", 0o600, "look into"),
    ],
)
def test_what_refuses_in_the_spool_is_named(
    place: Place, forbidden: str, mode: int, what: str
) -> None:
    """The file that was to be put has nothing to do with it."""
    place.write("a")
    for state in ("incoming_tmp", "incoming"):
        (place.root / state / "p" / "box").mkdir(parents=True, exist_ok=True)
    directory = place.root / forbidden
    if forbidden == "incoming/p" and what == "write to":
        (directory / "box").rmdir()
    directory.chmod(mode)

    done = put_without_privileges(place, "a", "s3://p/box/x")

    owner = directory.owner()
    directory.chmod(0o755)
    assert done.returncode == 1
    assert f"this user may not {what} {directory}: let {owner} allow it, or run" in done.stderr
    assert [path for path in place.root.glob("incoming*/p/box/*") if path.is_file()] == []


def test_who_puts_files_into_anothers_spool_is_not_to_start_it(place: Place) -> None:
    """Made-up keys are enough for flood-put, and no upload would succeed with them."""
    if os.geteuid():
        pytest.skip("only root can give the spool to another user")
    place.write("a")
    card = place.root / layout.CARD
    os.chown(card, 65534, -1)
    done = place.put("a", "s3://p/box/x")
    assert done.returncode == 0
    owner = card.owner()
    assert f"not running: the files wait until {owner} starts it\n" in done.stderr


# --- nothing is replaced -----------------------------------------------------------------------


def test_a_name_that_waits_is_refused(place: Place) -> None:
    place.write("old", b"old")
    place.write("new", b"new")
    assert place.put("old", "s3://p/box/x").returncode == 0

    done = place.put("new", "s3://p/box/x")
    below = place.put("new", "s3://p/box/x/below")

    quiet = place.put("--quiet", "new", "s3://p/box/x")
    not_running = NOT_RUNNING.format(database=place.database)
    assert done.returncode == below.returncode == quiet.returncode == 75
    assert done.stderr.count(not_running) == quiet.stderr.count(not_running) == 1
    assert "new: an earlier file for s3://p/box/x," in done.stderr
    assert place.files() == {"p/box/x": b"old"}
    assert place.files("incoming_tmp") == {}
    assert [row[1] for row in place.rows()] == ["incoming"]


def test_a_directory_in_the_way(place: Place) -> None:
    place.write("a")
    (place.incoming / "x/empty/too").mkdir(parents=True)
    full = place.incoming / "y/file"
    full.parent.mkdir()
    full.write_bytes(b"waits")

    assert place.put("a", "s3://p/box/x").returncode == 0
    assert place.put("a", "s3://p/box/y").returncode == 75
    assert place.files() == {"p/box/x": b"data", "p/box/y/file": b"waits"}


def test_links_in_incoming_are_not_followed(place: Place) -> None:
    place.write("a")
    outside = place.home / "outside"
    outside.mkdir()
    place.incoming.mkdir(parents=True)
    (place.incoming / "link").symlink_to(outside)

    assert place.put("a", "s3://p/box/link/x").returncode == 1
    assert list(outside.iterdir()) == []


def test_waits_for_its_turn(place: Place, watch_lock: None) -> None:
    place.write("old", b"old")
    place.write("new", b"new")
    place.write("other", b"other")
    assert place.put("old", "s3://p/box/into/new").returncode == 0

    process = place.start("new", "other", "s3://p/box/into/")
    wait_for(lambda: "p/box/into/other" in place.files())
    assert process.poll() is None
    (place.incoming / "into/new").rename(place.root / "processing" / "new")

    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out == "2 files, 8 Bytes delivered to s3://p/box/into/\n"
    assert place.files() == {"p/box/into/other": b"other", "p/box/into/new": b"new"}


def test_what_never_leaves_a_directory_at_the_name_is_not_waited_for(place: Place) -> None:
    place.write("file")
    (place.incoming / "dir").mkdir(parents=True)
    (place.incoming / "dir/.keep.tmp").touch()
    ended = place.put("file", "s3://p/box/dir")
    assert ended.returncode == 1
    assert f"{place.incoming}/dir/.keep.tmp, which flood-watch leaves alone" in ended.stderr


@pytest.mark.parametrize("source_mode", [0o600, 0o644])
def test_a_copy_by_root_is_the_spools_owners(place: Place, source_mode: int) -> None:
    """Who could not read the source cannot read the copy either, but for flood-watch."""
    if os.geteuid() != 0:
        pytest.skip("takes root")
    for folder in (place.root, *place.root.rglob("*")):
        os.chown(folder, 65534, 65533)
    place.write("file").chmod(source_mode)
    assert place.put("file", "s3://p/box/dir/key").returncode == 0
    for path in (place.incoming, place.incoming / "dir", place.incoming / "dir/key"):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533), path
    assert (place.incoming / "dir/key").stat().st_mode & 0o777 == source_mode & 0o644


@pytest.mark.parametrize(
    ("obstacle", "target", "words"),
    [
        ("p/box", "s3://p/box/key", "where a directory is needed: move it away"),
        ("p/box/dir.tmp", "s3://p/box/dir.tmp/key", "flood-watch ignores: rename it"),
    ],
)
def test_what_is_never_taken_is_not_waited_for(
    place: Place, obstacle: str, target: str, words: str
) -> None:
    place.write("file")
    (place.root / "incoming" / obstacle).parent.mkdir(parents=True, exist_ok=True)
    (place.root / "incoming" / obstacle).write_bytes(b"in the way")
    ended = place.put("file", target)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert str(place.root / "incoming" / obstacle) in ended.stderr


def test_two_at_once_to_the_same_keys(place: Place) -> None:
    for name in ("one", "two"):
        for number in range(100):
            place.write(f"{name}/{number:03}", name.encode())

    both = [place.start("--quiet", "-r", name, "s3://p/box/x") for name in ("one", "two")]
    errors = [process.communicate(timeout=60)[1] for process in both]

    files = place.files()
    assert len(files) == 100
    for content, process, error in zip((b"one", b"two"), both, errors, strict=True):
        won = list(files.values()).count(content)
        assert process.returncode == (0 if won == 100 else 75)
        assert error.count("still waits in incoming") == 100 - won
    states = [row[1] for row in place.rows()]
    assert states.count("incoming") == 100
    assert {row[3] for row in place.rows() if row[1] == "failed"} <= {"put_refused"}
    assert place.files("incoming_tmp") == {}


# --- what goes wrong meanwhile -----------------------------------------------------------------


@pytest.fixture
def endless(place: Place) -> Iterator[Path]:
    """A source that takes long to copy but no room: a hole on another filesystem."""
    path = Path("/dev/shm") / f"flood-test-{os.getpid()}-{place.home.name}"
    path.touch()
    os.truncate(path, 1024**3)
    yield path
    path.unlink()


@contextmanager
def stopped(place: Place, source: Path) -> "Iterator[subprocess.Popen[str]]":
    """A flood-put that was stopped while it copied this file."""
    process = place.start(str(source), "s3://p/box/x")
    folder = place.root / "incoming_tmp/p/box"
    try:
        wait_for(lambda: any(path.stat().st_size for path in folder.glob("*")))
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.communicate()
    assert not place.files()


def purged(place: Place) -> int:
    models.bind(str(place.database))
    try:
        return purge(Spool(str(place.root)), now())
    finally:
        models.close()


def test_killed_while_it_copies(place: Place, endless: Path) -> None:
    with stopped(place, endless):
        assert purged(place) == 0
        assert [row[1] for row in place.rows()] == ["incoming_tmp"]
        assert not place.files()

    assert purged(place) == 1
    assert not place.files("incoming_tmp")
    assert [row[1:4] for row in place.rows()] == [("failed", "failure", "abandoned")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_while_it_copies(place: Place, endless: Path, number: signal.Signals) -> None:
    with stopped(place, endless) as process:
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert (out, err) == ("", "flood-put: interrupted: 0 of 1 file had been delivered\n")
    assert not place.files("incoming_tmp")
    assert [row[1:4] for row in place.rows()] == [("failed", "failure", "put_interrupted")]


def test_interrupted_between_batches(place: Place) -> None:
    for number in range(5000):
        place.write(f"tree/{number}")
    process = place.start("-r", "tree", "s3://p/box")
    wait_for(lambda: any(place.incoming.glob("tree/*")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)

    delivered = len(place.files())
    assert process.returncode == 130
    assert err == f"flood-put: interrupted: {delivered} of 5000 files had been delivered\n"
    assert 0 < delivered < 5000
    assert not place.files("incoming_tmp")
    assert sum(row[1] == "incoming" for row in place.rows()) == delivered


def test_a_source_that_changes_is_copied_again(place: Place, endless: Path) -> None:
    process = place.start(str(endless), "s3://p/box/x")
    folder = place.root / "incoming_tmp/p/box"
    wait_for(lambda: any(path.stat().st_size for path in folder.glob("*")))
    endless.write_bytes(b"short now")
    out, err = process.communicate(timeout=30)

    assert process.returncode == 0
    assert f"flood-put: {endless}: it changed while it was copied; once more\n" in err
    assert out == "1 file, 9 Bytes delivered to s3://p/box/x\n"
    assert place.files() == {"p/box/x": b"short now"}
    with closing(sqlite3.connect(place.database)) as connection:
        sizes = connection.execute("SELECT size, inode, mtime_ns FROM file_records").fetchall()
    status = (place.incoming / "x").stat()
    assert sizes == [(9, status.st_ino, status.st_mtime_ns)]


def test_a_file_that_cannot_be_written_fails_alone(place: Place) -> None:
    place.write("tree/a", b"a")
    place.write("tree/b", b"b" * 3 * 1024**2)
    place.write("tree/c", b"c")
    limit = 2 * 1024**2

    done = place.put(
        *("-r", "tree", "s3://p/box/x"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )

    assert done.returncode == 1
    assert "flood-put: tree/b: File too large\n" in done.stderr
    assert place.files() == {"p/box/x/a": b"a", "p/box/x/c": b"c"}
    assert not place.files("incoming_tmp")
    assert [(row[0], row[1]) for row in place.rows()] == [
        ("x/a", "incoming"),
        ("x/b", "failed"),
        ("x/c", "incoming"),
    ]


def test_a_database_that_refuses_rows(place: Place) -> None:
    place.write("a")
    with closing(sqlite3.connect(place.database)) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON file_records "
            "BEGIN SELECT RAISE(ABORT, 'no more rows'); END"
        )

    waiting = place.put("--wait", "a", "s3://p/box/w")
    done = place.put("a", "s3://p/box/x")

    assert waiting.returncode == 1
    assert waiting.stderr == "flood-put: cannot write to the database: no more rows\n"
    assert done.returncode == 0
    assert "(no more rows): files are put without records\n" in done.stderr
    assert place.files() == {"p/box/x": b"data"}
    assert not place.files("incoming_tmp")


@mounting
def test_no_room(place: Place) -> None:
    for number in range(1000):
        place.write(f"tree/{number:03}", b"x")  # 1000 bytes by their sizes, 4 MB in pages
    script = (
        "set -e; cp -a spool kept; mount -t tmpfs -o size=1m none spool; cp -a kept/. spool; "
        'status=0; "$@" || status=$?; '
        "find spool/incoming_tmp -type f | wc -l; find spool/incoming -type f | wc -l; exit $status"
    )

    done = subprocess.run(
        [
            *("unshare", "-rm", "sh", "-c", script, "sh"),
            *place.command("--min-free=0", "-r", "tree", "s3://p/box"),
        ],
        cwd=place.home,
        env=place.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 75, done.stderr
    assert "there is no room for tree/" in done.stderr
    summary, left, delivered = done.stdout.splitlines()
    assert summary.startswith(f"{delivered} files, ")
    assert (left, 0 < int(delivered) < 1000) == ("0", True)
    states = [row[1:4] for row in place.rows()]
    assert states.count(("incoming", None, None)) == int(delivered)
    assert set(states) <= {("incoming", None, None), ("failed", "failure", "no_room")}


# --- many files, and a person ------------------------------------------------------------------


def test_two_thousand_small_files(place: Place) -> None:
    for number in range(2000):
        place.write(f"tree/{number % 20}/{number}", b"%d" % number)

    begun = time.monotonic()
    done = place.put("-r", "tree", "s3://p/box")
    seconds = time.monotonic() - begun

    assert done.returncode == 0
    assert done.stdout == "2000 files, 6.7 KiB delivered to s3://p/box/\n"
    assert len(place.files()) == 2000
    assert {row[1] for row in place.rows()} == {"incoming"}
    assert seconds < 20


def test_a_bar_on_a_terminal(place: Place) -> None:
    place.write("a")
    terminal, other_end = os.openpty()
    with open(terminal, "rb", buffering=0) as reader:
        with subprocess.Popen(
            place.command("a", "s3://p/box/"),
            cwd=place.home,
            env=place.environ | {"TERM": "xterm"},
            stdout=subprocess.DEVNULL,
            stderr=other_end,
        ) as process:
            os.close(other_end)
            shown = b""
            # Reading fails with EIO once nobody has the other end.
            with suppress(OSError):
                while data := reader.read(4096):
                    shown += data
        assert process.returncode == 0
    assert b"copying" in shown
    assert b"\x1b[" in shown


def test_the_log_is_for_those_who_ask(place: Place) -> None:
    place.write("a")

    done = place.put("--log-level", "info", "a", "s3://p/box/")

    assert done.returncode == 0
    assert "INFO flood.startup setting name=log-level value=info origin=flag" in done.stderr
    assert (
        "INFO flood.put delivered record=1 profile=p bucket=box key=a from=incoming_tmp "
        "to=incoming size=4\n" in done.stderr
    )


# --- waiting for the upload --------------------------------------------------------------------


def test_waiting_says_that_nobody_works_and_can_be_interrupted(place: Place) -> None:
    place.write("a")
    process = place.start("--wait", "a", "s3://p/box/")
    assert process.stderr is not None
    line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert line == NOT_RUNNING.format(database=place.database)
    assert process.returncode == 130
    assert (
        err == "flood-put: interrupted: the files are safe in the spool; " + line.partition(" ")[2]
    )
    assert place.files() == {"p/box/a": b"data"}


def test_it_is_told_whether_any_consumer_runs(place: Place) -> None:
    watch = FileLock(str(place.root / WATCH_LOCK))
    assert watch.try_exclusive()
    place.write("a")
    # No setting names it; flood-put finds it by the spool.
    no_consumer = NO_CONSUMER.format(variable=f"FLOOD_DATABASE={place.database}")
    done = place.put("a", "s3://p/box/1")
    assert (done.returncode, done.stderr) == (0, no_consumer)
    process = place.start("--wait", "a", "s3://p/box/2")
    assert process.stderr is not None
    assert process.stderr.readline() == no_consumer
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 130

    consumers = FileLock(str(place.root / CONSUMERS_LOCK))
    assert consumers.try_shared()
    done = place.put("a", "s3://p/box/3")
    consumers.release()
    watch.release()
    assert (done.returncode, done.stderr) == (0, "")


def test_waits_until_everything_is_uploaded_or_has_failed(
    place: Place, rclone_server: S3Server, bucket_name: Callable[[], str]
) -> None:
    (place.home / "credentials").write_text(credentials_section("p", rclone_server.url))
    bucket = rclone_server.make_bucket(bucket_name())
    for number in range(30):
        place.write(f"tree/{number}", b"%d" % number)
    watch = subprocess.Popen(
        [
            *(sys.executable, "-m", "flood.commands.watch", "--consumers", "1"),
            *("--database", str(place.database)),
        ],
        cwd=place.home,
        env=place.environ | {"PYTHONWARNINGS": "default"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        good = place.put("--wait", "-r", "tree", f"s3://p/{bucket}/x")
        assert (good.returncode, good.stdout) == (
            0,
            f"30 files, 50 Bytes uploaded to s3://p/{bucket}/x\n",
        ), good.stderr
        assert len(rclone_server.keys(bucket)) == 30
        assert rclone_server.read(bucket, "x/17") == b"17"

        bad = place.put("--wait", "tree/1", "tree/2", "s3://p/no-such-bucket/x")
        assert bad.returncode == 1
        lines = [line for line in bad.stderr.splitlines() if "s3://p/no-such-bucket/x/" in line]
        assert len(lines) == 2
        assert all("bucket" in line.partition("x/")[2] for line in lines)
        assert bad.stdout == "0 of 2 files uploaded\n"
    finally:
        watch.terminate()
        watch.wait(60)
    assert not place.files()
    assert not place.files("incoming_tmp")


# --- parts by themselves -----------------------------------------------------------------------


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


PARTS = st.one_of(
    st.sampled_from(["", ".", "..", "p", "box", "a", "%2e%2e", "\0", "..\udcff", "\\", "~"]),
    st.text(max_size=8),
)


@given(st.one_of(st.text(), st.lists(PARTS).map(lambda parts: "s3://" + "/".join(parts))))
@example("s3://p/bucket/../../../etc/passwd")
@example("s3://p/bucket//etc/passwd")
@example("s3://p/bucket/x/..")
def test_no_destination_leaves_its_bucket(uri: str) -> None:
    try:
        target = destination.parse(uri)
    except ConfigError:
        return
    assert layout.is_name(target.profile)
    assert layout.is_name(target.bucket)
    bucket = f"/spool/incoming/{target.profile}/{target.bucket}"
    if target.key:
        path = f"/spool/{target.place(target.key).path}"
        assert os.path.normpath(path) == path
        assert path.startswith(f"{bucket}/")
        os.fsencode(path)
    else:
        assert target.into
    assert destination.parse(target.uri()) == target


def test_batches_are_bounded() -> None:
    mib = 1024**2
    sizes = [1] * 100 + [70 * mib] + [30 * mib] * 3 + [0]
    sources = [Source(str(n), str(n), size, named=False) for n, size in enumerate(sizes)]

    cut = list(batches(sources))

    assert [source for batch in cut for source in batch] == sources
    assert [len(batch) for batch in cut] == [64, 36, 1, 2, 2]


def test_refusal_names_the_pattern() -> None:
    refusal = Refusal(["*.tmp", ".#*"], normalizes=False)

    assert refusal("tmp/x.tmpl") is None
    assert "'*.tmp'" in str(refusal("a/x.tmp"))
    assert "'.#*'" in str(refusal(".#x"))
