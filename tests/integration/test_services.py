"""Services that apprise knows, on this machine; nothing of their URLs gets anywhere."""

import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from flood import check_notify, digest_text, installing, messenger, services, users
from flood.check_findings import ERROR, OK, Finding
from flood.config import Settings
from flood.digest import TEST, TROUBLE, WELL, Digest
from flood.errors import ConfigError
from flood.messenger import Answer
from flood.notify_lock import NotifyLock
from flood.spool import Spool
from flood.stop import Stop
from tests.spooling import START, house, in_child

#: Of modules that apprise imports.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SECRET = "s3cr3t-t0ken-in-the-path"


@dataclass
class Service:
    """A service of somebody's; `status` is what it answers, None that it does not."""

    port: int
    status: int | None = 200
    heard: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"json://user:{SECRET}@127.0.0.1:{self.port}/{SECRET}/hook?+X-Key={SECRET}"


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as found:
        yield found


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Service]:
    """A service at this machine, over TLS if `tls` has a certificate for it."""
    found = Service(0)
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if found.status is None:
                over.wait(60.0)
                return
            found.heard.append(json.loads(body))
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def urls(directory: Path, *lines: str, mode: int = 0o600) -> str:
    path = directory / "urls"
    path.touch(0o600)
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(mode)
    return str(path)


def tell(path: str, kind: str = TROUBLE, patience: float = 60.0) -> Answer:
    """Have the services of this file told, as flood-notify does."""
    message = digest_text.as_json(Digest(kind, START, "web1", "/srv", "/srv/flood.db")).encode()
    stop = Stop()
    try:
        return messenger.send(
            services.command(path), message, stop=stop, clock=time.monotonic, patience=patience
        )
    finally:
        stop.close()


def test_a_service_gets_title_and_text(service: Service, tmp_path: Path) -> None:
    path = urls(tmp_path, "# ours", "", service.url)
    assert tell(path, WELL) == Answer(True, "")
    [heard] = service.heard
    assert heard["title"] == "flood on web1: all is well again"
    assert "flood-status --server-directory /srv" in heard["message"]
    assert heard["type"] == "success"


def test_no_part_of_a_url_is_shown(service: Service, tmp_path: Path) -> None:
    service.status = 500
    answer = tell(urls(tmp_path, service.url))
    assert not answer.told
    assert "JSON" in answer.words
    assert "500" in answer.words
    assert SECRET not in answer.words


def test_a_certificate_that_is_not_verified_is_told_without_its_host(
    authority: trustme.CA, tmp_path: Path
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.test").configure_cert(tls)
    with serving(tls) as service:
        url = service.url.replace("json://", "jsons://")
        refused = tell(urls(tmp_path, url))
        took = tell(urls(tmp_path, f"{url}&verify=no"))
    assert not refused.told
    for part in ("127.0.0.1", str(service.port), SECRET):
        assert part not in refused.words
    words = "the certificate of a service is not verified, as its URL has verify=no"
    assert took == Answer(True, words)
    assert len(service.heard) == 1


def test_whatever_else_a_library_says_is_kept_back() -> None:
    code = (
        "import logging, warnings\nfrom flood import services\nservices.hear_all()\n"
        f"logging.getLogger('urllib3.connectionpool').warning('%s', {SECRET!r})\n"
        f"warnings.warn({SECRET!r}, UserWarning)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(("kind", "told"), [(TROUBLE, True), (TEST, False)])
def test_one_of_several_services_suffices_but_for_a_test(
    service: Service, tmp_path: Path, kind: str, told: bool
) -> None:
    nobody = f"xml://127.0.0.1:1/{SECRET}"
    answer = tell(urls(tmp_path, nobody, service.url), kind)
    assert answer.told == told
    assert len(service.heard) == 1
    assert answer.words.endswith("\nnot taken by XML; taken by JSON")
    assert SECRET not in answer.words


def test_of_a_test_that_some_got_nobody_is_told_that_none_did(
    service: Service, tmp_path: Path
) -> None:
    path = urls(tmp_path, "xml://127.0.0.1:1/", service.url)
    spool = ("--server-directory", tmp_path / "spool")
    command = (sys.executable, "-m", "flood.commands.notify", "--test", "--notify-urls", path)
    done = subprocess.run([*command, *spool], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("flood-notify: notify-urls: the test failed: it ended with")
    assert done.stderr.endswith("\nflood-notify: not taken by XML; taken by JSON\n")
    assert len(service.heard) == 1


def test_a_service_that_does_not_answer_is_given_up(service: Service, tmp_path: Path) -> None:
    service.status = None
    answer = tell(urls(tmp_path, f"{service.url}&rto=100"), patience=5.0)
    assert answer == Answer(False, "it took over 5 seconds")


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_file_that_others_may_read_is_refused(
    service: Service, tmp_path: Path, mode: int
) -> None:
    answer = tell(urls(tmp_path, service.url, mode=mode))
    assert not answer.told
    assert "run chmod 600" in answer.words
    assert service.heard == []


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            ["json://127.0.0.1/a", f"nothing://{SECRET}/x", f"slack://{SECRET}"],
            ["line 2", "line 3"],
        ),
        ([SECRET], ["line 1"]),
        (["# nothing"], ["has no URL in it"]),
    ],
)
def test_a_wrong_line_is_told_without_its_secret(
    tmp_path: Path, lines: list[str], words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError) as refused:
        services.load(urls(tmp_path, *lines))
    assert all(word in str(refused.value) for word in words)
    assert SECRET not in str(refused.value) + caplog.text


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, words in (("none", "No such file"), (".", "no regular file"), ("pipe", "no regular")):
        with pytest.raises(ConfigError, match=words):
            services.load(str(tmp_path / name))


