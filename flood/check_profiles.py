"""Looks for files that no profile of the credentials is for."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from flood import directories, due_queries, layout
from flood.check_findings import ERROR, WARNING, WORK, Finding
from flood.config import Settings
from flood.phrases import files, named
from flood.profiles import may_be_named
from flood.spool import Spool
from flood.states import INCOMING, PROCESSING
from flood.temporary import Temporary
from flood.text import printable
from flood.walk import Found


def look(
    spool: Spool, settings: Settings, profiles: Collection[str], *, readable: bool
) -> Iterator[Finding]:
    """What waits below names that none of the profiles has, then what lies too high in incoming to
    be for any. `readable` as for `flood.check_work.look`."""
    waiting = _waiting(spool, settings.ignore, profiles)
    recorded = {profile for profile, _ in due_queries.unclaimed()} if readable else set()
    for profile in sorted({*waiting, *recorded.difference(profiles)}):
        yield _homeless(profile, waiting.get(profile, Counter()), profiles)
    high = sorted(_high(spool, settings.ignore))
    if high:
        yield _misplaced(high)


def _waiting(
    spool: Spool, ignore: Sequence[str], profiles: Collection[str]
) -> "dict[str, Counter[str]]":
    """How many files each of the other names has, by the directory that they wait in."""
    temporary = Temporary(ignore)
    waiting: dict[str, Counter[str]] = {}
    for state in (INCOMING, PROCESSING):
        for profile in spool.subdirectories(state):
            if profile in profiles:
                continue
            for found in spool.walk(f"{state}/{profile}"):
                if not isinstance(found, Found) or layout.parse(found.path) is None:
                    continue
                if state == PROCESSING or not temporary.fits(found.path):
                    waiting.setdefault(profile, Counter())[state] += 1
    return waiting


def _homeless(profile: str, counts: "Counter[str]", profiles: Collection[str]) -> Finding:
    name = printable(profile)
    where = [f"{files(count)} in {state}/{name}" for state, count in counts.items()]
    known = ", ".join(map(printable, sorted(profiles)))
    verb = "is" if counts.total() == 1 else "are"
    move = f"move the files below one of its profiles in {INCOMING} ({known})"
    return Finding(
        WORK,
        f"profile {name}",
        ERROR,
        f"the credentials have no such profile, yet there {verb} {' and '.join(where) or 'records'}"
        f"{'' if where else f' in {PROCESSING}'}",
        "nobody takes them in, or uploads them, however many consumers run",
        f"add a section [{name}] to the credentials file; or {move}"
        if may_be_named(profile)
        else f"no section of the credentials file can have that name: {move}",
        profile,
    )


def _high(spool: Spool, ignore: Sequence[str]) -> Iterator[str]:
    temporary = Temporary(ignore)
    for directory in (INCOMING, *(f"{INCOMING}/{x}" for x in spool.subdirectories(INCOMING))):
        try:
            with directories.listed(spool.absolute(directory)) as entries:
                names = [each.name for each in entries if each.is_file(follow_symlinks=False)]
        except OSError:
            continue  # taken away meanwhile, or nobody's to read: of that `check_spool` tells
        yield from (path for name in names if not temporary.fits(path := f"{directory}/{name}"))


def _misplaced(paths: Sequence[str]) -> Finding:
    return Finding(
        WORK,
        INCOMING,
        WARNING,
        f"{files(len(paths))} outside of PROFILE/BUCKET/: {printable(named(paths))}",
        "flood does not know where they belong, and leaves them alone",
        f"move them below {INCOMING}/PROFILE/BUCKET/, or away",
    )
