"""Says on what machine, with which programs, something was measured."""

import os
import platform
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pycurl

from tests.bench.peers import PEERS

_IN_MEMORY = ("tmpfs", "ramfs")


def facts(peers: Iterable[str]) -> dict[str, str]:
    """Return what figures depend on, by name."""
    found = {
        "processors": f"{len(os.sched_getaffinity(0))} x {_model()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1024**3:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "flood": f"{_version('flood')}, {pycurl.version.split()[1]}, huey {_version('huey')}",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }
    for name in peers:
        program = PEERS[name].program()
        if program is not None:
            found[name] = _said(program, PEERS[name].asks_version)
    return found


def is_busy() -> bool:
    """Whether others take so much of the machine that no figure can be trusted."""
    return os.getloadavg()[0] > 0.25 * len(os.sched_getaffinity(0))


def in_memory(directory: Path) -> bool:
    """Whether a directory is on no disk."""
    path, best = os.path.realpath(directory), ("", "")
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, place, kind, *_ = line.split()
            inside = path == place or path.startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(best[0]):
                best = (place, kind)
    return best[1] in _IN_MEMORY


def _model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


def _said(program: str, word: str) -> str:
    done = subprocess.run([program, word], capture_output=True, text=True, timeout=30, check=False)
    return next(iter(done.stdout.splitlines()), "?")
