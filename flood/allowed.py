"""What the columns of the tables may hold."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

# What SQLite answers for what peewee has written, by the type of the field. A real number comes
# back as an integer from where an integer was written over it.
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "AUTO": (int,),
    "BOOL": (int,),
    "INT": (int,),
    "FLOAT": (int, float),
    "TEXT": (str,),
    "NAME": (str, bytes),
}


class _Rule(NamedTuple):
    """What one column of an answer may hold: types, and values where it is only some."""

    place: int
    name: str
    types: frozenset[type]
    values: frozenset[Any] | None


class Allowed:
    """Holds answers to the types, and the choices, of the columns of these peewee models.

    SQLite itself keeps any type in any column. A column of an answer is known by its name, which an
    expression has only where it was given one.
    """

    def __init__(self, tables: Sequence[Any]) -> None:
        self._tables = tables
        self._rules = lru_cache(maxsize=512)(self._find_rules)

    def wrong(self, description: Sequence[Any], rows: Sequence[Any]) -> str | None:
        """What one of these rows holds that no program of flood's writes, in words; None if there
        is nothing like that."""
        if not rows:
            return None
        columns = list(zip(*rows, strict=True))
        for place, name, types, values in self._rules(tuple([each[0] for each in description])):
            column = columns[place]
            # In one go, as it is asked of every row that is read.
            if types.issuperset(map(type, column)) and (
                values is None or values.issuperset(column)
            ):
                continue
            for value in column:
                if type(value) not in types or (values is not None and value not in values):
                    return f"{name} is {_shown(value)}"
        return None

    def _find_rules(self, names: tuple[str, ...]) -> list[_Rule]:
        if "seq" in names:
            return []  # of a pragma, which has names of its own
        return [
            _rule(place, name, fields)
            for place, name in enumerate(names)
            if (fields := [x._meta.columns[name] for x in self._tables if name in x._meta.columns])
        ]


def _rule(place: int, name: str, fields: Sequence[Any]) -> _Rule:
    types = {kind for field in fields for kind in _TYPES[field.field_type]}
    values = {value for field in fields for value, _ in field.choices or ()}
    chosen = all(field.choices for field in fields)
    if any(field.null for field in fields):
        types.add(type(None))
        values.add(None)
    return _Rule(place, name, frozenset(types), frozenset(values) if chosen else None)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
