"""Log lines: one for each event, its facts as keys with values, in text or in JSON."""

import json
import logging
import math
import re
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from select import PIPE_BUF
from typing import Any, Final, TextIO

from flood.text import printable

__all__ = [
    "JsonFormatter",
    "TextFormatter",
    "configure",
    "event",
    "fatal",
    "printable",
    "together",
]

#: The loggers whose records are flood's own.
OWN: Final = ("flood", "workers", "huey_config")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+,~*!?()\[\]{}-]+")
_SPECIAL: Final = re.compile(r'[\s"=\\]')


def event(logger: logging.Logger, level: int, name: str, /, **facts: object) -> None:
    """Log that `name` happened, with its facts in the order in which they are given.

    The same keys mean the same everywhere: record (id), profile, bucket, key, from_ and to (states;
    `from` in the output, as every trailing underscore is dropped), size (bytes), seconds, attempt
    (0 is the first), error (code), reason (words), path, worker. A fact that is None is left out.
    An exception as `exc_info` adds its traceback. The keys time, level, logger, event and
    traceback are the line's own.
    """
    if not logger.isEnabledFor(level):
        return
    error: Any = facts.pop("exc_info", None)
    info = (type(error), error, error.__traceback__) if error else None
    # Not logger.log, which looks through the stack for a line number that nobody prints.
    record = logger.makeRecord(logger.name, level, "", 0, name, (), info)
    record.facts = facts
    logger.handle(record)


def fatal(program: str, text: str) -> None:
    """Say on stderr why the program ends, each line of `text` for itself: `program: line`, or where
    the log is JSON an event "fatal" with the line as its reason."""
    form = any(isinstance(entry.formatter, JsonFormatter) for entry in logging.getLogger().handlers)
    for line in text.splitlines():
        if form:
            event(logging.getLogger(f"flood.{program}"), logging.ERROR, "fatal", reason=line)
        else:
            print(f"{program}: {printable(line)}", file=sys.stderr)  # noqa: T201  may be all there is


def configure(
    level: str, form: str, stream: TextIO | None = None, *, without: Collection[str] = ()
) -> None:
    """Send every logger's records to `stream` (stderr by default), formatted as `form` says.

    `level` is debug, info, warning or error, for flood's own loggers; `form` is text or json. Of
    other libraries only warnings are shown, as botocore's debugging prints signatures; huey's own
    lines, two for each task, appear with level debug. The handler that huey_consumer gave to
    huey's logger goes. Events that `without` names are not shown, whatever their level. Calling it
    again replaces what it did before.
    """
    # Nobody prints what these would look up for each line ("Optimization" in Python's guide to
    # logging).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    for old in [entry for entry in root.handlers if isinstance(entry, _Stream)]:
        root.removeHandler(old)
    output = _Stream(sys.stderr if stream is None else stream)
    output.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    if without:
        output.addFilter(lambda record: record.msg not in without)
    root.addHandler(output)
    number = logging.getLevelName(level.upper())
    foreign = max(number, logging.WARNING)
    root.setLevel(foreign)
    for name in OWN:
        logging.getLogger(name).setLevel(number)
    # It prints a traceback for an answer that was cut off, of which flood tells by itself.
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)
    huey = logging.getLogger("huey")
    huey.setLevel(number if number < logging.INFO else foreign)
    huey.propagate = True
    for theirs in huey.handlers[:]:
        # Not a FileHandler, which somebody asked for with huey_consumer --logfile.
        if type(theirs) is logging.StreamHandler:
            huey.removeHandler(theirs)


@contextmanager
def together() -> Iterator[None]:
    """Inside, this thread's lines wait, to be written a few dozen at once."""
    if _thread.waiting is not None:
        yield
        return
    waiting = _thread.waiting = []
    try:
        yield
    finally:
        _thread.waiting = None
        for output, lines in groupby(waiting, itemgetter(0)):
            output.write_all([line for _, line in lines])


