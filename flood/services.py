"""Hands a digest to services that apprise knows."""

import json
import logging
import os
import re
import stat
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from importlib import metadata
from queue import Empty, Queue
from shlex import quote
from typing import Any, Final
from urllib.parse import unquote

from flood import installing, users
from flood.digest import TEST, TROUBLE, WELL
from flood.errors import ConfigError
from flood.messenger import PATIENCE
from flood.states import EXIT_FAILED, EXIT_OK
from flood.text import printable

#: How long services have to answer, in seconds: less than the process that asks them.
_ANSWERS: Final = PATIENCE - 10.0

_SIZE_MAX: Final = 1024**2  # bytes; no file of URLs is larger

# apprise takes seconds to import, and talks over the network at a pace that nobody can bound from
# within: it has a process of its own, as any other command. Of the current directory, which Python
# puts first on the path, nothing is imported.
_CODE: Final = """\
import sys; sys.path[:] = filter(None, sys.path)
from flood.services import main; main(*sys.argv[1:])
"""

#: What urllib3 says of a certificate that it is not to verify, without the host that it names.
_UNVERIFIED: Final = "the certificate of a service is not verified, as its URL has verify=no"

#: Shorter parts of a URL are in many a word.
_PART: Final = 4


class Refused(ConfigError):
    """One thing is wrong with a file of URLs: what is `seen`, with a command, or advice, as the
    `remedy`."""

    def __init__(self, seen: str, *, command: str = "", advice: str = "") -> None:
        told = f"run {command}" if command else advice
        super().__init__(f"{seen}: {told}" if told else seen)
        self.seen = seen
        self.remedy = command or advice


def command(path: str, keeper: int | None = None) -> list[str]:
    """What sends the digest on its standard input to the services whose URLs are in this file,
    which may be `keeper`'s, as in `load`."""
    return [sys.executable, "-c", _CODE, path, *([] if keeper is None else [str(keeper)])]


def main(path: str, keeper: str | None = None) -> None:
    """Send it, then end the process: with status 0 if at least one service took it, or all if it is
    a test. What others said goes to stderr, without their secrets."""
    hear_all()
    user = None if keeper is None else int(keeper)
    try:
        services = load(path, user)
    except ConfigError as error:
        for line in str(error).splitlines():
            _say(line)
        raise SystemExit(error.exit_status) from None
    digest = json.load(sys.stdin)
    closed = closed_to(user, path)
    if closed is not None and digest["kind"] == TEST:
        _say(f"{closed}: run {giving(path, user)}")
    took = _deliver(services, digest["title"], digest["text"], digest["kind"])
    told = took == len(services) if digest["kind"] == TEST else took > 0
    sys.stderr.flush()
    # Not an exit that would wait for threads whose service does not answer.
    os._exit(EXIT_OK if told else EXIT_FAILED)


def hear_all() -> None:
    """Keep back what any library says in this process, by its log or as a warning of Python's,
    which names hosts and paths as apprise does."""
    logging.getLogger().handlers[:] = [_HEARD]
    warnings.showwarning = _warned


def load(path: str, keeper: int | None = None) -> "list[Service]":
    """The services whose URLs are in this file, one in a line. `keeper` is the id of the user that
    flood runs as, for root, who stands in for him.

    Raises ConfigError, which has no secret in it, if one is none, the file may be read by others
    or is neither this user's, nor root's, nor the keeper's, or apprise is not installed.
    """
    shown = printable(path)
    lines = _lines(path, shown, keeper)
    try:
        import apprise
    except ImportError:
        raise Refused(
            "notify-urls needs apprise, which is not installed",
            command=installing.command(installing.package("apprise")),
        ) from None
    _log().handlers[:] = [_HEARD]
    asset = apprise.AppriseAsset(app_id="flood", app_desc="flood", plugin_paths=[])
    services, problems = [], []
    for number, url in lines:
        plugin = apprise.Apprise.instantiate(url, asset=asset)
        if plugin is None:
            problems.append(
                f"{shown}, line {number}: apprise knows no such URL, or a part is missing"
            )
        else:
            services.append(Service(url, plugin, asset))
    _HEARD.take()
    if problems:
        raise ConfigError("\n".join(problems))
    if not services:
        raise ConfigError(
            f"{shown} has no URL in it: write one for each service, as apprise has it"
        )
    return services


def version() -> str:
    """apprise's own, as it is installed."""
    return metadata.version("apprise")


