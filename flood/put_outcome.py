"""What becomes of the files of one flood-put."""

from dataclasses import dataclass, field
from typing import Final

from flood.record_values import Reason
from flood.states import INTERRUPTED, PERMANENT, TRANSIENT

STOPPED: Final = Reason(
    INTERRUPTED, "put_interrupted", "flood-put was interrupted: put the file again"
)
NO_ROOM: Final = Reason(
    TRANSIENT, "no_room", "the spool had no room: make some, then put the file again"
)
OCCUPIED: Final = Reason(
    TRANSIENT, "put_refused", "an earlier file waited under the same name: put the file again"
)
BROKEN: Final = Reason(PERMANENT, "put_failed", "flood-put failed: put the file again")


@dataclass
class Delivered:
    """What has become of a run so far; sizes in bytes."""

    files: int = 0
    size: int = 0
    #: Files that cannot be put.
    failed: int = 0
    #: Files whose names still wait in incoming.
    refused: int = 0
    #: The key of each record that was made.
    records: dict[int, str] = field(default_factory=dict)
