"""Every exception has a verdict, however odd it is."""

import errno
import http.client
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from flood import layout
from flood.errors import ConfigError
from flood.states import INTERRUPTED, MISNAMED, PERMANENT, TRANSIENT
from workers import failures
from workers.classify import RETRY_AFTER_MAX, TABLE, Verdict, classify
from workers.late import late
from workers.transfer import Interrupted

ROOT = Path(__file__).parents[2]

WORDS = st.text(max_size=50) | st.sampled_from(
    ["certificate", "cap", "Invalid header value", "Tunnel connection failed: 407", "%s", "\n"]
)


def answer(code: Any = None, status: Any = 400, message: Any = "", headers: Any = None) -> Any:
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}},
    }
    return ClientError(response, "PutObject")  # type: ignore[arg-type]  # as odd as can be


class Unprintable(Exception):
    """Cannot even be looked at."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Odd(Exception):
    """Has attributes that are not what their names promise."""

    kwargs = 7
    response = "none"
    errno = "x"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
CODES = st.sampled_from(sorted({code for rule in TABLE for code in rule.codes})) | WORDS


@st.composite
def client_errors(draw: st.DrawFn) -> BaseException:
    error: BaseException = answer(
        draw(CODES | JSON),
        draw(st.integers(0, 999) | JSON),
        draw(WORDS | JSON),
        {"retry-after": draw(WORDS | JSON), "date": draw(WORDS | JSON)},
    )
    if draw(st.booleans()):
        error.response = draw(JSON)  # type: ignore[attr-defined]  # what a broken library may do
    return error


SIMPLE = st.one_of(
    client_errors(),
    st.builds(OSError, st.sampled_from(sorted(errno.errorcode)), WORDS),
    st.builds(
        lambda kind, words: kind(words),
        st.sampled_from(
            [
                *(OSError, ValueError, RuntimeError, KeyError, MemoryError, TimeoutError),
                *(ConnectionResetError, http.client.BadStatusLine, http.client.RemoteDisconnected),
                *(ssl.SSLError, ssl.SSLCertVerificationError, socket.gaierror, ConfigError),
                *(failures.FileChanged, failures.BucketMissing, failures.LocalReadError),
                *(Unprintable, Odd, KeyboardInterrupt, Interrupted, SystemExit, GeneratorExit),
            ]
        ),
        WORDS,
    ),
    st.builds(UnicodeEncodeError, st.just("utf-8"), WORDS, st.just(0), st.just(1), WORDS),
)


@st.composite
def chains(draw: st.DrawFn) -> BaseException:
    """Errors that come from errors, in all the ways in which libraries tell it, loops included."""
    made = draw(st.lists(SIMPLE, min_size=1, max_size=5))
    for _ in range(draw(st.integers(0, 6))):
        one, other = draw(st.sampled_from(made)), draw(st.sampled_from(made))
        how = draw(st.integers(0, 4))
        if isinstance(one, Unprintable):
            how %= 2  # botocore's own errors quote what they wrap
        match how:
            case 0:
                one.__cause__ = other
            case 1:
                one.__context__ = other
            case 2:
                one.args = (*one.args, other)
            case 3:
                made.append(boto.HTTPClientError(error=one))
            case _:
                made.append(boto.ConnectionClosedError(error=one, endpoint_url=draw(WORDS)))
    last: BaseException = draw(st.sampled_from(made))
    return last


@given(chains())
def test_every_error_has_a_verdict(error: BaseException) -> None:
    verdict = classify(error)
    assert isinstance(verdict, Verdict)
    assert verdict.kind in (TRANSIENT, PERMANENT, INTERRUPTED)
    assert 0 < len(verdict.code) <= 64
    assert verdict.code.isprintable()
    assert " " not in verdict.code
    assert verdict.message.isprintable()
    assert 0 < len(verdict.message) < 800
    if verdict.retry_after is not None:
        assert 0.0 <= verdict.retry_after <= RETRY_AFTER_MAX
        assert verdict.kind == TRANSIENT


@given(st.integers(300, 599), st.text(max_size=30))
def test_unknown_codes_go_by_status(status: int, code: str) -> None:
    known = {each for rule in TABLE for each in rule.codes} | {"401", "403", "413", "404"}
    if code in known or str(status) in known:
        return
    passing = (301, 302, 303, 307, 308, 408, 425, 429, 499)
    expected = TRANSIENT if status >= 500 or status in passing else PERMANENT
    if status in (501, 505):
        expected = PERMANENT
    assert classify(answer(code, status)).kind == expected


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_bare_errors_of_the_system(number: int) -> None:
    verdict = classify(OSError(number, os.strerror(number)))
    scarce = number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    network = verdict.code in (
        *("network", "connection_refused", "connection_reset", "send_timeout"),
    )
    assert verdict.kind == (INTERRUPTED if scarce else TRANSIENT if network else PERMANENT)
    assert (verdict.code == "local_resources") == scarce


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (Interrupted(), INTERRUPTED, "interrupted"),
        (failures.FileChanged("it became shorter"), TRANSIENT, "changed"),
        (failures.ContradictedByHead("another size"), TRANSIENT, "contradicted_by_head"),
        (failures.BucketMissing("no bucket"), PERMANENT, "NoSuchBucket"),
        (failures.InvalidBucket("no name"), PERMANENT, "InvalidBucketName"),
        (failures.NotS3("no store"), TRANSIENT, "not_s3"),
        (failures.KeyNotUtf8("no text"), PERMANENT, "key_not_utf8"),
        (failures.KeyTooLong("too long"), PERMANENT, "key_too_long"),
        (failures.LocalReadError("unreadable"), PERMANENT, "local_io"),
        (FileNotFoundError(errno.ENOENT, "gone"), PERMANENT, "vanished"),
        (OSError(errno.EIO, "disk"), PERMANENT, "local_io"),
        (PermissionError(errno.EACCES, "no"), PERMANENT, "local_io"),
        (MemoryError(), INTERRUPTED, "local_resources"),
        (ConfigError("set it"), PERMANENT, "configuration"),
        (boto.NoCredentialsError(), PERMANENT, "configuration"),
        (ValueError("Invalid endpoint: x"), PERMANENT, "configuration"),
        (boto.ParamValidationError(report="empty key"), PERMANENT, "invalid_request"),
        # What is no text may be any other than the file's name.
        ("\udcff", TRANSIENT, "unexpected"),
        (ZeroDivisionError("a mistake in flood"), TRANSIENT, "unexpected"),
        (answer("", 401), PERMANENT, "http_401"),
        (answer("no such code!", 400), PERMANENT, "http_400"),
        (answer("", 407), PERMANENT, "proxy_denied"),
        (answer("X" * 100, 500), TRANSIENT, "http_500"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_flood_and_this_machine(error: Any, kind: str, code: str) -> None:
    if isinstance(error, str):
        with pytest.raises(UnicodeEncodeError) as caught:
            error.encode()
        error = caught.value
    verdict = classify(error)
    assert (verdict.kind, verdict.code) == (kind, code)


def test_local_errors_hide_in_network_errors() -> None:
    disk = OSError(errno.EIO, "Input/output error")
    verdict = classify(boto.HTTPClientError(error=disk))
    assert (verdict.kind, verdict.code) == (PERMANENT, "local_io")
    descriptors = boto.EndpointConnectionError(endpoint_url="http://x/", error=OSError(24, "many"))
    assert classify(descriptors).code == "local_resources"


def test_a_local_error_that_will_pass() -> None:
    error = failures.LocalReadError("cannot read")
    error.__cause__ = OSError(errno.ENOMEM, "memory")
    assert classify(error).kind == INTERRUPTED


def test_what_was_handled_meanwhile_does_not_count() -> None:
    error = answer("AccessDenied", 403)
    error.__context__ = ConnectionResetError()
    assert classify(error).code == "AccessDenied"
    contradiction = failures.ContradictedByHead("no object")
    contradiction.__context__ = answer("404", 404)
    assert classify(contradiction).code == "contradicted_by_head"
    late_abort = boto.ReadTimeoutError(endpoint_url="https://x/")
    late_abort.__context__ = TimeoutError("The read operation timed out")
    late_abort.__context__.__context__ = answer("AccessDenied", 403)
    assert classify(late_abort).code == "read_timeout"
    assert "AccessDenied" not in classify(late_abort).message


@pytest.mark.parametrize(
    "words", ["_ssl.c:989: The handshake operation timed out", "the handshake was not over in time"]
)
def test_a_handshake_has_the_time_for_connecting(words: str) -> None:
    error = boto.ReadTimeoutError(endpoint_url="https://x/", error=TimeoutError(words))
    assert classify(error).code == "connect_timeout"
    assert "--read-timeout" not in classify(error).message


def test_a_key_cannot_choose_its_verdict() -> None:
    broken = boto.SSLError(
        endpoint_url="https://x/bucket/certificate.pem", error=ssl.SSLEOFError(8, "EOF")
    )
    assert classify(broken).code == "tls_handshake"


def test_messages_say_what_happened_and_what_to_do() -> None:
    verdict = classify(answer("AccessDenied", 403, "You may\nnot.\x1b[31m"))
    assert verdict.message == (
        "the store denies access (AccessDenied: You may not.?[31m); let this access key write to"
        " this bucket, then retry the file"
    )


def test_whoever_has_to_move_a_file_is_told_so_and_not_to_retry_it() -> None:
    moved = [rule for rule in TABLE if rule.advice.startswith("move ")]
    codes = {code for rule in moved for code in (rule.codes or (rule.code,))}
    assert not any("retry" in rule.advice for rule in moved)
    for key in ("\udcff", "x" * 2000, "e\u0301"):
        problem = layout.key_problem(key, normalizes=True)
        assert problem is not None
        codes.add(problem[0])
    assert codes == set(MISNAMED)


@pytest.mark.parametrize(
    "words",
    [
        "Invalid header value b'AWS4-HMAC-SHA256 Credential=AK/hunter2'",
        "x-amz-security-token: hunter2",
        "secret_access_key=hunter2",
        "http://user:hunter2@proxy/ cannot be reached",
        "Authorization: hunter2",
    ],
)
@pytest.mark.parametrize("wrap", [RuntimeError, OSError, lambda words: answer("X", 400, words)])
def test_secrets_are_withheld(words: str, wrap: Any) -> None:
    for error in (wrap(words), boto.HTTPClientError(error=wrap(words))):
        assert "hunter2" not in classify(error).message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "999999"}, RETRY_AFTER_MAX),
        ({"retry-after": "-7"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "9" * 5000}, None),
        (
            {
                "retry-after": "Sun, 22 Nov 2026 10:00:30 GMT",
                "date": "Sun, 22 Nov 2026 10:00:00 GMT",
            },
            30.0,
        ),
        ({"retry-after": "Sun, 22 Nov 2026 10:00:30 GMT"}, None),
    ],
    ids=str,
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    verdict = classify(answer("SlowDown", 503, "slow", headers))
    assert verdict.retry_after == (RETRY_AFTER_MAX if "9999" in str(headers) else seconds)
    assert classify(answer("AccessDenied", 403, "no", headers)).retry_after is None


def test_the_table_is_fit_to_be_printed() -> None:
    for rule in TABLE:
        assert rule.kind in (TRANSIENT, PERMANENT, INTERRUPTED)
        assert rule.what or rule.exceptions
        assert rule.code or rule.codes or rule.statuses
    last = TABLE[-1]
    conditions = (last.exceptions, last.errnos, last.codes, last.statuses, last.text)
    assert not any(conditions), "the last row fits everything"
    names = [code for rule in TABLE for code in rule.codes if not rule.text]
    assert len(names) == len(set(names)), "no code stands in two rows"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_lack_of_descriptors_for_the_table_itself(number: int) -> None:
    """The dynamic loader says so in words only."""
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.EMFILE))) as caught, late():
        raise ImportError(f"_bz2.so: cannot open shared object file: {os.strerror(number)}")
    assert classify(caught.value).code == "local_resources"
    with pytest.raises(KeyboardInterrupt), late():
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()
    with pytest.raises(RuntimeError, match="other"), late():
        raise RuntimeError("other")
    with pytest.raises(ImportError, match="no such module"), late():
        raise ImportError("no such module")


def test_a_verdict_without_descriptors(tmp_path: Path) -> None:
    """The table is not loaded yet, and cannot be."""
    code = """if True:
        import os, resource
        from workers.verdict import judge
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        print(judge(ValueError("any")).code)
    """
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (ended.stdout, ended.returncode) == ("local_resources\n", 0), ended.stderr


HALF = """
import errno, os
from meanwhile import happening
happening.pop()()
raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
name = 5
"""


def test_an_import_that_fails_in_one_thread_gives_another_no_half_of_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_a_module.py").write_text(HALF)
    monkeypatch.syspath_prepend(tmp_path)
    happening: list[Callable[[], None]] = []
    monkeypatch.setitem(sys.modules, "meanwhile", SimpleNamespace(happening=happening))
    met: list[BaseException] = []

    def load() -> None:
        try:
            with late():
                from half_a_module import name  # type: ignore[import-not-found]  # noqa: F401  made above
        except BaseException as error:  # noqa: BLE001  it is compared below
            met.append(error)

    other = Thread(target=load)

    def until_the_other_waits() -> None:
        happening.append(lambda: None)
        other.start()
        place: object = None
        while other.is_alive():
            frame = sys._current_frames()[other.ident or 0]
            where = (frame.f_code, frame.f_lasti)
            if where == place and frame.f_code.co_filename != __file__:
                return
            place = where
            time.sleep(0.02)

    happening.append(until_the_other_waits)
    load()
    other.join()
    assert [type(error) for error in met] == [OSError, OSError]
