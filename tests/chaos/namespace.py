"""Mounts of the trial's own, which end with it."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: Says that this process may mount as it likes; its value is how that came about.
INSIDE: Final = "FLOOD_CHAOS_NAMESPACE"

# <sys/mount.h>
_MS_RDONLY: Final = 1
_MS_REMOUNT: Final = 32

_libc = ctypes.CDLL(None, use_errno=True)
_WAYS: Final = (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"])


def enter(arguments: Sequence[str]) -> None:
    """Run this program again where its mounts are nobody else's, if the machine allows that.

    Returns where it is so already, or where it cannot be.
    """
    if os.environ.get(INSIDE) or shutil.which("unshare") is None:
        return
    for way in _WAYS:
        if os.geteuid() and "--map-root-user" not in way:
            continue
        tried = subprocess.run(
            [*way, "sh", "-c", "mount -t tmpfs tmpfs /mnt && mount --bind /etc/passwd /etc/hosts"],
            check=False,
            capture_output=True,
        )
        if tried.returncode == 0:
            os.environ[INSIDE] = " ".join(way)
            command = [*way, sys.executable, "-m", "tests.chaos", *arguments]
            os.execvp(command[0], command)  # noqa: S606  the very same program


def inside() -> bool:
    """Whether this process may mount."""
    return bool(os.environ.get(INSIDE))


def mount_disk(directory: Path, size: int) -> None:
    """Put a disk of so many bytes there."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "flood-trial", str(directory)],
        check=True,
    )


def remount(directory: Path, *, read_only: bool) -> bool:
    """Change what may be done on a disk; False while somebody has a file open for writing."""
    # Not mount(8), which repeats options that nobody but root may give.
    flags = _MS_REMOUNT | (_MS_RDONLY if read_only else 0)
    return bool(_libc.mount(None, os.fsencode(directory), None, flags, None) == 0)


def own_names(directory: Path, host: str) -> Path:
    """Take the looking up of names over; return the file that says where `host` is."""
    hosts, resolver = directory / "hosts", directory / "resolv.conf"
    hosts.write_text(f"127.0.0.1 localhost {host}\n")
    # Nobody listens there, so that a name that is in no file is a failure at once.
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    for ours, theirs in ((hosts, "/etc/hosts"), (resolver, "/etc/resolv.conf")):
        subprocess.run(["mount", "--bind", str(ours), os.path.realpath(theirs)], check=True)
    return hosts
