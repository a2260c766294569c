"""Looks at the directories of a spool, at what their filesystem can do."""

import os
import re
from collections.abc import Iterator
from typing import Final

from humanize import intcomma, naturalsize

from flood import exposure, layout, syscalls, users
from flood.check_findings import ERROR, OK, SPOOL, WARNING, Finding
from flood.config import Settings, command
from flood.errors import NoRoomError
from flood.inotify_limits import Limit
from flood.layout import CARD
from flood.room import check_room
from flood.spool import Spool
from flood.states import INCOMING, STATES

#: What findings without which nothing else can be looked at are about.
ROOT: Final = "server directory"

#: Filesystems that other machines may change without this kernel's knowledge: no event tells of
#: that (inotify(7), "Limitations and caveats"), nor do locks hold everywhere.
_REMOTE: Final = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.glusterfs"),
    *("fuse.sshfs", "fuse.rclone", "fuse.s3fs", "lustre", "afs", "gfs2", "ocfs2", "virtiofs"),
)

# Blanks, tabs, newlines, backslashes in the mount table.
_OCTAL: Final = re.compile(r"\\([0-7]{3})")

#: The part of a limit from which on it is told of.
_NEAR: Final = 0.8


def look(spool: Spool, settings: Settings, watches: Limit) -> Iterator[Finding]:
    """Everything about the server directory; where there is no spool, only that. `watches` is the
    limit for directories that are watched."""
    missing = _missing(spool, settings)
    if missing is not None:
        yield missing
        return
    yield from _directories(spool)
    yield from _access(spool, settings)
    yield from room(spool.root, settings.min_free)
    yield _watches(spool, watches)
    yield _births(spool)
    yield _leases(spool, settings)
    yield from _links()


def _missing(spool: Spool, settings: Settings) -> Finding | None:
    mount = f"mount the disk; if it is a new one: {command(settings, 'flood-watch')}"
    if not os.path.isdir(spool.root):
        return Finding(
            SPOOL,
            ROOT,
            ERROR,
            f"there is no directory {spool.root}",
            "flood has not been set up there, or its disk is not mounted",
            mount,
        )
    try:
        os.stat(spool.absolute(CARD))
    except PermissionError as error:
        return Finding(
            SPOOL,
            ROOT,
            ERROR,
            f"{spool.absolute(CARD)}: {error.strerror}",
            "this user cannot tell what is there",
            "run flood-check as the user that flood-watch runs as",
        )
    except OSError:
        return Finding(
            SPOOL,
            ROOT,
            ERROR,
            f"{spool.root} is no spool yet",
            "flood-watch has never been started on it, or its disk is not mounted",
            mount,
        )
    return None


def _directories(spool: Spool) -> Iterator[Finding]:
    wrong = [text for name in (*STATES, layout.PRIVATE) if (text := spool.wrong_with(name))]
    for text in wrong:
        yield Finding(
            SPOOL,
            "one filesystem",
            ERROR,
            text,
            "files cannot be moved from state to state in one step",
            "put all of them on one filesystem; flood-watch makes what is missing as it starts",
        )
    kind = _filesystem(spool.root)
    if kind in _REMOTE:
        yield Finding(
            SPOOL,
            "filesystem",
            WARNING,
            f"{spool.root} is on {kind}, which other machines can change",
            "what they put there is only found by scanning, and locks may not hold",
            "use a directory on a local disk: set --server-directory",
        )
    elif not wrong:
        yield Finding(SPOOL, "one filesystem", OK, f"{spool.root}, all on {kind or 'one'}")


def _filesystem(path: str) -> str | None:
    """The type of the filesystem at a path, as the mount table has it (proc(5))."""
    deepest, found = "", None
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                _, point, kind, *_ = line.split(" ")
                point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), point)
                # Of several mounts at one point the last one is seen.
                if os.path.commonpath((point, path)) == point and len(point) >= len(deepest):
                    deepest, found = point, kind
    except (OSError, ValueError):
        return None
    return found


