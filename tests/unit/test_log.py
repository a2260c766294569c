"""How log lines look, for flood's own events or for other libraries' messages."""

import io
import json
import logging
import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from select import PIPE_BUF

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flood import log

INTAKE = logging.getLogger("flood.intake")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
FORGED = "x\n2026-11-22T16:02:26.123Z INFO flood.settle settled record=1"
NASTY = [
    FORGED,
    "a b",
    "\x1b[2J",
    "\u202etxt.exe",
    "\udcff",
    "\r",
    "\x7f",
    "\x9b31m",
    "",
    'a"b=\\c',
]


def configured(form: str = "text", level: str = "info") -> io.StringIO:
    """Configure as for a process that has no other handlers; return what it writes to."""
    # pytest's would put undecodable names into its reports, which xdist cannot send.
    logging.getLogger().handlers.clear()
    stream = io.StringIO()
    log.configure(level, form, stream)
    return stream


def record(name: str, /, created: float = 1795363346.1239, **facts: object) -> logging.LogRecord:
    made = INTAKE.makeRecord("flood.intake", logging.INFO, "", 0, name, (), None)
    made.created = created
    made.facts = facts
    return made


def test_a_line_of_text() -> None:
    line = log.TextFormatter().format(
        record(
            "admitted",
            record=12,
            profile="a",
            bucket="b",
            key="x y/é.txt",
            from_="incoming",
            to="processing",
            size=12,
            seconds=0.25,
            error=None,
        )
    )
    assert line == (
        "2026-11-22T16:02:26.123Z INFO flood.intake admitted record=12 profile=a bucket=b "
        'key="x y/é.txt" from=incoming to=processing size=12 seconds=0.25'
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_ends_a_program(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", form)
    log.fatal("flood-watch", "one\ntwo \x1b[1m")
    lines = capsys.readouterr().err.splitlines()
    if form == "text":
        assert lines == ["flood-watch: one", r"flood-watch: two \x1b[1m"]
    else:
        told = [json.loads(line) for line in lines]
        assert [one["reason"] for one in told] == ["one", "two \x1b[1m"]
        assert {(one["level"], one["event"]) for one in told} == {("ERROR", "fatal")}


def test_a_line_of_json() -> None:
    line = log.JsonFormatter().format(
        record("admitted", record=12, key="é\udcff\x7f", from_="incoming", seconds=0.25, error=None)
    )
    assert line.isascii()
    assert line.isprintable()
    assert list(json.loads(line).items()) == [
        ("time", "2026-11-22T16:02:26.123Z"),
        ("level", "INFO"),
        ("logger", "flood.intake"),
        ("event", "admitted"),
        ("record", 12),
        ("key", "é\\xff\x7f"),
        ("from", "incoming"),
        ("seconds", 0.25),
    ]


@pytest.mark.parametrize(
    ("value", "text", "parsed"),
    [
        (True, "true", True),
        (0, "0", 0),
        (1.0, "1", 1.0),
        (0.12345, "0.123", 0.12345),
        (float("nan"), "nan", "nan"),
        (float("-inf"), "-inf", "-inf"),
        (b"a\xff b", '"a\\udcff b"', "a\udcff b"),
        ("", '""', ""),
        ('say "a=b\\"', '"say \\"a=b\\\\\\""', 'say "a=b\\"'),
        ("a\\nb", '"a\\\\nb"', "a\\nb"),
        ("a\nb", '"a\\nb"', "a\nb"),
        ("日本", "日本", "日本"),
        ("a\u00a0b", '"a\\xa0b"', "a\u00a0b"),
        (("a", 1), "\"('a', 1)\"", "('a', 1)"),
        (datetime(2026, 1, 2, 3, 4, 5, 6789), "2026-01-02T03:04:05.006Z", None),  # noqa: DTZ001  naive times are UTC in flood
        (
            datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))),
            "2026-01-01T22:00:00.000Z",
            None,
        ),
    ],
)
def test_values(value: object, text: str, parsed: object) -> None:
    made = record("e", x=value)
    assert log.TextFormatter().format(made).endswith(f" e x={text}")
    assert json.loads(log.JsonFormatter().format(made))["x"] == (text if parsed is None else parsed)


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_a_name_cannot_forge_anything(text: str) -> None:
    stream = configured()
    log.event(INTAKE, logging.INFO, "admitted", key=text, size=1)
    logging.getLogger("botocore.x").warning("cannot read %s", text)
    own, foreign, end = stream.getvalue().split("\n")
    assert own.isprintable()
    assert foreign.isprintable()
    assert end == ""
    assert re.fullmatch(rf'{TIME} INFO flood.intake admitted key="([^"\\]|\\.)*" size=1', own)
    assert re.fullmatch(rf'{TIME} WARNING botocore.x "cannot read ([^"\\]|\\.)*"', foreign)


