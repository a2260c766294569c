"""When a file that failed is tried again."""

from collections.abc import Callable
from dataclasses import dataclass

from flood.states import LOST, PERMANENT, TRANSIENT


@dataclass(frozen=True)
class Retry:
    """Try again: the number of that retry, counted from 1, after `delay` seconds."""

    number: int
    delay: float


def delay(
    retry: int, initial: float, jitter: float, uniform: Callable[[float, float], float]
) -> float:
    """Return the seconds before retry number `retry`, counted from 1.

    They double from `initial` with each retry. `uniform(low, high)` is the source of chance, which
    adds up to the fraction `jitter` of them, so that files that failed together come back apart.
    Raises ValueError for a retry below 1.
    """
    if retry < 1:
        raise ValueError(f"retries are counted from 1, not {retry}")
    base = initial * 2.0 ** (retry - 1)
    return base + uniform(0.0, jitter * base)


def decide(
    kind: str,
    retry_after: float | None,
    retry_count: int,
    *,
    retry_max: int,
    initial: float,
    jitter: float,
    uniform: Callable[[float, float], float],
) -> Retry | None:
    """Return what follows a failed attempt, or None to give up.

    `kind` is TRANSIENT, PERMANENT or LOST, `retry_count` the retries already spent. A store's
    `retry_after` seconds come before the delay, so that others, which wait for no longer than that,
    have time to go first. Raises ValueError for another kind: an interrupted attempt costs no
    retry.
    """
    if kind == PERMANENT:
        return None
    if kind not in (TRANSIENT, LOST):
        raise ValueError(f"an attempt that ended as {kind!r} is no failure")
    if retry_count >= retry_max:
        return None
    number = retry_count + 1
    return Retry(number, (retry_after or 0.0) + delay(number, initial, jitter, uniform))
