"""Attempts to upload claimed files to a real server, then what a consumer makes of them."""

import logging
import mimetypes
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import count, pairwise
from pathlib import Path
from socket import create_server
from types import SimpleNamespace

import pytest

from flood import claims as claiming
from flood import models, records, status_workers, tasks
from flood.columns import utc_moment, utc_text
from flood.door import Candidate
from flood.locks import WorkerLocks
from flood.profiles import Profile
from flood.record_values import Claimed, Proof, Reason
from flood.retry import Retry
from flood.states import INTERRUPTED, PERMANENT
from huey_config import huey
from tests import spooling
from tests.faults import Crowded, Line, Stall, s3_error
from tests.proxy import FaultProxy
from tests.servers import S3Server
from tests.spooling import LARGE, NOBODY, START, House, in_child
from tests.unit.test_clearing import leave, left
from tests.unit.test_writers import locked
from tests.uploading import LARGE as MULTIPART
from tests.uploading import MIB, UPLOADERS, MakeUploader, boto3_uploader, profile
from workers.agent import SCARCE_LEAST, SCARCE_MOST, Agent
from workers.decisions import Decision, GiveUp, LetGo, Missing, Prove, PutOff, TryAgain
from workers.settle import settle
from workers.transfer import Hooks, Outcome, Receipt, Upload, Uploader
from workers.turns import LONG
from workers.upload import attempt, no_more


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with spooling.house(tmp_path) as made:
        yield made


@pytest.fixture
def server(rclone_server: S3Server) -> S3Server:
    return rclone_server


@pytest.fixture
def bucket(server: S3Server, bucket_name: Callable[[], str]) -> str:
    return server.make_bucket(bucket_name())


def known(url: str, provider: str = "s3") -> Profile:
    return replace(profile(url, provider), name="p")


@pytest.fixture
def uploader(server: S3Server) -> Iterator[Uploader]:
    made = boto3_uploader(known(server.url))
    with closing(made):
        yield made


def claimed(house: House, bucket: str, files: dict[str, bytes]) -> list[Claimed]:
    for key, data in files.items():
        house.write(f"incoming/p/{bucket}/{key}", data)
    paths = [f"incoming/p/{bucket}/{key}" for key in files]
    result = house.intake().admit([(Candidate(path, closed=True), None) for path in paths])
    assert result.admitted == len(files)
    return claiming.claim([], "p", bucket, owner=NOBODY, large=LARGE, now=house.clock.now())


def decide(agent: Agent, claims: list[Claimed]) -> list[Decision]:
    """What an attempt decides, nothing of which is settled."""
    return [decision for group in attempt(agent, claims) for decision in group]


SCARCE = Reason(INTERRUPTED, "local_resources", "too many open files")


def open_files(house: House) -> list[str]:
    """The files of the spool that this process has open, wherever they lie by now."""
    parts = tuple(
        house.spool.absolute(f"{part}/") for part in ("processing", "completed", "failed")
    )
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    files = [os.readlink(link) for link in links if os.path.isfile(link)]
    return [path for path in files if path.startswith(parts)]


class Refusing(Uploader):
    """Nothing is to be uploaded."""

    def ensure_bucket(self, bucket: str) -> None:
        raise AssertionError(bucket)


def test_what_is_proven_is_only_moved(house: House, bucket: str) -> None:
    """A file that could not leave processing after it was uploaded."""
    [claim] = claimed(house, bucket, {"key": b"data"})
    changed_ns = os.stat(house.spool.absolute(claim.path)).st_ctime_ns
    proof = Proof("etag", None, "md5:00", 4, changed_ns)
    records.release(claim, Reason(INTERRUPTED, "cannot_move", "no room"), START, 60.0, proof)
    house.clock.advance(60.0)
    agent = house.agent(Refusing())
    [again] = claiming.claim([], "p", bucket, owner=NOBODY, large=LARGE, now=house.clock.now())
    for decisions in attempt(agent, [again]):
        house.settle(*decisions, agent=agent)
    assert not open_files(house)
    assert house.files() == {f"completed/p/{bucket}/key": b"data"}
    row = house.row(claim.id)
    assert (row["upload_outcome"], row["etag"], row["bytes_sent"]) == ("success", "etag", 4)


def test_what_was_given_up_is_only_moved(house: House, bucket: str) -> None:
    [claim] = claimed(house, bucket, {"key": b"data"})
    verdict = Reason(PERMANENT, "AccessDenied", "the store refuses it")
    reason = Reason(INTERRUPTED, "cannot_move", "no room")
    records.release(claim, reason, START, 60.0, verdict=verdict)
    house.clock.advance(60.0)
    agent = house.agent(Refusing())
    [again] = claiming.claim([], "p", bucket, owner=NOBODY, large=LARGE, now=house.clock.now())
    for decisions in attempt(agent, [again]):
        house.settle(*decisions, agent=agent)
    assert house.files() == {f"failed/p/{bucket}/key": b"data"}
    assert house.row(claim.id)["error_code"] == "AccessDenied"


def test_what_was_proven_and_changed_is_uploaded_again(
    house: House, uploader: Uploader, server: S3Server, bucket: str
) -> None:
    [claim] = claimed(house, bucket, {"key": b"data"})
    proof = Proof("etag", None, "md5:00", 4)
    records.release(claim, Reason(INTERRUPTED, "cannot_move", "no room"), START, 0.0, proof)
    house.write(claim.path, b"other")
    agent = house.agent(uploader)
    for _ in range(2):
        claims = claiming.claim([], "p", bucket, owner=NOBODY, large=LARGE, now=house.clock.now())
        for decisions in attempt(agent, claims):
            house.settle(*decisions, agent=agent)
        house.clock.advance(60.0)
    assert server.read(bucket, "key") == b"other"
    assert house.row(claim.id)["etag"] not in (None, "etag")


# --- files that arrive -------------------------------------------------------------------------


def test_s5_uploads_then_settles(
    house: House, uploader: Uploader, server: S3Server, bucket: str
) -> None:
    files = {"a": b"", "dir/b": b"x", "dir/ü 🚰\n%2F+": b"y" * 5000}
    claims = claimed(house, bucket, files)
    agent = house.agent(uploader)
    for decisions in attempt(agent, claims):
        for decision in decisions:
            assert isinstance(decision, Prove)
            os.fstat(decision.descriptor)  # is open until it is settled
        house.settle(*decisions, agent=agent)
    assert not open_files(house)
    assert {key: server.read(bucket, key) for key in files} == files
    assert house.files() == {f"completed/p/{bucket}/{key}": data for key, data in files.items()}
    for row in house.rows():
        assert (row["current_state"], row["bytes_sent"]) == ("completed", row["size"])
        assert row["etag"]


