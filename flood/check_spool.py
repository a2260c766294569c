"""Looks what the filesystem of a spool can do."""

import os
from collections.abc import Iterator, Sequence
from shlex import quote
from typing import Final

from humanize import intcomma, naturalsize

from flood import (
    check_directories,
    check_rights,
    exposure,
    layout,
    owners,
    read_only,
    syscalls,
    users,
)
from flood.check_findings import ERROR, OK, SPOOL, WARNING, Finding
from flood.config import Settings, command
from flood.inotify_limits import Limit
from flood.layout import CARD
from flood.room import lack
from flood.spool import ALL_RIGHTS, Spool
from flood.states import STATES

#: The part of a limit from which on it is told of.
_NEAR: Final = 0.8


def look(spool: Spool, settings: Settings, watches: Limit) -> Iterator[Finding]:
    """Everything about the server directory; where there is no spool, only why, and what keeps
    flood-watch from making one. `watches` is the limit for directories that are watched."""
    missing = check_directories.missing(spool, settings)
    if missing:
        yield from missing
        return
    yield from check_directories.look(spool, settings)
    yield from _access(spool, settings)
    yield from room(spool.root, settings.min_free)
    yield _watches(spool, watches)
    yield from check_rights.look(spool, settings)
    yield _births(spool)
    yield _leases(spool, settings)
    yield from _links()


def _access(spool: Spool, settings: Settings) -> Iterator[Finding]:
    user = owners.name_of(spool.root)
    wrong = check_directories.wrong(spool)
    denied = [
        name for name in (*STATES, layout.PRIVATE) if name not in wrong and _denied(spool, name)
    ]
    unwritable = not os.access(spool.root, os.W_OK | os.X_OK, effective_ids=True)
    if not wrong and not denied and not unwritable:
        denied = [*_denied_to_workers(spool), *_denied_locks(spool)]
    if not denied and not unwritable:
        yield Finding(SPOOL, "access", OK, f"this user may use it; it belongs to {user}")
        return
    if read_only.mounted(spool.root):
        seen = f"{spool.root} is on a filesystem that is mounted read-only"
        meaning = "nothing can be taken in, nor moved on once it is uploaded"
        yield Finding(SPOOL, "access", ERROR, seen, meaning, read_only.ADVICE)
        return
    if unwritable:
        whose = users.owner(spool.root)
        seen = f"this user may not write to {spool.root}, which belongs to {whose}"
        # Not what is in it, where producers have files of their own.
        yield _refused(settings, user, seen, [spool.root], deep=False)
    if denied:
        seen = f"this user may not use {', '.join(denied)} in {spool.root}"
        yield _refused(settings, user, seen, [spool.absolute(name) for name in denied], deep=True)


def _refused(
    settings: Settings, user: str, seen: str, paths: Sequence[str], *, deep: bool
) -> Finding:
    """The finding that paths are denied in the spool of `user`."""
    meaning = f"flood cannot work as this user; the spool belongs to {user}"
    if user == users.mine():
        own = all(map(check_rights.forbidden_to_owner, paths))
        why = "modes forbid it" if own else "not all of this is his"
        meaning = f"it is the right user, to whom the spool belongs: {why}"
    mends = check_rights.mends(settings, user, paths, deep=deep)
    return Finding(SPOOL, "access", ERROR, seen, meaning, mends)


def _denied(spool: Spool, name: str) -> bool:
    return not os.access(spool.absolute(name), ALL_RIGHTS, effective_ids=True)


def _denied_to_workers(spool: Spool) -> list[str]:
    """The directory of living workers, if this user may not use it, or cannot tell of one of them
    whether he lives."""
    path = spool.absolute(layout.WORKERS)
    if not os.path.isdir(path):
        return []
    unreadable = _denied(spool, layout.WORKERS) or any(
        not os.access(f"{path}/{name}", os.R_OK, effective_ids=True)
        and os.path.exists(f"{path}/{name}")
        for name in os.listdir(path)
    )
    return [layout.WORKERS] if unreadable else []


def _denied_locks(spool: Spool) -> list[str]:
    """Lock files that this user may not even read, which is what locking takes."""
    directory = spool.absolute(layout.PRIVATE)
    return [
        f"{layout.PRIVATE}/{name}"
        for name in sorted(os.listdir(directory))
        if os.path.isfile(f"{directory}/{name}")
        and not os.access(f"{directory}/{name}", os.R_OK, effective_ids=True)
    ]


def room(
    directory: str, min_free: float, about: str = "room", topic: str = SPOOL
) -> Iterator[Finding]:
    """Whether the directory's filesystem has room for more files."""
    status = os.statvfs(directory)
    short = lack(directory, min_free)
    if short is not None:
        yield Finding(
            topic,
            about,
            ERROR,
            short.seen,
            "flood-watch takes nothing in, flood-put refuses, until there is room again",
            short.remedy,
        )
        return
    free = naturalsize(status.f_bavail * status.f_frsize, binary=True)
    inodes = f", {intcomma(status.f_favail)} more files" if status.f_files else ""
    yield Finding(topic, about, OK, f"{free}{inodes} fit on the disk of {directory}")


def _watches(spool: Spool, limit: Limit) -> Finding:
    """Compares the tree with the limit; what else the user watches counts, too, but cannot be
    told."""
    count = sum(1 for _ in check_rights.of_incoming(spool))
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
    user, me = owners.name_of(spool.root), users.mine()
    with open(spool.absolute(CARD), "rb") as card:
        mine = os.fstat(card.fileno()).st_uid == os.geteuid()
        answer = syscalls.open_for_writing(card.fileno())
    if answer is not None:
        return Finding(SPOOL, "leases", OK, "the kernel tells whether a file is being written")
    if not mine:
        own = f"sudo chown {user} {quote(spool.absolute(CARD))}"
        return Finding(
            SPOOL,
            "leases",
            WARNING,
            f"{CARD}, by which they are tried, is not {me}'s, to whom the spool belongs"
            if user == me
            else f"only {user}, to whom the spool belongs, can try them",
            "whether flood-watch notices that a file is being written is not known",
            own
            if user == me
            else command(settings, "sudo", "-u", users.to_sudo(user), "flood-check"),
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
    for each in exposure.of_spool(server_directory, database):
        yield Finding(
            SPOOL,
            "modes",
            WARNING,
            each.seen,
            "other users can take files away, or have others uploaded",
            each.mends,
        )
