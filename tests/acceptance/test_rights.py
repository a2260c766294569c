"""Directories and files of the spool that are somebody else's, or closed to flood's own user."""

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flood import users, writers
from flood.check_rights import denied
from flood.layout import CARD
from flood.locks import COMMANDS_LOCK
from flood.spool import Spool
from flood.states import EXIT_USAGE
from tests.acceptance.harness import Flood, MakeFlood, credentials, without_roots_rights
from tests.servers import S3Server
from tests.spooling import in_child

ONCE = ("-m", "flood.commands.watch", "--once")
CHECK = ("-m", "flood.commands.check", "--json")
STATUS = ("-m", "flood.commands.status")
OTHER = 65534
OWNER = users.name(OTHER)


@pytest.fixture
def flood(make_flood: MakeFlood, server: S3Server) -> Flood:
    """One that was started before, by a user whom modes bind."""
    made = make_flood(credentials(("main", server.url)), prefix=without_roots_rights())
    assert made.run(*ONCE).returncode == 0
    return made


@pytest.fixture
def theirs(server: S3Server) -> Iterator[Flood]:
    """One of a user's who is not root, and that root can get at, that was started before."""
    become = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups"]
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    if subprocess.run(
        [*become, sys.executable, "-c", "import huey, flood"], check=False
    ).returncode:
        pytest.skip("others than root cannot run this Python")
    with tempfile.TemporaryDirectory() as place:  # pytest's own are closed to others
        text = credentials(("main", server.url))
        with Flood(Path(place), text, prefix=become, log_format="text") as made:
            give(made.directory)
            assert made.run(*ONCE).returncode == 0
            yield made


def give(directory: Path, owner: int = OTHER) -> None:
    """Have all of it belong to this user."""
    for folder, _, names in os.walk(directory):
        for path in (folder, *(f"{folder}/{name}" for name in names)):
            os.chown(path, owner, owner)


def by_root(flood: Flood, *command: str) -> "subprocess.CompletedProcess[str]":
    """As `run` does, but as root."""
    own, flood.python = flood.python, [sys.executable]
    try:
        return flood.run(*command)
    finally:
        flood.python = own


def run_as_root(command: str) -> None:
    """Run a command that was told; root has no need of sudo."""
    subprocess.run(["sh", "-c", command.replace("sudo ", "")], check=True)


def others(flood: Flood) -> list[str]:
    """What of the spool and the database is not its owner's."""
    every = [flood.spool, *flood.spool.rglob("*"), *flood.directory.glob("flood.db*")]
    return [str(path) for path in every if path.stat().st_uid != OTHER]


def findings(flood: Flood, about: str) -> list[dict[str, Any]]:
    done = flood.run(*CHECK)
    return [x for x in json.loads(done.stdout)["findings"] if x["about"] == about]


@pytest.mark.parametrize("below", ["", "/bucket", "/bucket/album/2026"])
@pytest.mark.parametrize("state", ["incoming_tmp", "processing", "completed", "failed"])
def test_each_directory_that_floods_user_may_not_use_is_named(
    flood: Flood, state: str, below: str
) -> None:
    """In any part of the spool, with what gives it to him."""
    path = f"{state}/main{below}"
    directory = flood.spool / path
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    assert findings(flood, "rights") == []
    mends = []
    for mode in (0o500, 0):  # files are moved into it and out of it: to read it is not enough
        directory.chmod(mode)
        mends.append((-1, f"chmod u+rwX {directory}"))
    if os.geteuid() == 0:  # who can give it to somebody else
        me = users.mine()
        mends.append((OTHER, f"sudo chown -R {me} {directory} && sudo chmod -R u+rwX {directory}"))
    for owner, command in mends:
        os.chown(directory, owner, -1)
        [finding] = findings(flood, "rights")
        assert finding["status"] == "error"
        assert finding["found"] == f"this user may not use {path}"
        assert finding["remedy"] == command
        subprocess.run(["sh", "-c", command.replace("sudo ", "")], check=True)
        assert findings(flood, "rights") == []
        directory.chmod(0o500)


