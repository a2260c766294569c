"""huey's consumer as flood runs it: signals, worker processes, its own end."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from logging import INFO, getLogger
from typing import Any, Final

from huey import Huey
from huey.constants import WORKER_PROCESS
from huey.consumer import Consumer, ConsumerStopped, ProcessEnvironment

from flood import log, models, parent, writers
from flood.bell import ring
from flood.rereading import Rereading
from flood.signals import Signals
from flood.stop import Terminals
from flood.systemd import Systemd

#: How often a consumer looks after its workers if no signal comes, in seconds; and where it is to
#: end by itself.
LOOK: Final = 1.0
LOOK_FOR_END: Final = 0.1

#: How often it looks into the schedule, in seconds, where nobody asks for less: a store that wants
#: to be left alone for a second is not left alone for three.
SCHEDULE: Final = 0.5

#: How long the signal that huey calls "interrupt" lets attempts end in order, in seconds. It is
#: less than the ten that container runtimes give a process before they kill it.
INTERRUPT_GRACE: Final = 8.0

# How soon an interrupt that was lost comes once more, in seconds.
_SOON: Final = 0.1

logger = getLogger("flood.queue")


class TiedProcesses(ProcessEnvironment):
    """Worker processes that end when the consumer that forked them is killed."""

    def init_child(self, process: Any) -> None:
        # SIGTERM would not do: huey's handler ignores it in a worker that is idle.
        consumer = multiprocessing.parent_process()
        parent.tie(str(consumer.pid if consumer else os.getppid()), signal.SIGKILL)
        super().init_child(process)
        sys.unraisablehook = partial(_interrupt_again, self.interrupt, sys.unraisablehook)


def _interrupt_again(number: int, otherwise: Callable[[Any], None], unraisable: Any) -> None:
    """An interrupt that came while no exception could be raised, as in a callback of the garbage
    collector, is lost with a traceback: let it come once more, a moment later."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        otherwise(unraisable)
        return
    again = threading.Timer(_SOON, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


class FloodConsumer(Consumer):
    """huey's consumer, whose interrupting signal lets attempts end in order too, and which reads
    the credentials again on SIGHUP, where huey's would start itself anew.

    `over` is asked every LOOK_FOR_END seconds, and at each signal, whether the consumer is to end
    by itself; signals are then the business of whoever runs it.
    """

    def __init__(
        self,
        huey: Huey,
        *,
        rereading: Rereading,
        over: Callable[[], bool] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(huey, **options)
        self._rereading = rereading
        self._over = over
        self._tick = LOOK if over is None else LOOK_FOR_END
        # huey wakes ten times a second to see whether a signal came.
        self._stop_flag_timeout = 0.0
        self._signals = Signals()
        self._terminals = Terminals()
        # What was started in a terminal that is closed ends with it.
        self._signal_actions[signal.SIGHUP] = (False, False)
        self._systemd = Systemd(clock=time.monotonic)

    def get_environment(self, worker_type: str) -> Any:
        if worker_type == WORKER_PROCESS:
            return TiedProcesses(self._graceful_sig, self._interrupt_sig)
        return super().get_environment(worker_type)

    def _create_scheduler(self) -> Any:
        scheduler = super()._create_scheduler()
        if scheduler.interval <= 1:  # huey's default, and the least that it takes
            scheduler.interval = SCHEDULE
        return scheduler

    def _handle_signal(self, signum: int, frame: Any) -> None:
        if signum == signal.SIGHUP and not self._terminals.gone():
            self._rereading.ask()
        else:
            super()._handle_signal(signum, frame)

    def _set_signal_handlers(self) -> None:
        if self._over is None:
            super()._set_signal_handlers()

    def start(self) -> None:
        writers.stand_behind()
        # huey sets its handlers last; until then a signal would end in a traceback.
        self._set_signal_handlers()
        self._signals.heed()
        super().start()
        self._systemd.ready()
        log.event(
            logger, INFO, "ready", pid=os.getpid(), workers=self.workers, kind=self.worker_type
        )

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._signals.close()

    def loop(self, health_check_ts: float | None = None) -> float | None:
        self._systemd.alive()
        self._signals.wait(self._tick)
        checked: float | None = super().loop(health_check_ts)
        if not self.environment.forks:
            self.huey.look_after(self.workers)
        if self._rereading.asked:
            self._rereading.look()
        if self._over is not None and self._over():
            self.stop()
            raise ConsumerStopped
        return checked

    def stop(self, graceful: bool = False) -> None:
        self.stop_flag.set()
        ring(models.path())  # whoever is idle listens for as long as LISTEN
        if not graceful and not self.environment.forks:
            self.shutdown_timeout = INTERRUPT_GRACE
            self._join_workers()
        super().stop(graceful)
