"""Small filesystems of a test's own."""

import subprocess

import pytest


def _can_mount() -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


#: Marks tests that make one, in a namespace of their own.
mounting = pytest.mark.skipif(
    not _can_mount(), reason="takes the right to mount a small filesystem"
)
