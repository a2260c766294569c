"""Reads from sockets of boto3's connections no longer than somebody waits."""

import io
import math
import time
from http.client import RemoteDisconnected
from typing import Any

from workers.answer_limits import LONGEST
from workers.failures import TransportFailed, endless


class Answer(io.RawIOBase):
    """What arrives at a socket, up to a number of bytes or a time of the monotonic clock. While
    `in_headers` is true the connection must not end."""

    def __init__(self, stream: Any, host: str, patience: float) -> None:
        self._stream = stream
        self._host = host
        self._patience = patience
        self.in_headers = True
        self._until = time.monotonic() + patience
        self._left = LONGEST

    @property
    def heard(self) -> bool:
        """Whether a byte has come."""
        return self._left < LONGEST

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        if time.monotonic() >= self._until:
            words = f"the answer was not whole after {self._patience:g} s"
            raise TransportFailed("read_timeout", self._host, words)
        count = self._stream.readinto(buffer)
        if not count and self.in_headers:
            raise RemoteDisconnected("the connection ended within an answer")
        self._left -= count or 0
        if self._left < 0:
            raise endless(self._host)
        return count

    def close(self) -> None:
        if not self.closed:
            self._stream.close()  # the socket counts who still reads from it
        super().close()


class Limited:
    """A socket from which one answer is read with a limit."""

    def __init__(self, plain: Any, host: str, patience: float) -> None:
        self.answers: list[Answer] = []
        self._plain = plain
        self._host = host
        self._patience = patience

    def makefile(self, mode: str, buffering: int | None = None) -> Any:
        answer = Answer(self._plain.makefile(mode, 0), self._host, self._patience)
        self.answers.append(answer)
        # Unbuffered is how botocore looks for 100 Continue.
        return answer if buffering == 0 else io.BufferedReader(answer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


class Hurried:
    """A socket with TLS to a proxy, from which nothing is read later than `until`, in time of the
    monotonic clock. urllib3's own TLS within TLS waits for each byte of a handshake anew, and says
    of one that does not come what it says of an answer."""

    def __init__(self, plain: Any, until: float) -> None:
        self.until = until
        self._plain = plain

    def recv(self, *rest: Any) -> Any:
        try:
            if time.monotonic() < self.until:
                return self._plain.recv(*rest)
        except TimeoutError:
            if self.until == math.inf:
                raise
        raise TimeoutError("the handshake was not over in time")

    def take_time(self) -> None:
        """Each answer has a limit of its own from now on."""
        self.until = math.inf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)
