"""The memory of one large file's parts, in blocks that are used again."""

import mmap
from typing import Final

#: Bytes of a block; all have as many.
BLOCK: Final = 1024**2

# The longest parts that are held, and how many blocks there are at least and at most.
_LONGEST: Final = 32 * BLOCK
_LEAST: Final = 32
_MOST: Final = 256

# How many parts it has room for in any case.
_PARTS: Final = 4


class Memory:
    """Blocks for parts of one size, of a file of so many bytes, of which up to `at_once` are sent
    side by side; one thread uses it.

    A part that is under way holds half of its blocks on average. Parts that are too long are not
    held: with few of them under way, a line that is long and broad would stand idle. Making it
    raises OSError where this machine has no memory left.
    """

    def __init__(self, part_size: int, size: int, at_once: int) -> None:
        part = _blocks(part_size)
        #: Whether parts are held at all.
        self.holds = part_size <= _LONGEST
        wanted = min(max(_LEAST, at_once * part // 2), _MOST)
        most = max(wanted, _PARTS * part) if self.holds else 0
        blocks = min(most, _blocks(size))
        # What malloc gets back of such sizes it keeps.
        self._map = mmap.mmap(
            -1, max(1, blocks) * BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        memory = memoryview(self._map)
        # Those that were used last are the first to be used again, so that few are ever touched.
        self._free = [memory[n * BLOCK : (n + 1) * BLOCK] for n in reversed(range(blocks))]

    def has_room(self, size: int) -> bool:
        """Whether it has room for a part of so many bytes now."""
        return _blocks(size) <= len(self._free)

    def take(self, size: int) -> list[memoryview]:
        """The blocks for a part of so many bytes, for which there is room."""
        return [self._free.pop() for _ in range(_blocks(size))]

    def give_back(self, block: memoryview) -> None:
        """This one may be used again."""
        self._free.append(block)

    def close(self) -> None:
        """Give all of it back to the system, whoever still knows of a block: an error that is kept
        keeps the frames that it came through."""
        self._map.madvise(mmap.MADV_DONTNEED)


def _blocks(size: int) -> int:
    return -(-size // BLOCK)
