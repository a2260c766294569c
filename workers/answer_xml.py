"""Reads the XML that stores answer with, also where XML has no room for it."""

import re
from typing import Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

# What XML 1.0 has no room for (w3.org/TR/xml, section 2.2), and what stands instead.
_CONTROLS: Final = frozenset(range(0x20)) - {0x9, 0xA, 0xD}
_UNNAMABLE: Final = "?"
_SHOWN: Final = bytes(ord(_UNNAMABLE) if one in _CONTROLS else one for one in range(256))
_REFERENCE: Final = re.compile(rb"&#([0-9]{1,7}|[xX][0-9A-Fa-f]{1,6});")


# How a web page begins: comments or an XML declaration may come first.
_PAGE: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s|<\?xml[^>]*>|<!--.*?-->)*<(?:!doctype\s+html|html)\b",
    re.IGNORECASE | re.DOTALL,
)
#: So much of an answer tells whether it is one, in bytes.
_BEGINNING: Final = 4096


class _Plain(TreeBuilder):
    """Takes no document type: no store has one, and entities can make much out of little."""

    def doctype(self, name: str, *_: object) -> None:
        raise ParseError(f"a document type, {name}")


def root(content: bytes) -> Element:
    """Return an answer's root element; an answer without content has one without a name.

    Blanks before it are left out, which a store sends while it works. Raises ParseError.
    """
    content = content.strip()
    if not content:
        return Element("")
    parser = XMLParser(target=_Plain())  # noqa: S314  what makes that unsafe is refused
    try:
        parser.feed(readable(content))
        found: Element = parser.close()
    except (ValueError, LookupError) as error:  # an encoding that Python does not know
        raise ParseError(str(error)) from error
    return found


def name(element: Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def text(element: Element, child: str) -> str | None:
    """Return the text of the first child of this name in whichever namespace, None without one."""
    return element.findtext(f"{{*}}{child}")


def is_page(content: bytes) -> bool:
    """Whether an answer is a web page, which no store sends with a success, not cut off either."""
    return _PAGE.match(content[:_BEGINNING]) is not None


def readable(content: bytes) -> bytes:
    """Return an answer without what XML forbids.

    Stores repeat keys as they are, or as references to characters that XML 1.0 does not know; who
    parses that takes the answer for one that was cut off.
    """
    return _REFERENCE.sub(_forbidden, content.translate(_SHOWN))


def readable_key(key: str) -> str:
    """Return a key as answers show it that were made readable."""
    return "".join(_UNNAMABLE if ord(one) in _CONTROLS else one for one in key)


def _forbidden(reference: "re.Match[bytes]") -> bytes:
    digits = reference.group(1).lower()
    number = int(digits[1:], 16) if digits.startswith(b"x") else int(digits)
    return _UNNAMABLE.encode() if number in _CONTROLS else reference.group()
