"""Any name goes from incoming to the bucket as it is, or fails with a reason."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flood import claims as claiming
from flood import layout
from flood.columns import name_from, name_value
from flood.door import Candidate
from tests import spooling
from tests.servers import S3Server
from tests.spooling import LARGE, NOBODY, House
from tests.uploading import MakeUploader, profile
from workers.transfer import Uploader
from workers.upload import attempt

#: What programs on the way like to take for something else.
TRICKY = ["%", "%2e%2e", "+", " ", "?", "#", "&", "=", ";", "\\", "~", "..", "...", "\t", "\x7f"]
TRICKY += ["é", "e\u0301", "\u202e", "\ufeff", "\U0001f30a", "<", ">", '"', "'", ":", "*", "|", "$"]

pieces = st.one_of(
    st.sampled_from(TRICKY).map(os.fsencode),
    st.text(min_size=1, max_size=3).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(min_size=1, max_size=3),
    st.sampled_from([b"a", b"x" * 60]),
)
components = (
    st.lists(pieces, min_size=1, max_size=5)
    .map(b"".join)
    .map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")[:255])
    .filter(lambda name: name not in (b".", b".."))
)
paths = st.lists(components, min_size=1, max_size=5).map(b"/".join)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with spooling.house(tmp_path) as made:
        yield made


@pytest.fixture
def uploader(rclone_server: S3Server, make_uploader: MakeUploader) -> Iterator[Uploader]:
    with closing(make_uploader(profile(rclone_server.url))) as made:
        yield made


def test_any_name_arrives_as_it_is_or_fails_with_a_reason(
    house: House,
    uploader: Uploader,
    rclone_server: S3Server,
    bucket_name: Callable[[], str],
) -> None:
    bucket = rclone_server.make_bucket(bucket_name())
    numbers = count()
    agent = house.agent(uploader)

    def deliver() -> None:
        claims = claiming.claim((), "p", bucket, owner=NOBODY, large=LARGE, now=house.clock.now())
        for decisions in attempt(agent, claims):
            house.settle(*decisions, agent=agent)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(paths, min_size=1, max_size=6))
    def check(names: list[bytes]) -> None:
        files = {f"{next(numbers)}-{os.fsdecode(name)}": name for name in names}
        files = {key: data for key, data in files.items() if fits(key)}
        for key, data in files.items():
            house.write(f"incoming/p/{bucket}/{key}", data)
        intake = house.intake(ignore=[], now=lambda: datetime.now(timezone.utc))
        house.clock.moment = datetime.now(timezone.utc)
        candidates = [(Candidate(f"incoming/p/{bucket}/{key}", True), None) for key in files]
        assert intake.admit(candidates).admitted == len(files)
        house.clock.advance(1.0)
        deliver()
        for key, data in files.items():
            [row] = house.rows("filepath = ?", name_value(key))
            place = Path(house.spool.absolute(name_from(row["spool_path"])))
            assert place.read_bytes() == data
            if layout.key_problem(key) is None:
                assert row["current_state"] == "completed", row["error_message"]
                assert rclone_server.read(bucket, key) == data
                arrived.append(key)
            else:
                assert row["current_state"] == "failed"
                assert row["error_code"] in ("key_not_utf8", "key_too_long")
                assert row["error_message"]

    arrived: list[str] = []
    check()
    assert rclone_server.keys(bucket) == sorted(arrived), "under these keys, and no others"


def fits(key: str) -> bool:
    """Whether Linux has such a name."""
    return all(len(os.fsencode(name)) <= 255 for name in key.split("/"))
