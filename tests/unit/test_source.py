"""Bodies over a descriptor that belongs to somebody else."""

import hashlib
import os
import threading
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.failures import FileChanged, LocalReadError
from workers.source import GRACE, Body, Source, Watch
from workers.transfer import Interrupted


def memory_file(data: bytes) -> int:
    descriptor = os.memfd_create("flood-test")
    os.write(descriptor, data)
    return descriptor


def patient() -> Watch:
    return Watch(lambda: False, lambda: 0.0)


@given(
    data=st.binary(max_size=300),
    start=st.integers(0, 300),
    length=st.integers(0, 300),
    reads=st.lists(st.integers(1, 100) | st.none(), max_size=20),
)
def test_a_body_is_a_window_of_the_file(
    data: bytes, start: int, length: int, reads: list[int | None]
) -> None:
    start = min(start, len(data))
    expected = data[start : start + min(length, len(data) - start)]
    descriptor = memory_file(data)
    try:
        source = Source(descriptor, len(data), patient())
        for algorithm in ("md5", "crc32", None):
            body = Body(source, start, len(expected), algorithm)
            got = b"".join(body.read(amount) for amount in [*reads, -1])
            assert got == expected
            assert body.read() == b""
            assert body.tell() == len(expected)
            assert body.seek(0, os.SEEK_END) == len(expected)
            assert body.seek(0) == 0
            assert body.read() == expected, "signing reads the body once before it is sent"
            if algorithm == "md5":
                assert body.digest() == hashlib.md5(expected, usedforsecurity=False).digest()
            elif algorithm == "crc32":
                assert int.from_bytes(body.digest(), "big") == zlib.crc32(expected)
            else:
                assert body.digest() == b""
    finally:
        os.close(descriptor)


def test_a_file_that_shrank_is_no_end_of_file() -> None:
    descriptor = memory_file(b"short")
    try:
        source = Source(descriptor, 100, patient())
        body = Body(source, 0, 100, None)
        assert body.read(50) == b"short"
        with pytest.raises(FileChanged, match="after 5 bytes instead of 100"):
            body.read(50)
        assert isinstance(source.failure, FileChanged)
    finally:
        os.close(descriptor)


def test_an_unreadable_file_is_remembered(tmp_path: os.PathLike[str]) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        source = Source(descriptor, 100, patient())
        with pytest.raises(LocalReadError) as caught:
            Body(source, 0, 100, None).read()
        assert isinstance(caught.value.__cause__, IsADirectoryError)
        assert source.failure is caught.value
    finally:
        os.close(descriptor)


def test_a_closed_source_reads_nothing() -> None:
    descriptor = memory_file(b"data")
    source = Source(descriptor, 4, patient())
    source.close()
    with pytest.raises(Interrupted):
        Body(source, 0, 4, None).read()
    os.close(descriptor)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_stop_leaves_a_grace() -> None:
    clock, stop = Clock(), threading.Event()
    watch = Watch(stop.is_set, clock)
    assert (watch.stopping(), watch.expired()) == (False, False)
    stop.set()
    assert (watch.stopping(), watch.expired()) == (True, False)
    clock.now += GRACE - 0.1
    assert (watch.stopping(), watch.expired()) == (True, False)
    clock.now += 0.1
    assert (watch.stopping(), watch.expired()) == (True, True)


@pytest.mark.parametrize("cut", [True, False])
def test_a_pause_ends_when_transfers_do(cut: bool) -> None:
    watch = patient()
    if cut:
        watch.cut()
        with pytest.raises(Interrupted):
            watch.pause(60.0)
    else:
        watch.pause(0.001)
