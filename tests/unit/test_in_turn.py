"""In which order the files of one claim are sent."""

import pytest

from tests.spooling import House
from workers.opened import Opened
from workers.transfer import Upload
from workers.upload import _in_turn


def order(house: House, number: int, sizes: list[int]) -> list[int]:
    """The sizes, in the order in which files of these sizes are sent, the first of them the one
    that has waited longest, where that has been claimed so many times."""
    house.admit(*(str(each) for each in range(len(sizes))))
    first, *others = house.claim()
    added = [
        Opened(one, Upload(one.id, one.bucket, one.key, -1, size), one.identity, 0)
        for one, size in zip([first._replace(number=number), *others], sizes, strict=True)
    ]
    return [one.upload.size for one in _in_turn(added)]


@pytest.mark.parametrize(
    ("number", "expected"), [(1, [7, 1, 2, 9]), (2, [1, 2, 7, 9]), (3, [7, 1, 2, 9])]
)
def test_the_oldest_goes_first_every_other_time(
    house: House, number: int, expected: list[int]
) -> None:
    """Over a slow line nothing may begin beside it, and all else is given back each time."""
    assert order(house, number, [7, 9, 2, 1]) == expected


def test_nothing_is_in_no_order() -> None:
    assert not _in_turn([])
