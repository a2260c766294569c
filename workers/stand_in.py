"""Uploads what is due elsewhere while all workers of a process wait for stores that hang."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from logging import INFO, getLogger
from typing import Final

from flood import due_queries, log, models
from workers.agent import Agent

#: Between two looks for what is due, in seconds.
_MOMENT: Final = 0.25

logger = getLogger(__name__)


class StandIn:
    """One more worker, for as long as it takes one of the others to be free.

    Stores that hang keep a worker each for as long as a request may take, and nobody knows of a
    store that answered a second ago that it does. `upload` makes an attempt on what is due at a
    destination.
    """

    def __init__(self, agent: Agent, upload: Callable[[str, str], object]) -> None:
        self._agent = agent
        self._upload = upload
        self._thread: threading.Thread | None = None
        # The profile that was served last comes last.
        self._turns: deque[str] = deque()

    def look(self, workers: int) -> None:
        """Begin where none of this process' so many workers is free, as stores hang."""
        if self._thread is not None and self._thread.is_alive():
            return
        if self._agent.progress.hanging(workers, 0):
            # Its attempts end in order at a stop, for which Python waits.
            thread = threading.Thread(target=self._run, args=(workers,), name="stand-in")
            with suppress(RuntimeError):  # no other thread can be had, for now
                thread.start()
                self._thread = thread

    def end(self) -> None:
        """Wait for what it is at, which ends soon once the process is to stop."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, workers: int) -> None:
        agent, own = self._agent, threading.get_ident()
        told = False
        try:
            agent.locks.own()
            agent.progress.stands_in()
            agent.turns.stands_in()
            while (hanging := agent.progress.hanging(workers, own)) and not agent.stopping():
                destination = self._next(hanging)
                if destination is not None:
                    if not told:
                        log.event(
                            logger, INFO, "stands in", workers=workers, profile=destination[0]
                        )
                        told = True
                    self._upload(*destination)
                time.sleep(_MOMENT)
        except (models.DatabaseError, OSError):
            pass  # of which those who settle and sweep tell
        finally:
            agent.locks.disown()
            models.close()

    def _next(self, hanging: Collection[str]) -> tuple[str, str] | None:
        """Where something is due, at none of these profiles."""
        known = [*self._agent.profiles]
        self._turns = deque(
            [one for one in self._turns if one in known]
            + [one for one in known if one not in self._turns]
        )
        for profile in list(self._turns):
            if profile in hanging:
                continue
            bucket = due_queries.first_due(profile, self._agent.now())
            if bucket is not None:
                self._turns.remove(profile)
                self._turns.append(profile)
                return profile, bucket
        return None
