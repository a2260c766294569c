"""Lets records follow a filesystem that got another device number."""

from logging import WARNING, getLogger
from typing import Final

from flood import layout, log, models
from flood.spool import Spool

_RECORDED: Final = "SELECT device FROM spool WHERE id = 1"

logger = getLogger(__name__)


def changed(spool: Spool) -> bool:
    """Whether the spool's filesystem has another number than when its files were recorded.

    The kernel numbers devices as it finds them: disks on USB or LVM, NFS and btrfs often have
    another number after a restart, or when they are mounted again.
    """
    recorded, present = _recorded(), _present(spool)
    return None not in (recorded, present) and recorded != present


def follow(spool: Spool) -> int:
    """Write the present number into all records that have the one of before, as else every file
    would seem to be another one; how many they were. Nothing is done while the spool is away.

    Raises what the database raises.
    """
    present = _present(spool)
    if present is None or _recorded() == present:
        return 0
    count = 0
    with models.write():
        before = _recorded()
        if before is not None:
            count = models.execute(
                "UPDATE file_records SET device = ? WHERE device = ?", (present, before)
            ).rowcount
        models.execute("UPDATE spool SET device = ? WHERE id = 1", (present,))
    if before is not None:
        log.event(
            logger,
            WARNING,
            "device number has changed",
            path=spool.root,
            records=count,
            reason=f"the filesystem was mounted as another device ({before}, now {present})",
            next="its records follow",
        )
    return count


def _recorded() -> int | None:
    row = models.execute(_RECORDED).fetchone()
    return row[0] if row else None


def _present(spool: Spool) -> int | None:
    # Of a file that is on the spool's own disk only: a disk that is not mounted leaves its
    # directory behind, on another.
    identity = spool.identify(layout.CARD)
    return None if identity is None else identity.device
