"""A body to be sent, with the digests that its request needs beforehand."""

import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from workers.source import Algorithm, Body, Source

# Bytes that are read at once where a body is not held in memory.
_BLOCK: Final = 256 * 1024


class Stream(Protocol):
    """A body that libcurl asks for while it is sent."""

    def read(self, amount: int) -> bytes:
        """Return up to so many bytes; none at the end."""

    def rewind(self) -> None:
        """Begin anew, when the request has to be sent once more."""

    def digest(self) -> bytes:
        """Return the digest of what was read since it began."""


class Held:
    """A Stream over a body that was read into blocks of memory.

    `give_back` gets each block as soon as its bytes were handed out, so that the next body can be
    read into it. What has to be sent once more after that is read from the file again.
    """

    def __init__(
        self,
        blocks: Sequence[memoryview],
        body: Body,
        give_back: Callable[[memoryview], None],
    ) -> None:
        self._blocks = deque(blocks)
        self._body = body
        self._give_back = give_back
        self._digest = body.digest()
        self._is_whole = True
        self._from_file = False
        self._begin()

    def _begin(self) -> None:
        self._left = self._body.size
        self._position = 0

    def read(self, amount: int) -> bytes:
        if self._from_file:
            return self._body.read(amount)
        if not self._left:
            return b""
        block = self._blocks[0]
        data = bytes(block[self._position : self._position + min(amount, self._left)])
        self._position += len(data)
        self._left -= len(data)
        if self._position == len(block) or not self._left:
            self._forget_one()
        return data

    def rewind(self) -> None:
        if self._is_whole:
            self._begin()
            return
        self.let_go()
        self._from_file = True
        self._body.rewind()

    def let_go(self) -> None:
        """Give all blocks back: it is not sent from memory any more."""
        while self._blocks:
            self._forget_one()

    def _forget_one(self) -> None:
        self._give_back(self._blocks.popleft())
        self._position = 0
        self._is_whole = False

    def digest(self) -> bytes:
        return self._body.digest() if self._from_file else self._digest


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

    def let_go(self) -> None:
        """Give memory back that others wait for: it was sent, perhaps before all of it was asked
        for."""
        if isinstance(self.body, Held):
            self.body.let_go()

    def rewind(self) -> None:
        """Make it ready to be sent again."""
        if not isinstance(self.body, bytes):
            self.body.rewind()


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

    def held(
        self,
        source: Source,
        offset: int,
        size: int,
        blocks: Sequence[memoryview],
        give_back: Callable[[memoryview], None],
    ) -> Payload:
        """Read a part of a file into blocks, which are given back while it is sent."""
        body = Body(source, offset, size, self.algorithm)
        sha256 = hashlib.sha256()
        for number, block in enumerate(blocks):
            view = block[: size - number * len(block)]
            body.fill(view)
            if self.signed:
                sha256.update(view)
        held = Held(blocks, body, give_back)
        return Payload(held, size, sha256.hexdigest() if self.signed else None, held.digest())

    def streamed(self, source: Source, offset: int, size: int) -> Payload:
        """Read a part of a file for its digests; it is read once more while it is sent."""
        body = Body(source, offset, size, self.algorithm)
        sha256 = hashlib.sha256()
        while block := body.read(_BLOCK):
            if self.signed:
                sha256.update(block)
        announced = body.digest()
        body.rewind()
        return Payload(body, size, sha256.hexdigest() if self.signed else None, announced)

    def _sha256(self, data: bytes | memoryview) -> str | None:
        return hashlib.sha256(data).hexdigest() if self.signed else None

    def _digest(self, data: bytes | memoryview) -> bytes:
        if self.algorithm == "md5":
            return hashlib.md5(data, usedforsecurity=False).digest()
        return zlib.crc32(data).to_bytes(4, "big") if self.algorithm == "crc32" else b""
