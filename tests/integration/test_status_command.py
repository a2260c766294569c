"""flood-status as a command: what it prints, its exit statuses, how fast it is."""

import json
import os
import pty
import resource
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest

from flood import models
from flood.columns import utc_text
from flood.commands.status import main
from flood.layout import CARD
from tests.bulk import without_indices
from tests.spooling import START, House, quick_house
from tests.spooling import house as make_house
from tests.unit.test_fsck import given_up

RUN = "import sys; from flood.commands.start import status; sys.exit(status())"


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A spool that the environment names, so that only options are left to be given."""
    with make_house(tmp_path) as made:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("FLOOD_SERVER_DIRECTORY", made.spool.root)
        yield made
        models.bind(made.database)


@pytest.fixture
def house() -> Iterator[House]:
    """A spool in memory."""
    with quick_house() as made:
        yield made


def exit_status(*arguments: str) -> int:
    models.close()
    try:
        return main(arguments)
    except SystemExit as ended:
        return int(str(ended.code))


Capture = pytest.CaptureFixture[str]


def test_it_shows_everything(spool: House, capsys: Capture) -> None:
    given_up(spool, "bad")
    spool.admit("new")
    assert exit_status() == 0
    shown = capsys.readouterr()
    assert "p/b" in shown.out
    assert "broken: the connection broke" in shown.out
    assert shown.err == ""
    assert not any(line.endswith(" ") for line in shown.out.splitlines())


@pytest.mark.parametrize("arguments", [("--json",), ("--format", "json")])
def test_it_tells_a_program(spool: House, capsys: Capture, arguments: tuple[str, ...]) -> None:
    spool.admit("new")
    assert exit_status(*arguments) == 0
    [destination] = json.loads(capsys.readouterr().out)["destinations"]
    assert destination["stages"]["due"]["files"] == 1


def test_it_tells_prometheus(spool: House, capsys: Capture, tmp_path: Path) -> None:
    spool.admit("new")
    assert exit_status("--format", "prometheus") == 0
    line = 'flood_files{bucket="b",profile="p",stage="due"} 1.0'
    assert line in capsys.readouterr().out
    assert exit_status("--format", "prometheus", "--output", str(tmp_path / "flood.prom")) == 0
    assert capsys.readouterr().out == ""
    assert line in (tmp_path / "flood.prom").read_text()
    assert exit_status("--format", "prometheus", "--output", str(tmp_path / "no" / "x")) == 1
    link = tmp_path / "link"
    link.symlink_to("target")
    assert exit_status("--format", "prometheus", "--output", str(link)) == 0
    assert (link.readlink(), (tmp_path / "target").is_file()) == (Path("target"), True)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    assert exit_status("--format", "prometheus", "--output", str(fifo)) == 0
    assert b"flood_" in os.read(reader, 60_000)
    os.close(reader)
    assert fifo.is_fifo()
    assert "cannot write" in capsys.readouterr().err


def test_prometheus_learns_that_nothing_is_known(
    spool: House, capsys: Capture, tmp_path: Path
) -> None:
    """The figures of before would stay, as if all were well."""
    output = tmp_path / "flood.prom"
    arguments = ("--format", "prometheus", "--output", str(output))
    spool.admit("new")
    assert exit_status(*arguments) == 0
    healthy = output.read_text()
    assert "\nflood_up 1.0\n" in healthy
    assert exit_status(*arguments, "--max-age", "1h") == 2
    assert output.read_text() == healthy
    os.rename(spool.spool.root, tmp_path / "away")
    assert exit_status(*arguments) == 2
    assert "is its disk mounted?" in capsys.readouterr().err
    told = [x for x in output.read_text().splitlines() if not x.startswith("#")]
    assert told == ["flood_up 0.0"]
    os.rename(tmp_path / "away", spool.spool.root)
    assert exit_status(*arguments) == 0
    assert "\nflood_up 1.0\n" in output.read_text()
    models.close()
    os.unlink(spool.database)
    assert exit_status(*arguments) == 2
    assert "flood_up 0.0" in output.read_text()


def test_it_tells_one_files_story(spool: House, capsys: Capture) -> None:
    [record] = spool.admit("dir/new")
    assert exit_status("s3://p/b/dir/new") == 0
    assert f"record {record}, processing" in capsys.readouterr().out
    assert exit_status("--json", "s3://p/b/dir/new") == 0
    assert json.loads(capsys.readouterr().out)["records"][0]["record"] == record
    assert exit_status("s3://p/b/nothing") == 1
    assert "nothing is known of s3://p/b/nothing" in capsys.readouterr().err
    assert exit_status("s3://p/b") == 2
    assert exit_status("s3://p/b/dir") == 1
    told = capsys.readouterr()
    assert told.out == ""
    lying = ["incoming/p/b/dir", "processing/p/b/dir"]
    words = f"s3://p/b/dir, as directories have its name: {', '.join(lying)}; name a file in one"
    assert words in told.err
    assert exit_status("--json", "s3://p/b/dir") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["directories"] == lying
    assert (found["lies_in"], found["arriving"], found["strays"]) == ([], None, [])


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ((), 2),
        (("--max-failed", "1"), 0),
        (("--max-failed", "0,1"), 1),
        (("--max-failed", "1", "--max-waiting", "0"), 2),
        (("--max-failed", "1", "--max-age", "1ms"), 2),
        (("--max-failed", "1", "--max-age", "1ms,9000d"), 1),
        (("--max-failed", "1", "--max-left-alone", "1"), 0),
        (("--max-failed", "1", "--max-left-alone", "0,1"), 1),
        (("--max-failed", "1", "--max-left-alone", "0"), 2),
        (("--max-failed", "2,1"), 3),
        (("--max-failed", "many"), 3),
        (("--max-age", "-1"), 3),
        (("--server-directory", "/nowhere"), 3),
        (("--database", "/nowhere"), 3),
        (("--json",), 3),
        (("--nonsense",), 3),
        (("s3://p/b/bad",), 3),
    ],
)
def test_it_answers_a_monitoring_system(
    spool: House, capsys: Capture, arguments: tuple[str, ...], result: int
) -> None:
    spool.clock.moment = datetime.now(timezone.utc)
    given_up(spool, "bad")
    spool.admit("new")
    spool.write("incoming/p/b/film.part")
    assert exit_status("--check", *arguments) == result
    shown = capsys.readouterr()
    assert shown.out.startswith(f"FLOOD {('OK', 'WARNING', 'CRITICAL', 'UNKNOWN')[result]} - ")
    assert len(shown.out.splitlines()) == 1
    assert ("stderr says what" in shown.out) == ("error:" in shown.err)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--live", "--json"), "--live does not go with --json"),
        (("--max-age", "1h"), "are for --check"),
        (("--output", "x"), "--output is for --format prometheus"),
        (("--live",), "--live needs a terminal"),
        (("--format", "prometheus", "s3://p/b/k"), "does not go with --format"),
        (("p/b/k",), "does not begin with s3://"),
    ],
)
def test_what_does_not_fit_together(
    spool: House, capsys: Capture, arguments: tuple[str, ...], words: str
) -> None:
    spool.admit("new")
    assert exit_status(*arguments) == 2
    assert words in capsys.readouterr().err


def test_without_a_database_nothing_is_made(spool: House, capsys: Capture) -> None:
    models.close()
    os.unlink(spool.database)
    assert exit_status() == 2
    assert f"flood.db is gone: {models.GONE}\n" in capsys.readouterr().err
    assert not os.path.exists(spool.database)
    assert exit_status("--check") == 3
    Path(spool.database).write_bytes(b"no database" * 100)
    assert exit_status() == 2
    Path(spool.database).write_bytes(b"")
    assert exit_status() == 2


#: Each way to ask, with the exit status that says that nobody can know.
WAYS = [
    ((), 2),
    (("--json",), 2),
    (("--format", "prometheus"), 2),
    (("--check",), 3),
    (("s3://p/b/new",), 2),
    (("--json", "s3://p/b/new"), 2),
]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(("arguments", "result"), WAYS)
def test_a_spool_whose_disk_is_away(
    spool: House, capsys: Capture, arguments: tuple[str, ...], result: int, named: bool
) -> None:
    spool.admit("new")
    os.rename(spool.spool.root, f"{spool.spool.root}.away")
    os.mkdir(spool.spool.root)
    if named:
        arguments = (*arguments, "--database", spool.database)
    assert exit_status(*arguments) == result
    refused(capsys.readouterr(), result, "mounted")
    assert os.listdir(spool.spool.root) == []


@pytest.mark.parametrize(("arguments", "result"), WAYS)
def test_the_database_of_another_spool(
    spool: House, house: House, capsys: Capture, arguments: tuple[str, ...], result: int
) -> None:
    card = Path(house.spool.absolute(CARD))
    card.write_text(card.read_text().replace("f" * 32, "e" * 32))
    models.bind(house.database)
    with models.write():
        models.execute("UPDATE spool SET spool_id = ?", ("e" * 32,))
    # As after the own database was lost, and another one was put in its place.
    models.close()
    Path(spool.database).write_bytes(Path(house.database).read_bytes())
    assert exit_status(*arguments) == result
    refused(capsys.readouterr(), result, "does not belong to the database")


def refused(shown: "pytest.CaptureResult[str]", result: int, words: str) -> None:
    if result == 3:
        [line] = shown.out.splitlines()
        assert line.startswith("FLOOD UNKNOWN - ")
        assert words in line
    else:
        assert shown.out == ""
        assert words in shown.err


def test_nobody_listens(spool: House) -> None:
    spool.admit("new")
    models.close()
    # What was found is told by the status where nobody wants the line: the file waits since long.
    told = [((), 0), (("--check",), 2)]
    untold = [((), 1), (("--check",), 3), (("--check", "x"), 3)]
    closed = [("closed pipe", *one) for one in told]
    for target, arguments, status in (*closed, *(("/dev/full", *one) for one in untold)):
        out, into = os.pipe() if target == "closed pipe" else (None, os.open(target, os.O_WRONLY))
        if out is not None:
            os.close(out)
        ended = subprocess.run(
            [sys.executable, "-c", RUN, *arguments],
            stdout=into,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(into)
        assert ended.returncode == status
        words = "flood-status: cannot write to stdout: No space left on device\n"
        assert ended.stderr.endswith(words) == (target == "/dev/full")
        assert "Traceback" not in ended.stderr


# --- a terminal ----------------------------------------------------------------------------------


class Screen:
    """flood-status in a terminal of 80 columns."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(self.ours, (30, 80)) if sys.version_info >= (3, 11) else None
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "30"}
            | variables,
        )
        self.theirs = theirs
        self.text = ""

    def until(self, words: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.ours], [], [], 0.1)[0]:
                self.text += os.read(self.ours, 65536).decode("utf-8", "replace")

    def end(self) -> int:
        """The exit status, after it has ended; the terminal is as it was."""
        while self.process.poll() is None:
            if select.select([self.ours], [], [], 0.05)[0]:
                self.text += os.read(self.ours, 65536).decode("utf-8", "replace")
        assert termios.tcgetattr(self.theirs) == self.before
        os.close(self.ours)
        os.close(self.theirs)
        return self.process.returncode


