"""One run of flood-notify: looks, tells what is news."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from logging import ERROR, INFO, WARNING, getLogger
from typing import Final

from humanize import naturaldelta

from flood import digest, digest_records, digest_text, log, models, owners, services, status_view
from flood.config import Settings
from flood.digest import NOTHING, TROUBLE, Digest
from flood.digest_records import Memory
from flood.messenger import Answer
from flood.opening import opened
from flood.options import OPTIONS
from flood.phrases import files
from flood.spool import Spool

#: How soon another try comes where nobody could be told, in seconds, unless the interval is less.
RETRY: Final = 300.0

#: For how long files outside of the records are counted, in seconds.
_THOROUGH: Final = 5.0

#: Runs a command with a message on its standard input.
Send = Callable[[Sequence[str], bytes], Answer]

logger = getLogger(__name__)


@dataclass(frozen=True)
class Way:
    """One way to tell somebody: the setting that names it, the command that goes it."""

    name: str
    command: Sequence[str]


def ways(settings: Settings) -> list[Way]:
    """The ways that are set."""
    found = []
    if settings.notify_command is not None:
        found.append(Way(OPTIONS["notify_command"].key, shlex.split(settings.notify_command)))
    if settings.notify_urls is not None:
        keeper = owners.keeper(settings.server_directory, settings.database)
        command = services.command(settings.notify_urls, keeper)
        found.append(Way(OPTIONS["notify_urls"].key, command))
    return found


def look(
    spool: Spool,
    settings: Settings,
    known: Memory,
    *,
    now: Callable[[], datetime],
    clock: Callable[[], float],
    gather: float,
) -> Digest:
    """What the spool, to whose database the models are bound, has to tell; as `digest.look`."""
    found = status_view.look(
        spool, models.path(), settings.ignore, now=now, clock=clock, seconds=_THOROUGH
    )
    return digest.look(found, known, max_age=settings.notify_age, gather=gather)


@dataclass(frozen=True)
class Outcome:
    """What one run came to: the digest that was to be told, whether all ways have told it, in words
    why there was none."""

    found: Digest | None
    told: bool = True
    why: str = ""


class Notify:
    """Tells at most one digest in an interval, whoever else tries to. `now` answers aware times,
    `clock` monotonic seconds; `stopping` says whether this process is to end."""

    def __init__(
        self,
        settings: Settings,
        *,
        send: Send,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._interval = settings.notify_interval
        self._send = send
        self._now = now
        self._clock = clock
        self._stopping = stopping

    def run(self) -> Outcome:
        """Tell what is news.

        The database is open, and the spool locked, only before and after that: whoever is told may
        take his time. Raises what `opened` and the database raise.
        """
        taken = self._take()
        if isinstance(taken, Outcome):
            return taken
        found, token = taken
        answers = tell(ways(self._settings), found, self._send)
        self._settle(found, token, any(answer.told for answer in answers))
        return Outcome(found, all(answer.told for answer in answers))

    def _take(self) -> tuple[Digest, str] | Outcome:
        """What is news, with the right to tell it."""
        with self._opened() as spool:
            known = digest_records.memory()
            now = self._now()
            if known.after and not digest_records.may_tell(known, now, self._interval):
                return Outcome(
                    None, why=f"no digest may be told for {naturaldelta(known.after - now)}"
                )
            gather = min(digest.GATHER, self._interval)
            found = look(
                spool, self._settings, known, now=self._now, clock=self._clock, gather=gather
            )
            if found.kind == NOTHING:
                if known.age is not None and not found.late:
                    digest_records.no_longer_late()
                return Outcome(None, why=_nothing(found))
            token = digest_records.claim(known, found.at, self._interval)
            if token is None:
                return Outcome(None, why="another flood-notify is telling it")
            return found, token

    @contextmanager
    def _opened(self) -> Iterator[Spool]:
        try:
            with opened(self._settings, self._now()) as spool:
                yield spool
        finally:
            models.close()

    def _settle(self, found: Digest, token: str, told: bool) -> None:
        with self._opened():
            if not told:
                wait = 0.0 if self._stopping() else min(RETRY, self._interval)
                digest_records.give_back(token, self._now() + timedelta(seconds=wait))
                again = f"tried again by the first run after {naturaldelta(wait)}"
                log.event(logger, WARNING, "nobody was told", next=again)
                return
            goes_on = found.kind == TROUBLE
            digest_records.told(
                token,
                found.records,
                self._now(),
                after=found.at + timedelta(seconds=self._interval),
                trouble=found.trouble if goes_on else None,
                age=found.age if goes_on and found.late else None,
                oldest=found.oldest.name if goes_on and found.late and found.oldest else None,
            )


def _nothing(found: Digest) -> str:
    if not found.causes:
        return "nothing to tell"
    which = files(sum(cause.files for cause in found.causes))
    return f"{which} failed just now: a minute later that is told, with what follows"


def tell(given: Sequence[Way], found: Digest, send: Send) -> list[Answer]:
    """Tell the digest by all of these ways, and the log what came of it."""
    message = digest_text.as_json(found).encode()
    answers = []
    for way in given:
        answer = send(way.command, message)
        answers.append(answer)
        if answer.told:
            level = WARNING if answer.words else INFO
            log.event(
                logger,
                level,
                "told",
                by=way.name,
                title=digest_text.title(found),
                said=answer.line or None,
            )
        else:
            log.event(
                logger,
                ERROR,
                "cannot tell",
                by=way.name,
                title=digest_text.title(found),
                reason=answer.line,
            )
    return answers
