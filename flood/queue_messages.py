"""The queue's messages: tasks as JSON, which is checked before anything runs."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from huey.registry import Message
from huey.serializer import Serializer

from flood.record_values import TASK_FILES

#: What flood's tasks consist of: other fields make huey do more than run them.
_FIELDS: Final = frozenset(
    {"id", "name", "eta", "retries", "retry_delay", "priority", "args", "kwargs"}
)
_TYPES: Final = {"id": str, "name": str, "eta": str, "args": list, "kwargs": dict}
_NUMBERS: Final = ("retries", "retry_delay", "priority")
_ARGUMENTS: Final = {"flood.tasks.upload": (str, str, list), "flood.tasks.sweep": ()}
_OPTIONS: Final = {"flood.tasks.upload": {"ring": bool}}


class JsonSerializer(Serializer):
    """Tasks as JSON, so that reading what somebody put into the queue runs none of it."""

    def _serialize(self, data: Message) -> bytes:
        fields = {name: getattr(data, name) for name in _FIELDS}
        if data.eta is not None:
            fields["eta"] = data.eta.isoformat()
        # A zero is kept: for a task without retries huey's default would be ten of them.
        known = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(known, sort_keys=True).encode()

    def _deserialize(self, data: bytes) -> Message:
        if not isinstance(data, bytes | memoryview):
            raise ValueError("it is no JSON")  # SQLite keeps any type in any column
        try:
            fields = json.loads(bytes(data))
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(fields, dict):
            raise ValueError("it is no message")
        if any(value for name, value in fields.items() if name not in _FIELDS):
            raise ValueError("it asks for more than a task of flood's")
        _check_fields({name: value for name, value in fields.items() if value is not None})
        if fields.get("eta") is not None:
            fields["eta"] = _eta(fields["eta"])
        message = Message(**{name: fields.get(name) for name in _FIELDS})
        _check_arguments(message)
        return message


def _check_fields(fields: Mapping[str, Any]) -> None:
    """Raise ValueError for what would break huey later, with a traceback, or the queue itself."""
    for name, kind in _TYPES.items():
        if not isinstance(fields.get(name, kind()), kind):
            raise ValueError(f"its {name} is none")
    for name in _NUMBERS:
        number = fields.get(name, 0)
        if type(number) is not int or not 0 <= number < 2**31:
            raise ValueError(f"its {name} is none")


def _eta(text: str) -> datetime:
    eta = datetime.fromisoformat(text)
    if eta.tzinfo is not None:
        raise ValueError("its eta has a zone")  # huey compares it with UTC that does not say so
    return eta


def _check_arguments(message: Message) -> None:
    kinds = _ARGUMENTS.get(message.name)
    if kinds is None:
        return  # no task of flood's: the registry of tasks refuses it
    arguments, options = message.args or (), message.kwargs or {}
    fits = len(arguments) == len(kinds) and all(map(isinstance, arguments, kinds))
    allowed = _OPTIONS.get(message.name, {})
    fits = fits and all(isinstance(each, allowed.get(name, ())) for name, each in options.items())
    if not fits:
        raise ValueError("it has other arguments than flood's")
    for ids in arguments[2:]:
        if not all(type(one) is int and 0 < one < 2**63 for one in ids):
            raise ValueError("it names no records")


def together(tasks: Iterable[Any]) -> list[Any]:
    """The same tasks, those for one bucket as few as can be: after an outage thousands of files are
    due in one second, and each task takes a turn at the database to come, to go and to claim.

    What was put together rings as well: some of these files may have to go alone.
    """
    kept: list[Any] = []
    last: dict[tuple[str, str, bool], Any] = {}
    for task in tasks:
        if len(task.args) != len(_ARGUMENTS["flood.tasks.upload"]):
            kept.append(task)
            continue
        profile, bucket, ids = task.args
        kind = (profile, bucket, bool(task.kwargs.get("ring")))
        known = last.get(kind)
        if known is not None and len(known.args[2]) + len(ids) <= TASK_FILES:
            known.args = [profile, bucket, [*known.args[2], *ids]]
            known.kwargs = {**known.kwargs, "ring": True}
            continue
        last[kind] = task
        kept.append(task)
    return kept