def test_it_redraws_until_q_is_pressed(spool: House) -> None:
    screen = Screen("--live")
    screen.until("No file has come yet.")
    spool.admit("new")
    screen.until("due")
    os.write(screen.ours, b"q")
    assert screen.end() == 0
    assert "\x1b[?1049l" in screen.text  # what stood there before is back


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"TERM": "dumb"}, "where TERM is 'dumb'; leave --live out, or set TERM "),
        ({"TERM": "unknown"}, "where TERM is 'unknown'; leave --live out, or set TERM "),
        ({"FORCE_COLOR": ""}, "FORCE_COLOR says that there is none; leave --live out, or unset"),
    ],
)
def test_it_does_not_redraw_where_nothing_can_be(
    spool: House, variables: dict[str, str], why: str
) -> None:
    models.close()
    screen = Screen("--live", **variables)
    screen.until(why)
    assert screen.end() == 2
    screen = Screen(**variables)
    screen.until("No file has come yet.")
    assert screen.end() == 0


def test_it_redraws_until_its_disk_is_back(spool: House) -> None:
    spool.admit("new")
    screen = Screen("--live")
    screen.until("due")
    away = f"{spool.spool.root}.away"
    os.rename(spool.spool.root, away)
    os.mkdir(spool.spool.root)
    screen.until("mounted?")
    screen.text = ""
    os.rmdir(spool.spool.root)
    os.rename(away, spool.spool.root)
    screen.until("due")
    os.write(screen.ours, b"q")
    assert screen.end() == 0


