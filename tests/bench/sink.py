"""Builds the sink, starts it, asks it what it has got."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from tests.bench.stores import Stored

SOURCE: Final = Path(__file__).with_name("sink.c")
#: As many as sink.c takes.
MOST_THREADS: Final = 64
_COMPILERS: Final = ("cc", "gcc", "clang")
_FLAGS: Final = ("-std=gnu11", "-O3", "-Wall", "-Wextra", "-pthread")


class NoSink(Exception):
    """The sink cannot be built here; the text says why."""


def build(directory: Path, *, tls: bool = False) -> Path:
    """Compile the sink; return the program. Raises NoSink with the compiler's words."""
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise NoSink("there is no C compiler (on Debian or Ubuntu: apt install gcc libc6-dev)")
    program = directory / ("sink-tls" if tls else "sink")
    extra = ["-DTLS"] if tls else []
    libraries = ["-lssl", "-lcrypto"] if tls else []
    done = subprocess.run(
        [compiler, *_FLAGS, *extra, "-o", str(program), str(SOURCE), *libraries],
        # A compiler that is killed leaves its temporary files.
        env=os.environ | {"TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        needs = " (TLS needs OpenSSL's headers; on Debian or Ubuntu: apt install libssl-dev)"
        raise NoSink(f"{compiler} fails{needs if tls else ''}: {done.stderr.strip()}")
    return program


class Sink:
    """A running sink; a context manager. It ends with the process that started it.

    `latency` before each response and `connect_latency` before a connection is first read from are
    in milliseconds. With `certificate`, a PEM file that holds the key, too, it speaks TLS.
    """

    def __init__(
        self,
        program: Path,
        buckets: Sequence[str] = (),
        *,
        port: int = 0,
        latency: float = 0.0,
        connect_latency: float = 0.0,
        threads: int = 1,
        certificate: Path | None = None,
    ) -> None:
        self.secure = certificate is not None
        self._command = [
            *(str(program), "--port", str(port), "--threads", str(threads)),
            *("--latency", str(latency), "--connect-latency", str(connect_latency)),
            *(f"--bucket={bucket}" for bucket in buckets),
            *(("--certificate", str(certificate)) if certificate is not None else ()),
        ]
        self.port = 0

    def __enter__(self) -> "Sink":
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        said = self._line()
        if not said:
            self._process.communicate()  # closes the pipes, too
            status = self._process.returncode
            raise NoSink(f"the sink ended with status {status}; it says why above")
        self.port = json.loads(said)["port"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"

    def counts(self) -> dict[str, Any]:
        """Return requests, connections, objects and so on, since the beginning or `forget`."""
        self._say("counts")
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def objects(self) -> list[Stored]:
        """Return all objects, by name."""
        self._say("objects")
        return list(self._objects())

    def forget(self) -> None:
        """Forget all objects and counts."""
        self._say("forget")
        self._line()

    def _objects(self) -> Iterator[Stored]:
        while line := self._line().rstrip(b"\n"):
            size, total, at, name = line.split(b" ")
            yield Stored(unquote_to_bytes(name), int(size), int(total), int(at) / 1e9)

    def _say(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def main() -> int:
    """Run a sink until Enter is pressed; print what it got."""
    parser = argparse.ArgumentParser(
        "python -m tests.bench.sink", description="Runs the sink by itself.", allow_abbrev=False
    )
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument("--bucket", action="append", default=[], help="a bucket; may be repeated")
    parser.add_argument("--latency", type=float, default=0.0, help="of each response, in ms")
    parser.add_argument(
        "--connect-latency", type=float, default=0.0, help="of each connection, in ms"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--certificate", type=Path, help="speak TLS with this PEM file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flood-sink-") as directory:
        try:
            program = build(Path(directory), tls=chosen.certificate is not None)
            with Sink(
                program,
                chosen.bucket or ["bench"],
                port=chosen.port,
                latency=chosen.latency,
                connect_latency=chosen.connect_latency,
                threads=chosen.threads,
                certificate=chosen.certificate,
            ) as sink:
                print(f"{sink.url}, Enter for counts, Ctrl-D to end")  # noqa: T201
                try:
                    while sys.stdin.readline():
                        print(json.dumps(sink.counts()))  # noqa: T201
                except KeyboardInterrupt:
                    pass
                print(json.dumps(sink.counts()))  # noqa: T201
        except NoSink as why:
            print(f"no sink: {why}", file=sys.stderr)  # noqa: T201
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