class _Thread(threading.local):
    """Lines that a thread has yet to write, each with its handler; None where none waits."""

    waiting: "list[tuple[_Stream, str]] | None" = None


_thread: Final = _Thread()


class _Stream(logging.StreamHandler):  # type: ignore[type-arg]  # generic since Python 3.11
    """A class of its own, so that `configure` knows what it set up before."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}\n"
            if _thread.waiting is not None:
                _thread.waiting.append((self, line))
                return
            self._write(line)
        except Exception:  # noqa: BLE001  as every handler of logging's: the program goes on
            self.handleError(record)

    def write_all(self, lines: Sequence[str]) -> None:
        """Write lines that have waited."""
        block: list[str] = []
        size = 0
        for line in lines:
            # Beyond that a pipe, which all processes of flood-watch share, might cut a line in two
            # (pipe(7), PIPE_BUF).
            length = len(line) if line.isascii() else len(line.encode("utf-8", "backslashreplace"))
            if block and size + length > PIPE_BUF:
                self._write_quietly("".join(block))
                block, size = [], 0
            block.append(line)
            size += length
        if block:
            self._write_quietly("".join(block))

    def _write_quietly(self, text: str) -> None:
        with suppress(Exception):  # as in emit
            self._write(text)

    def _write(self, text: str) -> None:
        self.acquire()
        try:
            self.stream.write(text)
            self.stream.flush()
        finally:
            self.release()


class TextFormatter(logging.Formatter):
    """`2026-11-22T16:02:26.123Z INFO flood.intake admitted record=12 key="x y"`, times in UTC.

    Values with blanks, quotes, backslashes, `=`, or anything that does not print stand in quotes
    with backslash escapes, so that no file's name can forge a line, a fact or a terminal sequence.
    A traceback follows in lines that begin with `    | `.
    """

    def format(self, record: logging.LogRecord) -> str:
        parts = [
            _time(record.created),
            record.levelname,
            _word(record.name),
            _word(record.getMessage()),
        ]
        parts += [f"{key}={_text(value)}" for key, value in _facts(record)]
        line = " ".join(parts)
        trace = _traceback(self, record)
        if trace:
            line = "\n    | ".join([line, *map(printable, trace.split("\n"))])
        return line


class JsonFormatter(logging.Formatter):
    """One ASCII object on each line: time, level, logger, event, then the facts."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        facts = {key: _json(value) for key, value in _facts(record)}
        trace = _traceback(self, record)
        if trace:
            facts["traceback"] = trace
        # Given twice: the first for the order, the last because a fact must not replace them.
        # ensure_ascii leaves DEL alone, which some terminals act on.
        return json.dumps({**line, **facts, **line}).replace("\x7f", "\\u007f")


def _facts(record: logging.LogRecord) -> list[tuple[str, object]]:
    facts: Mapping[str, object] = getattr(record, "facts", {})
    return [(key.rstrip("_"), value) for key, value in facts.items() if value is not None]


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[1]:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _time(seconds: float) -> str:
    whole, thousandth = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{thousandth:03d}Z"


@lru_cache(maxsize=4)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def _json(value: object) -> object:
    if isinstance(value, str):
        if value.isascii():
            return value
        # Names that are no UTF-8 as the tables have them: lone surrogates are no Unicode.
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        # JSON has no NaN nor infinity.
        return round(value, 6) if math.isfinite(value) else str(value)
    return _plain(value)


def _plain(value: object) -> str:
    """Return any value as text that is not yet escaped."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        # A naive time is UTC, as everywhere in flood.
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return aware.astimezone(timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z"
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value)


def _text(value: object) -> str:
    if type(value) is str:
        return _word(value)
    return str(value) if type(value) is int else _word(_plain(value))


# Most of them come again with the next line: loggers, events, states, profiles, buckets.
@lru_cache(maxsize=256)
def _word(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    if text and text.isprintable() and not _SPECIAL.search(text):
        return text  # such as accented letters
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'
