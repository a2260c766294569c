"""How much the kernel lets one user watch through inotify."""

from dataclasses import dataclass
from typing import Final

WATCHES: Final = "max_user_watches"
INSTANCES: Final = "max_user_instances"

# The same within a user namespace, as of a container (user_namespaces(7)).
_USER: Final = {WATCHES: "max_inotify_watches", INSTANCES: "max_inotify_instances"}


@dataclass(frozen=True)
class Limit:
    """A limit with the name that sysctl has for it; `value` is None where nobody can tell."""

    knob: str
    value: int | None

    def raise_to(self, wanted: int) -> str:
        """The command that raises the limit to so much, or to twice of what it is."""
        return f"sysctl {self.knob}={max(2 * (self.value or 0), wanted, 1024)}"


def limit(name: str) -> Limit:
    """The one that holds, of WATCHES or INSTANCES (inotify(7), proc files)."""
    knobs = (f"fs.inotify.{name}", f"user.{_USER[name]}")
    known = {knob: value for knob in knobs if (value := _read(knob)) is not None}
    knob = min(known, key=known.__getitem__, default=knobs[0])
    return Limit(knob, known.get(knob))


def _read(knob: str) -> int | None:
    try:
        with open(f"/proc/sys/{knob.replace('.', '/')}", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
