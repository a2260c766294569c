"""What the producers of a trial delivered, by their own account."""

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

#: What a producer can say of a file: it is at it; it was delivered for certain; it was told of a
#: failure, or was killed, so that it may have been delivered or not; it never got to flood.
Word = Literal["begun", "delivered", "unsure", "withdrawn"]


@dataclass
class Delivery:
    """One file that a producer made for flood; numbers of one key are in order of delivery.

    `at` is seconds since 1970. A `partial` one may have arrived as any beginning of itself, since
    its writer was cut off. A `removed` one was taken out of the spool by a third hand. `awaited`:
    flood-put --wait said that it is uploaded.
    """

    number: int
    bucket: str
    key: str
    size: int
    digest: str
    way: str
    at: float
    word: Word = "begun"
    partial: bool = False
    removed: bool = False
    awaited: bool = False


class Ledger:
    """Every delivery of a trial; methods may be called from any thread."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.deliveries: list[Delivery] = []
        self._free: list[tuple[str, str]] = []
        self._held: Counter[tuple[str, str]] = Counter()
        self._latest: dict[tuple[str, str], Delivery] = {}
        self._withdrawn = 0
        self._lock = threading.Lock()

    def begin(self, bucket: str, key: str, size: int, way: str) -> Delivery:
        """Enter a file that is about to be made; no other delivery of its key may be under way."""
        with self._lock:
            number = len(self.deliveries)
            digest = hashlib.sha256(content(self.seed, number, size)).hexdigest()
            one = Delivery(number, bucket, key, size, digest, way, time.time())
            self.deliveries.append(one)
            self._latest[bucket, key] = one
        return one

    def content(self, one: Delivery) -> bytes:
        return content(self.seed, one.number, one.size)

    def end(self, one: Delivery, word: Word, *, partial: bool = False) -> None:
        """Enter what became of it; its key may be delivered again from now on."""
        with self._lock:
            one.word, one.partial = word, partial
            self._withdrawn += word == "withdrawn"
            self._free.append((one.bucket, one.key))

    @property
    def brought(self) -> int:
        """How many files were brought, or are about to be."""
        return len(self.deliveries) - self._withdrawn

    def take_key(self, rng: random.Random) -> tuple[str, str] | None:
        """Choose a bucket with a key that was delivered before, and that nobody is delivering."""
        with self._lock:
            if not self._free:
                return None
            place = rng.randrange(len(self._free))
            if self._held[self._free[place]]:
                return None
            self._free[place], self._free[-1] = self._free[-1], self._free[place]
            return self._free.pop()

    def take(self, bucket: str, key: str) -> bool:
        """Take this key for a delivery; False while somebody is delivering it."""
        with self._lock:
            free = (bucket, key) in self._free and not self._held[bucket, key]
            if free:
                self._free.remove((bucket, key))
        return free

    def give_back(self, bucket: str, key: str) -> None:
        """Let this key be delivered again after `take`."""
        with self._lock:
            self._free.append((bucket, key))

    def hold(self, bucket: str, key: str, number: int | None) -> bool:
        """Have nobody begin another delivery of this key until `release`; False if delivery
        `number` of it is not the last, or may not be."""
        place = (bucket, key)
        with self._lock:
            last = self._latest.get(place)
            if number is not None and (last is None or last.number != number):
                return False
            # Who is still at the last one, as flood-put --wait, is at no other.
            under_way = number is not None and last is not None and last.word == "begun"
            if not under_way and place not in self._free:
                return False
            self._held[place] += 1
        return True

    def release(self, bucket: str, key: str) -> None:
        """End `hold`."""
        with self._lock:
            self._held[bucket, key] -= 1

    def number_in(self, data: bytes) -> int | None:
        """Tell which delivery a content is, from its beginning; None for very short ones."""
        if len(data) < _TAG or not data[: _TAG - 1].isdigit():
            return None
        return int(data[: _TAG - 1][::-1])

    def write(self, path: Path) -> None:
        """Save all of it, a JSON object on each line."""
        with self._lock, path.open("w") as output:
            for one in self.deliveries:
                output.write(json.dumps(asdict(one)) + "\n")

    def __iter__(self) -> Iterator[Delivery]:
        return iter(list(self.deliveries))


_TAG = 12


def content(seed: int, number: int, size: int) -> bytes:
    """Return the bytes of a delivery: its number backwards, so that short files differ, then
    chance."""
    tag = b"%s\n" % (b"%011d" % number)[::-1]
    return (tag + random.Random(f"{seed}/{number}").randbytes(max(0, size - _TAG)))[:size]
