"""The live screen of flood-status, drawn by the program itself while it has much to do."""

import re
import secrets
import sqlite3
import time
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from io import StringIO
from typing import Final

from rich.console import Console

from flood import models, schema, status_text, status_view
from flood.advice import Advice
from flood.columns import utc_text
from flood.config import from_environment
from flood.options import IGNORE
from flood.spool import Spool
from flood.status import SUPERSEDED, UPLOADING, Status
from tests.faults import Pass, s3_error
from tests.shots.stage import Stage

WIDTH: Final = 100
TITLE: Final = "flood-status --live"

_MIB: Final = 1024**2
_SLOW: Final = Pass(bytes_per_second=900 * 1024)
_SLOWER: Final = Pass(bytes_per_second=300 * 1024)

# A page that shows a picture should ask nobody else for its letters.
_FONTS: Final = re.compile(r"\s*@font-face \{.*?\}\n", re.S)


def live(stage: Stage) -> None:
    """Three profiles, a slow link, stores that refuse: something to see in every part."""
    with ExitStack() as stack:
        _arrange(stage, stack)
        stage.wait_for(lambda: _worth_showing(_look(stage)), "something in every part")
        stage.shot("story-waiting", "flood-status s3://backup/databases/2026-11-28/orders.sql.zst")
        _age(stage, "orders.sql.zst", timedelta(minutes=50))
        stage.shot("status", "flood-status")
        stage.shots[PICTURE] = draw(stage, _look(stage))


#: The name under which the picture is kept.
PICTURE: Final = "live.svg"


def _arrange(stage: Stage, stack: ExitStack) -> None:
    media, backup = stage.way("media"), stage.way("backup")
    stage.run("flood-init flood")
    stage.write_keys()
    stage.bucket("photos", "video", "databases", "holiday")
    media.inject(_SLOW, "PUT", "/video/", times=None)
    media.inject(_SLOWER, "PUT", "/photos/.*raw", times=None)
    media.inject(
        s3_error(403, "AccessDenied", "Access Denied"), "PUT", "/photos/private", times=None
    )
    backup.inject(_SLOW, "PUT", "full", times=None)
    backup.inject(s3_error(503, "SlowDown", "Please slow down"), "PUT", "orders|users", times=None)
    stage.environ["FLOOD_CONCURRENCY"] = "2"
    watch = stack.enter_context(stage.running("flood-watch", until="caught up"))
    stage.wait_for(lambda: watch.output().count(" kind=thread") == 2, "both consumers")
    # What is refused for now.
    for number, name in enumerate(("orders", "users"), start=1):
        put(stage, "backup/databases", f"2026-11-28/{name}.sql.zst", size=_MIB)
        stage.wait_for(lambda number=number: len(_look(stage).retries) == number, "retries")
    # What fails, and what a later version replaces.
    put(stage, "demo/nowhere", "report.pdf", "scan 1.tiff", "scan 2.tiff")
    put(stage, "media/photos", "private/passport.jpg", size=180_000)
    stage.wait_for(lambda: stage.count("failed") == 4, "failures")
    stage.bucket("nowhere")
    put(stage, "demo/nowhere", "report.pdf")
    put(stage, "demo/holiday", *(f"2026/IMG_{number:04}.jpg" for number in range(60)), size=90_000)
    stage.wait_for(lambda: stage.count("completed") == 61, "what is uploaded at once")
    put(stage, "media/video", "2026/wedding.mp4", size=88 * _MIB)
    put(stage, "backup/databases", "full/2026-11-28.tar", size=41 * _MIB)
    put_together(stage, "media/photos/raw", *(f"DSC_{number:04}.nef" for number in range(12)))
    # A newer version, which waits for the one that is to be tried again.
    put(stage, "backup/databases", "2026-11-28/orders.sql.zst", size=2 * _MIB)
    stack.callback(media.down)
    stack.callback(backup.down)


def put(stage: Stage, destination: str, *names: str, size: int = 7_000) -> None:
    """Have files moved into incoming, as a program would that makes them."""
    for name in names:
        target = stage.flood / "spool" / "incoming" / destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = stage.flood / secrets.token_hex(8)
        with source.open("wb") as file:
            file.truncate(size)
        source.rename(target)


def put_together(stage: Stage, destination: str, *names: str) -> None:
    """Have a directory with these files moved into incoming, so that one worker gets all of them
    however long each takes."""
    source = stage.flood / secrets.token_hex(8)
    source.mkdir()
    for name in names:
        with (source / name).open("wb") as file:
            file.truncate(_MIB)
    target = stage.flood / "spool" / "incoming" / destination
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _age(stage: Stage, name: str, age: timedelta) -> None:
    """Have a file wait for so long already, as nobody can wait for a picture."""
    came = utc_text(datetime.now(timezone.utc) - age)
    with closing(sqlite3.connect(stage.flood / "flood.db", timeout=30)) as connection:
        connection.execute(
            "UPDATE file_records SET created_at = ? WHERE current_state = 'processing' "
            "AND filepath LIKE '%' || ?",
            (came, name),
        )
        connection.commit()


def _look(stage: Stage) -> Status:
    """What flood-status sees."""
    database = str(stage.flood / "flood.db")
    models.close()
    schema.open_for_reading(database)
    try:
        return status_view.look(
            Spool(str(stage.flood / "spool")),
            database,
            IGNORE,
            now=lambda: datetime.now(timezone.utc),
            clock=time.monotonic,
            seconds=5.0,
        )
    finally:
        models.close()


def _worth_showing(found: Status) -> bool:
    """Whether every part has something to show."""
    return bool(
        len(found.uploads) >= 3
        and all(one.sent and one.rate for one in found.uploads)
        and any(one.files_done for one in found.uploads)
        and found.total((UPLOADING,)).files
        and found.total((SUPERSEDED,)).files
        and found.retries
        and found.held_back
        and len(found.failures) > 1
        and found.consuming
        and found.watching
    )


def draw(stage: Stage, found: Status) -> str:
    """The screen as a picture."""
    settings = from_environment(
        {"FLOOD_CONFIG": str(stage.flood / "flood.conf"), "HOME": str(stage.home)}
    )
    console = Console(
        record=True,
        width=WIDTH,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        _environ={},
    )
    for part in status_text.render(found, Advice(settings, found.database)):
        console.print(part)
    picture = console.export_svg(title=TITLE, unique_id="flood")
    lines = stage.told(_FONTS.sub("", picture)).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"