@pytest.mark.parametrize("missing", ["spool", "database"])
def test_it_may_be_started_while_that_is_away(spool: House, missing: str) -> None:
    spool.admit("new")
    models.close()
    path = spool.spool.root if missing == "spool" else spool.database
    os.rename(path, f"{path}.away")
    screen = Screen("--live", "--server-directory", spool.spool.root)
    screen.until("q ends")
    assert ("mounted?" if missing == "spool" else "gone") in screen.text
    assert "--server-directory" in screen.text, "so that flood-fsck --repair finds it"
    assert not os.path.exists(path)
    os.rename(f"{path}.away", path)
    screen.until("due")
    os.write(screen.ours, b"q")
    assert screen.end() == 0


def test_it_redraws_once_somebody_works_on_what_it_may_only_read(spool: House) -> None:
    models.close()
    wal = f"{spool.database}-wal"
    os.symlink("nowhere", wal)  # so that SQLite can make nothing there, for root neither
    screen = Screen("--live")
    screen.until("No file has come yet.")
    os.unlink(wal)
    spool.admit("new")
    screen.until("due")
    os.write(screen.ours, b"q")
    assert screen.end() == 0


def test_it_redraws_until_it_is_interrupted(spool: House) -> None:
    spool.admit("new")
    screen = Screen("--live")
    screen.until("due")
    screen.process.send_signal(signal.SIGINT)
    assert screen.end() == 130
    assert "Traceback" not in screen.text


