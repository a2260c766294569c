"""What most unit tests need."""

from collections.abc import Iterator

import pytest

from tests.spooling import House, quick_house


@pytest.fixture
def house() -> Iterator[House]:
    """A spool with a migrated, bound database."""
    with quick_house() as made:
        yield made
