"""Where measurements take place."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import peers
from tests.bench.floods import Flood
from tests.bench.sink import NoSink, Sink, build
from tests.bench.stores import RcloneStore, Store
from tests.bench.workloads import BUCKET, Tree, Workload, make_tree


@dataclass(frozen=True)
class Programs:
    """The sink, or why there is none, with and without TLS; a certificate of 127.0.0.1 with its
    key, and the authority that vouches for it."""

    plain: Path | NoSink
    secure: Path | NoSink
    certificate: Path | None = None
    authority: Path | None = None


def make_programs(directory: Path, *, tls: bool) -> Programs:
    """Build what can be built."""
    plain = _built(directory, tls=False)
    if not tls or isinstance(plain, NoSink):
        return Programs(plain, plain if isinstance(plain, NoSink) else NoSink("it is not wanted"))
    try:
        import trustme  # of the extra `bench`, for TLS only
    except ImportError:
        return Programs(plain, NoSink("the package trustme is missing"))
    authority, certificate = directory / "authority.pem", directory / "certificate.pem"
    made = trustme.CA()
    made.cert_pem.write_to_path(str(authority))
    made.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    return Programs(plain, _built(directory, tls=True), certificate, authority)


def _built(directory: Path, *, tls: bool) -> Path | NoSink:
    try:
        return build(directory, tls=tls)
    except NoSink as why:
        return why


class Arena:
    """An empty directory, on the disk where spool and database are to be."""

    def __init__(
        self, directory: Path, programs: Programs, *, threads: int = 1, consumers: int = 2
    ) -> None:
        self.directory = directory
        self.programs = programs
        self._threads = threads
        self._consumers = consumers
        self._tree: Tree | None = None
        peers.prepare(directory)

    def lacks(self, workload: Workload) -> str | None:
        """Return why this workload cannot be run here, or None."""
        if workload.tls and isinstance(self.programs.secure, NoSink):
            return str(self.programs.secure)
        if isinstance(self.programs.plain, NoSink):
            if workload.latency or workload.connect_latency:
                return "only the sink has a latency"
            if peers.PEERS["rclone"].program() is None:
                return "there is neither a sink nor rclone, for its server"
        return None

    def authority(self, workload: Workload) -> Path | None:
        """Return what vouches for the store."""
        return self.programs.authority if workload.tls else None

    def tree(self, workload: Workload) -> Tree:
        """Return the workload's files, which are made if the last ones were others."""
        wanted = (workload.count, workload.size)
        if self._tree is None or (len(self._tree.sums), self._tree.size) != wanted:
            self.forget_tree()
            self._tree = make_tree(self.directory / "files", *wanted)
        return self._tree

    def forget_tree(self) -> None:
        """Delete the files; after a failure they may be anywhere."""
        shutil.rmtree(self.directory / "files", ignore_errors=True)
        self._tree = None

    @contextmanager
    def store(self, workload: Workload) -> Iterator[Store]:
        """Run a new store as the workload wants it."""
        os.sync()  # what earlier runs wrote is not to be written meanwhile
        with self._store(workload) as store:
            yield store

    def _store(self, workload: Workload) -> AbstractContextManager[Any]:
        program = self.programs.secure if workload.tls else self.programs.plain
        if isinstance(program, NoSink):
            objects = self.directory / "objects"
            shutil.rmtree(objects, ignore_errors=True)
            for key in self.tree(workload).sums:
                # Two uploads at once that both make a directory are too much for this server.
                (objects / BUCKET / key).parent.mkdir(parents=True, exist_ok=True)
            return RcloneStore(peers.PEERS["rclone"].program() or "rclone", objects)
        return Sink(
            program,
            [BUCKET],
            latency=workload.latency,
            connect_latency=workload.connect_latency,
            threads=self._threads,
            certificate=self.programs.certificate if workload.tls else None,
        )

    @contextmanager
    def flood(self, workload: Workload, url: str) -> Iterator[Flood]:
        """A flood that is not started yet; nothing of it is left in the end."""
        directory = self.directory / "flood"
        try:
            with Flood(directory, url, self.authority(workload), self._consumers) as flood:
                yield flood
        finally:
            shutil.rmtree(directory, ignore_errors=True)
