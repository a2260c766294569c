"""A body to be sent, with the digests that its request needs beforehand."""

import hashlib
import os
import zlib
from typing import Final, NamedTuple, Protocol

from workers.source import Algorithm, Body, Source

# Bytes that are read at once where a body is not held in memory.
_BLOCK: Final = 256 * 1024


class Stream(Protocol):
    """A body that libcurl asks for while it is sent."""

    def read(self, amount: int) -> bytes:
        """Return up to so many bytes; none at the end."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go back, when the request has to be sent once more."""

    def digest(self) -> bytes:
        """Return the digest of what was read since the last seek to the start."""


class Held:
    """A Stream over bytes that stay in a buffer."""

    def __init__(self, view: memoryview, digest: bytes) -> None:
        self._view = view
        self._digest = digest
        self._position = 0

    def read(self, amount: int) -> bytes:
        block = bytes(self._view[self._position : self._position + amount])
        self._position += len(block)
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._view)}[whence]
        self._position = max(0, base + offset)
        return self._position

    def digest(self) -> bytes:
        return self._digest


class Payload(NamedTuple):
    """`sha256` is in hexadecimal, None where it is not to be signed; `announced` is the other
    digest that was asked for, of what was read first."""

    body: bytes | Stream
    size: int
    sha256: str | None
    announced: bytes

    def digest(self) -> bytes:
        """Return the digest of what was sent."""
        return self.announced if isinstance(self.body, bytes) else self.body.digest()

    def rewind(self) -> None:
        """Make it ready to be sent again."""
        if not isinstance(self.body, bytes):
            self.body.seek(0)


class Loader(NamedTuple):
    """Reads bodies for requests that announce their digest by `algorithm`, where there is one; if
    `signed`, their SHA-256, too. Its methods raise what the source raises."""

    algorithm: Algorithm | None
    signed: bool

    def whole(self, source: Source, size: int) -> Payload:
        """Read a file from its start into memory."""
        blocks = []
        read = 0
        while read < size:
            blocks.append(source.read(size - read, read))
            read += len(blocks[-1])
        data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        return Payload(data, size, self._sha256(data), self._digest(data))

    def held(self, source: Source, offset: int, size: int, buffer: memoryview) -> Payload:
        """Read a part of a file into a buffer, which must not be used until it was sent."""
        view = buffer[:size]
        source.fill(view, offset)
        digest = self._digest(view)
        return Payload(Held(view, digest), size, self._sha256(view), digest)

    def streamed(self, source: Source, offset: int, size: int) -> Payload:
        """Read a part of a file for its digests; it is read once more while it is sent."""
        body = Body(source, offset, size, self.algorithm)
        sha256 = hashlib.sha256()
        while block := body.read(_BLOCK):
            if self.signed:
                sha256.update(block)
        announced = body.digest() if self.algorithm else b""
        body.seek(0)
        return Payload(body, size, sha256.hexdigest() if self.signed else None, announced)

    def _sha256(self, data: bytes | memoryview) -> str | None:
        return hashlib.sha256(data).hexdigest() if self.signed else None

    def _digest(self, data: bytes | memoryview) -> bytes:
        if self.algorithm == "md5":
            return hashlib.md5(data, usedforsecurity=False).digest()
        return zlib.crc32(data).to_bytes(4, "big") if self.algorithm == "crc32" else b""