def test_directories_deep_in_buckets_are_looked_at_within_bounds(tmp_path: Path) -> None:
    """Those of profiles and buckets are all looked at."""
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare()
    buckets = [f"completed/p/{number}" for number in range(20)]
    for bucket in buckets:
        for number in range(20):
            spool.make_directory(f"{bucket}/{number}")
            os.chmod(spool.absolute(f"{bucket}/{number}"), 0o500)
    tmp_path.chmod(0o711)

    def look() -> None:
        os.chdir(tmp_path)  # which is below directories that are root's alone
        here = Spool(".")
        here.root = "spool"
        if os.geteuid() == 0:
            for folder, _, _ in os.walk("spool"):
                os.chown(folder, OTHER, -1)
            os.setuid(OTHER)
        assert len(denied(here, "completed")) == 400
        some = denied(here, "completed", 100)
        assert len(some) == 100
        assert len({os.path.dirname(path) for path in some}) == 10  # ten of each
        for bucket in buckets:
            os.chmod(here.absolute(bucket), 0o500)
        assert set(buckets) < set(denied(here, "completed", 100))

    assert in_child(look) == 0


def test_what_keeps_a_file_in_incoming_is_named(flood: Flood, bucket: str) -> None:
    """By the log, and by the file's story."""
    path = f"processing/main/{bucket}"
    (flood.spool / path).mkdir(parents=True)
    (flood.spool / path).chmod(0o500)
    flood.drop(bucket, "reports/key", b"data")
    uri = f"s3://main/{bucket}/reports/key"
    told = flood.run(*ONCE).stderr
    assert f"it cannot be moved to processing: Permission denied in {path}" in told
    story = flood.run(*STATUS, uri).stdout
    assert f"waits until flood's user has all rights to {path}, so that it can be moved" in story
    (flood.spool / path).chmod(0o700)
    assert "all rights" not in flood.run(*STATUS, uri).stdout
    assert flood.run(*ONCE).returncode == 0
    assert flood.files("processing") == [f"{path}/reports/key"]


@pytest.mark.parametrize("closed", ["completed", "processing"])
def test_what_keeps_a_file_in_processing_is_named(
    flood: Flood, server: S3Server, bucket: str, closed: str
) -> None:
    flood.drop(bucket, "reports/key", b"data")
    assert flood.run(*ONCE).returncode == 0
    path = f"{closed}/main/{bucket}/reports"
    (flood.spool / path).mkdir(parents=True, exist_ok=True)
    (flood.spool / path / "other").touch()  # or it would be removed as empty
    (flood.spool / path).chmod(0o500)
    flood.run("-m", "flood.commands.drain")
    row = flood.row()
    [attempt] = flood.attempts(row["id"])
    assert attempt["error_code"] == "cannot_move"
    assert f"(Permission denied in {path}): the move is tried again" in attempt["error_message"]
    assert server.keys(bucket) == ["reports/key"]
    [finding] = findings(flood, "rights")
    assert finding["found"] == f"this user may not use {path}"


def test_the_owner_of_the_spool_is_told_to_take_its_database(theirs: Flood) -> None:
    """No one else is the user that flood is to run as."""
    made = [
        theirs.database,
        *(Path(f"{theirs.database}{end}") for end in (*writers.QUEUES, "-bell")),
    ]
    for path in made:
        path.touch()
        path.chmod(0o600)
        os.chown(path, 0, 0)
    mends = f"sudo chown {OWNER}: {' '.join(map(str, made))}"
    told = f"Permission denied: {mends}\n"
    consumer = theirs.start("consumer", "-m", "huey.bin.huey_consumer", "flood.tasks.huey")
    assert consumer.wait() == EXIT_USAGE
    assert told in consumer.output()
    for command in ("watch", "fsck", "retry", "drain", "status"):
        arguments = {"watch": ["--once"], "retry": ["--all"]}.get(command, [])
        done = theirs.run("-m", f"flood.commands.{command}", *arguments)
        assert told in done.stderr, command
    [finding] = findings(theirs, "access")[1:]
    assert finding["meaning"].endswith("to whom the spool belongs: not all of this is his")
    assert finding["remedy"] == mends
    run_as_root(mends)
    assert theirs.run(*ONCE).returncode == 0
    for path in made[:2]:
        os.chown(path, 0, 0)
        path.chmod(0o644)  # it can be read, and not be written to
        told = theirs.run(*ONCE).stderr
        [_, command] = told.rstrip("\n").split("Permission denied: ")
        assert command.startswith(f"sudo chown {OWNER}: ")
        assert str(path) in command.split()
        run_as_root(command)
        assert theirs.run(*ONCE).returncode == 0


