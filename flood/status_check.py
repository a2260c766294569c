"""Judges for a monitoring system whether a spool keeps up."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from humanize import naturaldelta

from flood.phrases import files, named
from flood.states import FAILED
from flood.status import WAITING, Status
from flood.text import printable

# As monitoring systems know them: nagios-plugins.org/doc/guidelines.html, "Plugin Return Codes".
OK: Final = 0
WARNING: Final = 1
CRITICAL: Final = 2
UNKNOWN: Final = 3

_WORDS: Final = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


@dataclass(frozen=True)
class Limit:
    """What may be at the most: above `warning`, if there is one, is a warning, above `critical` it
    is critical."""

    critical: float
    warning: float | None = None

    def judge(self, value: float) -> int:
        """Return the exit status for this value."""
        if value > self.critical:
            return CRITICAL
        return WARNING if self.warning is not None and value > self.warning else OK


@dataclass(frozen=True)
class Limits:
    """`age` is that of the oldest file that waits, in seconds; the others count files. None is no
    limit."""

    age: Limit | None
    failed: Limit | None
    waiting: Limit | None
    left_alone: Limit | None = None


def judge(status: Status, limits: Limits) -> tuple[int, str]:
    """The exit status, with one line that says why; figures for graphs stand behind a bar."""
    waiting, failed = status.total(WAITING), status.total((FAILED,))
    age = 0.0
    if waiting.oldest is not None:
        age = max(0.0, (status.at - waiting.oldest).total_seconds())
    measured = (
        (limits.failed, failed.files, f"{failed.files} failed"),
        (limits.age, age, f"oldest waits {naturaldelta(age)}"),
        (limits.waiting, waiting.files, f"{waiting.files} waiting"),
        (limits.left_alone, status.left_alone, f"{status.left_alone} left alone in incoming"),
    )
    results = [limit.judge(value) if limit else OK for limit, value, _ in measured]
    worst = max(results)
    wrong = [text for result, (*_, text) in zip(results, measured, strict=True) if result == worst]
    if worst == OK:
        wrong = [f"{waiting.files} waiting", f"{failed.files} failed"]
        wrong += [f"oldest waits {naturaldelta(age)}"] if waiting.oldest else []
    wrong += _also(status, waiting.files)
    # What was not counted may be beyond any limit that is not passed yet.
    if worst != CRITICAL and not status.whole:
        worst = UNKNOWN
    figures = _figures(limits, age, failed.files, waiting.files, status.left_alone)
    return worst, line(worst, "; ".join(wrong), figures)


def line(result: int, text: str, figures: str = "") -> str:
    """The line that a monitoring system shows."""
    # Whatever it says, the bar is where figures begin.
    said = printable(text).replace("|", "/")
    return f"FLOOD {_WORDS[result]} - {said}{f' | {figures}' if figures else ''}"


def _also(status: Status, waiting: int) -> list[str]:
    told = []
    if status.closed:
        told.append(f"cannot look into {named([one.path for one in status.closed])}")
    elif not status.whole:
        told.append("too many files to count them all in time")
    if status.ignored.files:
        told.append(f"{files(status.ignored.files)} in incoming ignored by name")
    if status.misplaced:
        told.append(f"outside of PROFILE/BUCKET/: {named(status.misplaced)}")
    if waiting and status.starting and not status.idle:
        told.append("consumers are at their start")
    elif waiting and not status.started:
        told.append("no consumer runs")
    if status.idle:
        told.append("all consumers are stopped")
    elif status.stalled:
        told.append("consumers run, but take nothing")
    if status.unserved:
        told.append(f"the credentials may lack {', '.join(status.unserved)}: flood-check looks")
    if status.watch_stopped is not None:
        told.append("flood-watch is stopped")
    elif waiting and not status.watching:
        told.append("flood-watch does not run")
    return told


def _figures(limits: Limits, age: float, failed: int, waiting: int, left_alone: int) -> str:
    return " ".join(
        f"{name}={value}{_bounds(limit)};0"
        for name, value, limit in (
            ("waiting", f"{waiting}", limits.waiting),
            ("failed", f"{failed}", limits.failed),
            ("oldest", f"{age:.0f}s", limits.age),
            ("left_alone", f"{left_alone}", limits.left_alone),
        )
        if limit or name != "left_alone"  # graphs keep the figures that they began with
    )


def _bounds(limit: Limit | None) -> str:
    if limit is None:
        return ";;"
    return f";{'' if limit.warning is None else _digits(limit.warning)};{_digits(limit.critical)}"


def _digits(value: float) -> str:
    # Who reads figures may know no exponents.
    return f"{value}" if isinstance(value, int) else f"{Decimal(repr(value)).normalize():f}"