def settings(directory: Path, **changes: Any) -> Settings:
    with house(directory) as made:
        return made.settings(origins={}, **changes)


def check(directory: Path, urls: str) -> list[Finding]:
    """What flood-check says of a command that is not there, and this file."""
    wrong = settings(directory, notify_command="/nowhere/tell --x", notify_urls=urls)
    return list(check_notify.look(Spool(wrong.server_directory), wrong))


def test_flood_check_looks_at_the_ways_to_tell(service: Service, tmp_path: Path) -> None:
    path = urls(tmp_path, service.url)
    good = settings(tmp_path, notify_command="sh -c 'exit 0'", notify_urls=path)
    spool = Spool(good.server_directory)
    lock = NotifyLock(spool, good)
    lock.hold()
    found = list(check_notify.look(spool, good))
    lock.release()
    assert [each.status for each in found] == [OK, OK, OK]
    assert f"JSON, with apprise {services.version()}" in found[1].found
    assert SECRET not in str(found)
    assert service.heard == []


def test_flood_check_says_what_is_wrong(tmp_path: Path) -> None:
    path = urls(tmp_path, "json://127.0.0.1/", mode=0o644)
    command, file, runs = check(tmp_path, path)
    assert (command.status, file.status) == (ERROR, ERROR)
    assert "/nowhere/tell" in command.found
    assert file.remedy == f"chmod 600 {path}"
    assert "flood-notify" in runs.remedy
    unset = settings(tmp_path)
    assert list(check_notify.look(Spool(unset.server_directory), unset)) == []


def test_flood_check_says_what_installs_apprise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)  # as Python has what it cannot import
    [_, found, _] = check(tmp_path, urls(tmp_path, "json://127.0.0.1/"))
    assert found.found == "notify-urls needs apprise, which is not installed"
    assert found.remedy == installing.command(installing.package("apprise"))


#: The number of a user that has no rights here; his name is one thing or another.
OTHER = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_that_belongs_to_another_user_is_refused(tmp_path: Path) -> None:
    path = urls(tmp_path, "json://127.0.0.1/")
    os.chown(path, OTHER, -1)
    with pytest.raises(ConfigError) as refused:
        services.load(path)
    assert f"belongs to {users.name(OTHER)}" in str(refused.value)
    assert str(refused.value).endswith(f": run sudo chown {users.mine()} {path}")
    [_, found, _] = check(tmp_path, path)
    assert found.remedy == f"sudo chown {users.mine()} {path}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_of_roots_that_nobody_else_can_read(tmp_path: Path) -> None:
    urls(tmp_path, "json://127.0.0.1/")

    def as_another_user() -> None:
        directory = os.open(tmp_path, os.O_RDONLY)
        os.setuid(OTHER)
        os.chdir(directory)  # pytest's own directories above are closed to others
        with pytest.raises(ConfigError) as refused:
            services.load("urls")
        assert str(refused.value) == (
            "cannot read urls: Permission denied, as it belongs to root: "
            "run this as that user, or name a file of your own"
        )
        [found] = check_notify._urls("urls", None)
        assert found.remedy == "run this as that user, or name a file of your own"

    tmp_path.chmod(0o755)
    assert in_child(as_another_user) == 0


def test_a_file_that_only_its_owner_may_read_is_taken(service: Service, tmp_path: Path) -> None:
    assert tell(urls(tmp_path, service.url, mode=0o400), WELL).told
