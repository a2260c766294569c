"""A store's XML is read, or refused, whatever it is."""

from xml.etree.ElementTree import ParseError

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.answer_xml import is_page, name, readable, readable_key, root, text

BOMB = b'<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><r>&b;</r>'


@given(st.one_of(st.binary(), st.binary().map(lambda some: b"<r>" + some + b"</r>")))
@example(b'<?xml version="1.0" encoding="no-such"?><r/>')
@example(b'<?xml version="1.0" encoding="utf-7"?><r/>')
@example(b'<?xml version="1.0" encoding="utf-16"?><r/>')
@example(b"<r>&#xD800;</r>")
@example(b"<a>" * 100_000)
def test_anything_is_read_or_refused(content: bytes) -> None:
    try:
        found = root(content)
    except ParseError:
        return
    assert isinstance(name(found), str)
    assert text(found, "Code") is None or isinstance(text(found, "Code"), str)


@pytest.mark.parametrize("content", [BOMB, b" " + BOMB, b"<!DOCTYPE html><html></html>"])
def test_a_document_type_is_refused(content: bytes) -> None:
    with pytest.raises(ParseError, match="document type"):
        root(content)


@pytest.mark.parametrize(
    "content",
    [
        b"<R><UploadId>a&amp;b</UploadId></R>",
        b'<R xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><UploadId>a&amp;b</UploadId></R>',
        b'   \r\n<?xml version="1.0" encoding="UTF-8"?>\n  <R><UploadId>a&amp;b</UploadId></R>\n',
    ],
    ids=["plain", "namespace", "blanks"],
)
def test_a_child_is_found_in_any_namespace(content: bytes) -> None:
    found = root(content)
    assert (name(found), text(found, "UploadId")) == ("R", "a&b")
    assert text(found, "Key") is None


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_answer_without_content_has_no_name(content: bytes) -> None:
    assert name(root(content)) == ""


@pytest.mark.parametrize(
    ("content", "page"),
    [
        (b"<!DOCTYPE HTML>\n<html>", True),
        (b"\xef\xbb\xbf\r\n<HTML lang='en'", True),
        (b"<?xml version='1.0'?><!-- <a> --><!DOCTYPE html PUBLIC", True),
        (b"", False),
        (b"<", False),
        (b"It works!", False),
        (b"<?xml version='1.0'?>\n<ListAllMyBucketsResult><Name>html</Name>", False),
        (b"<Error><Message><html></Message></Error>", False),
        (b"<htmlish/>", False),
    ],
)
def test_a_web_page_is_known_by_its_beginning(content: bytes, page: bool) -> None:
    assert is_page(content) == page


@given(st.text(st.characters(max_codepoint=0x7F, exclude_characters="<>&\r"), min_size=1))
def test_a_key_is_shown_as_its_readable_form(key: str) -> None:
    shown = root(f"<R><Key>{key}</Key></R>".encode())
    assert text(shown, "Key") == readable_key(key)
    referred = "".join(f"&#{ord(one)};" if one.isprintable() is False else one for one in key)
    assert text(root(f"<R><Key>{referred}</Key></R>".encode()), "Key") == readable_key(key)


def test_what_xml_has_room_for_stays() -> None:
    kept = "<R>ä&#9;&#x1F30A;&amp;\t</R>".encode()
    assert readable(kept) == kept