def test_an_attempt_goes_on_with_what_is_due(
    house: House, uploader: Uploader, server: S3Server, bucket: str
) -> None:
    claims = claimed(house, bucket, {"a": b"x"})
    files = {f"more-{number}": b"%d" % number for number in range(20)}
    for one in claimed(house, bucket, files):
        records.put_off(one, house.clock.now(), 0.0)
    agent = house.agent(uploader)
    for decisions in attempt(agent, claims, lambda _: house.claim_more(bucket)):
        house.settle(*decisions, agent=agent)
    assert not open_files(house)
    assert {key: server.read(bucket, key) for key in files} == files
    assert {row["current_state"] for row in house.rows()} == {"completed"}


def test_what_an_attempt_goes_on_with_may_be_wrong(
    house: House, uploader: Uploader, bucket: str
) -> None:
    claims = claimed(house, bucket, {"a": b"x"})
    waiting = claimed(house, bucket, {"gone": b"x", "b": b"y", "linked": b"z"})
    for one in waiting:
        records.put_off(one, house.clock.now(), 0.0)
    os.unlink(house.spool.absolute(waiting[0].path))
    os.link(house.spool.absolute(waiting[2].path), house.spool.absolute("completed/other"))
    agent = house.agent(uploader, links_guarded=lambda: False)
    for decisions in attempt(agent, claims, lambda _: house.claim_more(bucket)):
        house.settle(*decisions, agent=agent)
    assert house.states() == [
        ("a", "completed", "success"),
        ("gone", "failed", "failure"),
        ("b", "completed", "success"),
        ("linked", "processing", None),
    ]
    assert house.rows()[-1]["error_code"] == "hard_link"


@pytest.mark.parametrize("lane", UPLOADERS)
def test_over_a_slow_line_no_file_waits_for_all_others(
    house: House, server: S3Server, bucket: str, lane: str
) -> None:
    """Whatever ends the worker, or the line, costs little of what was sent then."""
    line = Line(6 * MIB)
    files = {f"{number}": os.urandom(MIB) for number in range(12)}
    claims = claimed(house, bucket, files)
    with (
        FaultProxy(server.address) as proxy,
        closing(UPLOADERS[lane](known(proxy.url), concurrency=16)) as made,
    ):
        proxy.inject(line, "PUT", times=None)
        # To this clock the line takes 200 KiB a second.
        settings = house.settings(concurrency=16)
        agent = house.agent(made, settings=settings, clock=lambda: 30.0 * time.monotonic())
        while claims:
            for decisions in attempt(agent, claims):
                house.settle(*decisions, agent=agent)
            claims = claiming.claim(
                [], "p", bucket, owner=NOBODY, large=LARGE, now=house.clock.now()
            )
    assert {key: server.read(bucket, key) for key in files} == files
    assert line.most <= 4


@pytest.mark.parametrize("lane", UPLOADERS)
def test_over_a_slow_line_small_files_do_not_wait(
    house: House, server: S3Server, bucket: str, lane: str
) -> None:
    files = {"large": bytes(3 * MIB)} | {f"{number}": b"x" * 1000 for number in range(20)}
    claims = claimed(house, bucket, files)
    with (
        FaultProxy(server.address) as proxy,
        closing(UPLOADERS[lane](known(proxy.url), concurrency=16)) as made,
    ):
        proxy.inject(Line(2 * MIB), "PUT", times=None)
        agent = house.agent(made, settings=house.settings(concurrency=16), clock=time.monotonic)
        ended = [one.claim.key for group in attempt(agent, claims) for one in group]
    assert ended[-1] == "large"
    assert sorted(ended) == sorted(files)


@pytest.mark.parametrize("lane", UPLOADERS)
def test_what_has_not_begun_is_given_back_while_a_file_takes_long(
    house: House, server: S3Server, bucket: str, lane: str
) -> None:
    """Another worker may have it then; this one thinks of others once it is done."""
    claims = claimed(house, bucket, {str(number): bytes(3 * MIB) for number in range(4)})
    with (
        FaultProxy(server.address) as proxy,
        closing(UPLOADERS[lane](known(proxy.url), concurrency=16)) as made,
    ):
        proxy.inject(Line(2 * MIB), "PUT", times=None)
        agent = house.agent(
            made,
            settings=house.settings(concurrency=16),
            clock=lambda: 20.0 * time.monotonic(),  # what takes long is over in half a second
        )
        first, *others = list(attempt(agent, claims))
    assert [(type(one), one.claim.key) for one in first] == [
        (PutOff, "1"),
        (PutOff, "2"),
        (PutOff, "3"),
    ]
    assert all(one.ring for one in first if isinstance(one, PutOff))
    assert [(type(one), one.claim.key) for group in others for one in group] == [(Prove, "0")]


@pytest.mark.parametrize("how", ["long", "credentials"])
def test_an_attempt_does_not_go_on_for_ever(
    house: House, uploader: Uploader, bucket: str, how: str
) -> None:
    claims = claimed(house, bucket, {"a": b"x"})
    for one in claimed(house, bucket, {"b": b"y", "c": b"z"}):
        records.put_off(one, house.clock.now(), 0.0)
    agent = house.agent(uploader)

    def change(_company: int) -> list[Claimed]:
        found = house.claim_more(bucket)
        if how == "long":
            house.clock.advance(LONG.total_seconds() + 1.0)
        else:
            agent.profiles = {}
        return found

    for decisions in attempt(agent, claims, change):
        house.settle(*decisions, agent=agent)
    begun = {"long": 1, "credentials": 3}[how]
    assert sum(row["current_state"] == "completed" for row in house.rows()) == begun
    # What was claimed too late has lost nothing.
    assert {row["retry_count"] for row in house.rows()} == {0}
    assert not house.claimed()


def test_an_attempt_ends_where_others_wait(house: House, uploader: Uploader, bucket: str) -> None:
    """A store that is slow, but answers, would keep every worker from them."""
    claims = claimed(house, bucket, {str(number): b"x" for number in range(40)})
    asked: list[float] = []

    def clock() -> float:
        # Each look at it takes a while.
        passed.append(passed[-1] + 0.05)
        return passed[-1]

    def others_wait() -> bool:
        asked.append(passed[-1])
        return len(asked) == 3

    passed = [0.0]
    given_back = []
    for decisions in attempt(house.agent(uploader, clock=clock), claims, no_more, others_wait):
        given_back += [one for one in decisions if isinstance(one, PutOff) and one.ring]
        house.settle(*decisions)
    assert len(asked) == 3, "nothing begins after that"
    assert asked[0] >= 2.0
    assert min(after - before for before, after in pairwise(asked)) >= 0.5
    assert 0 < len(given_back) < 40
    assert {row["retry_count"] for row in house.rows()} == {0}
    assert not house.claimed()


