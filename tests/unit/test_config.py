"""What flags, environment, files or defaults become, right or wrong."""

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flood import config, config_files, units
from flood.errors import ConfigError
from flood.options import IGNORE, OPTIONS, Option, ignored
from flood.temporary import Temporary

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024**2
DAY = 86_400.0


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the environment of somebody who works in an empty directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return {"HOME": str(tmp_path), "FLOOD_SERVER_DIRECTORY": "/srv/flood"}


def load(environ: Mapping[str, str], *argv: str, prog: str = "flood-watch") -> config.Settings:
    return config.load(config.build_parser(prog, "Test."), argv, environ)[1]


def refusal(
    capsys: pytest.CaptureFixture[str], environ: Mapping[str, str], *argv: str
) -> list[str]:
    """Return the lines on stderr with which these settings are refused."""
    with pytest.raises(SystemExit) as ended:
        load(environ, *argv)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_defaults(environ: dict[str, str], tmp_path: Path) -> None:
    settings = load(environ)
    assert settings == config.Settings(
        config=None,
        credentials=None,
        credentials_first=False,
        server_directory="/srv/flood",
        database=str(tmp_path / "here/flood.db"),
        retry_initial_delay=30.0,
        retry_max=10,
        retry_jitter=0.25,
        rescan_interval=300.0,
        min_free=64 * 1024**2,
        ignore=IGNORE,
        multipart_threshold=64 * MIB,
        multipart_part_size=8 * MIB,
        connect_timeout=None,
        read_timeout=None,
        bucket_cache_seconds=300.0,
        transfer="curl",
        concurrency=16,
        keep_completed=None,
        keep_failed=None,
        keep_records=None,
        notify_command=None,
        notify_urls=None,
        notify_interval=3600.0,
        notify_age=3600.0,
        consumers=0,
        log_level="info",
        log_format="text",
    )
    assert settings.origins["server_directory"] == "environment FLOOD_SERVER_DIRECTORY"
    assert settings.origins["database"] == "default"


def test_each_field_is_an_option() -> None:
    assert [field.name for field in fields(config.Settings)] == [*OPTIONS, "origins"]


def test_each_layer_wins_over_the_weaker_ones(environ: dict[str, str], tmp_path: Path) -> None:
    xdg = tmp_path / ".config/flood/flood.conf"
    xdg.parent.mkdir(parents=True)
    layers = [
        (lambda: xdg.write_text("retry-max = 1\nconcurrency = 9\n"), 1, f"file {xdg}"),
        (lambda: Path("flood.conf").write_text("retry-max: 2\n"), 2, "file ./flood.conf"),
        (
            lambda: Path("mine").write_text("retry-max 3") and environ.update(FLOOD_CONFIG="mine"),
            3,
            "file mine",
        ),
        (lambda: environ.update(FLOOD_RETRY_MAX="4"), 4, "environment FLOOD_RETRY_MAX"),
    ]
    for add, value, origin in layers:
        add()
        settings = load(environ)
        assert (settings.retry_max, settings.origins["retry_max"]) == (value, origin)
    settings = load(environ, "--retry-max=5")
    assert (settings.retry_max, settings.origins["retry_max"]) == (5, "flag")
    assert (settings.concurrency, settings.origins["concurrency"]) == (9, f"file {xdg}")
    assert settings.config == str(tmp_path / "here/mine")


def test_a_config_flag_wins_over_its_variable(environ: dict[str, str]) -> None:
    Path("a").write_text("retry-max = 1")
    Path("b").write_text("retry-max = 2")
    assert load(environ | {"FLOOD_CONFIG": "a"}, "--config", "b").retry_max == 2


def test_files_are_looked_for_in_this_order() -> None:
    assert config_files.candidates({"HOME": "/h"}) == (
        "/etc/flood/flood.conf",
        "/h/.config/flood/flood.conf",
        "./flood.conf",
    )
    assert config_files.candidates({"HOME": "/h", "XDG_CONFIG_HOME": "/x[1]"})[1] == (
        "/x[1]/flood/flood.conf"
    )
    relative = {"HOME": "/h", "XDG_CONFIG_HOME": "x"}
    assert config_files.candidates(relative)[1] == "/h/.config/flood/flood.conf"


