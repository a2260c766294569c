"""flood-notify beside flood's real processes, as cron or flood-watch runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flood import installing
from tests.acceptance.harness import CHECKOUT, Flood, MakeFlood, check_promises, credentials
from tests.servers import S3Server

NOTIFY = ("-m", "flood.commands.notify")

#: A command that notes what it was told, after what a test wants it to do first.
TELL = """\
#!/bin/sh
{first}
cat >> {heard}
echo '---' >> {heard}
"""


def listener(flood: Flood, first: str = "") -> tuple[Path, Path]:
    """A command, and the file in which it notes what it was told."""
    heard, command = flood.directory / "heard", flood.directory / "tell me"
    heard.touch()
    command.write_text(TELL.format(first=first, heard=heard))
    command.chmod(0o755)
    flood.environ["FLOOD_NOTIFY_COMMAND"] = f"'{command}'"
    flood.environ["FLOOD_NOTIFY_INTERVAL"] = "1s"
    return command, heard


def told(heard: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in heard.read_text().split("---\n") if text]


def fail(flood: Flood, *keys: str, bucket: str = "nowhere") -> None:
    """Have files fail, as cron's runs do."""
    for key in keys:
        flood.drop(bucket, key, b"data")
    assert flood.run("-m", "flood.commands.watch", "--once").returncode == 0

    def failed() -> bool:
        flood.run("-m", "flood.commands.drain")
        return flood.count(current_state="failed") == len(keys)

    flood.wait_for(failed, "files that fail")


def notify_until_told(flood: Flood, heard: Path, count: int) -> None:
    """Run it again and again, as cron does."""

    def look() -> bool:
        ended = flood.run(*NOTIFY)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        return len(told(heard)) >= count

    flood.wait_for(look, f"{count} digests")


def test_without_daemons(flood: Flood, server: S3Server, bucket: str) -> None:
    missing = f"{bucket}-later"
    _, heard = listener(flood)
    ended = flood.run(*NOTIFY)
    assert ended.returncode == 2
    assert "is no spool yet" in ended.stderr
    fail(flood, "a\nb", "c", bucket=missing)
    shown = flood.run(*NOTIFY, "--dry-run")
    assert "2 files failed" in shown.stdout
    assert "a\\nb, record" in shown.stdout
    assert json.loads(flood.run(*NOTIFY, "--dry-run", "--json").stdout)["kind"] == "trouble"
    notify_until_told(flood, heard, 1)
    server.make_bucket(missing)
    assert flood.run("-m", "flood.commands.retry", "--all").returncode == 0
    assert flood.run("-m", "flood.commands.drain").returncode == 0
    notify_until_told(flood, heard, 2)
    first, second = told(heard)
    assert (first["kind"], second["kind"]) == ("trouble", "well")
    assert {one["key"] for one in first["failed"]["causes"][0]["named"]} == {"a\nb", "c"}
    assert flood.run(*NOTIFY, environ={"FLOOD_NOTIFY_INTERVAL": "1h"}).returncode == 0
    assert len(told(heard)) == 2


def test_runs_that_overlap_tell_once(flood: Flood) -> None:
    _, heard = listener(flood, first="sleep 1")
    fail(flood, "a")
    flood.wait_for(
        lambda: "nothing" not in flood.run(*NOTIFY, "--dry-run").stderr, "something to tell"
    )
    flood.environ["FLOOD_NOTIFY_INTERVAL"] = "1h"
    flood.query("SELECT 1")
    flood.tamper("UPDATE file_records SET completed_at = '2026-01-01T00:00:00.000000Z'")
    runs = [flood.start(f"notify{number}", *NOTIFY) for number in range(4)]
    assert [run.wait() for run in runs] == [0, 0, 0, 0]
    assert len(told(heard)) == 1
    assert flood.run(*NOTIFY).returncode == 0
    assert len(told(heard)) == 1


def test_a_command_that_fails_then_does_not(flood: Flood) -> None:
    broken = flood.directory / "broken"
    broken.touch()
    _, heard = listener(flood, first=f"[ ! -e {broken} ] || {{ echo no way >&2; exit 7; }}")
    fail(flood, "a")
    flood.tamper("UPDATE file_records SET completed_at = '2026-01-01T00:00:00.000000Z'")
    ended = flood.run(*NOTIFY)
    assert ended.returncode == 1
    assert "it ended with status 7: no way" in ended.stderr
    assert told(heard) == []
    broken.unlink()
    notify_until_told(flood, heard, 1)


def test_delivery_goes_on_while_a_command_hangs(
    flood: Flood, server: S3Server, bucket: str
) -> None:
    listener(flood, first="echo $$ > pid; exec sleep 1000")
    watch = flood.start_watch("--consumers", "1")
    flood.drop("nowhere", "bad", b"data")
    pid = flood.directory / "pid"
    flood.wait_for(lambda: pid.exists() and pid.read_text(), "a command that hangs")
    for number in range(20):
        flood.drop(bucket, f"good{number}", os.urandom(100))
    flood.wait_delivered()
    assert Path(f"/proc/{pid.read_text().strip()}").exists()
    check_promises(flood, server, failed=["bad"])
    watch.signal(15)
    assert watch.wait() == 0
    flood.wait_for(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(), "its end")
    assert flood.row(filepath="bad")["told_at"] is None


