"""The crontab of docs/cron.md, run by a cron daemon."""

import configparser
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.harness import CHECKOUT, Flood, Running
from tests.servers import S3Server

#: Seconds after the start at which each command is run in every minute; the daemon would end a run
#: that lasts until the next one of its kind.
SECONDS = {"flood-watch": (3,), "flood-retry": (22,), "flood-drain": (10, 35)}

#: What may be told, all of it about the one file that fails.
TOLD = re.compile(
    r"flood-drain: 1 file failed for s3://main/later: .* \(NoSuchBucket\)"
    r"|flood-drain:   bad, record \d+"
    r"|flood-drain: 1 file failed, \d+ files? uploaded \(.*\); once the causes are mended, .*"
    r"|1 file put back, 4 Bytes"
    r"|.*ERROR.* failed with exit code 1\."
)


@dataclass(frozen=True)
class Line:
    """A line of the documented crontab."""

    times: str
    command: str
    arguments: str


def documented() -> list[Line]:
    text = (CHECKOUT / "docs" / "cron.md").read_text("utf-8")
    found = re.findall(r"^    ((?:[\d*/,-]+ +){5})/opt/flood/bin/(\S+)(.*)$", text, re.MULTILINE)
    return [Line(*each) for each in found]


def console_scripts() -> dict[str, str]:
    """Each command with its function in flood.commands.start."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    pairs = (line.split("=") for line in lines if line.strip())
    return {name.strip(): target.strip().rpartition(":")[2] for name, target in pairs}


def install(directory: Path) -> None:
    """Make every command there, as pip does."""
    directory.mkdir()
    for name, function in console_scripts().items():
        script = directory / name
        script.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path[0] = {str(CHECKOUT)!r}\n"
            f"from flood.commands.start import {function}\nsys.exit({function}())\n"
        )
        script.chmod(0o755)


def crontab(directory: Path) -> str:
    """The documented lines, to be run soon, then every minute, by a daemon that knows seconds."""
    lines = []
    for line in documented():
        if line.command in console_scripts():
            now = int(time.time())
            seconds = ",".join(str((now + after) % 60) for after in SECONDS[line.command])
            lines.append(f"{seconds} * * * * * * {directory / line.command}{line.arguments}\n")
    return "".join(lines)


@pytest.fixture
def cron(flood: Flood) -> Iterator[Running]:
    """The daemon, with the environment that cron gives: all settings are in a file."""
    home = Path(flood.environ["HOME"])
    settings = home / ".config" / "flood" / "flood.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        f"server-directory = {flood.spool}\ndatabase = {flood.database}\n"
        f"credentials = {flood.credentials}\n"
    )
    install(flood.directory / "bin")
    table = flood.directory / "crontab"
    table.write_text(crontab(flood.directory / "bin"))
    daemon = Running(
        "cron",
        [sys.executable, "-m", "pytocron", "--log-level", "ERROR", str(table)],
        flood.directory / "cron.log",
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "NO_COLOR": "1"},
        cwd=home,
    )
    yield daemon
    daemon.end()
    for pid in runs(home):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def runs(home: Path) -> list[int]:
    """The processes that the daemon has started, each in a session of its own."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(f"HOME={home}") in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue  # gone by now
    return found


def test_the_crontab_is_three_lines() -> None:
    assert [line.command for line in documented()] == ["flood-watch", "flood-drain", "flood-retry"]


@pytest.mark.timeout(400)  # a slow machine may need the next minute, or the one after that
def test_cron_alone_delivers_everything(
    flood: Flood, server: S3Server, bucket: str, cron: Running
) -> None:
    for number in range(20):
        flood.drop(bucket, f"dir/überraschung {number}", b"%d" % number)
    flood.drop("later", "bad", b"data")
    told = "flood-drain: 1 file failed, "
    flood.wait_for(lambda: told in cron.output(), "what cron mails", 200)
    flood.wait_for(lambda: len(flood.files("completed")) == 20, "a run of each", 200)

    # The cause is mended; the third line does the rest.
    server.make_bucket("later")
    flood.wait_for(lambda: flood.files("failed") == [], "another try", 200)
    flood.wait_for(lambda: not flood.files("processing", "incoming"), "its end", 200)
    assert server.read("later", "bad") == b"data"
    assert len(server.keys(bucket)) == 20
    assert [line for line in cron.output().splitlines() if not TOLD.fullmatch(line)] == []
    assert cron.alive()