def test_one_command_opens_what_is_denied_of_the_database(theirs: Flood) -> None:
    """What is root's, and what only its mode denies."""
    shared, bell = f"{theirs.database}-shm", f"{theirs.database}-bell"
    for path, owner, mode in ((shared, OTHER, 0o400), (bell, 0, 0o600)):
        Path(path).touch()
        os.chown(path, owner, owner)
        os.chmod(path, mode)
    [finding] = findings(theirs, "access")[1:]
    assert finding["found"] == f"this user may not use {shared}, which belongs to {OWNER}"
    assert finding["remedy"] == f"sudo chown {OWNER}: {bell} && chmod u+rwX {shared}"
    run_as_root(finding["remedy"])
    assert [x["status"] for x in findings(theirs, "access")] == ["ok"]
    os.chown(theirs.database, 0, 0)
    theirs.database.chmod(0)
    mends = f"sudo chown {OWNER}: {theirs.database} && chmod u+rwX {theirs.database}"
    told = theirs.run("-m", "flood.commands.fsck").stderr
    assert told.endswith(f"Permission denied: {mends}\n")
    run_as_root(mends)
    assert theirs.run(*ONCE).returncode == 0


def test_a_directory_of_the_database_that_is_roots_is_given_by_what_is_told(theirs: Flood) -> None:
    place = theirs.directory / "base"
    place.mkdir()
    for path in theirs.directory.glob("flood.db*"):
        path.rename(place / path.name)
    theirs.environ["FLOOD_DATABASE"] = str(place / "flood.db")
    os.chown(place, OTHER, OTHER)
    assert theirs.run(*ONCE).returncode == 0
    os.chown(place, 0, 0)
    kept = place / "kept"
    kept.touch()  # of root's, who is not to lose the directory
    allowed = f"sudo setfacl -m u:{OWNER}:rwx {place}"
    closed = f"sudo chown {OWNER} {place} && chmod u+rwX {place}"
    for mode, mends in ((0o755, allowed), (0o755, f"sudo chown {OWNER} {place}"), (0o555, closed)):
        os.chown(place, 0, 0)
        place.chmod(mode)
        [finding] = findings(theirs, "access")[1:]
        assert finding["remedy"] == mends
        for command in (ONCE, ("-m", "flood.commands.drain")):
            assert f"Permission denied: {mends}\n" in theirs.run(*command).stderr
        kept.unlink(missing_ok=True)
    run_as_root(closed)
    assert theirs.run(*ONCE).returncode == 0
    os.chown(place, 0, 0)
    place.chmod(0o700)
    [finding] = findings(theirs, "access")[1:]
    assert finding["remedy"] == allowed  # as nobody can tell what else lies there


def test_the_owner_of_the_spool_is_told_to_take_a_lock(flood: Flood) -> None:
    lock = flood.spool / COMMANDS_LOCK
    lock.touch()
    lock.chmod(0)
    mends = [f"chmod u+rwX {lock}"]
    if os.geteuid() == 0:  # who can give it to somebody else
        mends.append(f"sudo chown {users.mine()}: {lock}")
    for command, owner in zip(mends, (-1, OTHER), strict=False):
        os.chown(lock, owner, -1)
        told = flood.run("-m", "flood.commands.retry", "--all").stderr
        assert told.endswith(f"cannot lock {lock}: Permission denied; {command}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to somebody else")
