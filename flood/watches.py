"""Tells which directory has which watch."""


class Watches:
    """Directories of a tree, each with the number of its watch.

    What lies below one is found without a look at all others, of which there may be hundreds of
    thousands.
    """

    def __init__(self) -> None:
        self._directories: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        #: What lies directly below each directory that is watched, or has one below it that is.
        self._below: dict[str, set[str]] = {}

    def directory(self, number: int) -> str | None:
        """The directory that has this watch."""
        return self._directories.get(number)

    def add(self, directory: str, number: int) -> int | None:
        """Remember a watch, and answer the one that the directory had before, if it is another: it
        follows a directory that has lost this name, and is known by it until it is removed."""
        before = self._numbers.get(directory)
        if before == number:
            return None
        # A directory that was renamed keeps its watch: what was remembered of it is overwritten.
        self.remove(number)
        self._directories[number] = directory
        self._numbers[directory] = number
        above = directory.rpartition("/")[0]
        while directory and directory not in self._below.setdefault(above, set()):
            self._below[above].add(directory)
            directory, above = above, above.rpartition("/")[0]
        return before

    def remove(self, number: int) -> None:
        """Forget a watch."""
        directory = self._directories.pop(number, None)
        if directory is not None and self._numbers.get(directory) == number:
            del self._numbers[directory]
            self._prune(directory)

    def remove_all(self, directory: str) -> list[tuple[str, int]]:
        """Forget the watches of a directory and of all below it; each with the directory that had
        it."""
        waiting, found = [directory], list[tuple[str, int]]()
        while waiting:
            current = waiting.pop()
            waiting += self._below.pop(current, ())
            number = self._numbers.pop(current, None)
            if number is not None:
                del self._directories[number]
                found.append((current, number))
        self._prune(directory)
        return found

    def _prune(self, directory: str) -> None:
        while directory and directory not in self._numbers and not self._below.get(directory):
            self._below.pop(directory, None)
            above = directory.rpartition("/")[0]
            self._below.get(above, set()).discard(directory)
            directory = above