def test_it_ends_with_its_terminal(spool: House) -> None:
    """Also where nobody sends SIGHUP, as after nohup."""
    spool.admit("new")
    screen = Screen("--live")
    screen.until("due")
    os.close(screen.ours)
    os.close(screen.theirs)
    assert screen.process.wait(60) == 2


def test_colours_can_be_declined(spool: House) -> None:
    given_up(spool, "bad")
    models.close()
    for variables, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        screen = Screen(**variables)
        screen.until("the connection broke")
        assert screen.end() == 0
        assert ("\x1b[1;31m" in screen.text) is coloured


# --- a full disk --------------------------------------------------------------------------------

#: Runs a command on a copy of the disk that has not a byte left.
FULL = """set -e
cp -a "$1" kept; mount -t tmpfs -o size=2m none "$1"; cp -a kept/. "$1"
cat /dev/zero > "$1/fill" 2>/dev/null || true
cp "$1/flood.db" before
%s
shift; status=0; "$@" || status=$?
cmp "$FLOOD_DATABASE" before
exit $status"""
#: What another process locks of a database that it has open.
HELD = f"""touch "$1/flood.db-shm"
{sys.executable} -c 'import fcntl, sys, time
file = open(sys.argv[1], "rb")
fcntl.lockf(file, fcntl.LOCK_SH, 1, 128)
print("held", flush=True)
time.sleep(600)' "$1/flood.db-shm" > holding &
trap "kill $!" EXIT
until grep -qs held holding; do sleep 0.05; done"""


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    if shutil.which("unshare") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("takes the right to mount a small filesystem")
    path = tmp_path / "disk"
    path.mkdir()
    return path


