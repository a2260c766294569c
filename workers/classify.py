"""Says of any exception whether trying again can help, in words that a person can act on."""

import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from flood.errors import FloodError
from flood.states import TRANSIENT
from workers.classify_answers import ANSWERS
from workers.classify_local import OWN, REST
from workers.classify_rule import Rule, Verdict
from workers.classify_transport import TRANSPORT
from workers.failures import TransportFailed

__all__ = ["RETRY_AFTER_MAX", "TABLE", "Rule", "Verdict", "classify"]

#: The longest wait, in seconds, that a store's Retry-After can demand.
RETRY_AFTER_MAX: Final = 3600.0

#: The first row that fits decides, so what is special stands before what is general.
TABLE: Final[tuple[Rule, ...]] = (*OWN, *TRANSPORT, *ANSWERS, *REST)

# Their `errno` is a number of another kind.
_NO_ERRNO: Final = (socket.gaierror, ssl.SSLError)
# RFC 9110, 15.6.4: with a Retry-After it says how long the store is overloaded.
_UNAVAILABLE: Final = 503
_DEEPEST: Final = 50
_LONGEST: Final = 300
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
# What looks like a credential in the words of a server or a library.
_SECRET: Final = re.compile(
    r"(?i)(authorization|signature|token|secret|password|credential)\w*['\"]?\s*[=:]\s*\S+"
    r"|AWS4-HMAC-SHA256.*|(?<=://)[^/\s@]+@"
)


def classify(error: BaseException) -> Verdict:
    """Return the verdict of the first rule in TABLE that fits the error; never raises.

    A TransportFailed names its row. The order of the table: flood's own failures, transport, the
    store's answers by code, answers by HTTP status, configuration, local errors, then everything
    unknown, which is tried again.
    """
    try:
        return _judge(error)
    except Exception:  # noqa: BLE001  an error so odd that it cannot be looked at is still an error
        name = type(error).__name__
        return Verdict(TRANSIENT, "unexpected", f"{name} was raised; it is tried again")


@dataclass(frozen=True)
class _Facts:
    chain: list[BaseException]
    errnos: set[int | None]
    answer: ClientError | None
    code: str
    status: int
    words: list[str]
    transport: TransportFailed | None


def _judge(error: BaseException) -> Verdict:
    chain = list(_chain(error))
    answer = next((one for one in chain if isinstance(one, ClientError)), None)
    status = _number(_look(answer, "ResponseMetadata", "HTTPStatusCode"))
    facts = _Facts(
        chain,
        {one.errno for one in chain if isinstance(one, OSError) and not isinstance(one, _NO_ERRNO)},
        answer,
        # An answer without a body has no code; botocore then makes one of the status, mostly.
        str(_look(answer, "Error", "Code") or status),
        status,
        # botocore's own words repeat the address with the key, which may say anything.
        [str(one) for one in chain if not isinstance(one, BotoCoreError)],
        next((one for one in chain if isinstance(one, TransportFailed)), None),
    )
    rule = next(rule for rule in TABLE if _fits(rule, facts))
    named = _CODE.fullmatch(facts.code) and not facts.code.isdecimal()
    code = rule.code or (facts.code if named else f"http_{status}")
    wait = _retry_after(answer) if rule.kind == TRANSIENT else None
    fewer = rule.fewer or (wait is not None and status == _UNAVAILABLE)
    message = _message(rule, error, facts)
    return Verdict(rule.kind, code, message, wait, rule.advice, fewer, rule.credentials)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it came from, outermost first.

    An error that flood or the store formed stands for itself: what happened to be handled when it
    was raised does not count.
    """
    waiting = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _DEEPEST:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, ClientError):
            continue
        inner: list[object] = [one.__cause__]
        if not isinstance(one, FloodError):
            # botocore keeps the original in kwargs, urllib3 among its args.
            keywords = getattr(one, "kwargs", None)
            inner.append(keywords.get("error") if isinstance(keywords, dict) else None)
            inner.extend(one.args)
            around = None if one.__suppress_context__ else one.__context__
            # An answer of the store's that was handled meanwhile is another request's.
            inner.append(None if isinstance(around, ClientError) else around)
        waiting.extend(each for each in inner if isinstance(each, BaseException))


def _fits(rule: Rule, facts: _Facts) -> bool:
    if facts.transport is not None:
        return facts.transport.reason == (rule.reason or rule.code) or rule is TABLE[-1]
    return (
        (not rule.exceptions or any(isinstance(one, rule.exceptions) for one in facts.chain))
        and (not rule.errnos or not facts.errnos.isdisjoint(rule.errnos))
        and (not rule.codes or facts.code in rule.codes)
        and (not rule.statuses or facts.status in rule.statuses)
        and (not rule.text or any(re.search(rule.text, words) for words in facts.words))
    )


def _look(answer: ClientError | None, *path: str) -> Any:
    """Return a value from the store's answer, or None where the answer has no such thing."""
    found: Any = getattr(answer, "response", None)
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _retry_after(answer: ClientError | None) -> float | None:
    """Return the seconds of the answer's Retry-After header (RFC 9110, section 10.2.3).

    A date is taken relative to the answer's own Date, so that this machine's clock does not count.
    """
    headers = _look(answer, "ResponseMetadata", "HTTPHeaders")
    if not isinstance(headers, dict) or not isinstance(headers.get("retry-after"), str):
        return None
    value = headers["retry-after"].strip()
    try:
        if value.isdecimal():
            seconds = float(value)
        else:
            until = parsedate_to_datetime(value) - parsedate_to_datetime(headers["date"])
            seconds = until.total_seconds()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX)


def _message(rule: Rule, error: BaseException, facts: _Facts) -> str:
    if rule.what is None:
        said = _tidy(str(error)) or type(error).__name__
    else:
        said = rule.what + (_quotation(facts) if rule.quote else "")
    return f"{said}; {rule.advice}" if rule.advice else said


def _quotation(facts: _Facts) -> str:
    if facts.answer is not None:
        source = _look(facts.answer, "Error", "Code") or f"HTTP {facts.status}"
        words = _look(facts.answer, "Error", "Message")
    else:
        source = next(filter(None, map(_host, facts.chain)), "")
        words = next(filter(None, reversed(facts.words)), type(facts.chain[-1]).__name__)
    quoted = ": ".join(_tidy(str(part)) for part in (source, words) if part)
    return f" ({quoted})" if quoted else ""


def _host(error: BaseException) -> str:
    if isinstance(error, TransportFailed):
        return error.host
    keywords = getattr(error, "kwargs", None)
    if not isinstance(keywords, dict):
        return ""
    address = keywords.get("proxy_url") or keywords.get("endpoint_url")
    if not isinstance(address, str):
        return ""
    return urlsplit(address).netloc.rpartition("@")[2]


def _tidy(words: str) -> str:
    """Return a stranger's words in one printable line of moderate length without credentials."""
    line = _SECRET.sub("[withheld]", " ".join(words[: 4 * _LONGEST].split()))
    line = "".join(each if each.isprintable() else "?" for each in line)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