def test_without_descriptors_an_attempt_does_not_go_on(
    house: House, uploader: Uploader, bucket: str
) -> None:
    """What waits for one would be claimed again and again."""
    mimetypes.init()  # its files are read once, while the first upload begins
    claims = claimed(house, bucket, {"a": b"x"})
    for one in claimed(house, bucket, {"b": b"y", "c": b"z"}):
        records.put_off(one, house.clock.now(), 0.0)
    calls = []

    def more(_company: int) -> list[Claimed]:
        calls.append(1)
        found = house.claim_more(bucket)
        shortage.enter_context(spooling.without_descriptors())
        return found

    agent = house.agent(uploader)
    with ExitStack() as shortage:
        for decisions in attempt(agent, claims, more):
            shortage.close()
            house.settle(*decisions, agent=agent)
    assert len(calls) == 1
    assert [row["current_state"] for row in house.rows()] == ["completed", *["processing"] * 2]
    assert not house.claimed()


def test_files_are_closed_when_an_attempt_is_broken_off(
    house: House, uploader: Uploader, bucket: str
) -> None:
    claims = claimed(house, bucket, {"a": b"x", "b": b"y"})
    groups = attempt(house.agent(uploader), claims)
    next(groups)
    groups.close()  # type: ignore[attr-defined]  # it is a generator
    assert not open_files(house)


# --- files that are not sent -------------------------------------------------------------------


def test_names_that_no_key_can_have_are_given_up(house: House, bucket: str) -> None:
    bad = os.fsdecode(b"caf\xe9")
    claims = claimed(house, bucket, {bad: b"x", "ä" * 100 + "/" + "/".join(["d" * 250] * 4): b"y"})
    decisions = decide(house.agent(), claims)  # without any uploader
    assert [type(one) for one in decisions] == [GiveUp, GiveUp]
    codes = {one.reason.code for one in decisions if isinstance(one, GiveUp)}
    assert codes == {"key_not_utf8", "key_too_long"}
    messages = [one.reason.message for one in decisions if isinstance(one, GiveUp)]
    assert all(text.endswith("; move it to incoming under its new name") for text in messages)
    house.settle(*decisions)
    assert {state for _, state, _ in house.states()} == {"failed"}


def test_names_that_a_store_would_change_are_given_up(
    house: House, server: S3Server, bucket: str
) -> None:
    claims = claimed(house, bucket, {"e\u0301": b"x"})
    agent = house.agent(look=lambda **_: {"p": known(server.url, "cloudflare")})
    [decision] = decide(agent, claims)
    assert isinstance(decision, GiveUp)
    assert decision.reason.code == "key_not_normalized"


@pytest.mark.parametrize("how", ["removed", "replaced", "link", "directory"])
def test_s11_a_file_that_is_not_there(
    house: House, uploader: Uploader, server: S3Server, bucket: str, how: str
) -> None:
    gone, good = claimed(house, bucket, {"gone": b"x", "good": b"y"})
    path = house.spool.absolute(gone.path)
    os.rename(path, house.spool.absolute("failed/aside"))
    if how == "replaced":
        house.write(gone.path, b"another")
    elif how == "link":
        os.symlink(house.spool.absolute("failed/aside"), path)
    elif how == "directory":
        os.mkdir(path)
    decisions = decide(house.agent(uploader), [gone, good])
    assert [type(one) for one in decisions] == [Missing, Prove]
    assert server.keys(bucket) == ["good"]


def test_a_file_that_changed_is_sent_once_more(
    house: House, uploader: Uploader, server: S3Server, bucket: str
) -> None:
    [claim] = claimed(house, bucket, {"key": b"x"})
    identity = house.write(claim.path, b"longer")
    agent = house.agent(uploader)
    [decision] = decide(agent, [claim])
    assert isinstance(decision, TryAgain)
    assert (decision.reason.code, decision.identity, decision.delay) == ("changed", identity, 30.0)
    house.settle(decision, agent=agent)
    house.clock.advance(30.0)
    again = claiming.claim([], "p", bucket, owner=NOBODY, large=LARGE, now=house.clock.now())
    house.settle(*decide(agent, again), agent=agent)
    assert server.read(bucket, "key") == b"longer"


def test_a_file_that_somebody_writes_to_is_sent_later(
    house: House, uploader: Uploader, bucket: str
) -> None:
    [claim] = claimed(house, bucket, {"key": b"x"})
    with open(house.spool.absolute(claim.path), "ab"):
        [decision] = decide(house.agent(uploader), [claim])
    assert isinstance(decision, TryAgain)
    assert decision.reason.code == "being_written"


class Meddler:
    """Somebody who does something just before the uploader tells how a file ended."""

    def __init__(self, uploader: Uploader, meddle: Callable[[Upload], None]) -> None:
        self._uploader = uploader
        self._meddle = meddle
        self.ensure_bucket = uploader.ensure_bucket
        self.abort_multipart = uploader.abort_multipart
        self.close = uploader.close

    def transfer(self, uploads: Iterable[Upload], hooks: Hooks) -> Iterator[Outcome | None]:
        for outcome in self._uploader.transfer(uploads, hooks):
            if outcome is not None:
                self._meddle(outcome[0])
            yield outcome


def test_a_file_that_changes_while_it_is_sent(
    house: House, uploader: Uploader, bucket: str
) -> None:
    [claim] = claimed(house, bucket, {"key": b"x"})

    def append(_upload: Upload) -> None:
        with open(house.spool.absolute(claim.path), "ab") as file:
            file.write(b"more")

    [decision] = decide(house.agent(Meddler(uploader, append)), [claim])
    assert isinstance(decision, TryAgain)
    assert decision.reason.code == "changed"
    assert decision.identity == house.spool.identify(claim.path)


def test_a_file_whose_content_changes_while_it_is_sent_with_its_times_put_back(
    house: House, uploader: Uploader, bucket: str
) -> None:
    [claim] = claimed(house, bucket, {"key": b"x"})
    path = house.spool.absolute(claim.path)

    def rewrite(_upload: Upload) -> None:
        times = os.stat(path)
        with open(path, "r+b") as file:
            file.write(b"y")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    [decision] = decide(house.agent(Meddler(uploader, rewrite)), [claim])
    assert isinstance(decision, TryAgain)
    assert decision.reason.code == "changed"


def test_a_file_that_is_removed_while_it_is_sent(
    house: House, uploader: Uploader, bucket: str
) -> None:
    [claim] = claimed(house, bucket, {"key": b"x"})
    agent = house.agent(
        Meddler(uploader, lambda _upload: os.unlink(house.spool.absolute(claim.path)))
    )
    for decisions in attempt(agent, [claim]):
        house.settle(*decisions, agent=agent)
    assert house.row(claim.id)["error_code"] == "vanished"


