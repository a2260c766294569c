"""Writes man pages and shell completions of all commands, as their parsers have them."""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Final

import shtab
from argparse_manpage.manpage import Manpage

from flood import __version__
from flood.options import LOG_FORMATS, LOG_LEVELS, TRANSFERS

#: Where programs look below a "share" directory.
PAGES: Final = "man/man1/{}.1"
COMPLETIONS: Final = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}

COMMANDS: Final = (
    *("init", "check", "watch", "drain", "put", "status", "retry", "prune", "notify", "fsck"),
)

#: What stands for a value in a parser, with what completes it.
_BY_METAVAR: Final = {
    "FILE": shtab.FILE,
    "DIR": shtab.DIRECTORY,
    "SOURCE... s3://PROFILE/BUCKET/PATH": shtab.FILE,
}
#: What shtab writes for zsh, with what it should be: of positionals that repeat it completes the
#: first only, and wherever there are none it adds subcommands, which flood has not.
_ZSH: Final = {
    '\n  "(*)::': '\n  "*:',
    '\n  "(*):': '\n  "*:',
    "_defaults_added=0": "_defaults_added=1",
}
#: The settings' kinds check their words themselves, so that the parsers do not know them.
_WORDS: Final = {"log_level": LOG_LEVELS, "log_format": LOG_FORMATS, "transfer": TRANSFERS}


def main() -> int:
    """Write everything; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/manuals",
        description="Writes man pages of all commands, with completions for bash, zsh, fish.",
        epilog="DIR is laid out like /usr/share: copy what is in it to /usr/local/share.",
    )
    parser.add_argument("directory", metavar="DIR", help="made if it is not there")
    directory = Path(parser.parse_args().directory)
    try:
        for name in COMMANDS:
            for path, text in texts(name).items():
                place = directory / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text, encoding="utf-8")
    except OSError as error:
        parser.error(f"cannot write {error.filename or directory}: {error.strerror}")
    print(f"{len(COMMANDS)} man pages, completions for {', '.join(COMPLETIONS)} in {directory}")
    return 0


def texts(name: str) -> dict[str, str]:
    """The files of the command flood-`name`, by their paths."""
    module = importlib.import_module(f"flood.commands.{name}")
    command, _, purpose = str(module.__doc__).rstrip(".").partition(": ")
    page = Manpage(module._parser())
    page.description, page.manual, page.source = purpose, "flood", f"flood {__version__}"
    page.date = ""  # the same program has the same page
    # Examples would be torn apart to reach the right margin.
    text = str(page).replace("\n.SH NAME", "\n.ad l\n.SH NAME", 1)
    found = {PAGES.format(command): f"{text}\n"}
    parser = module._parser()
    for action in parser._actions:
        if action.metavar in _BY_METAVAR:
            action.complete = _BY_METAVAR[action.metavar]
        action.choices = action.choices or _WORDS.get(action.dest)
    for shell, path in COMPLETIONS.items():
        text = shtab.complete(parser, shell)
        for wrong, right in _ZSH.items() if shell == "zsh" else ():
            text = text.replace(wrong, right)
        found[path.format(command)] = text
    return found


if __name__ == "__main__":
    sys.exit(main())
