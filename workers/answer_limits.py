"""How much of an answer is waited for."""

from typing import Final

#: In bytes. Nothing that flood asks a store for is answered by so much: a page of a list has some
#: hundred KiB, a refusal a few hundred bytes.
LONGEST: Final = 16 * 1024**2

#: An answer that is not whole after so many read time-outs is given up, however many of its bytes
#: still come.
TIMEOUTS: Final = 10

#: Amazon answers CompleteMultipartUpload at once, then sends blanks while it works, for minutes
#: (AWS, "CompleteMultipartUpload"): so many seconds it has, whatever the read time-out.
COMPLETION: Final = 600.0

#: An abort comes last, often when the network has failed already: nobody waits for it longer than
#: so many seconds for a connection, for an answer.
SHORT_CONNECT: Final = 5.0
SHORT_READ: Final = 15.0
