"""System calls of Linux that Python's os module lacks."""

import ctypes
import errno
import fcntl
import math
import os
import resource
import signal
import socket
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

_AT_FDCWD: Final = -100
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_RENAME_NOREPLACE: Final = 1
_STATX_BTIME: Final = 0x800
_STATX_SIZE: Final = 256
_STATX_BTIME_AT: Final = 80  # struct statx in linux/stat.h: stx_mask is at 0, stx_btime at 80
_SYS_OPENAT2: Final = 437  # on every architecture
_RESOLVE_NO_SYMLINKS: Final = 0x04
_PR_SET_PDEATHSIG: Final = 1
_F_SETSIG: Final = 10
_F_SETLEASE: Final = 1024

# Enough for any number of workers; where there is no limit at all, some programs close each
# descriptor that there might be.
_DESCRIPTORS: Final = 65_536

_libc = ctypes.CDLL(None, use_errno=True)


def open_without_links(path: str, flags: int) -> int:
    """Open an absolute path none of whose components is a symbolic link; OSError with ELOOP if one
    is (openat2(2), RESOLVE_NO_SYMLINKS; component by component where the kernel has no such call).
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    how = struct.pack("=QQQ", flags, 0, _RESOLVE_NO_SYMLINKS)
    descriptor = _libc.syscall(_SYS_OPENAT2, _AT_FDCWD, os.fsencode(path), how, len(how))
    if descriptor >= 0:
        return int(descriptor)
    number = ctypes.get_errno()
    if number not in (errno.ENOSYS, errno.EPERM):  # EPERM: an old container's system call filter
        raise OSError(number, os.strerror(number), path)
    return _open_step_by_step(path, flags)


def _open_step_by_step(path: str, flags: int) -> int:
    *parents, name = path.lstrip("/").split("/")
    directory = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        for parent in parents:
            step = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
            below = os.open(parent, step, dir_fd=directory)
            os.close(directory)
            directory = below
        return os.open(name, flags, dir_fd=directory)
    finally:
        os.close(directory)


def is_stopped(pid: int) -> bool:
    """Whether a process has been stopped, as by SIGSTOP or a debugger; False where nobody can tell
    (proc_pid_stat(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # Its name, in parentheses, may have any character in it.
            state = file.read().rpartition(b") ")[2][:1]
    except OSError:
        return False
    return state in (b"T", b"t")


def lock_holder(path: str, byte: int | None = None) -> int | None:
    """The process that holds a lock, flock(2), alone, or one of this byte, fcntl(2); None where
    none does that can be seen from here (proc_locks(5)). On btrfs or overlayfs the kernel may
    number the device in another way than stat(2) does, which looks the same."""
    for holder, first, last in _holders(path, "FLOCK" if byte is None else "POSIX", "WRITE"):
        if byte is None or int(first) <= byte <= (math.inf if last == "EOF" else int(last)):
            return holder
    return None


def lock_sharers(path: str) -> list[int]:
    """The processes that share a lock, flock(2), as far as they can be seen from here, as for
    `lock_holder`."""
    return sorted({holder for holder, *_ in _holders(path, "FLOCK", "READ")})


def _holders(path: str, kind: str, way: str) -> Iterator[tuple[int, str, str]]:
    """Who holds a lock on this file in that way, with its first and last byte."""
    try:
        found = os.stat(path)
        with open("/proc/locks", encoding="ascii") as file:
            locks = [line.split() for line in file]
    except OSError:
        return
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    wanted = [kind, "ADVISORY", way, f"{device}:{found.st_ino}"]
    for fields in locks:
        # Who waits for a lock has an arrow in the second place.
        if [*fields[1:4], *fields[5:6]] == wanted:
            yield int(fields[4]), fields[6], fields[7]


def stopped_holder(path: str) -> int | None:
    """As `lock_holder`, if somebody has stopped that process, as with SIGSTOP."""
    holder = lock_holder(path)
    return holder if holder is not None and is_stopped(holder) else None


def rename_noreplace(directory: int, source: str, target_directory: int, target: str) -> None:
    """Rename `source` in one open directory to `target` in another, atomically.

    Raises FileExistsError if the target exists, NotImplementedError where the filesystem or the C
    library cannot do that (renameat2(2), RENAME_NOREPLACE).
    """
    try:
        call = _libc.renameat2
    except AttributeError:
        raise NotImplementedError("renameat2") from None
    result = call(
        directory,
        os.fsencode(source),
        target_directory,
        os.fsencode(target),
        _RENAME_NOREPLACE,
    )
    if result == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):
        # EINVAL also means "target lies below source", which no caller can ask for: sources are
        # never directories.
        raise NotImplementedError("renameat2")
    raise OSError(number, os.strerror(number), source, None, target)


def birth_time(path: str) -> float | None:
    """When the file was created, in seconds since the epoch; None where the filesystem or the
    kernel does not tell (statx(2), stx_btime)."""
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    try:
        call = _libc.statx
    except AttributeError:
        return None
    if call(_AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, buffer) != 0:
        return None
    (mask,) = struct.unpack_from("=I", buffer, 0)
    if not mask & _STATX_BTIME:
        return None
    seconds: int
    nanoseconds: int
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, _STATX_BTIME_AT)
    return seconds + nanoseconds / 1e9


def open_for_writing(descriptor: int) -> bool | None:
    """Whether anybody has this regular file open for writing; None where the kernel will not say.

    A read lease is granted only while nobody has (fcntl(2), F_SETLEASE). It takes the file's owner
    or CAP_LEASE, and a filesystem that knows leases.
    """
    # Somebody who opens the file in the very instant of the lease makes the kernel send a signal.
    # The default one, SIGIO, would end this process; SIGURG is ignored unless somebody handles it.
    fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(descriptor, _F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, _F_SETLEASE, fcntl.F_UNLCK)
    return False


def unsent(descriptor: int) -> int:
    """How many bytes that were written to this socket the other end has yet to take (tcp(7),
    SIOCOUTQ); 0 where it is closed."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):
        return 0


def discard(descriptor: int) -> None:
    """Have what was written to this socket, and not sent yet, go to nobody once it is closed: the
    other end is told of a reset (socket(7), SO_LINGER). The kernel would go on sending it for
    minutes."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def is_locked(descriptor: int, offset: int) -> bool:
    """Whether another process has a lock on this byte of a file (fcntl(2), F_GETLK)."""
    # struct flock: l_type, l_whence, l_start, l_len, l_pid, with what follows that.
    asked = struct.pack("@hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    return bool(struct.unpack_from("@h", answer)[0] != fcntl.F_UNLCK)


def die_with_parent(signum: int = signal.SIGTERM) -> None:
    """Ask the kernel to send this process `signum` when the thread that started it ends
    (prctl(2), PR_SET_PDEATHSIG). The caller checks getppid() afterwards: the parent may be gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)


def raise_descriptor_limit() -> None:
    """Let this process have as many open files as its user may: a worker holds each file that it
    uploads open, flood-watch directories that it lists or moves files between, and the usual soft
    limit, 1024, is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def hard_links_guarded() -> bool:
    """Whether the kernel lets nobody make a hard link to a file that he neither owns nor may read
    and write (proc(5), fs.protected_hardlinks). True where it does not tell, as before Linux 5.16
    without root's rights: distributions turn it on."""
    try:
        with open("/proc/sys/fs/protected_hardlinks", encoding="ascii") as file:
            return file.read().strip() != "0"
    except OSError:
        return True
