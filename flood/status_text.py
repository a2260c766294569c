"""Tells a person what one spool is doing."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flood import status_backlog, status_failures, status_work
from flood.advice import Advice
from flood.status import Status
from flood.status_fit import Part

if TYPE_CHECKING:
    from rich.console import RenderableType


def render(status: Status, advice: Advice) -> "Iterator[RenderableType]":
    """What is to be shown; rich makes it fit the terminal's width."""
    for part in parts(status, advice):
        yield from part.shown


def parts(status: Status, advice: Advice) -> list[Part]:
    """The same for a terminal that may lack the height, too. What keeps everything from going on
    comes before what has failed, that before what goes well."""
    found = (
        Part(4, list(status_work.head(status)), stays=True),
        Part(1, list(status_work.warnings(status, advice)), stays=True),
        Part(5, list(status_work.uploads(status)), lead=2),
        Part(6, list(status_work.silent(status))),
        Part(8, list(status_backlog.amounts(status)), lead=2),
        Part(10, list(status_backlog.ages(status)), lead=2),
        Part(9, list(status_backlog.held_back(status)), lead=2),
        Part(7, list(status_backlog.retries(status)), lead=2),
        Part(2, list(status_failures.failed(status)), lead=2, stays=True),
        Part(3, list(status_failures.hints(status, advice)), stays=True),
        Part(11, list(status_failures.superseded(status)), lead=1),
        Part(12, list(status_work.workers(status)), lead=2),
    )
    return [part for part in found if part.shown]
