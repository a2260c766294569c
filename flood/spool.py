"""The only place that renames, links, unlinks or flushes files of the spool."""

import errno
import os
import stat
import threading
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import chain
from shlex import quote
from typing import Final

from flood import directories, layout, owners, syscalls, users
from flood.directories import Kept
from flood.errors import NoRoomError, SpoolError
from flood.identity import Identity, identity_of
from flood.layout import Place
from flood.states import COMPLETED, FAILED, STATES
from flood.tree import NOT_THERE, PATH_MAX, SHORT, Tree, Vanished
from flood.walk import kind_of

#: What flood needs to do with its directories.
ALL_RIGHTS: Final = os.R_OK | os.W_OK | os.X_OK

# A name that nothing has.
_NOTHING: Final = ".flood-nothing"


class Occupied(Exception):
    """A file stands where the moved one, or one of its directories, should be."""


def set_aside(path: str, ending: str) -> list[str]:
    """Rename a database that is broken, with what SQLite keeps beside it, to a name with this
    ending; return the new names. Nothing is overwritten, nothing deleted.

    Raises the OSError of the rename.
    """
    kept = []
    directory, name = os.path.split(os.path.realpath(path))
    folder = syscalls.open_without_links(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # The database itself comes last: as long as it is there, the next try knows what to do.
        for suffix in ("-journal", "-wal", "-shm", ""):
            target = f"{name}{ending}{suffix}"
            try:
                _rename_new(folder, f"{name}{suffix}", target)
            except FileNotFoundError:
                continue
            kept.append(f"{directory}/{target}")
        os.fsync(folder)
    finally:
        os.close(folder)
    return kept


def flush_database(path: str) -> None:
    """Make what was committed to a database survive a power failure, which with synchronous=NORMAL
    it would not yet: all of it is in the write-ahead log, or in the database as SQLite has flushed
    it (sqlite.org/pragma.html#pragma_synchronous).

    Raises the OSError of open(2) or fsync(2).
    """
    try:
        # Not the database itself: closing any descriptor of that drops SQLite's locks on it
        # (sqlite.org/howtocorrupt.html, section 2.2).
        descriptor = os.open(f"{os.path.realpath(path)}-wal", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Moving(threading.local):
    """The directories that this thread keeps open between its moves."""

    kept: Kept | None = None


class Spool(Tree):
    """The tree with all that flood does to its files. None is moved through a symbolic link."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._linking: bool | None = None
        self._moving = _Moving()

    def prepare(self) -> None:
        """Create the five directories with flood's own one; raise SpoolError unless renames
        between them are atomic, as they are within one filesystem."""
        every = (*STATES, layout.PRIVATE)
        owner = owners.of_spool(self.root)
        for name in every:
            path = self.absolute(name)
            new = not os.path.lexists(path)
            if not os.path.islink(path):
                self._prepare(name)
            if new:
                made = syscalls.open_without_links(path, os.O_RDONLY | os.O_DIRECTORY)
                owners.give(made, owner)
                os.close(made)
        for name in every:
            wrong = self.wrong_with(name)
            if wrong is not None:
                raise SpoolError(wrong)
        self.check_workers()

    def check_workers(self) -> None:
        """Raise SpoolError if something is in the place of the directory of living workers, which
        the first one makes, or this user may not use it: no worker could begin."""
        wrong = self.wrong_with(layout.WORKERS)
        path = self.absolute(layout.WORKERS)
        if wrong is not None:
            raise SpoolError(wrong, f"move away what is in {path}")
        if os.path.isdir(path) and not os.access(path, ALL_RIGHTS, effective_ids=True):
            owner = owners.name_of(self.root)
            mended = f"run flood as {owner}"
            if owner == users.mine():
                owned = users.owns(path)
                mended = users.opening([path]) if owned else f"sudo chown -R {owner} {quote(path)}"
            raise SpoolError(f"this user may not use {path}", mended)

    def wrong_with(self, name: str) -> str | None:
        """Why one of the directories directly below the server directory cannot be used, None if it
        can."""
        path = self.absolute(name)
        try:
            status = os.lstat(path)
        except FileNotFoundError as error:
            # The directory of workers is made by the first of them.
            return None if name == layout.WORKERS else f"{path}: {error.strerror}"
        except OSError as error:
            return f"{path}: {error.strerror}"
        if not stat.S_ISDIR(status.st_mode):
            return f"{path} must be a directory, but a {kind_of(status.st_mode)} is in its place"
        if status.st_dev == os.stat(self.root).st_dev and self._can_rename_into(path):
            return None
        return (
            f"{path} must be a directory on the same filesystem as {self.root}: "
            "files are moved between them by rename"
        )

    def _can_rename_into(self, path: str) -> bool:
        """False for another mount of the same filesystem: the kernel refuses a rename into it, for
        that before it looks whether there is anything to rename (rename(2), EXDEV)."""
        try:
            os.rename(f"{self.root}/{_NOTHING}", f"{path}/{_NOTHING}")
        except OSError as error:
            return error.errno != errno.EXDEV
        return True

    def prepare_destination(self, profile: str, bucket: str | None = None) -> list[tuple[str, str]]:
        """Create a profile's, or a bucket's, directory in each of the five; return those that
        cannot be made, each with the reason."""
        refused = []
        for state in STATES:
            path = f"{state}/{profile}" if bucket is None else f"{state}/{profile}/{bucket}"
            try:
                self._prepare(path, alike=True)
            except (SpoolError, NoRoomError) as error:
                refused.append((path, str(error)))
        return refused

    def prepare_destinations(self, profiles: Collection[str]) -> list[tuple[str, str]]:
        """Create the directories of these profiles, with those of every bucket that any of the five
        has; return those that cannot be made, each with the reason."""
        refused = []
        for profile in sorted(profiles):
            refused += self.prepare_destination(profile)
            buckets = {
                bucket for state in STATES for bucket in self.subdirectories(f"{state}/{profile}")
            }
            for bucket in sorted(buckets):
                refused += self.prepare_destination(profile, bucket)
        return refused

    def _prepare(self, name: str, *, alike: bool = False) -> None:
        path = self.absolute(name)
        try:
            directories.make(path, alike=alike)
        except NotADirectoryError as error:
            raise SpoolError(f"{path} cannot be made: a file, or a link, is in the way") from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise SpoolError(f"{path} cannot be made: a symbolic link is in the way") from error
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = NoRoomError if full else SpoolError
            raise kind(f"cannot create {path}: {error.strerror}") from error

    def make_directory(self, path: str) -> None:
        """Create a directory with all that is missing above it; raises OSError."""
        directories.make(self.absolute(path), alike=True)

    def vacant(self, path: str) -> bool:
        """Whether nothing lies at `path`, after removing directories there that hold no file: a
        file that was taken away, or a crash, may have left them."""
        try:
            status = os.lstat(self.absolute(path))
        except OSError:
            return True
        if not stat.S_ISDIR(status.st_mode) or next(self.walk(path), None) is not None:
            return False
        self.remove_empty(path)
        self.prune(f"{path}/anything")
        return not self.exists(path)

    def move(self, source: str, target: str) -> None:
        """Rename without ever overwriting, creating the target's directories.

        Raises Occupied, Vanished, or the OSError of the rename.
        """
        source, target = self.absolute(source), self.absolute(target)
        if len(os.fsencode(target)) >= PATH_MAX:
            # The rename itself might work, but nobody could open the file by its path then.
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), target)
        kept = self._moving.kept
        if kept is not None:
            try:
                self._move(kept, source, target)
                return
            except OSError as error:
                if error.errno not in SHORT:
                    raise
                kept.close()  # the descriptors that it needs may be these
        with closing(Kept()) as kept:
            self._move(kept, source, target)

    @contextmanager
    def many_moves(self) -> Iterator[None]:
        """Inside, this thread keeps open the directories between which it moves files."""
        with closing(Kept()) as self._moving.kept:
            try:
                yield
            finally:
                self._moving.kept = None

    def _move(self, kept: Kept, source: str, target: str) -> None:
        folder, _, name = source.rpartition("/")
        into = target.rpartition("/")[0]
        kept.trim()
        looked_again = False
        while True:
            try:
                directory = kept.reach(folder)
            except OSError as error:
                if error.errno in NOT_THERE:
                    raise Vanished(source) from error
                raise
            try:
                self._rename(directory, name, kept, target)
                return
            except FileExistsError as error:
                raise Occupied(target) from error
            except NotADirectoryError as error:
                if _blocked_by_file(into):
                    raise Occupied(target) from error
                raise Vanished(source) from error
            except FileNotFoundError as error:
                gone = not _has(directory, name)
                if kept.forget(folder, into) and not looked_again:
                    looked_again = True
                    continue  # another directory may lie there by now
                # Either the source is gone or the target's directory is missing, which pruning
                # may have taken away after it was made: then once more.
                if gone:
                    raise Vanished(source) from error
                self._make_parent(target)

    def move_beside(self, source: str, place: Place, record_id: int) -> Place:
        """Move to `place`, or where that is taken to a name beside it; return where it lies now.

        Raises Vanished, or the OSError of the rename.
        """
        for candidate in chain([place], layout.beside(place, record_id)):
            try:
                self.move(source, candidate.path)
                return candidate
            except Occupied:
                continue
        obstacle = self.obstacle(place.path)
        raise OSError(
            errno.EEXIST,
            f"{obstacle} is no directory" if obstacle else "every name for it is taken",
            place.path,
        )

    def prune(self, path: str) -> None:
        """Remove the directories above `path`, up to its bucket's, that are empty."""
        parts = path.split("/")[:-1]
        while len(parts) > 3:
            try:
                self._remove_directory("/".join(parts))
            except OSError:
                return  # not empty, or already gone
            parts.pop()

    def flush(self, descriptor: int) -> None:
        """Make an open file's content survive a power failure (fsync(2))."""
        os.fsync(descriptor)

    def flush_directories(self, directories: set[str]) -> None:
        """Make renames into these directories, with the directories themselves, survive a power
        failure (fsync(2): the entry needs its directory's own fsync)."""
        every = set(directories)
        for directory in directories:
            parts = directory.split("/")
            every.update("/".join(parts[:length]) for length in range(1, len(parts)))
        for directory in sorted(every, key=len, reverse=True):
            descriptor = os.open(self.absolute(directory), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def remove(self, path: str) -> None:
        """Delete one file of incoming_tmp, which alone holds nothing that was promised, or one of
        flood's own notes."""
        if not path.startswith(("incoming_tmp/", f"{layout.PRIVATE}/")):
            raise ValueError(path)
        folder, name = os.path.split(self.absolute(path))
        # A name alone might lead elsewhere by now: whoever drops files may swap directories.
        with directories.opened(folder) as directory:
            os.unlink(name, dir_fd=directory)

    def discard(self, path: str, descriptor: int, identity: Identity) -> None:
        """Delete a file of completed or failed that its owner does not want to keep, if it is the
        very file behind the descriptor, with this identity.

        Raises Vanished if it is not, or the OSError of unlink(2).
        """
        if not path.startswith((f"{COMPLETED}/", f"{FAILED}/")):
            raise ValueError(path)
        folder, name = os.path.split(self.absolute(path))
        try:
            with directories.opened(folder) as directory:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                held = os.fstat(descriptor)
                if not os.path.samestat(found, held) or identity_of(held) != identity:
                    raise Vanished(path)
                os.unlink(name, dir_fd=directory)
        except OSError as error:
            if error.errno in NOT_THERE:
                raise Vanished(path) from error
            raise

    def remove_directory(self, path: str) -> bool:
        """Remove a directory below a bucket's, unless something lies in it; whether that is done.
        Raises the OSError of rmdir(2) for any other reason."""
        if path.count("/") < 3:
            raise ValueError(path)
        try:
            self._remove_directory(path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, *NOT_THERE):
                return False
            raise
        return True

    def remove_empty(self, directory: str) -> None:
        """Remove every directory below `directory` that is empty, or becomes so."""
        every = [directory]
        for current in every:
            every += [f"{current}/{name}" for name in self.subdirectories(current)]
        for below in reversed(every[1:]):
            try:
                self._remove_directory(below)
            except OSError:
                continue  # in use

    def _remove_directory(self, path: str) -> None:
        folder, name = os.path.split(self.absolute(path))
        with directories.opened(folder) as directory:
            os.rmdir(name, dir_fd=directory)

    def keep(self, path: str, content: str) -> None:
        """Write one of flood's own notes, whole or not at all."""
        target = self.absolute(path)
        directories.make(os.path.dirname(target))
        with suppress(FileNotFoundError):
            os.unlink(f"{target}.new")  # of one that died
        # A new file, as it may be given away; and it is, as flood is to run as whose the card is.
        with open(f"{target}.new", "x", encoding="utf-8", opener=_create) as file:
            owners.give(file.fileno(), owners.of_spool(self.root))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{target}.new", target)

    def lay(self, path: str, content: str, mode: int) -> bool:
        """Write a file that somebody else is to keep, whole or not at all, unless there is one;
        return whether there was none."""
        target = self.absolute(path)
        if os.path.lexists(target):
            return False
        folder, name = os.path.split(target)
        with directories.opened(folder) as directory:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(f"{name}.new", flags, mode, dir_fd=directory)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            try:
                _rename_new(directory, f"{name}.new", name)
            except FileExistsError:
                os.unlink(f"{name}.new", dir_fd=directory)
                return False
        return True

    def _rename(self, directory: int, name: str, kept: Kept, target: str) -> None:
        folder, _, target_name = target.rpartition("/")
        try:
            into = kept.reach(folder)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Occupied(target) from error
            raise
        self._rename_into(directory, name, into, target_name)

    def _rename_into(self, directory: int, name: str, into: int, target: str) -> None:
        if not self._linking:
            try:
                syscalls.rename_noreplace(directory, name, into, target)
                return
            except NotImplementedError:
                self._linking = True
        # link fails if the target exists, as the rename would. A crash between the two leaves one
        # inode under two names; the next attempt to move it ends here again.
        try:
            os.link(name, target, src_dir_fd=directory, dst_dir_fd=into, follow_symlinks=False)
        except FileExistsError:
            here, there = (
                os.stat(each, dir_fd=place, follow_symlinks=False)
                for each, place in ((name, directory), (target, into))
            )
            if not os.path.samestat(here, there):
                raise
        os.unlink(name, dir_fd=directory)

    def _make_parent(self, target: str) -> None:
        parent = os.path.dirname(target)
        try:
            directories.make(parent, alike=True)
        except FileNotFoundError:
            return  # pruning was faster: the next try makes them again
        except NotADirectoryError as error:
            if _blocked_by_file(parent):
                raise Occupied(target) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Occupied(target) from error
            raise


def _create(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, directories.FILE_MODE)


def _rename_new(directory: int, name: str, target: str) -> None:
    try:
        syscalls.rename_noreplace(directory, name, directory, target)
    except NotImplementedError:
        os.link(name, target, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        os.unlink(name, dir_fd=directory)


def _has(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _blocked_by_file(directory: str) -> bool:
    while directory:
        try:
            return not stat.S_ISDIR(os.lstat(directory).st_mode)
        except OSError:
            directory = os.path.dirname(directory)
    return False
