"""What somebody who may drop files, or write to the queue, can make flood do: nothing else.

docs/security.md names these tests beside what they show.
"""

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from botocore.httpsession import get_cert_path

from flood import exposure, syscalls
from flood.command_line import Parser
from flood.door import Candidate, Why
from flood.errors import SpoolError
from flood.options import OPTIONS
from flood.profiles import SPELLINGS
from flood.purge import purge
from flood.record_values import Claimed
from flood.spool import Spool
from tests.spooling import START, House, meddlings
from workers.authorities import Authorities, authorities
from workers.transfer import Hooks, Receipt, Upload
from workers.upload import attempt

ROOT = Path(__file__).resolve().parents[2]
SECRET = b"not for the producer's eyes"


class Taker:
    """A store that remembers all the bytes it was sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def ensure_bucket(self, bucket: str) -> None:
        pass

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        pass

    def close(self) -> None:
        pass

    def transfer(
        self, uploads: Iterable[Upload], _hooks: Hooks
    ) -> Iterator[tuple[Upload, Receipt | BaseException] | None]:
        for upload in uploads:
            data = os.pread(upload.descriptor, 1000, 0)
            self.sent.append(data)
            yield upload, Receipt("etag", None, None, len(data))


def upload(house: House, claims: list[Claimed], *, links_guarded: bool = True) -> list[bytes]:
    """Attempt to upload, and settle; return what reached the store."""
    taker = Taker()
    agent = house.agent(taker, links_guarded=lambda: links_guarded)
    for decisions in attempt(agent, claims):
        house.settle(*decisions, agent=agent)
    return taker.sent


# --- symbolic links, swapped in at any moment ----------------------------------------------------

#: What is swapped for a link: the file itself, or a directory above it, with where that leads.
LEVELS = {
    "key": ("/p/b/dir/key", "key"),
    "directory": ("/p/b/dir", "dir"),
    "bucket": ("/p/b", "b"),
    "profile": ("/p", "p"),
    "state": ("", ""),
}

#: A tree beside the spool, with the secret at every place where a swapped path would lead.
OUTSIDE = dict.fromkeys(("key", "dir/key", "b/dir/key", "p/b/dir/key"), SECRET)


def outside(house: House) -> Path:
    return Path(house.spool.root).parent / "outside"


def arrange_outside(house: House) -> None:
    for name in OUTSIDE:
        path = outside(house) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SECRET)


def tree(house: House) -> dict[str, bytes]:
    top = outside(house)
    return {str(x.relative_to(top)): x.read_bytes() for x in top.rglob("*") if x.is_file()}


def swap(house: House, state: str, level: str) -> None:
    """Put a link in the place of one component of the path, as a producer may at any time."""
    below, leads = LEVELS[level]
    path = house.spool.absolute(f"{state}{below}")
    with suppress(FileNotFoundError):
        os.rename(path, f"{house.spool.root}/../aside")
        os.symlink(outside(house) / leads, path)


@pytest.mark.parametrize("level", LEVELS)
def test_a_link_that_is_swapped_in_while_a_file_is_taken_leads_nowhere(level: str) -> None:
    """Between any two lines of the way from incoming to processing."""

    def arrange(house: House) -> None:
        arrange_outside(house)
        house.write("incoming/p/b/dir/key", b"data")

    def admit(house: House) -> None:
        candidate = Candidate("incoming/p/b/dir/key", closed=True)
        house.intake().admit([(candidate, None)])

    functions = ("look", "open", "_move", "move", "_rename", "_rename_into", "identify")
    moments = 0
    for house in meddlings(admit, arrange, functions, lambda house: swap(house, "incoming", level)):
        moments += 1
        assert tree(house) == OUTSIDE, "nothing was moved from there, nor to there"
        taken = Path(house.spool.absolute("processing")).rglob("*")
        assert not any(path.is_symlink() for path in taken), "it would keep later files out"
        assert set(upload(house, house.claim())) <= {b"data"}
        assert tree(house) == OUTSIDE
    assert moments > 30


@pytest.mark.parametrize("level", LEVELS)
def test_a_link_that_is_swapped_in_while_a_file_is_uploaded_leads_nowhere(level: str) -> None:
    """What was opened is what is sent, also if the way to it leads elsewhere by now."""

    def arrange(house: House) -> None:
        arrange_outside(house)
        house.admit("dir/key")

    sent: list[bytes] = []

    def deliver(house: House) -> None:
        sent.extend(upload(house, house.claim()))

    functions = ("_open", "open", "_judge", "_prove", "identify", "move", "_rename", "prune")
    moments = 0
    for house in meddlings(
        deliver, arrange, functions, lambda house: swap(house, "processing", level)
    ):
        moments += 1
        assert tree(house) == OUTSIDE
        assert SECRET not in house.files().values()
    assert moments > 30
    assert set(sent) == {b"data"}


@pytest.mark.parametrize("level", LEVELS)
def test_a_link_that_is_swapped_in_while_incoming_tmp_is_emptied_deletes_nothing_elsewhere(
    level: str,
) -> None:
    def arrange(house: House) -> None:
        arrange_outside(house)
        for name in ("empty", "b/empty", "p/b/empty", "dir/empty"):
            (outside(house) / name).mkdir()
            house.spool.make_directory("incoming_tmp/p/b/dir/empty")
        house.write("incoming_tmp/p/b/dir/key", b"half a copy")

    functions = ("walk", "_files", "_remove", "remove", "remove_empty", "_remove_directory")
    moments = 0
    for house in meddlings(
        lambda house: purge(house.spool, START),
        arrange,
        functions,
        lambda house: swap(house, "incoming_tmp", level),
    ):
        moments += 1
        assert tree(house) == OUTSIDE
        assert (outside(house) / "empty").is_dir()
    assert moments > 20


@pytest.mark.parametrize("state", ["incoming", "processing"])
def test_no_directory_is_made_behind_a_link(house: House, state: str) -> None:
    arrange_outside(house)
    os.rmdir(house.spool.absolute(state))
    os.mkdir(house.spool.absolute(state))
    os.symlink(outside(house), house.spool.absolute(f"{state}/p"))
    [(path, reason)] = house.spool.prepare_destination("p", "new")
    assert path == f"{state}/p/new"
    assert "a symbolic link is in the way" in reason
    assert not (outside(house) / "new").exists()


def test_a_state_that_is_a_link_is_refused_at_start(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare()
    (tmp_path / "spool/.flood").rmdir()
    (tmp_path / "spool/.flood").symlink_to(tmp_path)
    with pytest.raises(SpoolError, match=r"\.flood must be a directory"):
        spool.prepare()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("way", [syscalls.open_without_links, syscalls._open_step_by_step])
def test_an_old_kernel_passes_through_links_no_more_than_a_new_one(
    house: House, level: str, way: Callable[[str, int], int]
) -> None:
    arrange_outside(house)
    house.write("incoming/p/b/dir/key", b"data")
    path = house.spool.absolute("incoming/p/b/dir/key")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(way(path, flags))
    swap(house, "incoming", level)
    assert Path(path).read_bytes() == SECRET
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        way(path, flags)


# --- hard links ----------------------------------------------------------------------------------


def link(house: House, target: str) -> str:
    """A second name, in the spool, for a file elsewhere; its first one."""
    first = f"{house.spool.root}/../secret"
    Path(first).write_bytes(SECRET)
    place = house.spool.absolute(target)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    os.link(first, place)
    return first


def test_where_the_kernel_guards_hard_links_they_are_files_like_others(house: House) -> None:
    link(house, "incoming/p/b/key")
    intake = house.intake(links_guarded=lambda: True)
    assert intake.admit([(Candidate("incoming/p/b/key"), None)]).admitted == 1
    assert upload(house, house.claim(), links_guarded=True) == [SECRET]


def test_hard_links_of_one_file_are_each_uploaded_once(house: House) -> None:
    """Each that is moved changes the inode of the others."""
    first = link(house, "incoming/p/b/one")
    for name in ("two", "three"):
        os.link(first, house.spool.absolute(f"incoming/p/b/{name}"))
    names = ["one", "two", "three"]
    house.intake(links_guarded=lambda: True).admit(
        [(Candidate(f"incoming/p/b/{name}"), None) for name in names]
    )
    taker = Taker()
    agent = house.agent(taker, links_guarded=lambda: True)
    for decisions in attempt(agent, house.claim()):
        for decision in decisions:
            house.settle(decision, agent=agent)
    assert taker.sent == [SECRET] * 3
    assert house.states() == [(name, "completed", "success") for name in names]


def test_where_it_does_not_they_wait_until_they_are_the_only_name(house: House) -> None:
    first = link(house, "incoming/p/b/key")
    intake = house.intake(links_guarded=lambda: False)
    result = intake.admit([(Candidate("incoming/p/b/key", closed=True), None)])
    [(_, why, _)] = result.later
    assert (result.admitted, why) == (0, Why.LINKED)
    os.unlink(first)
    assert intake.admit([(Candidate("incoming/p/b/key", closed=True), None)]).admitted == 1


def test_a_hard_link_that_is_swapped_in_is_not_uploaded() -> None:
    """After the look and before the rename: what is opened for the upload is looked at again."""

    def arrange(house: House) -> None:
        house.write("incoming/p/b/key", b"data")

    def admit(house: House) -> None:
        candidate = Candidate("incoming/p/b/key", closed=True)
        house.intake(links_guarded=lambda: False).admit([(candidate, None)])

    def meddle(house: House) -> None:
        with suppress(FileNotFoundError):
            os.unlink(house.spool.absolute("incoming/p/b/key"))
            link(house, "incoming/p/b/key")

    taken = 0
    for house in meddlings(admit, arrange, ("look", "open", "_move", "move", "_rename"), meddle):
        taken += SECRET in [data for path, data in house.files().items() if "processing" in path]
        assert set(upload(house, house.claim(), links_guarded=False)) <= {b"data"}
        for row in house.rows("error_code IS NOT NULL"):
            assert (row["error_code"], row["current_state"]) == ("hard_link", "processing")
    assert taken > 3


def test_a_second_name_that_a_crash_left_is_no_strangers(house: House) -> None:
    """Between link and unlink, on a filesystem that cannot rename without overwriting."""
    house.admit("key")
    house.spool.make_directory("completed/p/b")
    os.link(house.spool.absolute("processing/p/b/key"), house.spool.absolute("completed/p/b/key"))
    assert upload(house, house.claim(), links_guarded=False) == [b"data"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(not syscalls.hard_links_guarded(), reason="fs.protected_hardlinks is 0")
def test_what_the_kernel_guards() -> None:
    """Why hard links are left to it: nobody links what he could not read and write anyhow."""
    with tempfile.TemporaryDirectory() as directory:  # where others may go, unlike pytest's own
        Path(directory).chmod(0o755)
        check_what_the_kernel_guards(Path(directory))


def check_what_the_kernel_guards(place: Path) -> None:
    secret, shared, spool = place / "secret", place / "shared", place / "incoming"
    secret.write_bytes(SECRET)
    secret.chmod(0o644)  # reading is not enough
    shared.write_bytes(b"everybody's")
    shared.chmod(0o666)
    spool.mkdir()
    spool.chmod(0o777)
    linking = ["setpriv", "--reuid=65534", "--clear-groups", "ln"]
    refused = subprocess.run(
        [*linking, str(secret), str(spool)], capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "not permitted" in refused.stderr
    assert subprocess.run([*linking, str(shared), str(spool)], check=False).returncode == 0


# --- places that every user may change -----------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    spool = Spool(str(tmp_path / "srv/spool"))
    spool.prepare()
    (tmp_path / "db").mkdir()
    (tmp_path / "db/flood.db").touch(mode=0o600)
    return tmp_path


def found(place: Path) -> list[str]:
    every = exposure.of_spool(str(place / "srv/spool"), str(place / "db/flood.db"))
    return [each.line for each in every if each.line.startswith(str(place))]


def test_a_spool_with_ordinary_modes_is_not_exposed(place: Path) -> None:
    assert found(place) == []
    (place / "srv/spool/incoming").chmod(0o1777)  # a drop for everybody, as /tmp is
    (place / "srv").chmod(0o1777)
    (place / "srv/spool").chmod(0o775)
    assert found(place) == []


@pytest.mark.parametrize(
    ("path", "mode", "change"),
    [
        ("srv/spool", 0o777, "o-w"),
        ("srv", 0o777, "+t"),
        ("srv/spool/processing", 0o777, "o-w"),
        ("srv/spool/completed", 0o1777, "o-w"),
        ("srv/spool/.flood", 0o777, "o-w"),
        ("srv/spool/incoming", 0o777, "+t"),
        ("srv/spool/incoming_tmp", 0o777, "+t"),
        ("db", 0o777, "o-w"),
        ("db/flood.db", 0o602, "o-w"),
        ("db/flood.db", 0o666, "o-w"),
    ],
)
def test_what_every_user_may_change_is_named(
    place: Path, path: str, mode: int, change: str
) -> None:
    (place / path).chmod(mode)
    lines = found(place)
    assert any(
        line.startswith(f"{place / path}: every user may ")
        and line.endswith(f"(mode {mode:04o}); run chmod {change} {place / path}")
        for line in lines
    ), lines
    subprocess.run(["chmod", change, str(place / path)], check=True)
    assert found(place) == [], "the advice helps"


@pytest.mark.parametrize(
    ("path", "option"), [("srv/spool", "--server-directory"), ("db", "--database")]
)
def test_a_directory_that_is_for_everybody_keeps_its_mode(
    place: Path, path: str, option: str
) -> None:
    """It may be /tmp itself, which many others need as it is."""
    (place / path).chmod(0o1777)
    [line] = found(place)
    assert line.startswith(f"{place / path}: every user may write to it (mode 1777); stop flood,")
    assert f"own, set {option} to " in line
    assert "chmod" not in line


def test_both_ways_to_a_link_count(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").touch()
    (tmp_path / "open/link").symlink_to("../real/file")
    assert [x for x in exposure.above(str(tmp_path / "open/link")) if str(tmp_path) in x.seen]
    assert not [x for x in exposure.above(str(tmp_path / "real/file")) if str(tmp_path) in x.seen]


# --- modes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_directories_never_let_every_user_write(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        spool = Spool(str(tmp_path / "deep/spool"))
        spool.prepare()
        spool.prepare_destination("p", "b")
        spool.keep(".flood/note", "text")
    finally:
        os.umask(before)
    for path in (tmp_path / "deep").rglob("*"):
        most = 0o775 if path.is_dir() else 0o664
        assert stat.S_IMODE(path.stat().st_mode) == most & ~mask, path


# --- the queue, the terminal, the store ----------------------------------------------------------


@pytest.mark.parametrize("option", ["--\x1b[31m", "--x\u202e", "--x\ny"])
def test_an_option_that_is_none_is_shown_escaped(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a file's name becomes one where a shell's * finds it."""
    with pytest.raises(SystemExit):
        Parser("flood-put", "x").parse_args([option], env_vars={})
    shown = capsys.readouterr().err
    assert "unrecognized arguments" in shown
    assert shown.replace("\n", "").isprintable()
    assert option not in shown


@pytest.mark.parametrize(
    "variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]
)
@pytest.mark.parametrize("value", ["", " ", None])
def test_no_variable_turns_verification_off(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None
) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv(variable, value)
    assert authorities(Authorities("/nowhere", "/nowhere"), []) == (get_cert_path(True), None)


def test_no_setting_turns_verification_off() -> None:
    words = ("verify", "insecure", "tls", "ssl", "cert")
    names = [*OPTIONS, *(spelling for each in SPELLINGS.values() for spelling in each)]
    assert [name for name in names if any(word in name for word in words)] == []
    for path in [*ROOT.glob("flood/**/*.py"), *ROOT.glob("workers/*.py"), ROOT / "huey_config.py"]:
        text = path.read_text("utf-8")
        assert not re.search(r"verify\s*=\s*(False|0|\"\")|CERT_NONE|check_hostname", text), path
