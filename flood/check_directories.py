"""Looks whether the directories of a spool are where they have to be."""

import os
import re
from collections.abc import Iterator
from shlex import join, quote
from typing import Final, NamedTuple

from flood import binding, cards, directories, layout, lost, owners, schema, users
from flood.check_findings import DATABASE, ERROR, OK, SPOOL, WARNING, Finding
from flood.config import Settings, command
from flood.errors import SpoolError
from flood.fsck_kinds import REPAIR_COMMAND
from flood.layout import CARD
from flood.phrases import files
from flood.spool import Spool
from flood.states import COMPLETED, FAILED, INCOMING, INCOMING_TMP, PROCESSING, STATES
from flood.walk import Oddity

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

#: Up to how many files of a bucket are counted.
_COUNTED: Final = 10_000


class Remains(NamedTuple):
    """What the spool has of a bucket. `kept` says how many files are in failed and in completed, ""
    if none; `removal` is the command that removes its empty directories, None while a file waits
    for it, or has failed."""

    kept: str
    removal: str | None


def missing(spool: Spool, settings: Settings) -> list[Finding]:
    """Why there is no spool that can be used at all, with what keeps flood-watch from making one;
    empty if there is one."""
    try:
        cards.check_outside(spool.root)
    except SpoolError as error:
        meaning = "another flood may take what lies there for its own; flood-watch refuses"
        return [Finding(SPOOL, ROOT, ERROR, error.seen, meaning, error.settings)]
    closed = directories.closed(spool.absolute(CARD))
    if closed is not None:
        return [_unseen(SPOOL, ROOT, closed)]
    in_the_way = cards.in_the_way(spool.root)
    if in_the_way is not None:
        path, seen = in_the_way
        return _unfounded(
            spool,
            settings,
            seen,
            "flood has not been set up there, or somebody moved the spool",
            "put the right one in its place; if there is none: "
            f"{cards.moving_away(path)} && {command(settings, 'flood-watch')}",
        )
    mount = f"mount the disk; if it is a new one: {command(settings, 'flood-watch')}"
    if not os.path.isdir(spool.root):
        seen = f"there is no directory {spool.root}"
        meaning = "flood has not been set up there, or its disk is not mounted"
        return _unfounded(spool, settings, seen, meaning, mount)
    if not os.path.exists(spool.absolute(CARD)):
        seen = f"{spool.root} is no spool yet"
        meaning = "flood-watch has never been started on it, or its disk is not mounted"
        return _unfounded(spool, settings, seen, meaning, mount)
    return []


def _unseen(topic: str, about: str, closed: str) -> Finding:
    meaning = "this user cannot tell what is there"
    remedy = users.access_to([closed])
    return Finding(topic, about, ERROR, directories.unseen(closed), meaning, remedy)


def _unfounded(
    spool: Spool, settings: Settings, seen: str, meaning: str, remedy: str
) -> list[Finding]:
    gone = _lost(spool, settings)
    if gone is not None:
        return [gone]
    first = Finding(SPOOL, ROOT, ERROR, seen, meaning, remedy)
    return [first, *_before_start(spool, settings)]


def _before_start(spool: Spool, settings: Settings) -> Iterator[Finding]:
    """What keeps a first start of flood-watch from making the spool, or its database."""
    own = directories.nearest(spool.root)
    if _closed(own):
        yield _unmakeable(SPOOL, own, spool.root, "--server-directory")
    path = settings.database
    inside = inside_another(spool, path)
    if inside is not None:
        yield inside
        return
    directory = os.path.dirname(path)
    closed = directories.closed(path)
    if closed is not None:
        yield _unseen(DATABASE, "access", closed)
    elif not os.path.isdir(directory):
        seen = f"there is no directory {directory} for the database {path}"
        meaning = "flood-watch makes none for it, and refuses to start"
        yield Finding(DATABASE, "directory", ERROR, seen, meaning, schema.place_for(path))
    elif _closed(directory):
        yield _unmakeable(DATABASE, directory, path, "--database")


def inside_another(spool: Spool, path: str) -> Finding | None:
    """That the database, or the place for a new one, is where another spool carries it off."""
    try:
        cards.check_database_outside(spool.root, path)
    except SpoolError as error:
        meaning = "another flood may take it away, with all records; flood-watch refuses"
        return Finding(DATABASE, "place", ERROR, error.seen, meaning, error.settings)
    return None


def _closed(directory: str) -> bool:
    return os.path.isdir(directory) and not os.access(
        directory, os.W_OK | os.X_OK, effective_ids=True
    )


def _unmakeable(topic: str, directory: str, path: str, setting: str) -> Finding:
    me = users.mine()
    remedy = f"give {me} write access to {directory}, or set {setting} to where {me} may write"
    if topic == SPOOL and directory != path:
        remedy += f"; or have root make it: {join(('sudo', 'install', '-d', '-o', me, path))}"
    return Finding(
        topic,
        "access",
        ERROR,
        f"this user may not write to {directory}, which belongs to {users.owner(directory)}",
        f"flood-watch, run as {me}, cannot make {path}",
        remedy,
    )


