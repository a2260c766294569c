"""What most unit tests need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import spooling
from tests.spooling import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A spool with a migrated, bound database."""
    with spooling.house(tmp_path) as made:
        yield made