def test_a_lack_of_descriptors_costs_no_retry(
    house: House, uploader: Uploader, server: S3Server, bucket: str
) -> None:
    keys = [f"{number:02}" for number in range(60)]
    claims = claimed(house, bucket, dict.fromkeys(keys, b"x"))
    agent = house.agent(uploader)

    def limited() -> None:
        with models.write():
            pass  # as the claim does
        spooling.leave_descriptors(50)
        for decisions in attempt(agent, claims):
            house.settle(*decisions, agent=agent)

    assert in_child(limited) == 0
    waiting = house.rows("current_state = 'processing'")
    assert 0 < len(waiting) < 60
    for row in waiting:
        assert (row["retry_count"], row["owner"]) == (0, None)
        assert house.attempts(row["id"]) == []
    assert {row["next_attempt_at"] for row in waiting} == {utc_text(house.clock.now())}


def test_a_lack_of_all_descriptors_is_waited_out(
    house: House, uploader: Uploader, bucket: str
) -> None:
    claims = claimed(house, bucket, dict.fromkeys(["one", "two"], b"x"))
    agent = house.agent(uploader)

    def limited() -> None:
        with models.write():
            pass
        spooling.leave_descriptors(0)
        for decisions in attempt(agent, claims):
            assert [type(one) for one in decisions] == [PutOff, PutOff]
            house.settle(*decisions, agent=agent)

    assert in_child(limited) == 0
    due = house.clock.now() + timedelta(seconds=SCARCE_LEAST)
    for row in house.rows():
        assert (row["owner"], row["next_attempt_at"]) == (None, utc_text(due))
        assert house.attempts(row["id"]) == []


def test_what_is_only_to_be_moved_leaves_a_descriptor_for_the_move(
    house: House, bucket: str
) -> None:
    """All of them were uploaded when there was none left; each claim then gets some further."""
    claims = claimed(house, bucket, {f"{number}/key": b"x" for number in range(60)})
    for one in claims:
        changed = os.stat(house.spool.absolute(one.path)).st_ctime_ns
        proof = Proof("etag", None, "md5:00", 1, changed)
        records.release(one, Reason(INTERRUPTED, "cannot_move", "no room"), START, 0.0, proof)
    agent = house.agent(Refusing())

    def limited() -> None:
        spooling.leave_descriptors(12)
        for _ in range(len(claims)):
            again = claiming.claim(
                [], "p", bucket, owner=NOBODY, large=LARGE, now=house.clock.now()
            )
            if not again:
                return
            for decisions in attempt(agent, again):
                house.settle(*decisions, agent=agent)
            house.clock.advance(SCARCE_MOST)
        raise AssertionError(house.states())

    assert in_child(limited) == 0
    assert {row["current_state"] for row in house.rows()} == {"completed"}


def test_a_move_that_had_no_descriptor_is_rung_for(house: House) -> None:
    """Nothing else would, before the next sweep."""
    [claim] = house.claim(*house.admit("key"))
    descriptor, _ = house.spool.open(claim.path)
    status = os.fstat(descriptor)
    proof = Prove(claim, Receipt("etag", None, None, 4), descriptor, status.st_ctime_ns)
    agent = house.agent()
    models.connection()
    with models.write(), spooling.without_descriptors():
        assert settle(agent, [proof], house.schedule) == [SCARCE_LEAST]
    os.close(descriptor)
    due = utc_text(house.clock.now() + timedelta(seconds=SCARCE_LEAST))
    assert house.row(claim.id)["next_attempt_at"] == due


def test_a_lack_of_descriptors_is_told_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.admit("one", "two", "three")
    agent = house.agent()
    for claim in house.claim():
        house.settle(PutOff(claim, SCARCE, 0.0), agent=agent)
    assert [each.getMessage() for each in caplog.records].count(
        "short of descriptors or memory"
    ) == 1
    assert len(house.claim()) == 3


# --- stores that do not play along -------------------------------------------------------------


def test_a_bucket_that_is_missing_fails_its_files(
    house: House, uploader: Uploader, bucket_name: Callable[[], str]
) -> None:
    claims = claimed(house, bucket_name(), {"a": b"x", "b": b"y"})
    decisions = decide(house.agent(uploader), claims)
    assert [type(one) for one in decisions] == [GiveUp, GiveUp]


def test_a_server_that_is_away_is_tried_again_ten_times(house: House) -> None:
    claims = claimed(house, "bucket", {"key": b"x"})
    away = boto3_uploader(known("http://127.0.0.1:9"))
    agent = house.agent(away)
    delays = []
    with closing(away):
        while claims:
            decisions = decide(agent, claims)
            house.settle(*decisions, agent=agent)
            delays += [one.delay for one in decisions if isinstance(one, TryAgain)]
            house.clock.advance(30.0 * 2**10)
            now = house.clock.now()
            claims = claiming.claim([], "p", "bucket", owner=NOBODY, large=LARGE, now=now)
    assert delays == [30.0 * 2**n for n in range(10)]
    assert [one[4] for one in house.scheduled] == list(range(9, -1, -1))
    [row] = house.rows()
    assert (row["current_state"], row["retry_count"]) == ("failed", 10)
    attempts = house.attempts(row["id"])
    assert [one["retry_number"] for one in attempts] == list(range(11))
    assert {one["kind"] for one in attempts} == {"transient"}


@pytest.mark.parametrize("make", UPLOADERS.values(), ids=UPLOADERS)
def test_a_store_that_bears_little_gets_no_more(
    house: House, server: S3Server, bucket: str, make: MakeUploader
) -> None:
    claims = claimed(house, bucket, {f"key-{number}": b"x" for number in range(400)})
    crowded = Crowded(6)
    with FaultProxy(server.address) as proxy:
        proxy.inject(crowded, "PUT", times=None)
        used = known(proxy.url)
        with closing(make(used, concurrency=32)) as uploader:
            settings = house.settings(concurrency=32)
            agent = house.agent(uploader, settings=settings, clock=time.monotonic)
            while claims:
                for decisions in attempt(agent, claims):
                    house.settle(*decisions, agent=agent)
                house.clock.advance(30.0 * 2**10)
                now = house.clock.now()
                claims = claiming.claim([], "p", bucket, owner=NOBODY, large=LARGE, now=now)
    assert {row["current_state"] for row in house.rows()} == {"completed"}
    # Without the pace most of the first four hundred.
    assert 0 < crowded.refusals < 100
    assert agent.pace(agent.profiles["p"]).slowed


