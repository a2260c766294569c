"""Makes any text safe to show on a terminal."""


def printable(text: str) -> str:
    """Return `text` with every character that does not print replaced by a backslash escape.

    Line breaks, terminal sequences, bidirectional controls, zero-width characters and the
    surrogates of undecodable file names become `\\n`, `\\x1b`, `\\u202e`, `\\udc80`, so that a name
    can neither forge a line nor steer a terminal. What prints stays as it is, backslashes too:
    doing it twice changes nothing.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
