"""An upload's file as bodies that read it, bounded to what was opened."""

import hashlib
import os
import threading
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Final, Literal, TypeVar

from workers.failures import FileChanged, LocalReadError
from workers.transfer import Interrupted

#: Seconds that running transfers may go on after the worker was told to stop.
GRACE: Final = 5.0

# How often a pause looks whether it must end, in seconds.
_LOOK: Final = 0.1

Got = TypeVar("Got", int, bytes)

Algorithm = Literal["md5", "crc32"]


class Watch:
    """Knows when running transfers have to end; any thread may ask.

    `stopping` is the worker's own question; `clock` gives seconds that never go back; after a stop
    transfers may go on for `grace` seconds.
    """

    def __init__(
        self, stopping: Callable[[], bool], clock: Callable[[], float], grace: float = GRACE
    ) -> None:
        self._stopping = stopping
        self._grace = grace
        self._clock = clock
        self._deadline: float | None = None
        self._cut = threading.Event()

    def stopping(self) -> bool:
        """Whether no new transfer may start."""
        return self.expired() or self._deadline is not None

    def expired(self) -> bool:
        """Whether running transfers must end now."""
        if self._cut.is_set():
            return True
        if self._deadline is None and self._stopping():
            self._deadline = self._clock() + self._grace
        if self._deadline is not None and self._clock() >= self._deadline:
            self._cut.set()
        return self._cut.is_set()

    def cut(self) -> None:
        """End every running transfer now."""
        self._cut.set()

    def pause(self, seconds: float) -> None:
        """Wait; raises Interrupted as soon as transfers must end."""
        end = time.monotonic() + seconds
        while not self.expired():
            left = end - time.monotonic()
            if left <= 0:
                return
            # Perhaps nobody else asks meanwhile whether the worker is to stop.
            self._cut.wait(min(left, _LOOK))
        raise Interrupted


class Source:
    """One upload's descriptor, read by any number of bodies until it is closed.

    Closing does not close the descriptor, which is its owner's; it guarantees that nothing reads
    from it afterwards, when its number may belong to another file already. A local error is kept
    in `failure`, because on its way through the HTTP client it comes to look like a network error.
    """

    def __init__(self, descriptor: int, size: int, watch: Watch) -> None:
        self.size = size
        self.failure: LocalReadError | FileChanged | None = None
        self._descriptor = descriptor
        self._watch = watch
        self._lock = threading.Lock()
        self._closed = False

    def read(self, count: int, offset: int) -> bytes:
        """Return 1 to `count` bytes from `offset`, which lies before the end.

        Raises LocalReadError, FileChanged, or Interrupted when the transfer must end.
        """
        return self._read(partial(os.pread, self._descriptor, count), offset)

    def fill(self, buffer: memoryview, offset: int) -> None:
        """Read from `offset` until the buffer is full; raises what `read` does."""
        filled = 0
        while filled < len(buffer):
            left = buffer[filled:]
            filled += self._read(partial(os.preadv, self._descriptor, [left]), offset + filled)

    def _read(self, call: Callable[[int], Got], offset: int) -> Got:
        if self._watch.expired():
            raise Interrupted
        with self._lock:
            if self._closed:
                raise Interrupted
            try:
                got = call(offset)
            except OSError as error:
                self.failure = LocalReadError(f"cannot read the file: {error.strerror}")
                raise self.failure from error
        if not got:
            self.failure = FileChanged(
                f"the file ends after {offset} bytes instead of {self.size}: it was changed while"
                " it was sent; it is sent again"
            )
            raise self.failure
        return got

    def close(self) -> None:
        """Let no body read from now on; waits for a read that is under way."""
        with self._lock:
            self._closed = True


class Body:
    """A seekable file object over a part of a source, which digests what is read in order.

    A seek to the start begins the digest anew, since signing reads the body once before sending.
    """

    def __init__(self, source: Source, offset: int, size: int, algorithm: Algorithm | None) -> None:
        self.size = size
        self._source = source
        self._offset = offset
        self._algorithm = algorithm
        self._position = 0
        self._start_digest()

    def _start_digest(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc = 0

    def digest(self) -> bytes:
        """Return the digest of what was read since the last seek to the start; none without an
        algorithm."""
        if self._algorithm is None:
            return b""
        return self._md5.digest() if self._algorithm == "md5" else self._crc.to_bytes(4, "big")

    def read(self, amount: int | None = -1) -> bytes:
        left = self.size - self._position
        count = left if amount is None or amount < 0 else min(amount, left)
        if count <= 0:
            return b""
        data = self._source.read(count, self._offset + self._position)
        self._take(data)
        return data

    def fill(self, buffer: memoryview) -> None:
        """Read on until the buffer is full; raises what the source raises."""
        self._source.fill(buffer, self._offset + self._position)
        self._take(buffer)

    def _take(self, data: bytes | memoryview) -> None:
        self._position += len(data)
        if self._algorithm == "md5":
            self._md5.update(data)
        elif self._algorithm == "crc32":
            self._crc = zlib.crc32(data, self._crc)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        if self._position == 0:
            self._start_digest()
        return self._position

    def rewind(self) -> None:
        """Go back to the start."""
        self.seek(0)

    def tell(self) -> int:
        return self._position