@pytest.mark.parametrize("command", ["watch --once", "fsck --repair"])
def test_a_database_that_root_makes_is_the_spools_owners(
    make_flood: MakeFlood, server: S3Server, command: str
) -> None:
    """With what is beside it; flood goes on as he."""
    flood = make_flood(credentials(("main", server.url)))
    assert flood.run(*ONCE).returncode == 0
    for folder, _, names in os.walk(flood.spool):
        for path in (folder, *(f"{folder}/{name}" for name in names)):
            os.chown(path, OTHER, OTHER)
    for path in flood.directory.glob("flood.db*"):
        path.unlink()
    flood.run("-m", *f"flood.commands.{command}".split())
    # Its companions go with the last who has it open, but for these.
    made = {path.name: path.stat() for path in flood.directory.glob("flood.db*")}
    assert {"flood.db", *(f"flood.db{queue}" for queue in writers.QUEUES)} <= set(made)
    assert {(x.st_uid, x.st_gid, stat.S_IMODE(x.st_mode)) for x in made.values()} == {
        (OTHER, OTHER, 0o600)
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to somebody else")
def test_a_card_that_root_writes_anew_stays_the_spools_owners(flood: Flood) -> None:
    """Whose it is, flood is to run as."""
    for path in (flood.spool, flood.spool / ".flood", flood.spool / CARD):
        os.chown(path, OTHER, OTHER)
    moved = flood.database.rename(flood.directory / "moved.db")
    left = flood.spool / f"{CARD}.new"
    left.write_text("of a run that died")
    before = (flood.spool / CARD).read_text()
    everything = {"FLOOD_DATABASE": str(moved)}
    flood.python = [sys.executable]
    assert flood.run(*ONCE, environ=everything).returncode == 0
    status = (flood.spool / CARD).stat()
    assert (status.st_uid, status.st_gid) == (OTHER, OTHER)
    assert (flood.spool / CARD).read_text() == before.replace("flood.db", "moved.db")
    assert not left.exists()


@pytest.mark.parametrize("runner", ["root", "the owner"])
@pytest.mark.parametrize("left", ["all but the card", "an empty directory", "a disk", "nothing"])
def test_the_line_that_writes_the_card_again_makes_the_spool_its_owners(
    theirs: Flood, left: str, runner: str
) -> None:
    """Whoever has it printed, and runs it; a disk's own directory is root's."""
    if left == "all but the card":
        (theirs.spool / CARD).unlink()
    else:
        shutil.rmtree(theirs.spool)
    if left in ("an empty directory", "a disk"):
        theirs.spool.mkdir()
        owner = 0 if left == "a disk" else OTHER
        os.chown(theirs.spool, owner, owner)
    look = by_root if runner == "root" else Flood.run
    told = json.loads(look(theirs, *CHECK).stdout)["findings"]
    [remedy] = [x["remedy"] for x in told if x["about"] == "server directory"]
    assert (f"and start flood-watch as {OWNER}: " in remedy) == (runner == "root")
    command = remedy.rpartition("start flood-watch")[2].partition(": ")[2]
    assert ("sudo " in command) == (left == "a disk" and runner != "root")
    assert command.endswith(f"/{CARD}")
    assert f"chown {OWNER} " in command
    run_as_root(command)
    if runner != "root" and "sudo" not in command:
        (theirs.spool / CARD).unlink()
        subprocess.run([*theirs.python[:-1], "sh", "-c", command], check=True)
    assert others(theirs) == []
    assert theirs.run(*ONCE).returncode == 0
    assert {x["status"] for x in findings(theirs, "access")} == {"ok"}


def test_a_card_of_roots_does_not_make_the_spool_roots(theirs: Flood, bucket: str) -> None:
    """Nor is anybody told to be root; what root makes goes on to be the owner's."""
    os.chown(theirs.spool / CARD, 0, 0)
    access = findings(theirs, "access")[0]
    assert access["found"] == f"this user may use it; it belongs to {OWNER}"
    [leases] = findings(theirs, "leases")
    assert (
        leases["found"] == f"{CARD}, by which they are tried, is not {OWNER}'s, to whom the "
        "spool belongs"
    )
    for path in theirs.directory.glob("flood.db*"):
        path.unlink()
    shutil.rmtree(theirs.spool / "failed")
    by_root(theirs, "-m", "flood.commands.fsck", "--repair")
    assert others(theirs) == [str(theirs.spool / CARD)]
    os.chown(theirs.database, 0, 0)
    assert f"sudo chown {OWNER}: {theirs.database}" in theirs.run(*ONCE).stderr
    os.chown(theirs.database, OTHER, OTHER)
    run_as_root(leases["remedy"])
    assert others(theirs) == []
    assert findings(theirs, "leases")[0]["status"] == "ok"
    os.chown(theirs.spool / CARD, 0, 0)
    theirs.drop(bucket, "key", b"data")
    give(theirs.spool / "incoming")
    path = f"processing/main/{bucket}"
    (theirs.spool / path).mkdir(parents=True)
    os.chown(theirs.spool / "processing/main", OTHER, OTHER)  # and the bucket's is root's
    story = theirs.run(*STATUS, f"s3://main/{bucket}/key").stdout
    assert f"waits until flood's user has all rights to {path}, so that" in story


def test_what_root_puts_on_a_disk_whose_directory_is_roots_is_the_spools_owners(
    theirs: Flood, bucket: str
) -> None:
    os.chown(theirs.spool, 0, 0)
    theirs.spool.chmod(0o777)
    put = by_root(theirs, "-m", "flood.commands.put", __file__, f"s3://main/{bucket}/key")
    assert put.returncode == 0
    [path] = theirs.files("incoming")
    assert (theirs.spool / path).stat().st_uid == OTHER
    assert f"until {OWNER} starts it" in put.stderr


@pytest.mark.parametrize("whose", ["database", "processing", ".flood"])
def test_one_thing_that_is_not_roots_tells_whose_the_spool_is(theirs: Flood, whose: str) -> None:
    """As where root has run flood on a disk whose own directory is root's."""
    give(theirs.spool, 0)
    os.chown(theirs.database, 0, 0)
    os.chown(theirs.database if whose == "database" else theirs.spool / whose, OTHER, OTHER)
    told = theirs.run(*CHECK).stdout
    assert "run flood as" not in told
    for finding in findings(theirs, "access"):
        run_as_root(finding["remedy"])
    assert theirs.run(*ONCE).returncode == 0
    give(theirs.spool, 0)
    os.chown(theirs.database, 0, 0)
    assert "run flood as root" in theirs.run(*CHECK).stdout


@pytest.mark.parametrize("count", [5, 60])
def test_one_command_opens_all_directories(flood: Flood, count: int) -> None:
    """It names them, or where they are many finds them."""
    for state in ("completed", "failed"):
        for number in range(count):
            directory = flood.spool / f"{state}/main/bucket/a b/{number:02}"
            directory.mkdir(parents=True)
            directory.chmod(0o500)
    [finding] = findings(flood, "rights")
    starts = [f"{flood.spool}/{state}/main/bucket/a b" for state in ("completed", "failed")]
    found = f"find {shlex.join(starts)} -type d "
    assert finding["remedy"].startswith(found if count > 5 else f"chmod u+rwX '{starts[0]}/00' ")
    assert len(finding["remedy"]) < 4096
    subprocess.run([*flood.python[:-1], "sh", "-c", finding["remedy"]], check=True)
    assert findings(flood, "rights") == []


@pytest.mark.parametrize("count", [5, 60])
@pytest.mark.parametrize("state", ["completed", "incoming"])
def test_one_command_takes_all_directories_of_others(theirs: Flood, state: str, count: int) -> None:
    """But none that flood can use as it is, or leaves alone."""
    bucket = theirs.spool / f"{state}/main/bucket"
    kept = [(bucket / "shared", 0o777), (bucket / ".~tmp~", 0o700)]
    for directory, mode in [*kept, *((bucket / f"{number:02}", 0o755) for number in range(count))]:
        directory.mkdir(parents=True)
        directory.chmod(mode)
    (bucket / "00/below").mkdir()
    for directory in (bucket, bucket.parent):
        os.chown(directory, OTHER, OTHER)
    if state == "completed":
        (bucket / ".~tmp~").rmdir()  # it is flood's own
        kept.pop()
    [finding] = findings(theirs, "rights")
    command = finding["remedy"].rpartition("there: ")[2]
    assert len(command) < 4096
    find, _, take = command.rpartition(" | ")
    if count > 5:
        assert find.startswith(f"find {bucket} ")
        found = subprocess.run(
            [*theirs.python[:-1], "sh", "-c", find], stdout=subprocess.PIPE, check=True
        )
        subprocess.run(["sh", "-c", take.replace("sudo ", "")], input=found.stdout, check=True)
    else:
        assert f"{bucket}/00/below" not in command  # which comes with the one above it
        run_as_root(command)
    assert findings(theirs, "rights") == []
    assert others(theirs) == [str(directory) for directory, _ in kept]


@pytest.mark.parametrize("count", [5, 60])
def test_one_command_takes_all_sticky_directories(theirs: Flood, count: int) -> None:
    bucket = theirs.spool / "incoming/main/bucket"
    for number in range(count):
        directory = bucket / f"{number:02}"
        directory.mkdir(parents=True)
        (directory / "file").touch()
        directory.chmod(0o1777)
    for directory in (bucket, bucket.parent):
        os.chown(directory, OTHER, OTHER)
    [finding] = findings(theirs, "rights")
    command = finding["remedy"].removeprefix("let flood's user own it: ")
    assert command.startswith("sudo find" if count > 5 else "sudo chown")
    run_as_root(command)
    assert findings(theirs, "rights") == []
    assert {path.stat().st_uid for path in bucket.glob("*/file")} == {0}


def test_root_judges_the_file_of_urls_as_floods_user_would(theirs: Flood) -> None:
    path = theirs.directory / "urls"
    path.write_text("json://127.0.0.1:1/\n")
    path.chmod(0o600)
    options = ("--notify-urls", str(path))

    def looked() -> dict[str, Any]:
        told = json.loads(by_root(theirs, *CHECK, *options).stdout)["findings"]
        [found] = [each for each in told if each["about"] == "notify-urls"]
        return found

    test = ("-m", "flood.commands.notify", "--test", *options)
    found = looked()
    assert (found["status"], found["remedy"]) == ("error", f"sudo chown {OWNER} {path}")
    assert f"{found['found']}: run {found['remedy']}" in by_root(theirs, *test).stderr
    run_as_root(found["remedy"])
    assert path.stat().st_uid == OTHER
    assert looked()["status"] == "ok"
    told = by_root(theirs, *test).stderr
    assert "not taken by JSON" in told  # as nobody listens there
    assert "cannot read" not in told
