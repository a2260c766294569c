"""Consumer processes as children, real ones."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flood import binding, config, models
from flood.consumers import Consumers
from tests import spooling
from tests.servers import credentials_section
from tests.spooling import START, Clock, House, in_child
from tests.uploading import wait_until


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with spooling.house(tmp_path) as made:
        yield made


@pytest.fixture
def environ(house: House, tmp_path: Path) -> dict[str, str]:
    """What a consumer needs to run."""
    credentials = tmp_path / "credentials"
    credentials.write_text(credentials_section("p", "http://127.0.0.1:9"))
    credentials.chmod(0o600)
    models.execute("DELETE FROM spool")
    binding.bind(house.spool, house.database, create=True, now=START)
    models.close()
    settings = house.settings(credentials=str(credentials))
    root = str(Path(__file__).parent.parent.parent)
    others = {name: text for name, text in os.environ.items() if not name.startswith("FLOOD")}
    return {**others, **config.environment(settings), "PYTHONPATH": root, "HOME": str(tmp_path)}


def children() -> dict[int, str]:
    """The children of this process that run consumers, with their states; "Z" has died."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = Path(f"/proc/{name}/stat").read_text("ascii").rpartition(")")[2].split()
            command = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue  # it has just ended
        if int(stat[1]) == os.getpid() and (stat[0] == "Z" or b"huey_consumer" in command):
            found[int(name)] = stat[0]
    return found


def ready(count: int) -> bool:
    """Whether so many consumers run, each of which has set its signals up, its last step."""
    pids = children()
    return len(pids) == count and all(_catches(pid, signal.SIGTERM) for pid in pids)


def _catches(pid: int, number: signal.Signals) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_consumers_start_are_replaced_then_end(
    house: House, environ: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    consumers = Consumers(2, environ, clock=clock.seconds)
    consumers.start()
    try:
        wait_until(lambda: ready(2), 30.0)
        first = set(children())
        assert len(first) == 2
        consumers.tick()
        assert set(children()) == first
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        clock.advance(1.0)
        wait_until(lambda: children().get(victim) == "Z")
        consumers.tick()  # it lived for a second only, so that there is a pause
        assert set(children()) == first - {victim}
        clock.advance(0.9)
        consumers.tick()
        assert set(children()) == first - {victim}
        clock.advance(0.1)
        consumers.tick()
        assert len(children()) == 2
        wait_until(lambda: ready(2), 30.0)
    finally:
        consumers.stop()
    assert children() == {}
    assert "Traceback" not in capfd.readouterr().err


def test_one_that_keeps_dying_is_started_ever_more_rarely(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = str(Path(__file__).parent.parent.parent)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": root}
    clock = Clock()
    consumers = Consumers(1, environ, clock=clock.seconds)
    consumers.start()
    pauses = []
    try:
        for _ in range(3):
            wait_until(lambda: set(children().values()) == {"Z"}, 30.0)
            began = clock.seconds()
            consumers.tick()
            assert children() == {}
            while not children():
                clock.advance(0.5)
                consumers.tick()
            pauses.append(clock.seconds() - began)
    finally:
        consumers.stop()
    assert pauses == [1.0, 2.0, 4.0]
    assert "FLOOD_SERVER_DIRECTORY" in capfd.readouterr().err


def test_consumers_end_with_their_parent(house: House, environ: dict[str, str]) -> None:
    """Even if it is killed."""
    pids = Path(house.spool.absolute(".flood/pids"))

    def parent() -> None:
        consumers = Consumers(2, environ, clock=Clock().seconds)
        consumers.start()
        wait_until(lambda: ready(2), 30.0)
        pids.write_text(" ".join(map(str, children())))
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(parent) == -signal.SIGKILL
    orphans = pids.read_text().split()
    assert len(orphans) == 2
    wait_until(lambda: not any(_runs(pid) for pid in orphans), 30.0)


def _runs(pid: str) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return False
    return stat[0] != "Z"