@given(st.text())
@example(FORGED)
def test_any_name_can_be_read_back(text: str) -> None:
    made = record("e", key=text, size=1)
    parsed = json.loads(log.JsonFormatter().format(made))
    assert (parsed["key"], parsed["size"]) == (text, 1)
    line = log.TextFormatter().format(made)
    assert line.isprintable()
    quoted = re.search(r' e key=("(?:[^"\\]|\\.)*"|[^\s"=\\]+) size=1$', line)
    assert quoted is not None
    value = quoted[1]
    if value.startswith('"'):
        # What does not print was escaped as Python does it.
        escaped = value[1:-1].encode("ascii", "backslashreplace")
        value = escaped.decode("unicode_escape").encode("utf-16", "surrogatepass")
        assert value == text.encode("utf-16", "surrogatepass")
    else:
        assert value == text


@given(st.text())
def test_printable(text: str) -> None:
    shown = log.printable(text)
    assert shown.isprintable()
    assert log.printable(shown) == shown
    assert shown == text or not text.isprintable()


def test_other_libraries_lines_are_formatted_alike() -> None:
    stream = configured("json")
    logging.getLogger("urllib3.pool").warning("%d of %s", 3, "it", extra={"facts": {"a": 1}})
    logging.getLogger("urllib3.pool").info("chatter")
    (line,) = stream.getvalue().splitlines()
    parsed = json.loads(line)
    assert (parsed["logger"], parsed["event"]) == ("urllib3.pool", "3 of it")


def test_own_loggers_have_the_level_that_was_asked_for() -> None:
    for level, expected in (("debug", 4), ("info", 3), ("warning", 2), ("error", 1)):
        stream = configured(level=level)
        for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            log.event(logging.getLogger("workers.upload"), number, "e")
        assert len(stream.getvalue().splitlines()) == expected


def test_only_warnings_of_other_libraries() -> None:
    stream = configured(level="debug")
    logging.getLogger("botocore.auth").info("a signature")
    logging.getLogger("botocore.auth").debug("a signature")
    # A cut answer, with a traceback: flood says what became of that upload.
    logging.getLogger("urllib3.connection").warning("Failed to parse headers")
    assert stream.getvalue() == ""
    stream = configured(level="error")
    logging.getLogger("botocore.auth").warning("chatter")
    assert stream.getvalue() == ""


def test_configuring_again_replaces_what_was() -> None:
    first, second = configured(), io.StringIO()
    log.configure("info", "json", second)
    log.event(INTAKE, logging.INFO, "e")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_handlers_of_others_stay() -> None:
    other = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(other)
    log.configure("info", "text", io.StringIO())
    assert other in logging.getLogger().handlers
    logging.getLogger().removeHandler(other)


