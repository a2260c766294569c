"""Waits, as something starts, for what time will mend."""

from collections.abc import Callable
from logging import ERROR, Logger
from typing import Final, TypeVar

from flood import log, models, opening
from flood.errors import SpoolLockedError, TryAgainError
from flood.states import EXIT_TRY_AGAIN

#: Between two tries at what disk or database have refused, in seconds.
TROUBLE_PAUSE: Final = 2.0

_T = TypeVar("_T")


def patiently(
    step: Callable[[], _T],
    *,
    rest: Callable[[], None],
    stopping: Callable[[], bool],
    logger: Logger,
) -> _T:
    """What `step` returns. A full disk, a database that another program holds are waited for, and
    told of once: nobody may be there to start this again. `rest` gives back what the try has left,
    then waits for TROUBLE_PAUSE seconds, or the stop.

    Raises what `step` does for any other reason, SpoolLockedError included, or once it is
    `stopping`.
    """
    told = False
    while True:
        try:
            return step()
        except SpoolLockedError:
            raise
        except (TryAgainError, OSError, models.DatabaseError) as error:
            if stopping() or opening.exit_status(error) != EXIT_TRY_AGAIN:
                raise
            if not told:
                log.event(
                    logger,
                    ERROR,
                    "cannot start yet",
                    reason=models.explain(error),
                    next="it is tried again every two seconds",
                )
            told = True
        rest()
