"""What a worker says of its work, as its lock file holds it."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flood.columns import utc_moment, utc_text

#: Every note has so many bytes, so that a shorter one leaves nothing of the one before.
_LENGTH: Final = 512


@dataclass(frozen=True)
class Doing:
    """What one worker thread was at, at a moment (aware). `since` is when its attempt began to send
    files, None while there is none; sizes are bytes, `rate` is bytes a second of the last moments,
    None where it is too early to tell. `sweeps` where a sweep has taken it more than a second. For
    `still` seconds the store has taken no byte, nor was a file done with. It `stands_in` where it
    is there only while the workers of its process wait for stores that hang."""

    pid: int
    at: datetime
    since: datetime | None = None
    files: int = 0
    files_done: int = 0
    size: int = 0
    sent: int = 0
    rate: float | None = None
    sweeps: bool = False
    still: float = 0.0
    stands_in: bool = False


def encode(doing: Doing, number: int) -> bytes:
    """The note; `number` is another one each time."""
    values = {name: value for name, value in vars(doing).items() if value is not None}
    for name in ("sweeps", "still", "stands_in"):
        if not values[name]:
            del values[name]  # an older flood cannot read it
    for name in ("at", "since"):
        if name in values:
            values[name] = utc_text(values[name])
    # Whoever reads while this is written sees two numbers.
    text = f"{number:010d} {json.dumps(values)}"
    return f"{text:<{_LENGTH - 12}} {number:010d}\n".encode()


def decode(content: bytes) -> Doing | None:
    """The note behind that; None if there is none, or only a part of one."""
    first, _, rest = content.decode("ascii", "replace").partition(" ")
    text, _, last = rest.rstrip().rpartition(" ")
    if first != last:
        return None
    try:
        return _doing(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None  # another flood's


def _doing(values: dict[str, Any]) -> Doing:
    since = values.pop("since", None)
    return Doing(
        pid=int(values.pop("pid")),
        at=utc_moment(values.pop("at")),
        since=None if since is None else utc_moment(since),
        **values,
    )