def test_what_huey_consumer_set_up_is_undone() -> None:
    huey = logging.getLogger("huey")
    theirs = io.StringIO()
    huey.addHandler(logging.StreamHandler(theirs))
    huey.setLevel(logging.INFO)
    stream = configured()
    logging.getLogger("huey").info("Executing %s", "upload")
    logging.getLogger("huey.consumer").info("chatter")
    logging.getLogger("huey.consumer").warning("trouble")
    assert theirs.getvalue() == ""
    assert re.fullmatch(rf"{TIME} WARNING huey.consumer trouble\n", stream.getvalue())
    stream = configured(level="debug")
    logging.getLogger("huey").info("Executing")
    assert "Executing" in stream.getvalue()


def test_a_log_file_of_huey_consumer_stays(tmp_path: object) -> None:
    huey = logging.getLogger("huey")
    file = logging.FileHandler(f"{tmp_path}/log")
    huey.addHandler(file)
    configured()
    assert huey.handlers == [file]
    file.close()


def failure() -> ValueError:
    try:
        raise ValueError(f"\x1b[2J{FORGED}")
    except ValueError as error:
        return error


def test_a_traceback_of_text_cannot_forge_a_line() -> None:
    stream = configured()
    log.event(INTAKE, logging.ERROR, "failed", record=1, exc_info=failure())
    first, *rest = stream.getvalue().rstrip("\n").split("\n")
    assert re.fullmatch(f"{TIME} ERROR flood.intake failed record=1", first)
    assert rest[0] == "    | Traceback (most recent call last):"
    assert rest[-1].endswith("settled record=1")
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)


def test_a_traceback_in_json() -> None:
    stream = configured("json")
    log.event(INTAKE, logging.ERROR, "failed", exc_info=failure())
    try:
        raise failure()
    except ValueError:
        logging.getLogger("other").exception("oh")
    for line in stream.getvalue().splitlines():
        assert "ValueError: \x1b[2Jx" in json.loads(line)["traceback"]
        assert "exc_info" not in json.loads(line)


def test_facts_do_not_replace_what_a_line_is_about() -> None:
    parsed = json.loads(log.JsonFormatter().format(record("e", time=1, level=2, event=3, x=4)))
    assert (parsed["level"], parsed["event"], parsed["x"]) == ("INFO", "e", 4)


def test_times_are_cut_never_rounded_up() -> None:
    made = record("e", created=1795363346.9999)
    assert log.TextFormatter().format(made).startswith("2026-11-22T16:02:26.999Z ")


class Writes(io.StringIO):
    """Remembers what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[str] = []

    def write(self, text: str, /) -> int:
        self.blocks.append(text)
        return super().write(text)


def test_lines_that_go_together_are_few_writes_of_whole_lines() -> None:
    stream = Writes()
    log.configure("info", "text", stream)
    log.event(INTAKE, logging.INFO, "before")
    with log.together():
        for number in range(100):
            with log.together():
                log.event(INTAKE, logging.INFO, "e", number=number, key="ü" * (number % 7) * 100)
        assert len(stream.blocks) == 1
    log.event(INTAKE, logging.INFO, "after")
    assert 3 < len(stream.blocks) < 50
    assert all(block.endswith("\n") for block in stream.blocks)
    # What a pipe takes in one piece, whoever else writes to it (pipe(7)).
    assert all(len(block.encode()) <= PIPE_BUF for block in stream.blocks)
    lines = stream.getvalue().splitlines()
    numbers = [int(found) for line in lines for found in re.findall(r" number=(\d+)", line)]
    assert numbers == list(range(100))
    assert (" before" in lines[0], " after" in lines[-1]) == (True, True)


def test_lines_that_go_together_are_written_whatever_happens() -> None:
    stream = configured()
    with suppress(KeyError), log.together():
        log.event(INTAKE, logging.INFO, "e")
        raise KeyError
    log.configure("info", "text", io.StringIO())
    assert len(stream.getvalue().splitlines()) == 1


def test_a_stream_that_is_gone_stops_nobody() -> None:
    stream = configured()
    with log.together():
        log.event(INTAKE, logging.INFO, "e")
        stream.close()
    log.configure("info", "text", io.StringIO())
