"""One HTTP request with its answer."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from workers.curl_payload import Stream
from workers.proxies import Proxy

#: What is kept of an answer's body, in bytes; S3's refusals have a few hundred.
LONGEST_KEPT: Final = 64 * 1024

_SUCCESS: Final = range(200, 300)


@dataclass(eq=False, slots=True)
class Exchange:
    """A request of one of the methods that S3 has.

    `headers` are lines, `region` is what the signature names; a body in bytes is held in memory,
    any other is read while it is sent. `longest` bytes of the answer's body are kept. Once
    `Connections` gives it back, `failure` tells why there is no answer, or `status` is the
    answer's; `head` is what came before the beginning of the answer's body, which is `content`.
    `twice` tells whether the request was sent twice.
    """

    operation: str
    url: str
    region: str
    headers: list[str]
    proxy: Proxy | None = None
    body: bytes | Stream | None = None
    size: int = 0
    method: str = "PUT"
    longest: int = LONGEST_KEPT
    #: The answer has so many seconds at least to become whole, whatever the read time-out.
    patience: float = 0.0
    twice: bool = False
    status: int = 0
    failure: BaseException | None = None
    head: bytes = b""
    content: bytes = b""
    #: Bytes of the body that are held in memory.
    held: int = field(init=False)
    _read: tuple[bytes, bytes] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.held = self.size if isinstance(self.body, bytes) else 0

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def succeeded(self) -> bool:
        """Whether the store did what it was asked."""
        return self.failure is None and self.status in _SUCCESS

    def answer_header(self, name: str) -> str | None:
        """Return one header of the final answer, whose name is given in lower case."""
        block, folded = self._answer()
        start = folded.rfind(f"\r\n{name}:".encode())
        if start < 0:
            return None
        start += len(name) + 3
        return block[start:].partition(b"\r\n")[0].decode("latin-1").strip()

    def answer_headers(self) -> dict[str, str]:
        """Return the headers of the final answer, their names in lower case."""
        headers = {}
        for line in self._answer()[0].decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    def _answer(self) -> tuple[bytes, bytes]:
        """The headers of the final answer, then the same in lower case."""
        if self._read is None:
            # Blocks of interim answers come first, one of trailers may come behind.
            start = self.head.rfind(b"\r\n\r\nHTTP/")
            block = self.head[start + 4 if start >= 0 else 0 :].partition(b"\r\n\r\n")[0]
            self._read = block, block.lower()
        return self._read
