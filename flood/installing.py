"""Says how packages are installed for the Python that runs flood."""

import os
import shlex
import sys
import sysconfig
from importlib import metadata


def command(*what: str) -> str:
    """The command that has pip install this for it, whichever pip is the first on the PATH."""
    able = os.access(sysconfig.get_path("purelib"), os.W_OK | os.X_OK, effective_ids=True)
    sudo = () if able else ("sudo",)
    return shlex.join((*sudo, sys.executable, "-m", "pip", "install", *what))


def package(name: str) -> str:
    """What pip takes for a package that flood can do without, in a version that it works with. It
    is not named as a part of flood: an index may have another project of that name."""
    try:
        wanted = metadata.requires("flood") or ()
    except metadata.PackageNotFoundError:
        return name
    bare = (each.partition(";")[0].strip() for each in wanted)
    return next((each for each in bare if each.startswith(name)), name)
