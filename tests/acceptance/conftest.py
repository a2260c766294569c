"""Spools for the tests of the whole program."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import Flood, MakeFlood, credentials
from tests.proxy import FaultProxy
from tests.servers import S3Server


@pytest.fixture
def server(rclone_server: S3Server) -> S3Server:
    """The store that most tests use."""
    return rclone_server


@pytest.fixture
def bucket(server: S3Server, bucket_name: Callable[[], str]) -> str:
    """A bucket of this test's own."""
    return server.make_bucket(bucket_name())


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    """The way to the store, on which things can happen."""
    with FaultProxy(server.address) as running:
        yield running


@pytest.fixture
def make_flood(tmp_path: Path) -> Iterator[MakeFlood]:
    """Makes spools; their processes end with the test, and say what they did if it fails."""
    made: list[Flood] = []

    def make(text: str, **settings: Any) -> Flood:
        directory = tmp_path / f"flood-{len(made)}"
        directory.mkdir()
        made.append(Flood(directory, text, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
        print(one.logs())  # noqa: T201  pytest shows it with a failure


@pytest.fixture
def flood(make_flood: MakeFlood, server: S3Server) -> Flood:
    """A spool with the one profile `main`, straight to the store."""
    return make_flood(credentials(("main", server.url)))


@pytest.fixture
def proxied(make_flood: MakeFlood, proxy: FaultProxy) -> Flood:
    """A spool with the one profile `main`, whose way to the store is the proxy."""
    return make_flood(credentials(("main", proxy.url)))
