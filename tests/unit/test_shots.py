"""What the documentation shows of flood's output was printed by flood."""

import re
from pathlib import Path

import pytest

from flood.record_values import Reason
from flood.states import TRANSIENT
from tests.shots import pages
from tests.shots.live import PICTURE
from tests.spooling import House
from tests.unit.test_fsck import given_up
from tests.unit.test_status import seen, shown
from workers.decisions import TryAgain

AWAY = Reason(TRANSIENT, "connection_refused", "the store refused; it is tried again")

#: Blocks with a command and its output that are none of the script's: the demonstration's, other
#: programs'.
OTHERS = ("scripts/demo", "sqlite3 ")

SHOTS = Path(pages.__file__).parent


def blocks(text: str) -> list[str]:
    """Every indented block of a page, the mark before it included."""
    found = re.findall(r"((?:^<!-- .* -->\n\n)?(?:^    .*\n|^\n(?=    ))+)", text, re.MULTILINE)
    return [block for block in found if block.strip()]


@pytest.mark.parametrize("page", pages.pages(), ids=lambda path: path.name)
def test_each_output_that_is_shown_is_marked(page: Path) -> None:
    for block in blocks(page.read_text("utf-8")):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        commands = [line for line in lines if line.startswith("$ ")]
        marked = lines[0].startswith("<!-- ")
        shows = bool(commands) and len(commands) < len(lines) - marked
        other = bool(commands) and commands[0].removeprefix("$ ").startswith(OTHERS)
        assert not shows or marked or other, block


def test_each_mark_has_a_shot_and_each_shot_a_page() -> None:
    taken = set()
    for source in SHOTS.glob("*.py"):
        taken |= set(re.findall(r'\.(?:shot|keep)\(\s*"([a-z-]+)"', source.read_text("utf-8")))
    wanted = set()
    for page in pages.pages():
        text = page.read_text("utf-8")
        shown = dict(pages.quoted(text))
        assert set(pages.marked(text)) == shown.keys()
        assert all(shot.startswith("$ ") for shot in shown.values())
        wanted |= shown.keys()
    assert len(taken) > 20
    assert taken == wanted


def test_the_picture_has_every_part_of_the_live_screen(house: House) -> None:
    """The headings are what the program prints now; a screen that shows all of them."""
    given_up(house, "failed", "superseded")
    house.admit("superseded", "retried", "uploading")
    retried = house.in_processing("retried")
    [claim] = [one for one in house.claim(retried) if one.id == retried]
    house.settle(TryAgain(claim, claim.identity, AWAY, 30.0))
    house.write("incoming/p/b/retried", b"newer")
    agent = house.agent()
    agent.locks.own()
    text = shown(seen(house))
    agent.locks.disown()
    headings = set(re.findall(r"^ *([A-Z]{4,}(?: [A-Z]+)*)(?=  |:| \d)", text, re.MULTILINE))
    assert headings == {
        "UPLOADING",
        "DESTINATION",
        "WAITING BY AGE",
        "HELD BACK IN INCOMING",
        "NEXT RETRIES OF",
        "FAILED",
        "CONSUMER",
    }
    picture = (pages.ROOT / "docs" / PICTURE).read_text("utf-8").replace("&#160;", " ")
    for heading in headings:
        assert heading in picture
    stages = {stage for stages in seen(house).amounts.values() for stage in stages}
    assert {"superseded", "retry"} <= stages
    for stage in stages:
        assert stage in picture
    assert "url(http" not in picture, "a page that shows it would ask somebody for fonts"


PAGE = """\
<!-- scripts/shots: drain -->

    $ flood-drain
    211 files uploaded (1.3 GiB)

    1 file waits for its next try, the first 29 seconds from now

More.
"""


def test_a_block_stays_while_flood_prints_the_same() -> None:
    [(name, shot)] = pages.quoted(PAGE)
    assert (name, shot.count("\n")) == ("drain", 3)
    other = shot.replace("211", "7").replace("1.3 GiB", "23 Bytes").replace("29 s", "1.5 s")
    other = other.replace("1.5 seconds", "a second")
    assert pages.renewed(PAGE, {"drain": other}) == PAGE
    assert pages.renewed(PAGE, {"put": "$ flood-put"}) == PAGE


UPLOADING = """\
media/video/2026/…  ━╸          15.2 MiB  88.0 MiB    2.8 MiB/s  0:00:26   28006
media/photos: 2 o…  ━━━          4.0 MiB  12.0 MiB  402.2 KiB/s  0:00:20   28006"""


def test_names_that_are_cut_elsewhere_are_the_same() -> None:
    shorter = UPLOADING.replace("2026/…", "2026/w…").replace("2 o…", "2 of…").replace("15.2", "9.8")
    assert pages.shape(shorter) == pages.shape(UPLOADING)
    for old, new in (("media/video", "media/audio"), ("photos: 2 o…", "photos")):
        assert pages.shape(UPLOADING.replace(old, new)) != pages.shape(UPLOADING)


def test_a_block_is_new_where_flood_prints_something_else() -> None:
    new = "$ flood-drain\n3 files sent\n\nbye"
    page = pages.renewed(PAGE, {"drain": new})
    assert dict(pages.quoted(page)) == {"drain": new}
    assert page.endswith("    bye\n\nMore.\n")
    assert pages.renewed(page, {"drain": new}) == page