@pytest.mark.parametrize("make", UPLOADERS.values(), ids=UPLOADERS)
def test_what_a_slow_store_has_no_time_for_is_let_go_again(
    house: House, server: S3Server, bucket: str, make: MakeUploader
) -> None:
    """So that its worker may think of others; at no cost for the files that were not begun."""
    claims = claimed(house, bucket, {f"key-{number}": b"x" for number in range(60)})
    moments = count()
    with closing(make(known(server.url), concurrency=2)) as uploader:
        settings = house.settings(concurrency=2)
        agent = house.agent(uploader, settings=settings, clock=lambda: next(moments) / 5)
        decisions = []
        for group in attempt(agent, claims):
            house.settle(*group, agent=agent)
            decisions += group
    assert sorted(one.claim.id for one in decisions) == [claim.id for claim in claims]
    kinds = Counter(type(one) for one in decisions)
    assert set(kinds) == {Prove, PutOff}
    assert 0 < kinds[Prove] < 50
    assert {one.delay for one in decisions if isinstance(one, PutOff)} == {0.0}
    rows = house.rows("current_state = 'processing'")
    assert len(rows) == kinds[PutOff]
    assert {(row["retry_count"], row["error_code"], row["owner"]) for row in rows} == {
        (0, None, None)
    }


@pytest.mark.parametrize("make", UPLOADERS.values(), ids=UPLOADERS)
def test_a_store_that_refuses_parts_gets_fewer_at_once(
    house: House, server: S3Server, bucket: str, make: MakeUploader
) -> None:
    [claim] = claimed(house, bucket, {"key": b"x" * (MULTIPART + 3 * MIB)})
    with FaultProxy(server.address) as proxy:
        proxy.inject(s3_error(503, "SlowDown", Retry_After="1"), "PUT", "partNumber")
        with closing(make(known(proxy.url), concurrency=8)) as uploader:
            settings = house.settings(concurrency=8)
            agent = house.agent(uploader, settings=settings, clock=time.monotonic)
            [decision] = decide(agent, [claim])
    assert isinstance(decision, Prove)  # the part was worth a second
    pace = agent.pace(agent.profiles["p"])
    assert pace.slowed
    assert pace.limit() < 8


def test_a_store_that_wants_to_be_left_alone_costs_no_retry(
    house: House, server: S3Server, bucket: str
) -> None:
    claims = claimed(house, bucket, {f"key-{number}": b"x" for number in range(20)})
    others = claimed(house, bucket, {"other": b"x"})
    with FaultProxy(server.address) as proxy:
        proxy.inject(s3_error(503, "SlowDown", retry_after="300"), "PUT")
        with closing(boto3_uploader(known(proxy.url), concurrency=4)) as uploader:
            agent = house.agent(uploader)
            decisions: list[Decision] = []
            for group in attempt(agent, claims):
                house.settle(*group, agent=agent)
                decisions += group
            assert proxy.count("PUT") < 10
            puts = proxy.count("PUT")
            [put_off] = decide(agent, others)
            assert isinstance(put_off, PutOff)
            assert (put_off.claim, put_off.delay) == (others[0], 300.0)
            assert proxy.count("PUT") == puts
            house.settle(put_off, agent=agent)
            assert house.rows()[-1]["error_code"] == "asked_to_wait"
            batches = []
            for seconds in (300.0, 60.0):
                house.clock.advance(seconds)
                now = house.clock.now()
                again = claiming.claim([], "p", bucket, owner=NOBODY, large=LARGE, now=now)
                batches.append([claim.id for claim in again])
                for group in attempt(agent, again):
                    house.settle(*group, agent=agent)
    [refused] = [one.claim.id for one in decisions if isinstance(one, TryAgain)]
    waited = {one.claim.id for one in decisions if isinstance(one, PutOff)} | {others[0].id}
    assert len(waited) >= 11
    # Others are due when it is over: one that is refused each time would have them wait for ever.
    assert [set(batch) for batch in batches] == [waited, {refused}]
    attempts = [one for row in house.rows() for one in house.attempts(row["id"])]
    assert len([one for one in attempts if one["outcome"] == "failure"]) == 1
    assert {row["current_state"] for row in house.rows()} == {"completed"}


@pytest.mark.parametrize("make", UPLOADERS.values(), ids=UPLOADERS)
def test_what_a_store_has_wait_waits_for_nothing_else(
    house: House, server: S3Server, bucket: str, make: MakeUploader
) -> None:
    """Above all not for a slow transfer that goes on meanwhile."""
    data = {"slow": b"slow", "refused": b"", **{f"key-{number}": b"x" for number in range(20)}}
    claims = claimed(house, bucket, data)
    with FaultProxy(server.address) as proxy:
        proxy.inject(Stall("request"), "PUT", "slow")
        proxy.inject(s3_error(503, "SlowDown", retry_after="1"), "PUT", "refused")
        with closing(make(known(proxy.url), concurrency=2)) as uploader:
            found: dict[str, Decision] = {}
            groups = attempt(house.agent(uploader), claims)
            while len(found) < len(data) - 1:
                found |= {one.claim.key: one for one in next(groups)}
            assert "slow" not in found
            groups.close()
    refused = found.pop("refused")
    assert isinstance(refused, TryAgain)
    assert {type(one) for one in found.values()} <= {PutOff, Prove}
    assert len([one for one in found.values() if isinstance(one, PutOff)]) >= 15


def test_a_store_that_does_not_even_list_takes_one_retry(
    house: House, server: S3Server, bucket: str
) -> None:
    claims = claimed(house, bucket, dict.fromkeys("abc", b"x"))
    with FaultProxy(server.address) as proxy:
        proxy.inject(s3_error(503, "SlowDown", retry_after="60"), "GET")
        with closing(boto3_uploader(known(proxy.url))) as uploader:
            decisions = decide(house.agent(uploader), claims)
    assert [type(one) for one in decisions] == [TryAgain, PutOff, PutOff]
    assert {one.delay for one in decisions if isinstance(one, PutOff)} == {60.0}


def test_a_stop_lets_files_go(house: House, uploader: Uploader, bucket: str) -> None:
    claims = claimed(house, bucket, {"a": b"x", "b": b"y"})
    agent = house.agent(uploader, stopping=lambda: True)
    decisions = decide(agent, claims)
    assert [type(one) for one in decisions] == [PutOff, PutOff]
    before = [row["next_attempt_at"] for row in house.rows()]
    house.settle(*decisions, agent=agent)
    assert [row["retry_count"] for row in house.rows()] == [0, 0]
    # They keep their place, as nothing had begun: what had is behind them after the next start.
    assert [row["next_attempt_at"] for row in house.rows()] == before
    assert not any(house.attempts(claim.id) for claim in claims)


# --- multipart uploads -------------------------------------------------------------------------


def test_the_id_of_a_multipart_upload_is_on_record_while_it_lasts(
    house: House, uploader: Uploader, server: S3Server, bucket: str
) -> None:
    [claim] = claimed(house, bucket, {"large": bytes(MULTIPART)})
    recorded: list[str | None] = []

    class Noting(Meddler):
        def transfer(self, uploads: Iterable[Upload], hooks: Hooks) -> Iterator[Outcome | None]:
            def note(then: Callable[..., None]) -> Callable[..., None]:
                def call(*arguments: object) -> None:
                    then(*arguments)
                    recorded.append(house.row(claim.id)["multipart_upload_id"])

                return call

            noted = replace(
                hooks,
                multipart_started=note(hooks.multipart_started),
                multipart_ended=note(hooks.multipart_ended),
            )
            return super().transfer(uploads, noted)

    agent = house.agent(Noting(uploader, lambda _upload: None))
    for decisions in attempt(agent, [claim]):
        house.settle(*decisions, agent=agent)
    begun, ended = recorded
    assert begun
    assert ended is None
    assert len(server.read(bucket, "large")) == MULTIPART
    assert house.row(claim.id)["current_state"] == "completed"


