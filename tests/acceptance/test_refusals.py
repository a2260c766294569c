"""Wrong credentials files: a message, exit status 2, nothing else."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.acceptance.harness import MakeFlood, without_roots_rights
from tests.servers import SECRET_ACCESS_KEY, credentials_section

GOOD = credentials_section("good", "http://127.0.0.1:9")
COMMANDS = {
    "flood-watch": ("-m", "flood.commands.watch"),
    "huey_consumer": ("-m", "huey.bin.huey_consumer", "flood.tasks.huey"),
    "flood-put": ("-m", "flood.commands.put", "credentials", "s3://good/bucket/key"),
}

#: What stands in the file, with all that the message has to name.
WRONG: dict[str, tuple[str, tuple[str, ...]]] = {
    "empty": ("", ("no profile",)),
    "only-comments": ("# [good]\n", ("no profile",)),
    "no-section": ("provider = s3\n", ("line 1",)),
    "garbage": ("\0\x01\x02 nothing of ours\n", ("line 1",)),
    "no-provider": (
        GOOD.replace("provider = s3\n", ""),
        ("good", "provider", "amazon", "cloudflare", "backblaze"),
    ),
    "unknown-provider": (GOOD.replace("= s3", "= azure"), ("good", "provider", "line 2")),
    "every-missing-key-of-every-profile": (
        f"{GOOD}[amazon]\nprovider = amazon\n\n"
        "[r2]\nprovider = cloudflare\nAWS_ACCESS_KEY_ID = a\n\n"
        "[b2]\nprovider = backblaze\nAWS_ENDPOINT =\nAWS_REGION = eu-central-003\n",
        (
            "profile amazon: missing: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION",
            "profile r2: missing: AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT",
            "profile b2: missing: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT",
        ),
    ),
    "endpoint-of-another-kind": (GOOD.replace("http:", "ftp:"), ("good", "AWS_ENDPOINT", "line 6")),
    "endpoint-with-path": (GOOD.replace(":9", ":9/bucket"), ("good", "AWS_ENDPOINT", "line 6")),
    "name-with-slash": (GOOD.replace("[good]", "[go/od]"), ("go/od", "directory")),
    "blank-in-secret": (
        GOOD.replace(SECRET_ACCESS_KEY, f"{SECRET_ACCESS_KEY} # mine"),
        ("good", "AWS_SECRET_ACCESS_KEY", "line 4"),
    ),
}


@pytest.fixture
def refused(make_flood: MakeFlood) -> Callable[..., str]:
    """Runs a command, which has to refuse without leaving a trace; returns what it says."""

    def refuse(
        text: str, command: str = "flood-watch", prefix: Sequence[str] = (), **environ: str
    ) -> str:
        flood = make_flood(text, prefix=prefix, log_level="warning", log_format="text")
        before = traces(flood.directory)
        ended = flood.run(*COMMANDS[command], environ=environ)
        assert ended.returncode == 2, ended
        assert ended.stdout == ""
        assert "Traceback" not in ended.stderr
        assert SECRET_ACCESS_KEY not in ended.stderr
        assert traces(flood.directory) == before
        return ended.stderr

    return refuse


def traces(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize("kind", WRONG)
def test_flood_watch_refuses(kind: str, refused: Callable[..., str]) -> None:
    text, named = WRONG[kind]
    message = refused(text)
    for words in named:
        assert words in message
    assert "/credentials: " in message


@pytest.mark.parametrize("command", ["huey_consumer", "flood-put"])
def test_the_other_commands_refuse_in_the_same_words(
    command: str, refused: Callable[..., str]
) -> None:
    text, named = WRONG["every-missing-key-of-every-profile"]
    message = refused(text, command)
    for words in named:
        assert f"{words}" in message
    assert all(line.startswith(f"{command}: ") for line in message.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_locale_that_is_not_utf_8(command: str, refused: Callable[..., str]) -> None:
    """Names would become other keys."""
    legacy = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert "set PYTHONUTF8=1" in refused(GOOD, command, **legacy)


def test_a_consumer_without_workers(make_flood: MakeFlood) -> None:
    ended = make_flood(GOOD).run(*COMMANDS["huey_consumer"], "-w", "0")
    assert ended.returncode == 2
    assert "give -w 1 or more" in ended.stderr


def test_no_file_at_all(refused: Callable[..., str]) -> None:
    message = refused(GOOD, FLOOD_CREDENTIALS="/nonexistent/credentials")
    assert "/nonexistent/credentials: No such file or directory" in message
    assert "home/.aws/credentials: No such file or directory" in message


def test_a_directory(refused: Callable[..., str]) -> None:
    assert "Is a directory" in refused(GOOD, FLOOD_CREDENTIALS="/")


def test_an_unreadable_file(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "unreadable"
    path.touch(mode=0o000)
    message = refused(GOOD, prefix=without_roots_rights(), FLOOD_CREDENTIALS=str(path))
    assert f"{path}: Permission denied" in message


def test_an_ordinary_aws_file_is_not_floods(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "aws"
    path.touch(mode=0o600)
    path.write_text(GOOD.replace("provider = s3\n", "").replace("[good]", "[default]"))
    message = refused("", AWS_SHARED_CREDENTIALS_FILE=str(path), FLOOD_CREDENTIALS="")
    assert f"{path}: profile default: missing: provider" in message


def test_an_ordinary_aws_file_with_a_wrong_argument(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "aws"
    path.touch(mode=0o600)
    path.write_text(GOOD.replace("provider = s3\n", "").replace("[good]", "[default]"))
    text, _ = WRONG["unknown-provider"]
    message = refused(text, AWS_SHARED_CREDENTIALS_FILE=str(path))
    assert f"{path}: is an ordinary AWS file" in message
    assert "profile good: provider" in message
