"""Whose turn it is among the directories that are to be scanned."""

import pytest

from flood.scans import OPEN, SHARE, Scan, Scans


class Directories:
    """Directories of so many files each, what of them is open, and which have been begun; what was
    taken is not found again, but for names that stay."""

    def __init__(self, **files: int) -> None:
        self.left = {name: [f"{name}/{n}" for n in range(count)] for name, count in files.items()}
        self.stay: set[str] = set()
        self.open: list[str] = []
        self.most = 0
        self.begun: list[str] = []

    def scan(self, directory: str) -> Scan:
        self.open.append(directory)
        self.begun.append(directory)
        self.most = max(self.most, len(self.open))
        try:
            yield from list(self.left[directory])
        finally:
            self.open.remove(directory)

    def take(self, scans: Scans) -> list[str]:
        found = [path for path in scans.some() if path is not None]
        for path in found:
            if path in self.left[path.partition("/")[0]] and path not in self.stay:
                self.left[path.partition("/")[0]].remove(path)
        return found


def through(scans: Scans, directories: Directories, *names: str, turns: int = 10_000) -> int:
    """After how many turns nothing is left in these."""
    for turn in range(turns):
        if not any(directories.left[name] for name in names):
            return turn
        directories.take(scans)
    raise AssertionError(names)


def large(count: int, shares: int) -> dict[str, int]:
    return {f"large{n}": shares * SHARE for n in range(count)}


def test_everything_is_found_and_closed() -> None:
    directories = Directories(**large(3 * OPEN, 7), small=3, empty=0, exact=SHARE)
    scans = Scans(directories.scan)
    for name in directories.left:
        scans.add(name)
    while scans:
        directories.take(scans)
    assert not any(directories.left.values())
    assert directories.open == []
    assert directories.most <= OPEN + 1


@pytest.mark.parametrize("files", [1, SHARE, 3 * SHARE])
def test_a_small_one_waits_for_no_large_one(files: int) -> None:
    directories = Directories(**large(OPEN + 5, 500), small=files)
    scans = Scans(directories.scan)
    for n in range(OPEN + 5):
        scans.add(f"large{n}")
    for _ in range(100):
        directories.take(scans)
    scans.add("small")
    # What is tried just then may have its shares first.
    assert through(scans, directories, "small") < 80
    assert all(directories.left[f"large{n}"] for n in range(OPEN + 5))


def test_large_ones_do_not_wait_for_ever_for_small_ones() -> None:
    directories = Directories(**large(OPEN + 3, 20), **{f"small{n}": 1 for n in range(3000)})
    scans = Scans(directories.scan)
    for n in range(OPEN + 3):
        scans.add(f"large{n}")
    for n in range(3000):
        scans.add(f"small{n}")
        directories.take(scans)
        if not any(directories.left[f"large{n}"] for n in range(OPEN + 3)):
            return
    raise AssertionError("large ones wait")


def test_names_that_stay_do_not_keep_it_from_its_end() -> None:
    """A trial begins at the front each time, and may meet nothing else."""
    directories = Directories(**large(OPEN, 500), temporary=5 * SHARE)
    directories.stay = set(directories.left["temporary"][: 4 * SHARE + 50])
    scans = Scans(directories.scan)
    for n in range(OPEN):
        scans.add(f"large{n}")
    scans.add("temporary")
    for _ in range(60):
        directories.take(scans)
    assert set(directories.left["temporary"]) == directories.stay
    assert directories.begun.count("temporary") == 3


def test_directories_count_as_files_do() -> None:
    """One of them alone may have hundreds of thousands below it, and no file."""
    steps = 0

    def scan(_directory: str) -> Scan:
        nonlocal steps
        while steps < 50 * SHARE:
            steps += 1
            yield None

    scans = Scans(scan)
    scans.add("large")
    while scans:
        before = steps
        assert set(scans.some()) <= {None}
        assert steps - before <= 2 * SHARE
    assert steps == 50 * SHARE


def test_what_is_forgotten_is_closed() -> None:
    directories = Directories(**large(OPEN + 4, 20))
    scans = Scans(directories.scan)
    for name in directories.left:
        scans.add(name)
    for _ in range(OPEN + 3):
        directories.take(scans)
    assert len(directories.open) > OPEN // 2
    scans.clear()
    assert not scans
    assert directories.open == []
    assert scans.some() == []