def test_a_sweep_aborts_what_a_settled_record_left(
    house: House, uploader: Uploader, server: S3Server, bucket: str
) -> None:
    [claim] = claimed(house, bucket, {"key": b"x"})
    begun = server.client.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    assert claiming.remember_multipart(claim, begun)
    agent = house.agent(uploader)
    house.sweep(house.agent(uploader, locks=_Alive(agent.locks._spool)))
    assert server.unfinished(bucket) == [begun]  # its record is at work
    house.settle(GiveUp(claim, Reason(PERMANENT, "code", "words")))
    house.sweep(agent)
    assert server.unfinished(bucket) == []
    assert house.row(claim.id)["multipart_upload_id"] is None


def test_what_the_log_has_told_of_no_sweep_tells_again(
    house: House,
    make_uploader: MakeUploader,
    server: S3Server,
    bucket: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    [claim] = claimed(house, bucket, {"large": bytes(MULTIPART)})
    with FaultProxy(server.address) as proxy:
        proxy.inject(s3_error(403, "AccessDenied"), "PUT", times=None)
        proxy.inject(s3_error(403, "AccessDenied"), "DELETE", times=None)
        with closing(make_uploader(known(proxy.url))) as uploader, caplog.at_level("WARNING"):
            agent = house.agent(uploader)
            house.settle(*decide(agent, [claim]), agent=agent)
            house.sweep(agent)
            assert proxy.count("DELETE") == 2
            told = [one.getMessage() for one in caplog.records]
            assert [one for one in told if one.startswith("multipart upload")] == [
                "multipart upload left behind"
            ]
            proxy.heal()
            house.sweep(agent)
    assert server.unfinished(bucket) == []
    assert house.row(claim.id)["multipart_upload_id"] is None


class _Alive(WorkerLocks):
    """As if every worker lived."""

    def dead(self, owner: str) -> bool:
        return False


# --- credentials that change -------------------------------------------------------------------


def test_what_failed_with_replaced_credentials_is_tried_again(
    house: House, rclone_server: S3Server, bucket_name: Callable[[], str]
) -> None:
    bucket = rclone_server.make_bucket(bucket_name())
    right = known(rclone_server.url)
    revoked = {"p": replace(right, secret_access_key="revoked")}
    claims = claimed(house, bucket, {"one": b"x", "two": b"x"})

    def decided(afterwards: dict[str, Profile]) -> list[Decision]:
        agent = house.agent(
            look=lambda at_once=False: afterwards if at_once else revoked,
            make_uploader=boto3_uploader,
        )
        with closing(agent):
            return decide(agent, claims)

    for decision in decided(revoked):
        assert isinstance(decision, GiveUp)
        assert decision.reason.code == "SignatureDoesNotMatch"
    for afterwards in ({"p": right}, {}):
        for again in decided(afterwards):
            assert isinstance(again, TryAgain)
            assert again.reason.code == "credentials_changed"


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "AccessDenied", "NoSuchBucket"])
def test_what_is_refused_while_the_credentials_file_is_wrong_is_tried_again(
    house: House, make_uploader: MakeUploader, server: S3Server, bucket: str, code: str
) -> None:
    """The right ones may have been there while this worker was busy."""
    claims = claimed(house, bucket, {"one": b"x"})
    with FaultProxy(server.address) as proxy:
        proxy.inject(s3_error(403, code), "PUT", times=None)
        with closing(make_uploader(known(proxy.url))) as uploader:
            [given_up] = decide(house.agent(uploader), claims)
            [decision] = decide(house.agent(uploader, outdated=lambda: True), claims)
    assert isinstance(given_up, GiveUp)
    if code == "NoSuchBucket":
        assert decision == given_up
        return
    assert isinstance(decision, TryAgain)
    assert decision.reason.code == "credentials_refused"
    assert code in decision.reason.message
    assert "retry the file" not in decision.reason.message


def test_what_lost_its_profile_as_it_was_claimed_is_let_go(house: House) -> None:
    claims = claimed(house, "bucket", {"one": b"x"})
    agent = house.agent(look=lambda **_: {})
    [decision] = decide(agent, claims)
    assert isinstance(decision, LetGo)
    house.settle(decision, agent=agent)
    [row] = house.rows()
    assert (row["current_state"], row["owner"], row["retry_count"]) == ("processing", None, 0)


# --- tasks -------------------------------------------------------------------------------------


def in_consumer(
    house: House, url: str, call: Callable[[], object], names: Iterable[str] = "p"
) -> None:
    """Run a call where huey has been prepared, as in a worker of a consumer with credentials for
    profiles of these names."""

    def child() -> None:
        huey.settings = house.settings(concurrency=2, multipart_part_size=5 * MIB)
        profiles = {name: replace(known(url), name=name) for name in names}
        huey.rereading = SimpleNamespace(  # type: ignore[assignment]  # all that tasks ask for
            credentials=SimpleNamespace(profiles=profiles), look=lambda **_: profiles
        )
        call()

    assert in_child(child) == 0


def work_off() -> None:
    """Execute tasks until none is left."""
    while (task := huey.dequeue()) is not None:
        huey.execute(task)


def admit_for_now(house: House, bucket: str, *keys: str) -> None:
    """Admit files, with tasks, at the time of the real clock."""
    for key in keys:
        house.write(f"incoming/p/{bucket}/{key}", key.encode())
    intake = house.intake(enqueue=tasks.enqueue, now=lambda: datetime.now(timezone.utc))
    paths = [f"incoming/p/{bucket}/{key}" for key in keys]
    intake.admit([(Candidate(path, closed=True), None) for path in paths])


def test_a_task_uploads_what_it_names(house: House, server: S3Server, bucket: str) -> None:
    admit_for_now(house, bucket, "a", "b", "c")
    in_consumer(house, server.url, work_off)
    assert server.keys(bucket) == ["a", "b", "c"]
    assert {state for _, state, _ in house.states()} == {"completed"}
    assert len({row["owner"] for row in house.rows()}) == 1


