"""Loads modules that most workers never need."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Final

from workers.classify_rule import SCARCE_ERRNOS

# A thread that waits for a module whose import then fails in another one is given what there is of
# it: "cannot import name". So they go one after the other, and the next one begins anew.
_one_by_one: Final = RLock()


@contextmanager
def late() -> Iterator[None]:
    """Around imports that come long after the start: raises OSError where they fail for want of
    descriptors or memory, as they may succeed another time.

    boto3 with botocore takes half a second of processor time and 20 MiB. A worker for which all
    goes well does without. An interrupt in the middle stays one: before Python 3.12 one that comes
    as a class is made turns into a RuntimeError (github.com/python/cpython/issues/77757).
    """
    try:
        with _one_by_one:
            yield
    except RuntimeError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    except ImportError as error:
        # The dynamic loader's words are all that there is.
        if any(os.strerror(number) in str(error) for number in SCARCE_ERRNOS):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from error
        raise
