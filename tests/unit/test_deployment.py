"""Units, image, man pages, completions: whatever they name is there."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from flood.options import OPTIONS
from scripts import manuals
from tests.unit.test_docs import commands, flags_of, page, quoted, section

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "scripts" / "systemd"
PATHS = sorted(path for path in UNITS.rglob("*") if path.is_file())
INSTALLED = "/opt/flood/bin"


class Unit(configparser.RawConfigParser):
    """A file of systemd's, whose settings keep their case, each with the last value only."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",))
        self.read(path, encoding="utf-8")

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def command_lines() -> list[list[str]]:
    """Whatever the units or the image run, as words."""
    lines = [
        line.partition("=")[2]
        for path in PATHS
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("ExecStart=")
    ]
    return [shlex.split(line) for line in lines]


# --- units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", command_lines(), ids=" ".join)
def test_what_a_unit_runs_is_there(line: list[str]) -> None:
    directory, _, program = line[0].rpartition("/")
    assert directory == INSTALLED
    if program == "huey_consumer":
        assert line[1] == "flood.tasks.huey"
        shown = subprocess.run(
            [sys.executable, "-m", "huey.bin.huey_consumer", "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert all(word in shown for word in line[2:] if word.startswith("-"))
    else:
        assert {word for word in line[1:] if word.startswith("-")} <= flags_of(program)


def test_each_unit_is_covered() -> None:
    assert len(command_lines()) == 6
    assert {path.suffix for path in PATHS} == {".service", ".timer", ".conf"}


@pytest.mark.parametrize("timer", sorted(UNITS.glob("*.timer")), ids=lambda path: path.name)
def test_a_timer_starts_a_service_that_ends(timer: Path) -> None:
    assert Unit(timer.with_suffix(".service"))["Service"]["Type"] == "oneshot"
    assert Unit(timer)["Install"]["WantedBy"] == "timers.target"


@pytest.mark.parametrize("name", ["flood-watch.service", "flood-consumer@.service"])
def test_a_daemon_is_watched_then_ended_in_order(name: str) -> None:
    service = Unit(UNITS / name)["Service"]
    assert service["Type"] == "notify"
    assert service["WatchdogSec"]
    assert service["KillMode"] == "mixed"  # flood ends what it has started
    # flood-watch gives its consumers 40 seconds.
    assert int(service["TimeoutStopSec"].removesuffix("s")) > 40


def test_the_units_let_directories_hand_their_group_on() -> None:
    assert "RestrictSUIDSGID" not in Unit(UNITS / "flood-.service.d/flood.conf")["Service"]


@pytest.mark.parametrize("path", sorted(UNITS.glob("*.service")), ids=lambda path: path.name)
def test_a_unit_says_nothing_that_belongs_into_the_settings(path: Path) -> None:
    text = path.read_text("utf-8") + (UNITS / "flood-.service.d/flood.conf").read_text("utf-8")
    assert not [option.flag for option in OPTIONS.values() if f"{option.flag} " in text]
    assert not re.search(r"\bFLOOD_", text)


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze, of systemd, is not here"
)
@pytest.mark.parametrize(
    "name", sorted(path.name for path in UNITS.iterdir() if path.is_file()), ids=str
)
def test_systemd_understands_the_units(name: str, tmp_path: Path) -> None:
    assert verified(name, tmp_path) == ""


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze, of systemd, is not here"
)
def test_systemd_is_shown_what_the_units_share(tmp_path: Path) -> None:
    assert "ProtectSystems" in verified("flood-watch.service", tmp_path, "ProtectSystem=", "s=")


