"""What a trial plans, whom it keeps off, what it asks of its programs."""

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.chaos import plan
from tests.chaos.judgement import faults_stay_with_their_profile
from tests.chaos.ledger import Ledger
from tests.chaos.operators import COMMANDS, Operators
from tests.chaos.processes import survivors
from tests.chaos.programs import Ended, Programs
from tests.chaos.trial import lacking
from tests.evidence import Evidence


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("seed", range(20))
def test_a_round_that_is_added_has_each_lagging_fault_once(seed: int) -> None:
    lagging = random.Random(seed).sample(sorted(plan.MACHINE), 3)
    events, end = plan.draw_more(random.Random(seed), 1000.0, lagging, 14.0)
    assert (events, end) == plan.draw_more(random.Random(seed), 1000.0, lagging, 14.0)
    faults = [event for event in events if event.kind in plan.MACHINE]
    assert sorted(event.kind for event in faults) == sorted(lagging)
    assert events == sorted(events, key=lambda event: event.at)
    for one, other in pairwise(faults):
        assert one.at + one.lasting < other.at  # one at a time
    assert all(1000.0 < event.at < end for event in events)


def test_a_round_without_faults_of_the_machine_still_has_kills() -> None:
    """As where only faults of the network lag, which come with the requests."""
    events, end = plan.draw_more(random.Random(1), 10.0, [], 60.0)
    assert end >= 20.0
    assert events


def test_what_has_happened_too_rarely_is_told() -> None:
    kinds = {"status 500", "lost queue"}
    counts = Counter({"status 500": 2, "clock step": 1})
    assert lacking(counts, kinds, 2, 3, 3) == ["lost queue: 0 of 2"]
    counts["lost queue"] = 2
    assert lacking(counts, kinds, 2, 2, 3) == ["files brought: 2 of 3"]
    assert lacking(counts, kinds, 2, 3, 3) == []


def test_a_fault_at_the_profile_that_has_none_is_told() -> None:
    found = Evidence(Path())
    for number, profile in enumerate(("main", "calm")):
        found.rows.append({"id": number, "profile": profile, "bucket": "b", "filepath": profile})
    refused = {"retry_number": 0, "error_code": "SlowDown"}
    own = {"retry_number": 1, "error_code": "timeout"}
    found.attempts = {0: [refused, own], 1: [own]}
    assert list(faults_stay_with_their_profile(found)) == []
    found.attempts = {0: [own], 1: [own, refused]}
    [violation] = faults_stay_with_their_profile(found)
    assert (violation.bucket, violation.key) == ("b", "calm")
    assert "SlowDown" in violation.words


def test_what_was_withdrawn_was_not_brought() -> None:
    ledger = Ledger(1)
    one, other = (ledger.begin("b", f"key {number}", 1, "write") for number in range(2))
    assert ledger.brought == 2
    ledger.end(one, "withdrawn")
    ledger.end(other, "delivered")
    assert ledger.brought == 1


def test_a_key_is_held_while_its_last_version_is_under_way() -> None:
    ledger = Ledger(1)
    one = ledger.begin("b", "key", 99, "flood-put")
    assert not ledger.hold("b", "key", None), "whether it is the last one is not known"
    assert not ledger.hold("b", "key", one.number + 1)
    assert ledger.hold("b", "key", one.number)
    ledger.end(one, "delivered")
    assert not ledger.take("b", "key")
    assert ledger.take_key(random.Random(1)) is None
    ledger.release("b", "key")
    assert ledger.take_key(random.Random(1)) == ("b", "key")
    # Somebody has the key, and has not begun yet.
    assert not ledger.hold("b", "key", one.number)
    ledger.begin("b", "key", 99, "rename")
    assert not ledger.hold("b", "key", one.number)


def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path, {**os.environ, "FLOOD_SERVER_DIRECTORY": f"{tmp_path}/spool"})


def test_a_program_is_killed(tmp_path: Path) -> None:
    running = programs(tmp_path)
    ended: list[Ended] = []
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    thread = threading.Thread(target=lambda: ended.append(running.run(command, "one")))
    thread.start()
    try:
        until(running.pids)
        assert str(running.pids()[0]) in survivors(tmp_path)
        resume = running.halt_any(random.Random(1), Counter())
        assert resume is not None
        resume()
    finally:
        assert running.kill_any(random.Random(1))
        thread.join()
    assert [(one.status, one.killed) for one in ended] == [(-signal.SIGKILL, True)]
    assert (running.pids(), survivors(tmp_path)) == ([], "")
    assert not running.kill_any(random.Random(1))


@pytest.mark.parametrize(
    ("words", "code", "refusing", "odd"),
    [
        ("prune", "raise SystemExit(0)", False, ""),
        ("prune", "raise SystemExit(1)", False, "flood-prune --keep-completed 30s ended with"),
        ("prune", "raise SystemExit(1)", True, ""),
        ("prune", "raise SystemExit(3)", True, "flood-prune --keep-completed 30s ended with"),
        ("status --check", "raise SystemExit(3)", False, ""),
        ("status --json", "print('{}')", False, ""),
        ("status --json", "print('{')", False, "flood-status --json printed no JSON"),
    ],
)
def test_what_operators_get_is_judged(
    tmp_path: Path, words: str, code: str, refusing: bool, odd: str
) -> None:
    [command] = [one for one in COMMANDS if one.words.startswith(words)]
    operators = Operators(
        programs(tmp_path),
        lambda _module: ["-c", code],
        1,
        refusing=refusing,
        early=0.0,
        pause=1.0,
        threads=0,
    )
    operators.ask(command)
    until(lambda: operators.counts.total())
    operators.finish(30.0)
    assert len(operators.odd_endings) == (1 if odd else 0)
    assert all(told.startswith(odd) for told in operators.odd_endings)
    broken_off = words == "prune" and "(0)" not in code
    assert operators.broken_off == (1 if broken_off else 0)
