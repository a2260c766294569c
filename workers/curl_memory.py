"""The memory of one large file's parts, in blocks that are used again."""

from mmap import mmap
from typing import Final

#: Bytes of a block; all have as many.
BLOCK: Final = 1024**2

# How many parts it has room for, of what size at most, and how many blocks it has at least.
_PARTS: Final = 4
_LONGEST: Final = 32 * BLOCK
_LEAST: Final = 32


class Memory:
    """Blocks for parts of one size; one thread uses it.

    Where four parts would take too much, none is held: with fewer under way, a line that is long
    and broad would stand idle. Making it raises OSError where this machine has no memory left.
    """

    def __init__(self, part_size: int, size: int) -> None:
        #: Whether parts are held at all.
        self.holds = part_size <= _LONGEST
        most = max(_LEAST, _PARTS * _blocks(part_size)) if self.holds else 0
        blocks = min(most, _blocks(size))
        # What malloc gets back of such sizes it keeps; this goes back to the system with the file.
        memory = memoryview(mmap(-1, max(1, blocks) * BLOCK))
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


def _blocks(size: int) -> int:
    return -(-size // BLOCK)