def on_full_disk(made: House, first: str = "") -> subprocess.CompletedProcess[str]:
    models.close()
    disk = Path(made.database).parent
    return subprocess.run(
        [
            *("unshare", "-rm", "sh", "-c", FULL % first, "sh", disk),
            *(sys.executable, "-c", RUN, "--check"),
        ],
        cwd=disk.parent,
        env={
            **os.environ,
            "FLOOD_SERVER_DIRECTORY": made.spool.root,
            "FLOOD_DATABASE": made.database,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_full_disk_is_looked_at(disk: Path) -> None:
    """SQLite finds no room there for what it has beside a database."""
    with make_house(disk) as made:
        made.admit("new")
        looked = on_full_disk(made)
        assert "waiting=1;;;0 failed=0;" in looked.stdout, looked
        assert (looked.returncode, looked.stderr) == (2, "")  # it waits since long ago


def test_what_others_have_open_is_not_read_without_locks(disk: Path) -> None:
    with make_house(disk) as made:
        looked = on_full_disk(made, HELD)
        assert (looked.returncode, looked.stderr) == (3, "")
        assert "disk I/O error, as the disk is full (no byte is left): make room" in looked.stdout


def test_what_a_killed_process_left_is_not_left_out(disk: Path) -> None:
    with make_house(disk) as made:
        models.close()
        dying = (
            "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
            "c.execute('UPDATE spool SET last_swept_at = created_at'); os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", dying, made.database], check=True)
        os.unlink(f"{made.database}-shm")
        looked = on_full_disk(made)
        assert (looked.returncode, looked.stderr) == (3, "")
        assert "disk I/O error, as the disk is full (no byte is left): make room" in looked.stdout


# --- many records --------------------------------------------------------------------------------

MANY = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000),
     r(i, state) AS (SELECT i, CASE WHEN i > 950000 THEN 'processing' WHEN i % 100 THEN 'completed'
                     ELSE 'failed' END FROM n)
INSERT INTO file_records (profile, bucket, filepath, file_creation_date, current_state,
    last_updated, upload_outcome, device, inode, size, mtime_ns, spool_path, next_attempt_at,
    error_code, created_at, completed_at)
SELECT 'p', 'b' || (i % 7), i, :at, state, :at,
    CASE state WHEN 'completed' THEN 'success' WHEN 'failed' THEN 'failure' END, 1, i, i % 5000, i,
    i, CASE state WHEN 'processing' THEN :at END, CASE state WHEN 'failed' THEN 'AccessDenied' END,
    :at, CASE state WHEN 'processing' THEN NULL ELSE :at END FROM r
"""

#: Large indices that answer nothing here, and take long to make.
LEFT_OUT = ("file_records_key", "file_records_place")


@pytest.mark.timeout(600)  # making the records takes long on a busy machine
def test_a_million_records_take_less_than_a_second(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("FLOOD_SERVER_DIRECTORY", house.spool.root)
    models.close()
    with closing(sqlite3.connect(house.database, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        with without_indices(database, LEFT_OUT):
            database.execute(MANY, {"at": utc_text(START)})
        database.execute("PRAGMA journal_mode = WAL")
    taken = []
    for _ in range(4):  # the first one imports; of the others the one that was disturbed least
        capsys.readouterr()
        before = resource.getrusage(resource.RUSAGE_SELF)
        assert exit_status("--json") == 0
        after = resource.getrusage(resource.RUSAGE_SELF)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    told = json.loads(capsys.readouterr().out)
    assert sum(each["stages"]["due"]["files"] for each in told["destinations"]) == 50_000
    assert sum(each["stages"]["completed"]["files"] for each in told["destinations"]) == 940_500
    assert told["failed_records"] == 9_500
    # Of the processor, as the time of the day is the whole machine's.
    assert min(taken) < 1.0, taken
    models.bind(house.database)