class Service:
    """One service, with its URL, which is a secret."""

    def __init__(self, url: str, plugin: Any, asset: Any) -> None:
        self.name = printable(str(plugin.service_name))
        self._url = url
        self._plugin = plugin
        self._asset = asset

    def notify(self, title: str, body: str, kind: str) -> bool:
        """Send a text; whether the service took it. Why it did not goes to apprise's log."""
        import apprise

        sender = apprise.Apprise(asset=self._asset)
        sender.add(self._plugin)
        kinds = {TROUBLE: apprise.NotifyType.FAILURE, WELL: apprise.NotifyType.SUCCESS}
        try:
            return bool(
                sender.notify(
                    body=body,
                    title=title,
                    notify_type=kinds.get(kind, apprise.NotifyType.INFO),
                    body_format=apprise.NotifyFormat.TEXT,
                )
            )
        except Exception as error:  # noqa: BLE001  of whatever kind, it is one service's
            _log().error("%s: %s: %s", self.name, type(error).__name__, error)
            return False

    def hide(self, text: str) -> str:
        """The text without any part of the URL, whatever that is."""
        rest = self._url.partition("://")[2]
        pieces = re.split(r"[/:@?&=,#]+", rest)
        for part in sorted({*pieces, *map(unquote, pieces)}, key=len, reverse=True):
            if len(part) >= _PART:
                text = text.replace(part, "...")
        return text


class _Heard(logging.Handler):
    """Keeps what apprise says, in whichever of its threads."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.hear(record.getMessage())

    def hear(self, words: str) -> None:
        """Keep these words, too."""
        self._words.append(words)

    def take(self) -> list[str]:
        """What was said since the last time."""
        words, self._words = self._words, []
        return words


_HEARD: Final = _Heard()


def _warned(
    message: Warning | str, category: type[Warning], *_where: object, **_which: object
) -> None:
    insecure = category.__name__ == "InsecureRequestWarning"
    _HEARD.hear(_UNVERIFIED if insecure else f"{category.__name__}: {message}")


def _log() -> logging.Logger:
    logger = logging.getLogger("apprise")
    logger.propagate = False  # it quotes URLs
    return logger


def _lines(path: str, shown: str, keeper: int | None) -> list[tuple[int, str]]:
    """The lines that are no comments, with their numbers."""
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, f"cannot read {shown}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{shown} is no regular file")
        # Root could read it anyway, and change it.
        if status.st_uid not in (os.geteuid(), 0, keeper):
            seen = f"{shown} belongs to {users.name(status.st_uid)}, who can read and change it"
            raise _anothers(path, f"{seen}, and URLs are secrets", keeper)
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Refused(
                f"{shown} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}), and "
                "URLs are secrets",
                command=f"chmod 600 {printable(quote(path))}",
            )
        data = os.read(descriptor, _SIZE_MAX + 1)
    finally:
        os.close(descriptor)
    if len(data) > _SIZE_MAX:
        raise ConfigError(f"{shown} is too large for a file of URLs")
    lines = enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1)
    stripped = ((number, line.strip()) for number, line in lines)
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]


def _unreadable(path: str, seen: str) -> Refused:
    try:
        number = os.stat(path).st_uid
    except OSError:
        return Refused(seen)
    if number == os.geteuid():
        return Refused(seen)
    return _anothers(path, f"{seen}, as it belongs to {users.name(number)}")


def _anothers(path: str, seen: str, keeper: int | None = None) -> Refused:
    if users.takes_over(path):
        return Refused(seen, command=giving(path, keeper))
    return Refused(seen, advice="run this as that user, or name a file of your own")


def closed_to(keeper: int | None, path: str) -> str | None:
    """That the file is not the keeper's, in words; None if it is, or there is none but root."""
    if not keeper or os.stat(path).st_uid == keeper:
        return None
    theirs, own = users.owner(path), users.name(keeper)
    return (
        f"{printable(path)} belongs to {theirs}, so that flood, which runs as {own}, cannot read it"
    )


def giving(path: str, keeper: int | None) -> str:
    """The command by which the keeper gets the file, or this user where there is none."""
    name = users.mine() if keeper is None else users.name(keeper)
    return f"sudo chown {name} {printable(quote(path))}"


def _deliver(services: "list[Service]", title: str, body: str, kind: str) -> int:
    """Ask all services at once; how many of them took it."""
    answers: Queue[tuple[int, bool]] = Queue()

    def ask(number: int, service: Service) -> None:
        answers.put((number, service.notify(title, body, kind)))

    for number, service in enumerate(services):
        threading.Thread(target=ask, args=(number, service), daemon=True).start()
    silent = dict(enumerate(services))
    took: list[str] = []
    refused: list[str] = []
    end = time.monotonic() + _ANSWERS
    while silent:
        try:
            number, taken = answers.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            break
        service = silent.pop(number)
        (took if taken else refused).append(service.name)
    for words in dict.fromkeys(_HEARD.take()):
        for service in services if words != _UNVERIFIED else []:
            words = service.hide(words)
        _say(words)
    # Those that took it are named where others did not; alone they say so by the exit status.
    others = f"; taken by {_names(took)}" if took else ""
    if silent:
        unanswered = _names(service.name for service in silent.values())
        _say(f"no answer within {_ANSWERS:.0f} seconds by {unanswered}{'' if refused else others}")
    if refused:
        _say(f"not taken by {_names(refused)}{others}")
    return len(took)


def _names(services: Iterable[str]) -> str:
    return ", ".join(sorted(services))


def _say(text: str) -> None:
    sys.stderr.write(f"{printable(text)}\n")
