"""One HTTP request with its answer."""

from dataclasses import dataclass, field
from io import BytesIO
from typing import Final
from urllib.parse import urlsplit

from workers.curl_payload import Stream

#: What is kept of an answer's body, in bytes; S3's refusals have a few hundred.
LONGEST_ANSWER: Final = 64 * 1024

# What an answer may have before nobody reads on.
_ENDLESS: Final = 1024**2


_SUCCESS: Final = range(200, 300)


@dataclass(eq=False)
class Exchange:
    """A PUT or, without a body, a HEAD or a GET.

    `headers` are lines, `region` is what the signature names, `proxy` is a proxy's URL or empty; a
    body in bytes is held in memory, any other is read while it is sent; `asks` means a GET. Once
    `Connections` gives it back, `failure` tells why there is no answer, or `status` is the
    answer's.
    """

    operation: str
    url: str
    region: str
    headers: list[str]
    proxy: str = ""
    body: bytes | Stream | None = None
    size: int = 0
    asks: bool = False
    status: int = 0
    failure: BaseException | None = None
    head: BytesIO = field(default_factory=BytesIO)
    content: BytesIO = field(default_factory=BytesIO)

    def __post_init__(self) -> None:
        #: Bytes of the body that are held in memory.
        self.held = self.size if isinstance(self.body, bytes) else 0
        self._taken = 0

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def succeeded(self) -> bool:
        """Whether the store did what it was asked."""
        return self.failure is None and self.status in _SUCCESS

    def answer_headers(self) -> dict[str, str]:
        """Return the headers of the final answer, their names in lower case."""
        # An interim answer's block comes first.
        block = self.head.getvalue().rstrip().rpartition(b"\r\n\r\n")[2]
        pairs = (line.partition(":") for line in block.decode("latin-1").split("\r\n")[1:])
        return {name.strip().lower(): value.strip() for name, _, value in pairs}

    def take_content(self, data: bytes) -> int:
        """Keep the beginning of the answer's body; an answer without end is refused."""
        self._taken += len(data)
        if self._taken > _ENDLESS:
            return -1
        self.content.write(data[: LONGEST_ANSWER - self.content.tell()])
        return len(data)
