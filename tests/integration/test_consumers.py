"""Consumer processes as children, real ones."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flood import binding, config, models
from flood.consumers import Consumers
from tests import spooling
from tests.servers import credentials_section
from tests.spooling import START, Clock, House, in_child, without_descriptors
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


def own_children() -> set[int]:
    """The children of this process, those that have died but were not waited for included."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text("ascii").rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            if int(stat[1]) == os.getpid():
                found.add(int(name))
    return found


Children = Callable[[], set[int]]


@pytest.fixture
def children() -> Children:
    """Answers which children this process has beside those that it had before."""
    others = own_children()
    return lambda: own_children() - others


def ready(pids: set[int]) -> bool:
    """Whether these consumers have set their signals up, which is their last step."""
    return all(_catches(pid, signal.SIGTERM) for pid in pids)


def _catches(pid: int, number: signal.Signals) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def noticed(consumers: Consumers, victim: int) -> bool:
    """Whether a consumer has ended, and was seen to have. A process whose threads are still on
    their way out cannot be waited for."""
    consumers.tick()
    return victim not in own_children()


def test_consumers_start_are_replaced_then_end(
    environ: dict[str, str], children: Children, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    consumers = Consumers(2, environ, clock=clock.seconds)
    consumers.start()
    try:
        first = children()
        assert len(first) == 2
        wait_until(lambda: ready(first), 30.0)
        consumers.tick()
        assert children() == first
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        clock.advance(1.0)
        wait_until(lambda: noticed(consumers, victim))
        assert children() == first - {victim}  # it lived for a second: first a pause
        clock.advance(0.9)
        consumers.tick()
        assert children() == first - {victim}
        clock.advance(0.1)
        consumers.tick()
        assert len(children()) == 2
        wait_until(lambda: ready(children()), 30.0)
    finally:
        consumers.stop()
    assert children() == set()
    assert "Traceback" not in capfd.readouterr().err


def test_one_that_keeps_dying_is_started_ever_more_rarely(
    tmp_path: Path, children: Children, capfd: pytest.CaptureFixture[str]
) -> None:
    root = str(Path(__file__).parent.parent.parent)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": root}
    clock = Clock()
    consumers = Consumers(1, environ, clock=clock.seconds)
    consumers.start()
    pauses = []
    try:
        for _ in range(3):
            began = clock.seconds()
            [victim] = children()
            wait_until(lambda victim=victim: noticed(consumers, victim), 30.0)  # type: ignore[misc]  # bound now
            assert children() == set()
            while not children():
                clock.advance(0.5)
                consumers.tick()
            pauses.append(clock.seconds() - began)
    finally:
        consumers.stop()
    assert pauses == [1.0, 2.0, 4.0]
    assert "FLOOD_SERVER_DIRECTORY" in capfd.readouterr().err


def test_what_the_system_refuses_is_tried_again(
    environ: dict[str, str], children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    """Once told, then after the pauses of one that has died."""
    clock = Clock()
    consumers = Consumers(2, environ, clock=clock.seconds)
    try:
        with without_descriptors():
            consumers.start()
            for seconds in (1.0, 2.0, 4.0):
                clock.advance(seconds)
                consumers.tick()
        assert children() == set()
        clock.advance(7.9)
        consumers.tick()
        assert children() == set()
        clock.advance(0.1)
        consumers.tick()
        assert len(children()) == 2
    finally:
        consumers.stop()
    [told] = [each for each in caplog.records if each.message == "cannot start a consumer"]
    assert told.levelname == "WARNING"
    assert told.facts["reason"] == "Too many open files"  # type: ignore[attr-defined]  # of flood.log


def planted(directory: Path, *names: str) -> None:
    """Puts modules there that leave a trace when they are run."""
    directory.mkdir()
    for name in names:
        trace = directory / f"{name}-was-run"
        (directory / f"{name}.py").write_text(f"open({str(trace)!r}, 'w').close()\n")


def test_nothing_is_run_from_the_current_directory(
    environ: dict[str, str], tmp_path: Path, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(tmp_path / "here", "random", "huey", "flood", "site", "encodings")
    monkeypatch.chdir(tmp_path / "here")
    consumers = Consumers(1, environ, clock=Clock().seconds)
    consumers.start()
    try:
        wait_until(lambda: ready(children()), 30.0)
    finally:
        consumers.stop()
    assert list(Path().glob("*-was-run")) == []


def test_nothing_is_run_from_there_if_something_is_missing(
    environ: dict[str, str],
    tmp_path: Path,
    children: Children,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """huey would look there once its first try has failed."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "peewee.py").write_text("raise ImportError('it is broken')\n")
    planted(tmp_path / "here", "peewee")
    monkeypatch.chdir(tmp_path / "here")
    environ["PYTHONPATH"] = f"{tmp_path / 'broken'}:{environ['PYTHONPATH']}"
    consumers = Consumers(1, environ, clock=Clock().seconds)
    consumers.start()
    try:
        [victim] = children()
        wait_until(lambda: noticed(consumers, victim), 30.0)
    finally:
        consumers.stop()
    assert "it is broken" in capfd.readouterr().err
    assert list(Path().glob("*-was-run")) == []


def test_files_that_change_do_not_change_children(
    environ: dict[str, str], tmp_path: Path, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("flood.conf").write_text("no such setting\n")
    consumers = Consumers(1, environ, clock=Clock().seconds)
    consumers.start()
    try:
        wait_until(lambda: ready(children()) or noticed(consumers, min(children())), 30.0)
        assert ready(children())
        assert children()
    finally:
        consumers.stop()


def test_consumers_end_with_their_parent(
    house: House, environ: dict[str, str], children: Children
) -> None:
    """Even if it is killed."""
    pids = Path(house.spool.absolute(".flood/pids"))

    def parent() -> None:
        consumers = Consumers(2, environ, clock=Clock().seconds)
        consumers.start()
        wait_until(lambda: ready(children()), 30.0)
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
