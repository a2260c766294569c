"""flood-init as a process; what it makes is what the other programs take."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flood import config, credentials
from flood.errors import ConfigError, CredentialsError, SpoolError, SpoolLockedError
from flood.founding import Founding
from flood.locks import COMMANDS_LOCK, CONSUMERS_LOCK, PUT_LOCK, STARTING_LOCK, FileLock
from flood.states import STATES
from huey_config import huey
from tests.mounts import mounting
from tests.spooling import Clock, in_child

ROOT = Path(__file__).parents[2]


def init(cwd: Path, *arguments: str | bytes, **environ: str) -> "subprocess.CompletedProcess[str]":
    return run(cwd, sys.executable, "-m", "flood.commands.init", *arguments, **environ)


def run(cwd: Path, *command: str | bytes, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def found(directory: Path) -> list[tuple[str, bool]]:
    """Make an installation; each part with whether it was new."""
    founding = Founding(str(directory), queue=huey.storage.initialize_schema, now=Clock().now)
    try:
        return [(os.path.relpath(path, directory), new) for path, new in founding.run()]
    finally:
        huey.storage.close()


NEW = [("flood.conf", True), ("credentials", True), ("spool", True), ("flood.db", True)]


def test_a_new_installation(tmp_path: Path) -> None:
    done = init(tmp_path, "new one")
    directory = tmp_path / "new one"
    assert (done.returncode, done.stderr) == (0, "")
    assert f"made  {directory}/flood.conf" in done.stdout
    commands = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert commands == ["flood-check", "flood-watch", "flood-put"]
    assert f"--config '{directory}/flood.conf'" in done.stdout
    assert stat.S_IMODE((directory / "credentials").stat().st_mode) == 0o600
    assert stat.S_IMODE((directory / "flood.db").stat().st_mode) == 0o600
    assert {path.name for path in (directory / "spool").iterdir()} == {
        *("incoming_tmp", "incoming", "processing", "completed", "failed", ".flood"),
    }
    assert not [path for path in directory.iterdir() if path.name.endswith(".new")]


def test_what_is_there_stays(tmp_path: Path) -> None:
    assert found(tmp_path / "d") == NEW
    (tmp_path / "d/credentials").write_text("mine")
    (tmp_path / "d/flood.conf").unlink()
    done = init(tmp_path, "d")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[:4]] == [
        *("made", "kept", "kept", "kept"),
    ]
    assert (tmp_path / "d/credentials").read_text() == "mine"


def test_settings_that_were_kept_and_lead_elsewhere_are_told_of(tmp_path: Path) -> None:
    found(tmp_path / "d")
    assert init(tmp_path, "d").stderr == ""
    (tmp_path / "d").rename(tmp_path / "e")
    (tmp_path / "d").symlink_to("e")  # by another name these are the same places
    assert init(tmp_path, "e").stderr == ""
    (tmp_path / "d").unlink()
    done = init(tmp_path, "e")
    assert done.returncode == 0
    for name in ("spool", "flood.db", "credentials"):
        assert f"= {tmp_path}/d/{name}, instead of {tmp_path}/e/{name}\n" in done.stderr
    assert f"Write your keys into {tmp_path}/d/credentials" in done.stdout
    (tmp_path / "e/flood.conf").write_text("server-directory = e/spool\ndatabase = e/flood.db\n")
    done = init(tmp_path, "e")
    assert "  credentials is not set, instead of" in done.stderr
    keys = tmp_path / "e/credentials"
    lines = f"  credentials = {keys}\n  credentials-first = true\n"
    assert (
        f"\nAdd to {tmp_path}/e/flood.conf, as it has keys read from elsewhere,\n\n{lines}"
        in done.stdout
    )
    assert f"\nand write your keys into {keys}; or write them into\n~/.aws/cred" in done.stdout
    assert "Write your keys" not in done.stdout
    with open(tmp_path / "e/flood.conf", "a", encoding="utf-8") as kept:
        kept.write(lines.replace("true", "false"))
    assert f"Write your keys into {keys}, then run" in init(tmp_path, "e").stdout
    kept_keys = f"server-directory = e/spool\ndatabase = e/flood.db\ncredentials = {keys}\n"
    (tmp_path / "other").touch()
    for first, file, told in (
        ("", "other", True),
        ("", "missing", False),
        ("credentials-first = true\n", "other", False),
    ):
        (tmp_path / "e/flood.conf").write_text(kept_keys + first)
        done = init(tmp_path, "e", AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / file))
        assert ("\n\n  credentials-first = true\n\nand write" in done.stdout) == told
        assert ("Write your keys into" in done.stdout) != told
    kept_first = "server-directory = e/spool\ndatabase = e/flood.db\ncredentials-first = true\n"
    (tmp_path / "e/flood.conf").write_text(kept_first)
    done = init(tmp_path, "e", AWS_SHARED_CREDENTIALS_FILE="/k")
    assert f"\n\n  credentials = {keys}\n\nand" in done.stdout
    assert "or write them into\n/k instead. Then run" in done.stdout
    assert "server-directory" not in done.stderr
    (tmp_path / "e/flood.conf").write_text("")
    done = init(tmp_path, "e")
    assert done.returncode == 2
    line = f"server-directory = {tmp_path}/e/spool"
    assert done.stderr == (
        f"flood-init: server-directory is not set: write '{line}' into {tmp_path}/e/flood.conf, or "
        "move that away, then run flood-init again\n"
    )
    (tmp_path / "e/flood.conf").write_text(f"{line}\n")
    assert init(tmp_path, "e").returncode == 0
    (tmp_path / "e/flood.conf").write_text("nonsense = 1\n")
    done = init(tmp_path, "e")
    assert done.returncode == 2
    assert f"flood-init: {tmp_path}/e/flood.conf, line 1: nonsense is no setting" in done.stderr


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("spool", "spool must be a directory, but a file is in its place"),
        ("flood.db", "flood.db is no SQLite database"),
        ("foreign", "belongs to the database"),
    ],
)
def test_what_is_in_the_way_is_told_without_options_of_others(
    tmp_path: Path, what: str, words: str
) -> None:
    (tmp_path / "d").mkdir()
    if what == "foreign":
        found(tmp_path / "other")
        shutil.copytree(tmp_path / "other/spool", tmp_path / "d/spool")
    else:
        (tmp_path / "d" / what).write_text("mine")
    with pytest.raises(SpoolError, match=words) as raised:
        found(tmp_path / "d")
    assert str(raised.value).endswith(
        ": move away what is in the way there, or name another directory"
    )
    assert "--" not in str(raised.value)


@pytest.mark.parametrize("kind", ["FIFO", "file"])
@pytest.mark.parametrize(
    "part", [".", *STATES, ".flood", ".flood/workers", ".flood/spool", "../flood.db"]
)
def test_nothing_else_is_kept_in_the_place_of_a_part(tmp_path: Path, part: str, kind: str) -> None:
    found(tmp_path / "d")
    place = tmp_path / "d/spool" / part
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    os.mkfifo(place) if kind == "FIFO" else place.write_text("none of flood's")
    done = init(tmp_path, "d")
    assert done.returncode == 2
    [told] = done.stderr.splitlines()
    assert f"{os.path.normpath(place)}" in told
    assert part in STATES or "move away what is in the way" in told
    assert os.path.lexists(place)


@pytest.mark.parametrize("name", ["flood.conf", "credentials"])
def test_settings_are_kept_in_files_only(tmp_path: Path, name: str) -> None:
    found(tmp_path / "d")
    (tmp_path / "d" / name).unlink()
    os.mkfifo(tmp_path / "d" / name)
    done = init(tmp_path, "d")
    assert done.returncode == 2
    assert f"{name} must be a file, but a FIFO is in its place" in done.stderr


def test_a_database_of_another_spool_is_not_kept_without_a_word(tmp_path: Path) -> None:
    for name in ("d", "e"):
        found(tmp_path / name)
    shutil.copy(tmp_path / "e/flood.db", tmp_path / "d/flood.db")
    with pytest.raises(SpoolError, match="does not belong to the database"):
        found(tmp_path / "d")


@pytest.mark.parametrize("left", ["flood.conf", "credentials", "spool/.flood/spool", "flood.db"])
def test_a_run_that_was_broken_off_is_repeated(tmp_path: Path, left: str) -> None:
    """All that came before `left` is there, with half of what was being written."""
    found(tmp_path / "d")
    order = ["flood.conf", "credentials", "spool/.flood/spool", "flood.db"]
    for name in order[order.index(left) :]:
        (tmp_path / "d" / name).unlink()
    for name in ("flood.conf", "credentials"):
        (tmp_path / "d" / f"{name}.new").write_text("half of i")
    if left != "flood.db":
        assert dict(found(tmp_path / "d"))[left.partition("/")[0]]
    else:
        assert dict(found(tmp_path / "d"))["flood.db"]
    assert [new for _, new in found(tmp_path / "d")] == [False] * 4
    assert "server-directory" in (tmp_path / "d/flood.conf").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_is_another_users_is_not_said_to_be_there() -> None:
    with tempfile.TemporaryDirectory() as made:  # pytest's own are closed to others
        Path(made).chmod(0o755)
        found(Path(made, "d"))

        def again() -> None:
            os.setuid(65534)
            with pytest.raises(
                SpoolError, match="/credentials: run flood-init as root, whose it is"
            ):
                found(Path(made, "d"))

        assert in_child(again) == 0


@pytest.mark.parametrize("name", ["failed", "incoming_tmp"])
def test_a_directory_that_is_missing_is_made(tmp_path: Path, name: str) -> None:
    found(tmp_path / "d")
    (tmp_path / "d/spool" / name).rmdir()
    assert dict(found(tmp_path / "d"))["spool"]
    assert (tmp_path / "d/spool" / name).is_dir()
    assert [new for _, new in found(tmp_path / "d")] == [False] * 4


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(
        st.characters(exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp", "Cf", "Co"]),
        min_size=1,
        max_size=20,
    ).filter(lambda name: name.strip(".") and "/" not in name and name.isprintable())
)
def test_settings_lead_to_what_was_made(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    found(directory)
    parser = config.build_parser("flood-watch", "")
    _, made = config.load(parser, ["--config", str(directory / "flood.conf")], {})
    assert made.server_directory == str(directory / "spool")
    assert made.database == str(directory / "flood.db")
    assert made.credentials == str(directory / "credentials")
    assert made.credentials_first
    assert made.consumers == 2


def test_each_profile_of_the_template_lacks_only_its_keys(tmp_path: Path) -> None:
    found(tmp_path / "d")
    path = tmp_path / "d/credentials"
    with pytest.raises(CredentialsError, match="holds no profile"):
        credentials.load(str(path), True, {})
    lines = path.read_text().splitlines()
    used = [line.removeprefix("#") for line in lines if line.startswith("#") and line[1:2] != " "]
    path.write_text("\n".join(used))
    with pytest.raises(CredentialsError) as raised:
        credentials.load(str(path), True, {})
    problems = [line for line in str(raised.value).splitlines() if "profile " in line]
    assert len(problems) == 4
    assert all("missing: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY;" in line for line in problems)
    path.write_text("\n".join(f"{line} 123" if line.endswith("=") else line for line in used))
    assert set(credentials.load(str(path), True, {}).profiles) == {
        *("archive", "media", "backup", "lab"),
    }


def test_a_running_spool_is_left_alone(tmp_path: Path) -> None:
    found(tmp_path / "d")
    lock = FileLock(str(tmp_path / "d/spool"))
    assert lock.try_exclusive()
    assert [new for _, new in found(tmp_path / "d")] == [False] * 4
    (tmp_path / "d/flood.db").unlink()
    with pytest.raises(SpoolLockedError):
        found(tmp_path / "d")
    lock.release()


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    found(tmp_path / "d")
    with pytest.raises(ConfigError, match="is a spool itself"):
        found(tmp_path / "d/spool")
    (tmp_path / "link").symlink_to(tmp_path / "d/spool/incoming")
    inside = ("d/spool/incoming", "d/spool/failed/lab/deep", "d/spool/.flood/x", "link/lab")
    for name in inside:
        with pytest.raises(ConfigError, match=f"is inside the spool {tmp_path}/d/spool,"):
            found(tmp_path / name)
    found(tmp_path / "incoming/lab")  # of no spool
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot set up"):
        found(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"a\\nb has characters"):
        found(Path("/a\nb"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/flood.db").write_text("no database, this")
    with pytest.raises(SpoolError, match="is no SQLite database"):
        found(tmp_path / "other")
    assert (tmp_path / "other/flood.db").read_text() == "no database, this"


def test_a_name_that_is_too_long_is_told_of(tmp_path: Path) -> None:
    for name in ("x" * 300, "x/" * 2100):
        done = init(tmp_path, name)
        assert done.returncode == 2
        assert done.stderr.endswith(
            "x: File name too long; choose a shorter one: a name has 255 bytes at most, "
            "a path 4095\n"
        )


@mounting
@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("size=4k", "No space left on device; make room there, then run flood-init again\n"),
        ("size=64k", "database or disk is full: make room on the disk of the database\n"),
        ("nr_inodes=3", "No space left on device; make room there, then run flood-init again\n"),
    ],
)
def test_a_full_disk(tmp_path: Path, size: str, words: str) -> None:
    script = f'mount -t tmpfs -o {size} none . && cd "$PWD" && exec "$@"'
    program = (sys.executable, "-m", "flood.commands.init", "d")
    done = run(tmp_path, "unshare", "-rm", "sh", "-c", script, "sh", *program)
    assert done.returncode == 75
    assert done.stderr.endswith(words)


def test_a_directory_that_is_reached_through_links(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    for name in ("link", "link/deep/er"):
        done = init(tmp_path, name)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"made  {tmp_path}/{name}/spool" in done.stdout  # as it was named
        assert init(tmp_path, name).stderr == ""
        with open(tmp_path / name / "flood.conf", encoding="utf-8") as written:
            assert f"server-directory  = {tmp_path}/{name}/spool\n" in written
    assert (tmp_path / "disk/deep/er/spool/incoming").is_dir()
    (tmp_path / "loop").symlink_to("loop")
    done = init(tmp_path, "loop")
    assert done.returncode == 2
    assert f"{tmp_path}/loop: Not a directory" in done.stderr


def test_commands_that_cannot_be_printed_are_told_of(tmp_path: Path) -> None:
    script = f"{sys.executable} -m flood.commands.init d >/dev/full"
    done = run(tmp_path, "sh", "-c", script)
    assert done.returncode == 1
    assert done.stderr == "flood-init: cannot write to stdout: No space left on device\n"
    assert (tmp_path / "d/flood.db").exists()


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/credentials").symlink_to(tmp_path / "elsewhere")
    assert dict(found(tmp_path / "d"))["credentials"] is False
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((), "required: DIR"), (("",), "DIR is empty"), (("a", "b\x1b[2J"), r"b\x1b[2J")],
)
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = init(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "\x1b" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_locks_are_there_before_they_are_needed(tmp_path: Path) -> None:
    """On a disk that takes no more files nobody could make them."""
    assert init(tmp_path, "d").returncode == 0
    made = {f".flood/{path.name}" for path in (tmp_path / "d/spool/.flood").glob("*.lock")}
    assert made == {PUT_LOCK, CONSUMERS_LOCK, STARTING_LOCK, COMMANDS_LOCK}


def test_a_current_directory_that_is_gone(tmp_path: Path) -> None:
    program = f"{sys.executable} -m flood.commands.init"
    (tmp_path / "gone").mkdir()
    done = run(tmp_path, "sh", "-c", f"cd gone; rmdir ../gone; {program} d; {program} {tmp_path}/d")
    assert done.stderr.count("\n") == 2, done.stderr  # with the usage
    assert "error: DIR is relative to the current directory, which cannot be found" in done.stderr
    assert (tmp_path / "d/flood.conf").exists()


def test_variables_that_come_first_are_told_of(tmp_path: Path) -> None:
    done = init(tmp_path, "d", FLOOD_DATABASE="/x/flood.db", FLOOD_LOG_LEVEL="info")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "flood-init: FLOOD_DATABASE is set in the environment, which comes before flood.conf: "
        "unset FLOOD_DATABASE"
    ]