def verified(name: str, directory: Path, old: str = "", new: str = "") -> str:
    """What systemd-analyze has to say of a unit, once flood is installed where they look for it;
    `old` becomes `new` in what the units share."""
    programs, units = directory / "bin", directory / "units"
    programs.mkdir()
    for program in (*commands(), "huey_consumer"):
        (programs / program).touch(0o755)
    for path in PATHS:
        text = path.read_text("utf-8").replace(INSTALLED, str(programs))
        if old and path.suffix == ".conf":
            text = text.replace(old, old.removesuffix("=") + new)
        copy = units / path.relative_to(UNITS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
    ended = subprocess.run(
        [
            *("systemd-analyze", "verify", "--man=no", "--recursive-errors=no"),
            str(units / name.replace("@.", "@1.")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    # What other units of this machine lack is not flood's.
    return "".join(line for line in ended.stderr.splitlines(True) if "flood" in line)


def test_each_unit_is_documented() -> None:
    named = set(quoted(page("docs/deployment.md")))
    assert {path.name for path in PATHS if path.suffix != ".conf"} <= named


# --- the image -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image() -> DockerfileParser:
    return DockerfileParser(fileobj=BytesIO((ROOT / "Containerfile").read_bytes()))


def instructions(image: DockerfileParser, name: str) -> list[str]:
    return [each["value"] for each in image.structure if each["instruction"] == name]


def test_all_that_is_copied_into_the_image_is_there(image: DockerfileParser) -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = [
        source
        for line in instructions(image, "COPY")
        if not line.startswith("--from=")
        for source in line.split()[:-1]
    ]
    assert len(copied) == 6
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source


def test_the_image_has_what_the_program_is_made_of(image: DockerfileParser) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    packages = {name.partition(".")[0] for name in setup["options"]["packages"].split()}
    modules = {f"{name}.py" for name in setup["options"]["py_modules"].split()}
    copied = {word for line in instructions(image, "COPY") for word in line.split()}
    assert packages | modules <= copied


def test_the_image_sets_nothing_that_is_unknown(image: DockerfileParser) -> None:
    (line,) = instructions(image, "ENV")
    names = {word.partition("=")[0] for word in line.split()} - {"PATH"}
    assert names == {
        OPTIONS[name].variable
        for name in ("server_directory", "database", "credentials", "credentials_first")
    } | {OPTIONS["consumers"].variable}
    (volume,) = instructions(image, "VOLUME")
    assert line.count(f"={volume}/") == 2  # spool and database


def test_the_image_runs_as_somebody_else_than_root(image: DockerfileParser) -> None:
    assert instructions(image, "USER") == ["flood"]
    assert instructions(image, "STOPSIGNAL") == ["SIGTERM"]
    assert instructions(image, "CMD") == ['["flood-watch"]']


def test_the_image_is_built_in_a_format_that_has_health_checks() -> None:
    told = [(ROOT / "Containerfile").read_text("utf-8"), page("docs/deployment.md")]
    built = [line for text in told for line in text.splitlines() if "podman build " in line]
    assert len(built) == 2
    assert all("podman build --format docker -t flood ." in line for line in built)


def test_the_user_of_the_image_has_a_number_for_users(image: DockerfileParser) -> None:
    """useradd warns of a system's user above 999."""
    (line,) = (each for each in instructions(image, "RUN") if each.startswith("useradd"))
    words = shlex.split(line.partition("&&")[0])
    assert int(words[words.index("--uid") + 1]) > 999
    assert "--system" not in words


def test_the_health_check_is_a_command_of_flood(image: DockerfileParser) -> None:
    (line,) = instructions(image, "HEALTHCHECK")
    words = shlex.split(line.partition(" CMD ")[2].partition("||")[0])
    assert words[:2] == ["flood-status", "--check"]
    assert {word for word in words if word.startswith("-")} <= flags_of("flood-status")


@pytest.mark.parametrize(("database", "status"), [("there", 0), ("gone", 1)])
def test_the_health_check_knows_two_answers(
    database: str, status: int, image: DockerfileParser, tmp_path: Path
) -> None:
    (line,) = instructions(image, "HEALTHCHECK")
    bin_ = Path(sys.executable).parent
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FLOOD_")},
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "FLOOD_SERVER_DIRECTORY": str(tmp_path / "spool"),
        "FLOOD_DATABASE": str(tmp_path / "flood.db"),
    }
    if database == "there":
        subprocess.run(
            [bin_ / "flood-init", tmp_path], env=environ, check=True, capture_output=True
        )
    ended = subprocess.run(
        ["sh", "-c", line.partition(" CMD ")[2]],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (status, "")
    assert ended.stdout.startswith("FLOOD ")


# --- man pages and completions -------------------------------------------------------------------


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What scripts/manuals writes."""
    directory = tmp_path_factory.mktemp("share") / "new"
    ended = subprocess.run(
        [sys.executable, ROOT / "scripts" / "manuals.py", directory],
        check=True,
        capture_output=True,
        text=True,
    )
    assert ended.stdout.startswith(f"{len(commands())} man pages")
    return directory


@pytest.mark.parametrize("command", commands())
def test_a_man_page_has_each_option(command: str, share: Path) -> None:
    text = (share / manuals.PAGES.format(command)).read_text("utf-8").replace("\\-", "-")
    assert f"\n{command} - " in text
    assert set(re.findall(r"\\fB(-[-a-z]+)\\fR", text)) == flags_of(command) - {"-h", "--help"}
    assert "Exit status" in text


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not here")
def test_groff_understands_the_man_pages(share: Path) -> None:
    pages = [share / manuals.PAGES.format(command) for command in commands()]
    ended = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Kutf8", *pages],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line for line in ended.stderr.splitlines() if "cannot break" not in line] == []


@pytest.mark.parametrize("command", commands())
def test_completions_have_each_option(command: str, share: Path) -> None:
    for path in manuals.COMPLETIONS.values():
        text = (share / path.format(command)).read_text("utf-8")
        for flag in flags_of(command):
            # fish has its names without the dashes.
            name = re.escape(flag.lstrip("-"))
            assert re.search(rf"(?<!\w)(?<!\w-){name}(?![\w-])", text), (path, flag)


@pytest.mark.parametrize("shell", manuals.COMPLETIONS)
def test_a_shell_understands_its_completions(shell: str, share: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    for command in commands():
        path = share / manuals.COMPLETIONS[shell].format(command)
        subprocess.run([shell, "-n", path], check=True)


COMPLETE = """
. "$1"
COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2))
"$(complete -p "$2" | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("flood-put --log-l", {"--log-level"}),
        ("flood-put --log-level w", {"warning"}),
        ("flood-watch --on", {"--once"}),
        ("flood-watch --transfer ", {"curl", "boto3"}),
        ("flood-status --format p", {"prometheus"}),
        ("flood-drain --config se", {"settings.conf"}),
        ("flood-init sp", {"spool"}),
        ("flood-put pho", {"photo.jpg"}),
        ("flood-put photo.jpg s", {"settings.conf", "spool"}),
    ],
)
def test_bash_completes(line: str, words: set[str], share: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.conf").touch()
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "spool").mkdir()
    given = line.split(" ")
    script = share / manuals.COMPLETIONS["bash"].format(given[0])
    ended = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", script, *given],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(ended.stdout.split()) == words


