"""Gives destinations that events told of their turns at the door."""

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Final

#: How many files of one destination go before another one has its turn again, at the least: those
#: of one bucket share tasks.
SHARE: Final = 100

_Destination = tuple[str, ...]


class Heard:
    """Files that events told of, each with whether its writer has closed it.

    A destination has its first turn before those that have had one, with fewer files where many
    wait for it. Only half of what is taken is for first turns while others wait: thousands that
    come with a file each stop no burst. Those of one destination keep the order in which they came.
    """

    def __init__(self) -> None:
        self._files: dict[_Destination, dict[str, bool]] = {}
        # Each destination that has files is in one of the two.
        self._first: deque[_Destination] = deque()
        self._further: deque[_Destination] = deque()

    def __bool__(self) -> bool:
        return bool(self._files)

    def add(self, files: Mapping[str, bool]) -> None:
        """These came, in this order; one that is known comes anew."""
        for path, closed in files.items():
            destination = _destination(path)
            there = self._files.get(destination)
            if there is None:
                there = self._files[destination] = {}
                self._first.append(destination)
            there.pop(path, None)
            there[path] = closed

    def clear(self) -> None:
        """Forget all of them."""
        self._files.clear()
        self._first.clear()
        self._further.clear()

    def take(self, most: int) -> dict[str, bool]:
        """The next files, so many at the most; they are not kept any longer."""
        taken: dict[str, bool] = {}
        self._turns(self._first, 1, most // 2, taken)
        self._turns(self._further, SHARE, most, taken)
        self._turns(self._first, 1, most, taken)
        self._turns(self._further, SHARE, most, taken)
        return taken

    def _turns(
        self, waiting: deque[_Destination], least: int, most: int, taken: dict[str, bool]
    ) -> None:
        """One turn after the other, until so many are taken in all; each is of `least` files, or
        more where few destinations wait."""
        share = max(least, (most - len(taken)) // max(1, len(waiting)))
        while waiting and len(taken) < most:
            destination = waiting.popleft()
            there = self._files[destination]
            for path in list(islice(there, min(share, most - len(taken)))):
                taken[path] = there.pop(path)
            if there:
                self._further.append(destination)
            else:
                del self._files[destination]


def _destination(path: str) -> _Destination:
    """The profile and the bucket; less, where the file lies in none."""
    return tuple(path.split("/", 3)[1:3])