def test_nothing_goes_with_what_a_lost_attempt_made_suspect(
    house: House, server: S3Server, bucket: str
) -> None:
    """It may kill its worker, and would take others with it."""
    admit_for_now(house, bucket, "suspect")
    [suspect] = house.rows()
    models.execute("UPDATE file_records SET alone = 1")
    admit_for_now(house, bucket, *(f"later-{number}" for number in range(5)))
    in_consumer(house, server.url, work_off)
    assert {state for _, state, _ in house.states()} == {"completed"}
    sizes = {row["id"]: row["claim_size"] for row in house.rows()}
    assert sizes.pop(suspect["id"]) == 1
    started = house.attempts(suspect["id"])[0]["finished_at"]
    assert all(house.attempts(one)[0]["started_at"] >= started for one in sizes)


def test_a_task_that_was_lost_is_made_good_by_a_sweep(
    house: House, server: S3Server, bucket: str
) -> None:
    admit_for_now(house, bucket, "a", "b")
    huey.storage.flush_queue()

    def sweep_twice() -> None:
        tasks.sweep.call_local()
        tasks.sweep.call_local()  # too soon, so that nothing is rung twice
        assert huey.storage.queue_size() == 1
        work_off()

    in_consumer(house, server.url, sweep_twice)
    assert server.keys(bucket) == ["a", "b"]
    assert huey.storage.queue_size() == 0


def test_what_is_refused_as_workers_are_there_for_long_is_rung_for_again(house: House) -> None:
    """Others' large files may be what keeps it from the worker that is left."""
    house.admit("slow")
    other = WorkerLocks(house.spool)
    slow = claiming.claim([], "p", "b", owner=other.own(), large=LARGE, now=house.clock.now())
    assert len(slow) == 1
    admit_for_now(house, "b", "small")
    began = datetime.now(timezone.utc)

    def arrive_and_work() -> None:
        tasks.arrive()
        work_off()

    in_consumer(house, "http://127.0.0.1:9", arrive_and_work, names="pq")
    assert [row["owner"] is None for row in house.rows()] == [False, True]
    again = began.replace(tzinfo=None) + timedelta(seconds=60)
    [ring] = huey.read_schedule(again)
    assert (ring.args, ring.kwargs) == (["p", "b", []], {"ring": True})
    other.disown()


def test_a_store_that_hangs_at_an_abort_keeps_no_worker(house: House) -> None:
    leave(house, "upload")
    with create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)

        def sweep() -> None:
            tasks.sweep.call_local()
            asked, _ = silent.accept()
            [aside] = [one for one in threading.enumerate() if one.name == "clear"]
            asked.close()
            aside.join(30)
            assert not aside.is_alive()

        in_consumer(house, f"http://127.0.0.1:{silent.getsockname()[1]}", sweep)
    assert left() == ["upload"]


def test_a_failed_attempt_has_a_task_at_the_instant_of_its_retry(house: House) -> None:
    admit_for_now(house, "bucket", "key")
    in_consumer(house, "http://127.0.0.1:9", work_off)
    [row] = house.rows()
    assert (row["current_state"], row["retry_count"], row["owner"]) == ("processing", 1, None)
    due = utc_moment(row["next_attempt_at"]).replace(tzinfo=None)
    [task] = huey.read_schedule(due)
    assert (task.args, task.retries, task.eta) == (["p", "bucket", [row["id"]]], 9, due)


def test_what_is_put_off_is_rung_for_when_the_time_is_over(
    house: House, server: S3Server, bucket: str
) -> None:
    admit_for_now(house, bucket, "a", "b")
    with FaultProxy(server.address) as proxy:
        proxy.inject(s3_error(503, "SlowDown", retry_after="40"), "GET", times=None)
        in_consumer(house, proxy.url, work_off)
    first, last = sorted(
        utc_moment(row["next_attempt_at"]).replace(tzinfo=None) for row in house.rows()
    )
    ring, retry = sorted(huey.read_schedule(last), key=lambda one: one.eta)
    assert (ring.args, ring.kwargs) == (["p", bucket, []], {"ring": True})
    assert first < ring.eta < retry.eta == last


def test_what_is_put_off_is_rung_for_though_others_of_its_attempt_go_on(
    house: House, server: S3Server, bucket: str
) -> None:
    # The first one is the oldest, then the smallest goes first.
    admit_for_now(house, bucket, "slow one", "no", *(f"key-{number}" for number in range(9)))
    with FaultProxy(server.address) as proxy:
        proxy.inject(Stall("request", seconds=4.0), "PUT", "slow")
        proxy.inject(s3_error(503, "SlowDown", retry_after="40"), "PUT", "no")
        in_consumer(house, proxy.url, work_off)
    put_off = house.rows("error_code = 'asked_to_wait'")
    due = utc_moment(max(row["next_attempt_at"] for row in put_off)).replace(tzinfo=None)
    rings = [one for one in huey.read_schedule(due + timedelta(seconds=60)) if one.kwargs]
    assert [one.kwargs for one in rings] == [{"ring": True}]
    assert due < rings[0].eta < due + timedelta(seconds=3)


def test_for_a_moments_pause_nothing_is_claimed(
    house: House, server: S3Server, bucket: str
) -> None:
    """At each pause a backlog would be claimed, and put off, all of it."""
    admit_for_now(house, bucket, "refused")

    def refuse_then_admit() -> None:
        work_off()
        admit_for_now(house, bucket, "a", "b")
        work_off()

    with FaultProxy(server.address) as proxy:
        proxy.inject(s3_error(503, "SlowDown", retry_after="40"), "PUT")
        in_consumer(house, proxy.url, refuse_then_admit)
        assert proxy.count("PUT") == 1
    refused, *others = house.rows()
    assert [(row["claim_number"], row["error_code"]) for row in others] == [(0, None)] * 2
    ring, retry = sorted(
        huey.read_schedule(utc_moment(refused["next_attempt_at"]).replace(tzinfo=None)),
        key=lambda one: one.eta,
    )
    assert (ring.args, ring.kwargs) == (["p", bucket, []], {"ring": True})
    assert timedelta(seconds=28) < retry.eta - ring.eta < timedelta(seconds=38)


@pytest.mark.parametrize(("wait", "code"), [("600", "asked_to_wait"), ("40", None)])
def test_whoever_hastens_files_need_not_wait_as_a_store_asks(
    house: House, server: S3Server, bucket: str, wait: str, code: str | None
) -> None:
    """Nor do those that were not even claimed, as that is over in a moment."""
    admit_for_now(house, bucket, "refused")
    hastened = Retry(
        house.spool,
        overwrite=False,
        large=LARGE,
        enqueue=tasks.enqueue,
        ring=tasks.enqueue_ring,
        now=lambda: datetime.now(timezone.utc),
    )

    def hasten() -> None:
        work_off()
        admit_for_now(house, bucket, "new")
        work_off()
        assert [row["error_code"] for row in house.rows()] == ["SlowDown", code]
        hastened.hasten([house.rows()[1]["id"]])
        work_off()
        assert house.rows()[1]["upload_outcome"] == "success"
        hastened.hasten([house.rows()[0]["id"]])
        work_off()

    with FaultProxy(server.address) as proxy:
        proxy.inject(s3_error(503, "SlowDown", retry_after=wait), "PUT")
        in_consumer(house, proxy.url, hasten)
        assert proxy.count("PUT") == 3
    rows = house.rows()
    assert {(row["upload_outcome"], row["error_code"]) for row in rows} == {("success", None)}