# Each line is completed where somebody would type it; commands then show what they were given.
COMPLETE_ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
press() { zpty -n -w shell "$1"; zpty -r shell shown "*<<*>>*"; }
press "PS1= RPS1=; unsetopt zle_bracketed_paste; fpath=(${(q)1} \$fpath)"$'\n'"
autoload -Uz compinit; compinit -u -D; for each in flood-{init,put,watch}; do
functions[\$each]='print -r -- \"<\"\"<\${(j:|:)@}>>\"'; done; flood-init ready"$'\n'
for line in "${@:2}"; do
    press "$line"$'\t\n'
    print -r -- "${${shown##*<<}%%>>*}"
done
zpty -d shell
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not here")
def test_zsh_completes(share: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "tree/sub").mkdir(parents=True)
    lines = {
        "flood-put pho": "photo.jpg",
        "flood-put photo.jpg tr": "photo.jpg|tree",
        "flood-put -r tree tree/s": "-r|tree|tree/sub",
        "flood-put photo.jpg tree ph": "photo.jpg|tree|photo.jpg",
        "flood-put photo.jpg --wa": "photo.jpg|--wait",
        "flood-put --log-level w": "--log-level|warning",
        "flood-init t": "tree",
        "flood-init tree p": "tree|p",
        "flood-watch --transfer b": "--transfer|boto3",
    }
    functions = (share / manuals.COMPLETIONS["zsh"]).parent
    ended = subprocess.run(
        ["zsh", "-f", "-c", COMPLETE_ZSH, "zsh", functions, *lines],
        cwd=tmp_path,
        env={**os.environ, "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert dict(zip(lines, ended.stdout.splitlines(), strict=True)) == lines


def test_where_nothing_may_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = subprocess.run(
        [sys.executable, ROOT / "scripts/manuals.py", tmp_path / "file"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "Not a directory" in ended.stderr


def test_the_settings_of_the_image_are_documented() -> None:
    text = section(page("docs/deployment.md"), "In a container")
    for name in ("FLOOD_CREDENTIALS", "FLOOD_CONSUMERS"):
        assert name in text