def _access(spool: Spool, settings: Settings) -> Iterator[Finding]:
    rights = os.R_OK | os.W_OK | os.X_OK
    user = users.owner(spool.absolute(CARD))
    denied = [
        name
        for name in (*STATES, layout.PRIVATE)
        if spool.exists(name) and not os.access(spool.absolute(name), rights, effective_ids=True)
    ]
    if not denied:
        yield Finding(SPOOL, "access", OK, f"this user may use it; it belongs to {user}")
        return
    yield Finding(
        SPOOL,
        "access",
        ERROR,
        f"this user may not use {', '.join(denied)} in {spool.root}",
        f"flood cannot work as this user; the spool belongs to {user}",
        f"run flood as {user}, flood-check too: "
        f"{command(settings, 'sudo', '-u', user, 'flood-check')}",
    )


def room(
    directory: str, min_free: float, about: str = "room", topic: str = SPOOL
) -> Iterator[Finding]:
    """Whether the directory's filesystem has room for more files."""
    status = os.statvfs(directory)
    try:
        check_room(directory, min_free)
    except NoRoomError as error:
        seen, _, _ = str(error).partition(": delete")
        yield Finding(
            topic,
            about,
            ERROR,
            seen,
            "flood-watch takes nothing in, flood-put refuses, until there is room again",
            "delete what is not needed, as in completed, or lower --min-free",
        )
        return
    free = naturalsize(status.f_bavail * status.f_frsize, binary=True)
    inodes = f", {intcomma(status.f_favail)} more files" if status.f_files else ""
    yield Finding(topic, about, OK, f"{free}{inodes} fit on the disk of {directory}")


def _watches(spool: Spool, limit: Limit) -> Finding:
    """Compares the tree with the limit; what else the user watches counts, too, but cannot be
    told."""
    count = sum(1 for _ in os.walk(spool.absolute(INCOMING)))
    if limit.value is None:
        return Finding(SPOOL, "inotify", OK, f"{_directories_of(count)}, without a limit")
    seen = f"{_directories_of(count)} in incoming, {intcomma(limit.value)} may be watched"
    if count <= limit.value * _NEAR:
        return Finding(SPOOL, "inotify", OK, seen)
    return Finding(
        SPOOL,
        "inotify",
        WARNING,
        seen,
        "in directories beyond the limit, files are found by scanning, about every 30 seconds",
        limit.raise_to(2 * count),
    )


def _directories_of(count: int) -> str:
    return f"{intcomma(count)} {'directory' if count == 1 else 'directories'}"


def _births(spool: Spool) -> Finding:
    if syscalls.birth_time(spool.absolute(CARD)) is not None:
        return Finding(SPOOL, "birth times", OK, "the filesystem tells when a file was created")
    return Finding(
        SPOOL,
        "birth times",
        WARNING,
        "the filesystem does not tell when a file was created",
        "records have the time of modification as file_creation_date",
        "nothing needs to be done; ext4, XFS and Btrfs tell it",
    )


def _leases(spool: Spool, settings: Settings) -> Finding:
    # flood's own note is a file that nobody writes to; no other is made for this.
    with open(spool.absolute(CARD), "rb") as card:
        mine = os.fstat(card.fileno()).st_uid == os.geteuid()
        answer = syscalls.open_for_writing(card.fileno())
    if answer is not None:
        return Finding(SPOOL, "leases", OK, "the kernel tells whether a file is being written")
    if not mine:
        user = users.owner(spool.absolute(CARD))
        return Finding(
            SPOOL,
            "leases",
            WARNING,
            f"only {user}, to whom the spool belongs, can try them",
            "whether flood-watch notices that a file is being written is not known",
            command(settings, "sudo", "-u", user, "flood-check"),
        )
    return Finding(
        SPOOL,
        "leases",
        WARNING,
        "the filesystem has no leases",
        "a file that is moved in while somebody writes to it counts as complete once it has stood "
        "still for two seconds",
        "let producers use flood-put, or rename files into incoming once they are complete",
    )


def _links() -> Iterator[Finding]:
    if not syscalls.hard_links_guarded():
        yield Finding(
            SPOOL,
            "hard links",
            WARNING,
            "this kernel lets every user make hard links to files of others",
            "files that have another name are left in incoming",
            "sysctl fs.protected_hardlinks=1",
        )


def exposed(server_directory: str, database: str) -> Iterator[Finding]:
    """What every user of this machine may do to the spool or its database."""
    for text in exposure.of_spool(server_directory, database):
        seen, _, remedy = text.partition("; run ")
        yield Finding(
            SPOOL,
            "modes",
            WARNING,
            seen,
            "other users can take files away, or have others uploaded",
            remedy,
        )
