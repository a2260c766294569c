"""The commands that are to be copied install what they say, for the Python that runs flood."""

import configparser
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flood import installing
from tests.spooling import in_child

CHECKOUT = Path(__file__).parents[2]

#: The number of a user that has no rights here.
OTHER = 65534


def test_it_is_the_very_python_whatever_its_name() -> None:
    command = shlex.split(installing.command("a", "b>=1"))
    assert command[-6:] == [sys.executable, "-m", "pip", "install", "a", "b>=1"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_write_there_is_told_to_be_root() -> None:
    assert not installing.command("a").startswith("sudo ")

    def as_another_user() -> None:
        os.setuid(OTHER)
        assert installing.command("a").startswith("sudo ")

    assert in_child(as_another_user) == 0


def test_the_version_is_the_one_that_flood_asks_for() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(CHECKOUT / "setup.cfg")
    [wanted] = setup["options.extras_require"]["notify"].split("\n")[1:]
    assert installing.package("apprise") == wanted.replace(" ", "")
    assert installing.package("nothing") == "nothing"


def test_flood_may_run_from_a_checkout_that_nobody_has_installed(tmp_path: Path) -> None:
    (tmp_path / "flood").symlink_to(CHECKOUT / "flood")  # without what setuptools has left there
    code = "from flood import installing; print(installing.package('apprise'))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],  # nor with site-packages
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "apprise\n"


def test_no_command_would_fetch_another_project_named_flood() -> None:
    told = ("README.md", "CHANGELOG.md", "Containerfile", "setup.cfg", "docs/**/*.md")
    code = [f"{place}/**/*" for place in ("flood", "workers", "scripts")]
    paths = [x for name in (*told, *code) for x in CHECKOUT.glob(name) if x.is_file()]
    texts = {x: x.read_text("utf-8", "replace") for x in paths if x.suffix != ".pyc"}
    assert any("pip install '.[notify]'" in text for text in texts.values())
    for path, text in texts.items():
        assert re.search(r"flood\[|\bpip3? install (-\S+ )*['\"]?flood\b", text) is None, path
