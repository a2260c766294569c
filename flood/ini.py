"""Reads the INI dialect of AWS credentials files."""

import re
from dataclasses import dataclass, field
from typing import Final

_HEADER: Final = re.compile(r"\[([^]]*)\]\s*(?:[#;].*)?")
_COMMENT: Final = ("#", ";")
_LINE_END: Final = re.compile(r"\r\n|\r|\n")  # str.splitlines would also split at form feeds


@dataclass(repr=False)
class Entry:
    """One `key = value`: the key in lower case, the value without blanks around it.

    `line` counts from 1. Lines that continue the value follow in it after line breaks.
    """

    key: str
    value: str
    line: int


@dataclass(repr=False)
class Section:
    """What stands below one `[name]`, or below several of that name, in the file's order."""

    name: str
    lines: list[int] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


@dataclass(repr=False)
class Ini:
    """A file's sections by name. `problems` name lines but never quote them: any may be secret."""

    sections: dict[str, Section] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read(text: str) -> Ini:
    """Read as Python's RawConfigParser does, by which the AWS CLI reads, but never give up.

    Comments have lines of their own. A line that is indented deeper than the entry above it
    continues that entry. Keys may end in `=` or `:`. Repeated keys or sections, which the AWS CLI
    refuses, are all kept; `[DEFAULT]` is a section like any other.
    """
    ini = Ini()
    section: Section | None = None
    entry: Entry | None = None
    entry_indent = 0
    for number, line in enumerate(_LINE_END.split(text), 1):
        content = line.strip()
        indent = len(line) - len(line.lstrip())
        if not content or content.startswith(_COMMENT):
            continue
        if entry and indent > entry_indent:
            entry.value += "\n" + content
            continue
        entry = None
        if content.startswith("["):
            section = _section(ini, content, number)
        elif section is None:
            if not ini.problems:  # one line tells it all, the others would only repeat it
                ini.problems.append(f"line {number} is below no [profile]")
        else:
            entry, entry_indent = _entry(ini, content, number), indent
            section.entries += [entry] if entry else []
    return ini


def _section(ini: Ini, content: str, number: int) -> Section | None:
    match = _HEADER.fullmatch(content)
    if match is None:
        ini.problems.append(f"line {number} is no [profile], nor is anything after it up to one")
        return None
    name = match[1].strip()
    section = ini.sections.setdefault(name, Section(name))
    section.lines.append(number)
    return section


def _entry(ini: Ini, content: str, number: int) -> Entry | None:
    key, *rest = re.split("[=:]", content, maxsplit=1)
    if not key.strip() or not rest:
        ini.problems.append(f"line {number} is neither [profile] nor 'key = value'")
        return None
    return Entry(key.strip().lower(), rest[0].strip(), number)