def test_what_is_only_to_be_moved_keeps_its_reason(house: House) -> None:
    """However often a worker puts it off."""
    house.admit("key")
    [claim] = house.claim()
    refused = Reason(PERMANENT, "AccessDenied", "no")
    with models.write():
        records.release(claim, Reason(INTERRUPTED, "cannot_move", "no"), START, verdict=refused)
    [claim] = house.claim()
    house.settle(PutOff(claim, SCARCE, 60.0))
    house.clock.advance(60.0)
    [claim] = house.claim()
    assert claim.verdict == refused


def test_an_attempt_that_breaks_off_gives_its_claims_up(
    house: House, server: S3Server, bucket: str
) -> None:
    """S6 of a worker that lives on, as when the database was full."""
    admit_for_now(house, bucket, "key")

    def break_off() -> None:
        with models.write():
            models.execute("ALTER TABLE retry_attempts RENAME TO elsewhere")
        work_off()
        models.execute("ALTER TABLE elsewhere RENAME TO retry_attempts")
        [row] = house.rows()
        assert (row["current_state"], bool(row["owner"])) == ("processing", True)
        assert list(house.files()) == [f"completed/p/{bucket}/key"]
        [worker] = status_workers.living(house.spool)
        assert worker.owner != row["owner"]
        assert worker.doing is not None
        assert worker.doing.pid == os.getpid()
        tasks.sweep.call_local()

    in_consumer(house, server.url, break_off)
    assert house.states() == [("key", "completed", "success")]


class Heard(logging.Handler):
    """Does something as soon as the log has this line."""

    def __init__(self, line: str, then: Callable[[], object]) -> None:
        super().__init__()
        self._line = line
        self._then = then

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == self._line:
            self._then()


class Holding(Uploader):
    """Files are sent, and once meanwhile another program begins to write to the database."""

    def __init__(self, own: Uploader, hold: Callable[[], object]) -> None:
        self._own = own
        self._holds = [hold]

    def ensure_bucket(self, bucket: str) -> None:
        self._own.ensure_bucket(bucket)

    def transfer(self, uploads: Iterable[Upload], hooks: Hooks) -> Iterator[Outcome | None]:
        yield from list(self._own.transfer(uploads, hooks))
        while self._holds:
            self._holds.pop()()


@pytest.mark.parametrize("stops", [False, True])
def test_what_cannot_be_recorded_as_the_database_is_held_is_given_back(
    house: House, server: S3Server, bucket: str, *, stops: bool
) -> None:
    admit_for_now(house, bucket, "a", "b")

    def hold() -> None:
        agent = tasks._agent()
        made = agent.make_uploader
        models.be_brief_when(lambda: True)
        with ExitStack() as stack:
            looks = count()

            def stopping() -> bool:
                if next(looks):  # it has tried once more
                    stack.close()
                    return stops
                return False

            def holding(profile: Profile) -> Uploader:
                return Holding(made(profile), lambda: stack.enter_context(locked(house.database)))

            agent.make_uploader = holding
            heard = Heard(
                "an attempt could not be recorded", lambda: setattr(agent, "stopping", stopping)
            )
            logging.getLogger("workers.giving_back").addHandler(heard)
            huey.execute(huey.dequeue())
            logging.getLogger("workers.giving_back").removeHandler(heard)
        [worker] = status_workers.living(house.spool)
        names = {row["owner"] for row in house.rows()}
        if stops:
            assert None not in names
            assert worker.owner not in names
            return
        assert names == {None}
        assert len(huey.storage.of_priority(tasks.RING_PRIORITY)) == 1
        for row in house.rows():
            assert (row["retry_count"], row["alone"]) == (0, False)
            [ended] = house.attempts(row["id"])
            assert (ended["kind"], ended["error_code"]) == ("interrupted", "database_held")
            assert ended["worker"] == worker.owner
        work_off()

    in_consumer(house, server.url, hold)
    assert server.keys(bucket) == ["a", "b"]
    state = "processing" if stops else "completed"
    assert {each for _, each, _ in house.states()} == {state}
    house.sweep()
    if stops:
        codes = {house.attempts(row["id"])[0]["error_code"] for row in house.rows()}
        assert codes == {"worker_died"}


def test_files_of_an_unknown_profile_wait(house: House, server: S3Server) -> None:
    house.write("incoming/unknown/b/key")
    intake = house.intake(profiles=lambda: {"unknown"}, enqueue=tasks.enqueue)
    intake.admit([(Candidate("incoming/unknown/b/key"), None)])
    in_consumer(house, server.url, work_off)
    [row] = house.rows()
    assert (row["current_state"], row["owner"], house.attempts(row["id"])) == (
        "processing",
        None,
        [],
    )


def test_a_ring_goes_on_until_nothing_is_due(house: House, server: S3Server, bucket: str) -> None:
    keys = [f"{n:03}" for n in range(130)]
    admit_for_now(house, bucket, *keys)
    huey.storage.flush_queue()
    tasks.enqueue_ring("p", bucket)
    in_consumer(house, server.url, work_off)
    assert server.keys(bucket) == keys


def test_claims_are_released_when_huey_interrupts_a_task(
    house: House, server: S3Server, bucket: str
) -> None:
    admit_for_now(house, bucket, "key")
    huey.storage.flush_queue()

    def interrupt() -> None:
        agent = tasks._agent()
        claims = claiming.claim(
            [], "p", bucket, owner=agent.locks.own(), large=LARGE, now=agent.now()
        )
        assert len(claims) == 1
        tasks.release_claims()

    in_consumer(house, server.url, interrupt)
    [row] = house.rows()
    assert (row["current_state"], row["owner"], row["retry_count"]) == ("processing", None, 0)
    assert house.attempts(row["id"])[0]["kind"] == "interrupted"
    assert len(huey.storage.of_priority(tasks.RING_PRIORITY)) == 1


def test_claims_that_cannot_be_given_back_are_left_to_the_sweep(
    house: House, server: S3Server, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    admit_for_now(house, bucket, "key")

    def interrupt() -> None:
        agent = tasks._agent()
        claiming.claim([], "p", bucket, owner=agent.locks.own(), large=LARGE, now=agent.now())
        models.be_brief_when(lambda: True)
        with locked(house.database):
            tasks.release_claims()
        [line] = [one for one in caplog.records if one.levelname == "ERROR"]
        assert line.getMessage() == "claims were not given back"

    in_consumer(house, server.url, interrupt)
    assert house.row(1)["owner"] is not None
    house.sweep()
    assert house.row(1)["owner"] is None
