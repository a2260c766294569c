"""Reads durations or sizes that carry their unit."""

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final

# Spellings are compared in lower case. "M" is minutes, since nothing here lasts for months.
_SECONDS: Final[Mapping[str, Fraction]] = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "sec": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86_400),
}
# As GNU coreutils do: K and KiB are 1024, KB is 1000.
_BYTES: Final[Mapping[str, Fraction]] = {"b": Fraction(1)} | {
    letter + suffix: Fraction(base**power)
    for power, letter in enumerate("kmgt", 1)
    for suffix, base in (("", 1024), ("ib", 1024), ("b", 1000))
}
_NUMBER: Final = r"[0-9]{1,18}(?:\.[0-9]{1,30})?"
_PLAIN: Final = re.compile(_NUMBER)
_PART: Final = re.compile(rf"({_NUMBER})\s*([a-z]+)\s*", re.ASCII)


def duration(text: str) -> float:
    """Return the seconds in `text`: `30`, `0.2`, `30s`, `200ms`, `5m`, `1h30m`, `1d`.

    Raises ValueError, as for signs, exponents, NaN or a unit that is named twice.
    """
    text = text.strip().lower()
    if _PLAIN.fullmatch(text):
        return float(text)
    return float(_total(text, _SECONDS))


def size(text: str) -> int:
    """Return the bytes in `text`: `4096`, `16MiB`, `16M` (the same), `16MB` (decimal), `1.5GiB`.

    Raises ValueError, as for signs, exponents, NaN, several units or a fraction of a byte.
    """
    text = text.strip().lower()
    if _PLAIN.fullmatch(text):
        text += "b"
    if _PART.fullmatch(text) is None:
        raise ValueError(text)
    total = _total(text, _BYTES)
    if total.denominator != 1:
        raise ValueError(text)
    return total.numerator


def _total(text: str, units: Mapping[str, Fraction]) -> Fraction:
    # Fractions, because 4.1m would be 245.99999999999997 s in binary floating point.
    total, seen, end = Fraction(0), set(), 0
    while match := _PART.match(text, end):
        number, unit = match.groups()
        if unit not in units or unit in seen:
            raise ValueError(text)
        seen.add(unit)
        total += Fraction(number) * units[unit]
        end = match.end()
    if not seen or end != len(text):
        raise ValueError(text)
    return total


def duration_text(seconds: float) -> str:
    """Return `seconds` in the largest unit that divides them, to be read back by `duration`."""
    for unit in ("d", "h", "m"):
        count, rest = divmod(Fraction(seconds), _SECONDS[unit])
        if count and not rest:
            return f"{count}{unit}"
    # Not repr alone, which writes what is very short with an exponent.
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{Decimal(repr(seconds)):f}s"


def size_text(count: int) -> str:
    """Return `count` bytes in the largest binary unit that divides them, as `size` reads it."""
    for letter in "TGMK":
        number, rest = divmod(count, int(_BYTES[letter.lower()]))
        if number and not rest:
            return f"{number}{letter}iB"
    return str(count)