def test_flood_watch_tells(flood: Flood) -> None:
    _, heard = listener(flood)
    watch = flood.start_watch("--consumers", "1")
    flood.drop("nowhere", "bad", b"data")
    flood.wait_for(lambda: told(heard), "a digest")
    flood.wait_for(lambda: watch.events("told"), "a line in the log")
    [digest] = told(heard)
    assert digest["server_directory"] == str(flood.spool)
    assert f"--server-directory {flood.spool}" in digest["text"]
    assert watch.events("cannot tell") == []
    assert check(flood)["status"] == "ok"
    flood.environ["FLOOD_NOTIFY_INTERVAL"] = "2s"
    assert "other notify settings" in check(flood)["found"]
    watch.end()
    assert "is not running" in check(flood)["found"]


def check(flood: Flood) -> dict[str, Any]:
    """What flood-check says of flood-notify."""
    told = json.loads(flood.run("-m", "flood.commands.check", "--json").stdout)
    [finding] = [each for each in told["findings"] if each["about"] == "flood-notify"]
    return dict(finding)


def test_a_test_needs_no_spool(flood: Flood) -> None:
    _, heard = listener(flood)
    ended = flood.run(*NOTIFY, "--test")
    assert (ended.returncode, ended.stdout) == (0, "notify-command: a test was told\n")
    assert [one["kind"] for one in told(heard)] == ["test"]
    ended = flood.run(*NOTIFY, "--test", "--notify-command", "false")
    assert ended.returncode == 1
    assert "the test failed: it ended with status 1" in ended.stderr


def test_each_line_of_what_is_wrong_is_one(flood: Flood) -> None:
    urls = flood.directory / "urls"
    urls.touch(0o600)
    urls.write_text("nonsense\nnonsense too\n")
    ended = flood.run(*NOTIFY, "--test", "--notify-urls", str(urls))
    assert ended.returncode == 1
    first, second = ended.stderr.splitlines()
    assert first.startswith("flood-notify: notify-urls: the test failed: it ended with status")
    assert f"{urls}, line 1: " in first
    assert second.startswith(f"flood-notify: {urls}, line 2: ")
    command = "sh -c 'echo one >&2; echo two >&2'"
    ended = flood.run(*NOTIFY, "--test", "--notify-command", command)
    assert ended.stdout == "notify-command: a test was told; it said: one\ntwo\n"


def test_a_url_in_the_place_of_the_file_is_not_shown(flood: Flood) -> None:
    for given in ({"FLOOD_NOTIFY_URLS": "slack://hidden/hidden"}, {}):
        flags = [] if given else ["--notify-urls", "slack://hidden/hidden"]
        for name in ("notify", "watch", "check"):
            ended = flood.run("-m", f"flood.commands.{name}", *flags, environ=given)
            assert ended.returncode == 2
            assert "hidden" not in ended.stdout + ended.stderr
            assert "chmod 600" in ended.stderr


def test_without_apprise_it_says_how_to_install_it(make_flood: MakeFlood) -> None:
    flood = make_flood(credentials())
    hidden = flood.directory / "hidden"
    hidden.mkdir()
    (hidden / "apprise.py").write_text("raise ImportError\n")
    urls = flood.directory / "urls"
    urls.touch(0o600)
    urls.write_text("json://127.0.0.1/\n")
    ended = flood.run(
        *NOTIFY,
        "--test",
        environ={
            "FLOOD_NOTIFY_URLS": str(urls),
            "PYTHONPATH": f"{hidden}:{CHECKOUT}",
        },
    )
    assert ended.returncode == 1
    assert ended.stderr.endswith(f": run {installing.command(installing.package('apprise'))}\n")


@pytest.mark.parametrize("number", [2, 15])
def test_it_ends_at_once_and_leaves_nothing(flood: Flood, number: int) -> None:
    listener(flood, first="echo $$ > pid; exec sleep 1000")
    fail(flood, "a")
    flood.tamper("UPDATE file_records SET completed_at = '2026-01-01T00:00:00.000000Z'")
    run = flood.start("notify", *NOTIFY)
    pid = flood.directory / "pid"
    flood.wait_for(lambda: pid.exists() and pid.read_text(), "a command that hangs")
    run.signal(number)
    assert run.wait() == 130
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
    assert flood.row(filepath="a")["told_at"] is None


def test_what_it_imports_is_its_own(flood: Flood) -> None:
    """Not what lies in the current directory."""
    urls = flood.directory / "urls"
    urls.touch(0o600)
    urls.write_text("json://127.0.0.1:1/\n")
    (flood.directory / "json.py").write_text("raise SystemExit('taken')\n")
    code = "from flood import services; print(*services.command('urls'), sep='\\0', end='')"
    command = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    ended = subprocess.run(
        command,
        cwd=flood.directory,
        env=flood.environ,
        input="{}",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "taken" not in ended.stderr
