"""Servers that the tests of one process share."""

import gc
import itertools
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from hypothesis import settings

from flood import log, queue_storage
from tests import servers
from tests.servers import S3Server
from tests.uploading import UPLOADERS, MakeUploader

# A proxy of the machine's own must not stand between the tests and their servers.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

# A shell's background jobs ignore the one, what nohup starts the other, and so would every process
# that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A slow moment of a busy machine is no failure.
settings.register_profile("flood", deadline=None)
settings.load_profile("flood")


def pytest_collection_finish() -> None:
    """Have Python look no more through thousands of tests for what could be deleted, in each
    process that is forked, too: that took a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def untouched_loggers() -> Iterator[None]:
    """Give every logger back as it was: a command that runs within a test configures them."""
    root = logging.getLogger()
    loggers = [logging.getLogger(name) for name in (*log.OWN, "huey", "huey.consumer")]
    level = root.level
    before = [(each.handlers[:], each.level, each.propagate) for each in loggers]
    yield
    root.setLevel(level)
    for each in root.handlers[:]:
        if type(each).__module__ == log.__name__:  # the others are pytest's own
            root.removeHandler(each)
    for logger, (handlers, own_level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(own_level)
        logger.propagate = propagate


@pytest.fixture(autouse=True)
def briefly_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the queue of this process tell at once that it is empty."""
    monkeypatch.setattr(queue_storage, "LISTEN", 0.01)


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that verifies every signature."""
    directory: Path = tmp_path_factory.mktemp("rclone")
    with servers.rclone(directory) as process:
        yield S3Server("rclone", process.port, verifies=True, directory=directory)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """A server that knows all of Amazon's calls."""
    with servers.moto() as process:
        yield S3Server("moto", process.port, verifies=False)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nothing trusts unless a test says so."""
    return trustme.CA()


@pytest.fixture(scope="session")
def bucket_name() -> Callable[[], str]:
    """Gives names that no other test uses."""
    numbers = itertools.count(1)
    return lambda: f"bucket-{os.getpid()}-{next(numbers)}"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[bytes], int]]:
    """Opens files with given contents."""
    descriptors: list[int] = []

    def open_file(data: bytes) -> int:
        path = tmp_path / f"file-{len(descriptors)}"
        path.write_bytes(data)
        descriptors.append(os.open(path, os.O_RDONLY))
        return descriptors[-1]

    yield open_file
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.fixture(params=UPLOADERS)
def make_uploader(request: pytest.FixtureRequest) -> MakeUploader:
    """Makes uploaders of one kind; the test is run with each kind."""
    return UPLOADERS[request.param]