def _lost(spool: Spool, settings: Settings) -> Finding | None:
    """What is to be told where the database belongs to a spool, in whose place flood-watch begins
    no other; None if it belongs to none."""
    found = binding.look_lost(spool.root, settings.database)
    if found is None:
        return None
    remedy = found.advice
    if found.again is not None:
        write = f"write {CARD} again" if found.bare else f"or only {CARD} is, write that again"
        user = owners.name_of(spool.root, settings.database)
        who = "" if user == users.mine() else f" as {user}"
        remedy += (
            f" If the spool is gone for good, {write}, and start flood-watch{who}"
            f"{_gone(found.missing)}: {found.again}"
        )
    return Finding(
        SPOOL,
        ROOT,
        ERROR,
        found.seen,
        "the setting is wrong, somebody moved or removed the spool, or its disk is not mounted; "
        "flood-watch refuses to begin a new one there",
        remedy,
    )


def _gone(missing: lost.Missing | None) -> str:
    if missing is None:
        return ""
    state, path = missing
    if state == FAILED:
        return f"; files that had failed, such as {path}, are gone with it"
    return f"; files that are gone with it, such as {path}, fail as vanished then"


def look(spool: Spool, settings: Settings) -> Iterator[Finding]:
    """Whether each of its directories can be used, all of them on one local filesystem."""
    misplaced = wrong(spool)
    for name, text in misplaced.items():
        yield _misplaced(spool, settings, name, text)
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
    elif not misplaced:
        yield Finding(SPOOL, "one filesystem", OK, f"{spool.root}, all on {kind or 'one'}")


def wrong(spool: Spool) -> dict[str, str]:
    """The directories that cannot be used, each with the reason."""
    every = (*STATES, layout.PRIVATE, layout.WORKERS)
    return {name: text for name in every if (text := spool.wrong_with(name))}


def remains(spool: Spool, profile: str, bucket: str) -> Remains:
    """What the directories of a bucket have left, each in its state."""
    places = {state: f"{state}/{profile}/{bucket}" for state in STATES}
    counted = {state: _counted(spool, places[state]) for state in (FAILED, COMPLETED)}
    kept = " and ".join(f"{count} in {state}" for state, count in counted.items() if count)
    waiting = any(_holds(spool, places[state]) for state in (INCOMING_TMP, INCOMING, PROCESSING))
    if waiting or counted[FAILED]:
        return Remains(kept, None)
    # `find` deletes no directory that has a file by then.
    there = " ".join(
        quote(spool.absolute(place)) for place in places.values() if spool.exists(place)
    )
    return Remains(kept, f"find {there} -type d -empty -delete")


def _holds(spool: Spool, place: str) -> bool:
    return next(spool.walk(place), None) is not None


def _counted(spool: Spool, place: str) -> str:
    """How many files are below it, as far as that is worth the time; "" if there is none."""
    number, closed = 0, False
    for found in spool.counts(place):
        if isinstance(found, Oddity):
            closed = True
            continue
        number += found[1]
        if number >= _COUNTED:
            return f"{files(_COUNTED)} or more"
    if closed:
        return f"{files(number)} or more" if number else "what this user cannot look into"
    return files(number) if number else ""


def _misplaced(spool: Spool, settings: Settings, name: str, text: str) -> Finding:
    path = spool.absolute(name)
    repair = command(settings, *REPAIR_COMMAND)
    if not spool.exists(name):
        # flood-watch makes it, too, but not before its next start.
        meaning = "somebody moved or removed it, with whatever it held"
        remedy = f"move it back if it is elsewhere; if it is gone, this makes it anew: {repair}"
    elif os.path.isdir(path) and not os.path.islink(path):
        meaning = "files cannot be moved from state to state in one step, so flood-watch refuses"
        remedy = f"unmount what is mounted on {path}: all of {spool.root} is one filesystem"
    else:
        meaning = "a link or a file is in its place, so flood-watch refuses"
        remedy = (
            f"with flood stopped: {cards.moving_away(path)}"
            if name == layout.WORKERS
            else _replacing(spool, path)
            if name == layout.PRIVATE
            else "put the right directory in its place; if there is none: "
            f"{cards.moving_away(path)} && {repair}"
        )
    return Finding(SPOOL, "one filesystem", ERROR, text, meaning, remedy)


def _replacing(spool: Spool, link: str) -> str:
    """What to do about the link that leads to flood's own directory, which has the card."""
    target = os.path.realpath(link)
    near = os.stat(target).st_dev == os.stat(spool.root).st_dev
    if near and cards.is_its_own(spool.root):
        return (
            f"put that directory in its place: rm {quote(link)} && mv {quote(target)} {quote(link)}"
        )
    # Of another spool, or on another disk, where it may be a mount point.
    return (
        f"stop flood, then put a directory in its place that has a copy of what is in {target}, if "
        "that is this spool's own"
    )


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
