"""Bodies for libcurl: what is held in memory, and what is read again."""

import hashlib
import mmap
import os
import zlib
from contextlib import closing
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.uploading import MIB
from workers.curl_memory import BLOCK, Memory
from workers.curl_payload import Loader, Payload
from workers.source import Source, Watch

STEPS = st.lists(st.integers(1, 60) | st.none(), max_size=20)


def memory_file(data: bytes) -> FileIO:
    file = FileIO(os.memfd_create("flood-test"), "r+")
    file.write(data)
    return file


def source_of(file: FileIO, size: int) -> Source:
    return Source(file.fileno(), size, Watch(lambda: False, lambda: 0.0))


def crc32(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


@given(
    data=st.binary(min_size=1, max_size=200),
    start=st.integers(0, 199),
    block=st.integers(1, 70),
    steps=STEPS,
)
def test_a_body_in_memory_is_what_the_file_has(
    data: bytes, start: int, block: int, steps: list[int | None]
) -> None:
    """However often it is begun anew, which is what None stands for."""
    start = min(start, len(data) - 1)
    expected = data[start:]
    blocks = [memoryview(bytearray(block)) for _ in range(-(-len(expected) // block))]
    back: list[memoryview] = []
    with closing(memory_file(data)) as file:
        loader = Loader("crc32", signed=True)
        source = source_of(file, len(data))
        payload = loader.held(source, start, len(expected), blocks, back.append)
        assert payload.sha256 == hashlib.sha256(expected).hexdigest()
        assert payload.announced == payload.digest() == crc32(expected)
        body = payload.body
        assert not isinstance(body, bytes)
        position = 0
        for step in steps:
            if step is None:
                payload.rewind()
                position = 0
                continue
            got = body.read(step)
            assert expected[position:].startswith(got)
            assert len(got) <= step
            assert got or position == len(expected)
            position += len(got)
        while got := body.read(1000):
            assert expected[position:].startswith(got)
            position += len(got)
        assert position == len(expected)
        assert payload.digest() == crc32(expected)
    assert back == blocks, "each is given back, once, in its turn"


def held(file: FileIO, data: bytes, back: list[memoryview]) -> Payload:
    blocks = [memoryview(bytearray(4)) for _ in range(len(data) // 4)]
    loader = Loader("crc32", signed=False)
    return loader.held(source_of(file, len(data)), 0, len(data), blocks, back.append)


def test_a_block_is_given_back_as_soon_as_it_was_read() -> None:
    back: list[memoryview] = []
    with closing(memory_file(b"abcdefgh")) as file:
        body = held(file, b"abcdefgh", back).body
        assert not isinstance(body, bytes)
        assert (body.read(3), len(back)) == (b"abc", 0)
        assert (body.read(3), len(back)) == (b"d", 1)
        assert (body.read(9), len(back)) == (b"efgh", 2)
        assert (body.read(9), len(back)) == (b"", 2)


def test_what_was_begun_again_before_a_block_went_is_not_read_again() -> None:
    with closing(memory_file(b"abcdefgh")) as file:
        payload = held(file, b"abcdefgh", [])
        assert not isinstance(payload.body, bytes)
        payload.body.read(3)
        payload.rewind()
        file.truncate(0)
        assert payload.body.read(4) == b"abcd"


def test_what_is_sent_again_is_digested_as_it_is_then() -> None:
    """It may have been changed meanwhile."""
    back: list[memoryview] = []
    with closing(memory_file(b"abcdefgh")) as file:
        payload = held(file, b"abcdefgh", back)
        assert not isinstance(payload.body, bytes)
        payload.body.read(4)
        payload.rewind()
        assert len(back) == 2
        file.seek(0)
        file.write(b"ABCDEFGH")
        assert payload.body.read(100) == b"ABCDEFGH"
        assert payload.digest() == crc32(b"ABCDEFGH") != payload.announced


@pytest.mark.parametrize("begun", [0, 3, 4, 8])
def test_what_was_sent_keeps_no_memory(begun: int) -> None:
    """An answer may come before all of a body was asked for."""
    back: list[memoryview] = []
    with closing(memory_file(b"abcdefgh")) as file:
        payload = held(file, b"abcdefgh", back)
        assert not isinstance(payload.body, bytes)
        payload.body.read(begun)
        payload.let_go()
        payload.let_go()
        assert len(back) == 2
        assert payload.digest() == crc32(b"abcdefgh")


@pytest.mark.parametrize(
    ("part", "connections", "held"),
    [
        (5 * MIB, 1, 6),
        (8 * MIB, 4, 4),
        (8 * MIB, 16, 8),
        (8 * MIB, 64, 32),
        (8 * MIB, 256, 32),
        (8 * MIB + 1, 1, 4),
        (32 * MIB, 1, 4),
        (32 * MIB, 256, 8),
        (32 * MIB + 1, 256, 0),
    ],
)
def test_so_many_parts_find_room(part: int, connections: int, held: int) -> None:
    memory = Memory(part, 5 * 1024**4, connections)
    assert memory.holds == bool(held)
    taken = []
    while memory.has_room(part):
        taken.append(memory.take(part))
    assert len(taken) == held
    assert len({id(block) for each in taken for block in each}) == sum(map(len, taken))
    for block in taken[0] if taken else ():
        memory.give_back(block)
    assert memory.has_room(part) == bool(held)


@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 1, 9 * BLOCK, 5 * 1024**4])
def test_a_file_takes_no_more_memory_than_it_has(size: int) -> None:
    memory = Memory(5 * MIB, size, 1)
    taken = 0
    while memory.has_room(1):
        memory.take(1)
        taken += 1
    assert taken == min(32, -(-size // BLOCK))


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_memory_goes_back_though_somebody_keeps_its_blocks() -> None:
    before = resident()
    memory = Memory(8 * MIB, 64 * MIB, 16)
    blocks = memory.take(64 * MIB)
    for block in blocks:
        block[:] = bytes(BLOCK)
    assert resident() - before > 48 * MIB
    memory.close()
    assert resident() - before < 16 * MIB
    assert len(blocks) == 64
