"""Processes that are killed at any moment, while there is much to do."""

import random
from pathlib import Path
from typing import Final

from tests.acceptance.harness import Flood, check_promises
from tests.servers import S3Server

#: Of them some rounds of kills leave a part to the next.
FILES: Final = 600


def drop_many(flood: Flood, bucket: str, count: int) -> Path:
    """Move a directory with many small files into incoming, all at once."""
    outside = flood.outside("many")
    outside.mkdir()
    for number in range(count):
        data = b"%d" % number
        (outside / f"file-{number}").write_bytes(data)
        flood.expect(bucket, f"many/file-{number}", data)
    return outside.rename(flood.incoming(bucket) / "many")


def test_flood_watch_is_killed_in_mid_batch(flood: Flood, server: S3Server, bucket: str) -> None:
    watch = flood.start_watch()
    flood.incoming(bucket)
    many = drop_many(flood, bucket, 1000)
    left = random.randrange(1, 999)
    flood.wait_for(lambda: sum(1 for _ in many.iterdir()) <= left, f"only {left} files left")
    watch.kill()
    states = {state: len(flood.files(state)) for state in ("incoming", "processing")}
    print(f"killed with {states} and {flood.count()} rows")  # noqa: T201  for a failure's reader
    assert sum(states.values()) == 1000
    flood.start_watch()
    flood.wait_for(lambda: flood.count(current_state="processing") == 1000, "all rows")
    flood.start_consumer()
    flood.wait_delivered()
    check_promises(flood, server)


def wait_completed(flood: Flood, count: int) -> None:
    flood.wait_for(lambda: flood.count(current_state="completed") >= count, f"{count} uploads")


def test_both_are_killed_again_and_again(flood: Flood, server: S3Server, bucket: str) -> None:
    flood.incoming(bucket)
    settled = 0
    for round_number in range(3):
        started = [flood.start_watch(), flood.start_consumer()]
        if round_number == 0:
            drop_many(flood, bucket, FILES)
        # More may have been uploaded before the kill than were waited for.
        wait_completed(flood, min(FILES, settled + random.randrange(1, 180)))
        random.shuffle(started)
        for one in started:
            one.kill()
        settled = flood.count(current_state="completed")
    flood.start_watch()
    flood.start_consumer()
    flood.wait_delivered()
    check_promises(flood, server)
