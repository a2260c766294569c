"""How much of an answer is waited for."""

from typing import Final

#: In bytes. Nothing that flood asks a store for is answered by so much: a page of a list has some
#: hundred KiB, a refusal a few hundred bytes.
LONGEST: Final = 16 * 1024**2

#: An answer that is not whole after so many read time-outs is given up, however many of its bytes
#: still come.
TIMEOUTS: Final = 10
