"""How commands that a person copies name users."""

import os
import subprocess
from pathlib import Path

import pytest

from flood import users


@pytest.mark.parametrize(
    ("user", "to_chown", "to_sudo"), [("flood", "flood:", "flood"), ("4242", "4242", "#4242")]
)
def test_a_user_without_a_name_is_named_so_that_commands_take_him(
    user: str, to_chown: str, to_sudo: str
) -> None:
    """As one of a container."""
    assert users.with_group(user) == to_chown
    assert users.to_sudo(user) == to_sudo


def test_chown_takes_what_it_is_given(tmp_path: Path) -> None:
    own = users.name(os.geteuid())
    for user in (own, str(os.geteuid())):
        subprocess.run(["chown", users.with_group(user), tmp_path], check=True)
