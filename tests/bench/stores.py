"""What a benchmark wants of a store, with rclone's server for where no sink can be built."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

from tests.servers import ServerProcess

_BLOCK: Final = 1024**2


@dataclass(frozen=True)
class Stored:
    """An object that a store has got; `at` is of time.monotonic's clock, in seconds."""

    name: bytes  # with the bucket
    size: int
    sum: int  # of its bytes
    at: float


class Store(Protocol):
    """A running store."""

    @property
    def url(self) -> str: ...

    @property
    def pid(self) -> int: ...

    def counts(self) -> dict[str, Any]:
        """Return how many requests, connections and objects there were, as far as it can tell."""
        ...

    def objects(self) -> list[Stored]:
        """Return everything that it has got."""
        ...


class RcloneStore:
    """rclone's server over a directory, whose subdirectories are the buckets; a context manager.

    It checks no signatures.
    """

    def __init__(self, program: str, directory: Path) -> None:
        self._directory = directory
        self._server = ServerProcess(
            [
                *(program, "serve", "s3", "--addr", "127.0.0.1:0", "--config", os.devnull),
                *("--vfs-cache-mode", "off", str(directory)),
            ],
            r"Starting s3 server on \[http://127\.0\.0\.1:(\d+)/\]",
        )

    def __enter__(self) -> "RcloneStore":
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def pid(self) -> int:
        return self._server.pid

    def counts(self) -> dict[str, Any]:
        return {}

    def objects(self) -> list[Stored]:
        return sorted(self._objects(), key=lambda stored: stored.name)

    def _objects(self) -> Iterator[Stored]:
        elapsed = time.time() - time.monotonic()
        for folder, _, names in os.walk(self._directory):
            for name in names:
                path = Path(folder, name)
                total = 0
                with path.open("rb") as file:
                    while block := file.read(_BLOCK):
                        total += sum(block)
                status = path.stat()
                key = os.fsencode(path.relative_to(self._directory))
                yield Stored(key, status.st_size, total, status.st_ctime - elapsed)
