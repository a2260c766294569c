"""flood prints what the documentation shows."""

import pytest

from tests.shots import pages
from tests.shots.acts import Act, by_hand, trouble
from tests.shots.stage import Stage


@pytest.mark.parametrize("act", [by_hand, trouble], ids=lambda act: act.__name__)
def test_the_documentation_shows_what_flood_prints(act: Act) -> None:
    """What takes no daemons, as that is quick; `scripts/shots --check` looks at the rest, too."""
    shown = {
        name: shot for page in pages.pages() for name, shot in pages.quoted(page.read_text("utf-8"))
    }
    with Stage() as stage:
        act(stage)
        taken = stage.shots
    assert taken
    for name, shot in taken.items():
        assert pages.shape(shot) == pages.shape(shown[name]), f"{name}:\n{shot}"