def test_directories_with_glob_characters_are_searched(
    environ: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "x[1]*/flood/flood.conf"
    path.parent.mkdir(parents=True)
    path.write_text("retry-max = 7\n")
    assert load(environ | {"XDG_CONFIG_HOME": str(tmp_path / "x[1]*")}).retry_max == 7


def test_file_syntax(environ: dict[str, str], tmp_path: Path) -> None:
    Path("flood.conf").write_bytes(
        b"\xef\xbb\xbf# comment\r\n[ignored heading]\r\n"
        b"database = ~/spool/\xff.db   # another\r\n"
        b"credentials: 'my #1 file'\n"
        b"credentials-first\n"
        b'ignore = ["*.bak", "a,b"]\n'
        b"ignore = [*.x, *.y]\n"
        b"ignore = *.z\n"
        b'ignore = [*.q, "*.r", \'*.s\', "c, d", [ab]*.t]  ; and some\n'
        b"ignore = 'My #1 notes'  # one\n"
        b"--log-level DEBUG\n"
    )
    settings = load(environ)
    assert settings.database == os.fsdecode(bytes(tmp_path) + b"/spool/\xff.db")
    assert settings.credentials == str(tmp_path / "here/my #1 file")
    assert settings.credentials_first is True
    assert settings.ignore == (
        *(*IGNORE, "*.bak", "a,b", "*.x", "*.y", "*.z", "*.q", "*.r", "*.s"),
        *("c, d", "[ab]*.t", "My #1 notes"),
    )
    assert settings.log_level == "debug"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("retry-mx = 3", "line 2: retry-mx is no setting; is retry-max meant?"),
        ("retry_max = 3", "is retry-max meant?"),
        ("zzz = 3", "line 2: zzz is no setting; there are credentials, "),
        ("--retry-mx 3", "retry-mx is no setting"),
        ("help = true", "help is no setting"),
        ("recursive = true", "recursive is no setting"),
        ("no-credentials-first = true", "no-credentials-first is no setting"),
        ("config = other", "line 2: config cannot be set in a file"),
        ("retry-max = 4", "line 2: retry-max is set for the second time, first in line 1"),
        ("database", "line 2: database has no value"),
        ("database =", "line 2: database has no value"),
        ("ignore = []", "line 2: ignore has no value"),
        ("database = [a, b]", "line 2: database takes one value, no list"),
        ("= 3", "line 2: is neither 'key = value' nor a comment"),
        ("credentials-first = maybe", "credentials-first: 'maybe' is neither true nor false"),
        ("concurrency = many", "./flood.conf: concurrency: 'many' is no whole number"),
    ],
)
def test_wrong_lines_are_named(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    Path("flood.conf").write_text(f"retry-max = 3\n{line}\n")
    (message,) = refusal(capsys, environ)
    assert message.startswith("flood-watch: error: ./flood.conf")
    assert said in message


def test_files_that_cannot_be_read_are_named(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("flood.conf")
    assert refusal(capsys, environ, "--config", "missing") == [
        "flood-watch: error: ./flood.conf: is no regular file",
        "flood-watch: error: missing: cannot be read: No such file or directory",
    ]
    assert "/: is no regular file" in refusal(capsys, environ, "--config", "/")[-1]
    assert "'' is no path" in refusal(capsys, environ, "--config", "")[-1]


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_what_cannot_be_read_to_an_end_is_refused(environ: dict[str, str], kind: str) -> None:
    if kind == "fifo":
        os.mkfifo("settings")
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("settings")
    for command, *arguments in (
        ("check",),
        ("retry", "--all"),
        ("prune",),
        ("notify",),
        ("put", "file", "s3://p/b"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", f"flood.commands.{command}", "--config", "settings", *arguments],
            env={**os.environ, **environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.stderr == f"flood-{command}: error: settings: is no regular file\n"
        assert done.returncode == 2


def test_no_settings_at_all(environ: dict[str, str]) -> None:
    settings = load(environ, "--config", "/dev/null")
    assert replace(settings, config=None) == load(environ)


@pytest.mark.parametrize(
    "link", ["flood.conf", "../.config/flood/flood.conf", "named"], ids=["local", "user", "named"]
)
def test_a_link_that_leads_nowhere_is_named(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], link: str
) -> None:
    Path(link).parent.mkdir(parents=True, exist_ok=True)
    for target in ("gone", "file/below"):
        Path("file").touch()
        Path(link).symlink_to(target)
        named = ("--config", link) if link == "named" else ()
        (message,) = refusal(capsys, environ, *named)
        assert message.endswith(
            f"{link.removeprefix('..')}: is a symbolic link that leads nowhere, to {target}"
        )
        Path(link).unlink()


def test_all_problems_are_told_at_once(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("flood.conf").write_text("concurrency = 0\nwhat = 1\n")
    del environ["FLOOD_SERVER_DIRECTORY"]
    environ |= {"FLOOD_CREDENTIALS_FIRST": "perhaps", "FLOOD_READ_TIMEOUT": "1e3"}
    environ |= {"FLOOD_SERVER_DIR": "/x"}
    lines = refusal(capsys, environ, "--retry-jitter=nan", "--multipart-threshold=7M")
    assert all(line.startswith("flood-watch: error: ") for line in lines)
    for said in (
        "./flood.conf, line 2: what",
        "./flood.conf: concurrency: '0' is out of range; allowed: 1 to 256",
        "FLOOD_CREDENTIALS_FIRST: 'perhaps'",
        "FLOOD_READ_TIMEOUT: '1e3'",
        "--retry-jitter: 'nan'",
        "multipart-part-size (8MiB) is larger than multipart-threshold (7MiB)",
        "server-directory is not set: give --server-directory, or set FLOOD_SERVER_DIRECTORY",
        "FLOOD_SERVER_DIR is in the environment, and is no setting; is server-directory meant?",
    ):
        assert len([line for line in lines if said in line]) == 1, (said, lines)
    assert len(lines) == 8


@pytest.mark.parametrize(
    "flag",
    [
        "--retry-initial-delay=-1s",
        "--retry-initial-delay=0",
        "--retry-initial-delay=inf",
        "--retry-initial-delay=",
        "--retry-initial-delay=2d",
        "--retry-max=11",
        "--retry-max=1.5",
        "--retry-max=-1",
        "--retry-max=\u0663",
        "--retry-jitter=1.01",
        "--retry-jitter=-0.1",
        "--multipart-part-size=4MiB",
        "--multipart-part-size=6GiB",
        "--multipart-threshold=6GiB",
        "--multipart-threshold=64 apples",
        "--concurrency=0",
        "--keep-completed=-1",
        "--keep-completed=soon",
        "--keep-failed=23h",
        "--keep-failed=0",
        "--keep-records=59m",
        "--keep-records=36501d",
        "--notify-command=",
        "--notify-command='",
        "--notify-interval=0",
        "--notify-age=0",
        "--notify-age=never",
        "--consumers=-1",
        "--log-level=loud",
        "--log-format=xml",
        "--ignore=a/b",
        "--ignore=",
        "--ignore=!*.never",
        "--database=",
        "--credentials=a\0b",
        "--credentials=\ud800",
    ],
)
def test_wrong_values_are_refused_by_name(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    (message,) = refusal(capsys, environ, flag)
    assert message.startswith(f"flood-watch: error: {flag.partition('=')[0]}: '")
    assert "allowed: " in message


def test_what_is_kept_for_ever_can_be_said(environ: dict[str, str]) -> None:
    """On a command line, where a file says something else."""
    assert load(environ).keep_completed is None
    Path("flood.conf").write_text("keep-completed = 30d\nkeep-failed = 90d\nkeep-records = 1h\n")
    settings = load(environ, "--keep-completed=Forever", "--keep-records=0001d")
    kept = (settings.keep_completed, settings.keep_failed, settings.keep_records)
    assert kept == (None, 90 * DAY, DAY)
    assert load(environ, "--keep-completed=0").keep_completed == 0


def test_options_are_not_abbreviated(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "unrecognized arguments: --retry-m=3" in refusal(capsys, environ, "--retry-m=3")[-1]


def test_empty_variables_count_as_unset(environ: dict[str, str]) -> None:
    empty = {option.variable: "" for option in OPTIONS.values()}
    assert load(environ) == load(empty | environ)


def test_the_switch_can_be_turned_off_again(environ: dict[str, str]) -> None:
    Path("flood.conf").write_text("credentials-first = yes\n")
    assert load(environ).credentials_first is True
    off = load(environ | {"FLOOD_CREDENTIALS_FIRST": " No "})
    assert (off.credentials_first, off.origins["credentials_first"]) == (
        False,
        "environment FLOOD_CREDENTIALS_FIRST",
    )
    assert load(environ, "--no-credentials-first").credentials_first is False


def test_paths_become_absolute(environ: dict[str, str], tmp_path: Path) -> None:
    settings = load(environ, "--server-directory", "~/spool", "--database=x/../y.db")
    assert settings.server_directory == str(tmp_path / "spool")
    assert settings.database == str(tmp_path / "here/y.db")
    assert load(environ, "--database=~root/x").database == "/root/x"
    assert load(environ, "--database=~nobody-of-this-name/x").database == (
        str(tmp_path / "here/~nobody-of-this-name/x")
    )


def test_relative_paths_in_a_directory_that_is_gone(
    environ: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "here").rmdir()
    assert "cannot be found out" in refusal(capsys, environ)[0]
    assert load(environ, "--database=/var/flood.db").database == "/var/flood.db"


@pytest.mark.parametrize("state", ["incoming_tmp", "incoming", "processing", "completed", "failed"])
def test_the_database_is_no_upload(
    environ: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "spool")
    argv = ("--server-directory", str(tmp_path / "spool"))
    (message,) = refusal(capsys, environ, *argv, "--database", str(tmp_path / f"link/{state}/f.db"))
    assert "among the files to be uploaded" in message
    beside = str(tmp_path / f"spool/{state}.db")
    assert load(environ, *argv, "--database", beside).database == beside
    assert "server-directory itself" in refusal(capsys, environ, *argv, "--database", argv[1])[0]


def test_ignore_adds_or_takes_back(environ: dict[str, str]) -> None:
    assert load(environ, "--ignore", "*.bak", "--ignore=!*.tmp").ignore == (
        *[pattern for pattern in IGNORE if pattern != "*.tmp"],
        "*.bak",
    )
    assert ignored(["x", "!*", "y", "y"]) == ("y",)
    several = environ | {"FLOOD_IGNORE": '["!*", "[ab]*"]'}
    assert load(several).ignore == ("[ab]*",)
    assert load(several, "--ignore=z").ignore == (*IGNORE, "z")
    assert load(environ, "--ignore='a, b]'", '--ignore="!*.tmp"').ignore == (
        *[pattern for pattern in IGNORE if pattern != "*.tmp"],
        "a, b]",
    )


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("[*.bak, *.old", "has a bracket without its counterpart"),
        ("*.bak, *.old]", "has a bracket without its counterpart"),
        ("*.bak, *.old", "holds a comma or a blank"),
        ("*.bak,*.old", "holds a comma or a blank"),
        ("*.bak *.old", "holds a comma or a blank"),
        ('"*.bak", "*.old"', "holds a comma or a blank"),
    ],
)
def test_a_list_that_is_mistyped_is_no_pattern(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], written: str, wrong: str
) -> None:
    """It would match nothing, so that what it was to keep back is uploaded."""
    said = f"ignore: '{written}' {wrong}; allowed: one such as *.bak; several as [*.bak, *.old], "
    assert said in refusal(capsys, environ, f"--ignore={written}")[0]
    with pytest.raises(ConfigError, match="allowed: one such as"):
        config.from_environment(environ | {"FLOOD_IGNORE": written})
    Path("flood.conf").write_text(f"ignore = {written}\n")
    assert said in refusal(capsys, environ)[0]


def test_a_list_is_one_in_files_and_the_environment(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    several = "[*.bak, *.old]"
    (message,) = refusal(capsys, environ, f"--ignore={several}")
    assert "is a list, and taken as one pattern" in message
    variables = environ | {"FLOOD_IGNORE": several}
    assert load(variables).ignore == (*IGNORE, "*.bak", "*.old")
    Path("flood.conf").write_text("ignore = [*.bak *.old]\n")
    assert "'*.bak *.old' holds a comma or a blank" in refusal(capsys, environ)[0]


def test_blanks_around_a_pattern_or_a_list_are_none_of_it(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for written in (" [*.bak, *.old] ", ' ["*.bak", "*.old"]\t'):
        assert load(environ | {"FLOOD_IGNORE": written}).ignore == (*IGNORE, "*.bak", "*.old")
    assert load(environ | {"FLOOD_IGNORE": " *.bak "}).ignore == (*IGNORE, "*.bak")
    assert load(environ, "--ignore= *.bak ", "--ignore=' x '").ignore == (*IGNORE, "*.bak", " x ")
    assert "is a list, and taken as one pattern" in refusal(capsys, environ, "--ignore= [a, b] ")[0]


def test_the_words_of_a_list_stay_as_they_were_written(environ: dict[str, str]) -> None:
    written = r'[null, true, 1.50, NaN, "a\"b, c"]'
    expected = (*IGNORE, "null", "true", "1.50", "NaN", 'a"b, c')
    assert load(environ | {"FLOOD_IGNORE": written}).ignore == expected
    Path("flood.conf").write_text(f"ignore = {written}\n")
    assert load(environ).ignore == expected


@pytest.mark.parametrize(
    "name",
    [
        ".data.bin.aB3xYz",
        "..x.AAAAAA",
        "film.mkv.part",
        "a.b1c2d3e4.partial",
        "x.filepart",
        "x.crdownload",
        "x.tmp",
        ".nfs00000000004c0a1d00000001",
        ".fuse_hidden0000000200000001",
        ".goutputstream-AB12CD",
        ".notes.txt.swp",
        ".notes.txt.swo",
        ".~lock.sheet.ods#",
        ".#notes",
        "~$letter.docx",
        ".in.upload.bin.",
    ],
)
def test_temporary_names_are_ignored(name: str) -> None:
    assert Temporary(IGNORE).pattern(name) is not None


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        ".bashrc",
        ".data.tar.gz",
        "data.aB3xYz",
        "letter.docx~",
        "~letter",
        ".nfsmount.conf",
        "part",
        "tmp",
        "x.tmp.gz",
        "#1",
        ".in.txt",
    ],
)
def test_other_names_are_not_ignored(name: str) -> None:
    assert Temporary(IGNORE).pattern(name) is None


@pytest.mark.parametrize(
    "path", ["p/b/.~tmp~/x", "p/b/a/.rsync-partial/x", "p/b/.rsync-partial/a/x"]
)
def test_temporary_directories_are_ignored(path: str) -> None:
    assert Temporary(IGNORE).pattern(path) is not None


def test_a_file_is_no_temporary_directory() -> None:
    assert Temporary(IGNORE).pattern("p/b/.rsync-partial") is None
    assert Temporary(["x/"]).pattern("x/y") == "x/"
    assert Temporary([]).pattern("x/y") is None


def test_options_of_other_commands(environ: dict[str, str]) -> None:
    Path("flood.conf").write_text("consumers = 3\n")
    assert load(environ).consumers == 3
    assert load(environ, prog="flood-put").consumers == 0
    assert config.from_environment(environ).consumers == 0
    with pytest.raises(SystemExit):
        load(environ, "--consumers=1", prog="flood-put")


def test_commands_add_flags_of_their_own(environ: dict[str, str]) -> None:
    parser = config.build_parser("flood-put", "Copies.", epilog="One more thing: 100 %.")
    parser.add_argument("-r", "--recursive", action="store_true")
    parser.add_argument("source", nargs="+")
    parser.add_argument("target")
    environ |= {"FLOOD_RETRY_MAX": "3", "FLOOD_RECURSIVE": "yes"}
    Path("flood.conf").write_text("retry-jitter = 0\n")
    argv = ["a", "b", "--concurrency", "2", "s3://p/b/", "-r"]
    namespace, settings = config.load(parser, ["-r", "a", "b", "s3://p/b/"], environ)
    assert (namespace.source, namespace.target) == (["a", "b"], "s3://p/b/")
    assert namespace.recursive is True
    assert (settings.retry_max, settings.retry_jitter) == (3, 0)
    namespace, _ = config.load(parser, ["--", "-h", "--database", "s3://p/b/"], environ)
    assert (namespace.source, namespace.recursive) == (["-h", "--database"], False)
    assert config.load(parser, ["--concurrency=2", *argv[:2], argv[4]], environ)[1].concurrency == 2


def test_a_parser_can_be_used_again(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = config.build_parser("flood-watch", "Test.")
    with pytest.raises(SystemExit):
        config.load(parser, ["--retry-max=x"], environ)
    assert config.load(parser, [], environ)[1].retry_max == 10


def test_help_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    parser = config.build_parser("flood-watch", "Watches 100 % of it.", epilog="Own words.")
    with pytest.raises(SystemExit) as ended:
        config.load(parser, ["--retry-max=wrong", "-h"], {})
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in OPTIONS.values():
        assert option.flag in text
        assert f"[{option.variable}; default: {option.default or option.unset}]" in text
    assert "Own words." in text
    assert "100 %" in text
    assert text.startswith("usage: flood-watch [-h] [--version] Watches")


def test_a_process_without_flags(environ: dict[str, str]) -> None:
    assert config.from_environment(environ) == load(environ)
    with pytest.raises(ConfigError) as caught:
        config.from_environment({"HOME": "/nowhere"})
    assert str(caught.value) == (
        "server-directory is not set: set FLOOD_SERVER_DIRECTORY, or server-directory in "
        "./flood.conf"
    )
    with pytest.raises(ConfigError, match=r"^gone: cannot be read: No such file or directory$"):
        config.from_environment(environ | {"FLOOD_CONFIG": "gone"})


def test_every_setting_is_described(environ: dict[str, str]) -> None:
    settings = load(environ, "--database=/a\nb.db", "--multipart-threshold=5GB", "--ignore=!*")
    described = {name: (value, origin) for name, value, origin in config.describe(settings)}
    assert list(described) == [option.key for option in OPTIONS.values()]
    assert described["database"] == ("/a\\nb.db", "flag")
    assert described["multipart-threshold"] == ("5000000000", "flag")
    assert described["read-timeout"] == ("the provider's", "default")
    assert described["retry-initial-delay"] == ("30s", "default")
    assert described["ignore"] == ("", "flag")


def test_lists_are_shown_as_they_can_be_written(environ: dict[str, str]) -> None:
    Path("flood.conf").write_text('ignore = ["!*", *.bak, "a, b", "c d", "[ab]*"]\n')
    settings = load(environ)
    shown = {name: value for name, value, _ in config.describe(settings)}["ignore"]
    assert shown == '*.bak, "a, b", "c d", [ab]*'
    Path("flood.conf").write_text(f"ignore = [!*, {shown}]\n")
    assert load(environ).ignore == settings.ignore


def test_two_dashes_are_no_pattern(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"FLOOD_IGNORE: '--' cannot be given .*\[-\]-"):
        config.from_environment(environ | {"FLOOD_IGNORE": "--"})


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "ignore"])
@pytest.mark.parametrize("how", ["environment", "flag", "file"])
def test_two_dashes_are_no_value(
    environ: dict[str, str], tmp_path: Path, name: str, how: str
) -> None:
    option = OPTIONS[name]
    file = tmp_path / "two-dashes.conf"
    file.write_text(f"{option.key} = --\n")
    arguments = {"flag": [f"{option.flag}=--"], "file": ["--config", str(file)]}.get(how, [])
    environ.pop(option.variable, None)
    environ |= {option.variable: "--"} if how == "environment" else {}
    parser = config.build_parser("flood-watch", "")
    with pytest.raises(SystemExit) as ended:
        config.load(parser, arguments, environ)
    assert ended.value.code == 2


names = st.text(
    st.characters(exclude_characters="\0/.", exclude_categories=["Cs"]), min_size=1, max_size=20
)
seconds = st.floats(0.1, 3600)


def test_variables_that_set_nothing() -> None:
    environ = {
        "FLOOD_RETRY_MAXX": "3",
        "FLOOD_RETRY_MAX": "3",
        "FLOOD_PARENT_PID": "1",
        "FLOOD_TEST_PROCESSES": "2",
        "FLOODED": "1",
        "FLOOD_\n": "1",
    }
    found = dict(config.unknown_variables(environ))
    assert found.keys() == {"FLOOD_RETRY_MAXX", "FLOOD_\\n"}
    assert found["FLOOD_RETRY_MAXX"] == "is retry-max meant?"
    assert "server-directory" in found["FLOOD_\\n"]


@given(
    st.builds(
        config.Settings,
        config=st.none(),
        credentials=st.none() | names.map(lambda name: f"/etc/{name}"),
        credentials_first=st.booleans(),
        server_directory=names.map(lambda name: f"/srv/{name}"),
        database=names.map(lambda name: f"/var/{name}/flood.db"),
        retry_initial_delay=seconds,
        retry_max=st.integers(0, 10),
        retry_jitter=st.floats(0, 1),
        rescan_interval=seconds,
        min_free=st.integers(0, 1024**5),
        ignore=st.lists(
            st.text(st.characters(exclude_characters="/\0!"), min_size=1).filter("--".__ne__),
            unique=True,
        ).map(tuple),
        multipart_threshold=st.integers(50 * MIB, 5 * 1024 * MIB),
        multipart_part_size=st.integers(5 * MIB, 50 * MIB),
        connect_timeout=st.none() | seconds,
        read_timeout=st.none() | seconds,
        bucket_cache_seconds=seconds,
        transfer=st.sampled_from(["curl", "boto3"]),
        concurrency=st.integers(1, 256),
        keep_completed=st.none() | st.just(0.0) | seconds,
        keep_failed=st.none() | st.integers(1, 36_500).map(lambda days: days * DAY),
        keep_records=st.none() | st.integers(1, 1000).map(lambda hours: hours * 3600.0),
        notify_command=st.none(),
        notify_urls=st.none(),
        notify_interval=st.just(3600.0),
        notify_age=st.just(3600.0),
        consumers=st.just(0),
        log_level=st.sampled_from(["debug", "error"]),
        log_format=st.sampled_from(["text", "json"]),
    )
)
def test_a_child_gets_the_same_settings(settings: config.Settings) -> None:
    variables = config.environment(settings)
    assert config.from_environment({"HOME": "/nowhere"} | variables) == settings


@pytest.mark.parametrize(
    "flags",
    [
        ("--notify-command=tell --to 'all of us' %s", "--notify-age=forever"),
        ("--notify-urls=~/urls", "--notify-age=2h", "--notify-interval=10m"),
        (),
    ],
)
def test_flood_notify_gets_the_settings_of_flood_watch(
    environ: dict[str, str], flags: tuple[str, ...]
) -> None:
    settings = load(environ, *flags)
    assert load(environ | config.environment(settings), prog="flood-notify") == settings


@pytest.mark.parametrize("url", ["slack://hidden/hidden", "./json://hidden"])
def test_a_url_is_refused_unseen(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], url: str
) -> None:
    Path("flood.conf").write_text(f"notify-urls = {url}\n")
    given: list[tuple[dict[str, str], tuple[str, ...]]] = [
        (environ, (f"--notify-urls={url}",)),
        (environ | {"FLOOD_NOTIFY_URLS": url}, ()),
        (environ, ()),
    ]
    for variables, flags in given:
        (message,) = refusal(capsys, variables, *flags)
        assert "notify" in message.lower()
        assert "chmod 600" in message
        assert "hidden" not in message


def test_a_child_gets_the_file_too(environ: dict[str, str]) -> None:
    Path("mine").write_text("read-timeout = 7\n")
    variables = config.environment(load(environ, "--config=mine", "--consumers=2"))
    assert variables["FLOOD_CONFIG"] == str(Path("mine").absolute())
    assert variables["FLOOD_CONSUMERS"] == "2"
    assert load(variables).read_timeout == 7


def test_a_child_that_reads_no_files_keeps_its_settings(environ: dict[str, str]) -> None:
    """Whatever somebody has written into them since."""
    Path("mine").write_text("read-timeout = 7\n")
    settings = load(environ, "--config=mine", "--ignore=*.bak")
    variables = environ | config.environment(settings)
    Path("mine").write_text("this is no = setting\n")
    Path("flood.conf").write_text("connect-timeout = 9\nconsumers = many\n")
    assert config.from_environment(variables, files=False) == settings
    os.unlink("mine")
    assert config.from_environment(variables, files=False) == settings
    with pytest.raises(ConfigError):
        config.from_environment(variables)


def complaint(environ: Mapping[str, str]) -> str:
    """Return the words with which these settings are refused, if they are."""
    try:
        config.from_environment({"HOME": "/nowhere", "FLOOD_SERVER_DIRECTORY": "/srv"} | environ)
    except ConfigError as error:
        return str(error)
    return ""


@given(st.sampled_from(list(OPTIONS.values())), st.text())
def test_no_text_is_a_crash(option: Option, text: str) -> None:
    assert complaint({option.variable: text}).replace("\n", "").isprintable()


@given(st.binary())
def test_no_file_is_a_crash(content: bytes) -> None:
    descriptor = _pipe(content)
    said = complaint({"FLOOD_CONFIG": f"/dev/fd/{descriptor}"})
    os.close(descriptor)
    assert said.replace("\n", "").isprintable()


def _pipe(content: bytes) -> int:
    """Return a descriptor as a shell's <(...) gives it."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 30.0),
        ("0.2", 0.2),
        (" 30s ", 30.0),
        ("200ms", 0.2),
        ("5m", 300.0),
        ("5 min", 300.0),
        ("1h30m", 5400.0),
        ("1H 30M", 5400.0),
        ("1.01m", 60.6),
        ("0.5d", 43200.0),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert units.duration(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4096", 4096),
        ("16MiB", 16 * MIB),
        ("16M", 16 * MIB),
        ("16 mib", 16 * MIB),
        ("5MB", 5_000_000),
        ("1GB", 10**9),
        ("1.5GiB", 1536 * MIB),
        ("1T", 1024**4),
        ("7b", 7),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert units.size(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "s", "-1", "+1", "1e3", "nan", "inf", "1s1s", "1:30", "1,5", ".5", "1.", "\u0663", "1x"],
)
def test_what_is_no_quantity(text: str) -> None:
    for read in (units.duration, units.size):
        with pytest.raises(ValueError, match=r"^"):
            read(text)
    with pytest.raises(ValueError, match=r"^"):
        units.size("1M1K")
    with pytest.raises(ValueError, match=r"^"):
        units.size("0.3")


@given(st.floats(1e-9, 1e6), st.integers(0, 10**13))
def test_quantities_can_be_read_back(some_seconds: float, count: int) -> None:
    assert units.duration(units.duration_text(some_seconds)) == some_seconds
    assert units.size(units.size_text(count)) == count


DOCUMENT = (Path(__file__).parents[2] / "docs/configuration.md").read_text()


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.key)
def test_each_option_is_documented(option: Option) -> None:
    key = f"`{option.key}`" if option.in_files else "-"
    default = option.unset if option.default is None else f"`{option.default}`"
    assert f"| `{option.flag}` | `{option.variable}` | {key} | {default} |" in DOCUMENT
    assert option.metavar in ("", "FILE", "DIR") or f"`{option.metavar}`" in DOCUMENT


@pytest.mark.parametrize("pattern", IGNORE)
def test_each_pattern_is_documented(pattern: str) -> None:
    assert f"`{pattern}`" in DOCUMENT


def test_json_lists_are_documented() -> None:
    example = '["*.bak", "[ab]*.[ch]"]'
    assert json.loads(example)
    assert example in DOCUMENT


# --- commands for a person to copy ---------------------------------------------------------------

PATHS = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1).map(
    lambda name: f"/srv/{name}"
)


@given(database=PATHS, credentials=PATHS, first=st.booleans())
def test_a_printed_command_finds_what_this_one_found(
    database: str, credentials: str, first: bool
) -> None:
    environ = {"HOME": "/", "FLOOD_SERVER_DIRECTORY": "/srv/flood", "FLOOD_MIN_FREE": "7"}
    flags = ["--credentials-first" if first else "--no-credentials-first", "--retry-max", "3"]
    found = load(environ, "--database", database, "--credentials", credentials, *flags)
    words = shlex.split(config.command(found, "flood-fsck", "--repair"))
    assert words[:2] == ["flood-fsck", "--repair"]
    assert "/srv/flood" not in words  # it is in the environment
    assert_same_places(load(environ, *words[2:]), found)
    *variables, program, queue = shlex.split(
        config.command(found, "huey_consumer", "flood.tasks.huey")
    )
    assert (program, queue) == ("huey_consumer", "flood.tasks.huey")
    added = dict(text.split("=", 1) for text in variables)
    assert_same_places(config.from_environment({**environ, **added}), found)
    words = shlex.split(config.command(found, "sudo", "-u", "ann", "flood-check"))
    assert words[:4] == ["sudo", "-u", "ann", "flood-check"]
    assert_same_places(load({"HOME": "/"}, *words[4:]), found)


def assert_same_places(settings: config.Settings, found: config.Settings) -> None:
    for name in ("config", "credentials", "credentials_first", "server_directory", "database"):
        assert getattr(settings, name) == getattr(found, name)


def test_without_flags_a_printed_command_has_none(environ: dict[str, str]) -> None:
    settings = load(environ, "--retry-max", "3")
    assert config.command(settings, "flood-watch") == "flood-watch"
    assert config.with_database(settings, settings.database) is settings
    elsewhere = config.with_database(settings, "/srv/other.db")
    assert config.command(elsewhere, "flood-watch") == "flood-watch --database /srv/other.db"
