"""File names that Linux allows, sizes that files have."""

import random

_PARTS = (
    "plain",
    "two words",
    "100% %41+&=?#",
    "emoji \U0001f30a",
    "ü" * 110,
    "-r",
    " blank ",
    "a\\b\"'`$(x)*",
    "~",
    "تجربة",
    "e\u0301",
    "right\u202eleft",
    "semi;colon:at@comma,",
    "<tag attribute='x'>&amp;",
)
_KIB = 1024


def key(rng: random.Random, number: int) -> str:
    """Return a key that no other number gets."""
    style = rng.random()
    if style < 0.5:
        return f"flat/file-{number}.bin"
    if style < 0.85:
        return f"odd/{number} {rng.choice(_PARTS)}"
    if style < 0.95:
        folders = "/".join(rng.choice(_PARTS[:8])[:40] for _ in range(rng.randrange(2, 8)))
        return f"deep/{number}/{folders}/f"
    return f"{number} {rng.choice(_PARTS)}"


def refused(rng: random.Random, number: int) -> str:
    """Return a name for files that no store takes: rclone would forget some of these names."""
    return f"raw/{number}" + rng.choice(("-\udcff\udcfe", "\x1b[31mred", "line\nbreak", "\x01"))


def size(rng: random.Random, large: bool) -> int:
    """Return a size in bytes, mostly small; `large` ones are sent in parts."""
    if large:
        return rng.randrange(5 * _KIB * _KIB, 7 * _KIB * _KIB)
    style = rng.random()
    if style < 0.03:
        return 0
    if style < 0.80:
        return rng.randrange(1, 4 * _KIB)
    if style < 0.97:
        return rng.randrange(4 * _KIB, 48 * _KIB)
    return rng.randrange(48 * _KIB, 600 * _KIB)
