"""Starts each command so that an early Ctrl-C ends it without a traceback."""

import signal
from collections.abc import Callable


def watch() -> int:
    """Run flood-watch; return its exit status."""
    _end_at_once()
    from flood.commands.watch import main

    return main()


def put() -> int:
    """Run flood-put; return its exit status."""
    _end_at_once()
    from flood.commands.put import main

    return main()


def drain() -> int:
    """Run flood-drain; return its exit status."""
    _end_at_once()
    from flood.commands.drain import main

    return main()


def retry() -> int:
    """Run flood-retry; return its exit status."""
    _end_at_once()
    from flood.commands.retry import main

    return main()


def prune() -> int:
    """Run flood-prune; return its exit status."""
    _end_at_once()
    from flood.commands.prune import main

    return main()


def notify() -> int:
    """Run flood-notify; return its exit status."""
    _end_at_once()
    from flood.commands.notify import main

    return main()


def fsck() -> int:
    """Run flood-fsck, which Python is to interrupt; return its exit status."""
    _end_at_once()
    from flood.commands.fsck import main

    return _interruptible(main)


def status() -> int:
    """Run flood-status, which Python is to interrupt; return its exit status."""
    _end_at_once()
    from flood.commands.status import main

    return _interruptible(main)


def _interruptible(main: Callable[[], int]) -> int:
    from flood.states import EXIT_INTERRUPTED

    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return main()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def check() -> int:
    """Run flood-check; return its exit status."""
    _end_at_once()
    from flood.commands.check import main

    return main()


def init() -> int:
    """Run flood-init; return its exit status."""
    _end_at_once()
    from flood.commands.init import main

    return main()


def _end_at_once() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
