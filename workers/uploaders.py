"""Chooses what uploads with."""

import logging
import time
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from flood.config import Settings
from flood.log import event
from workers.transfer import Uploader

if TYPE_CHECKING:
    from collections.abc import Callable

    from flood.profiles import Profile

_log = logging.getLogger(__name__)
_importing = Lock()


def maker(settings: Settings) -> "Callable[[Profile], Uploader]":
    """Return what makes a profile's uploader.

    Where libcurl is wanted but cannot be had, the log says so once, and boto3 does the work.
    """
    return partial(
        _chosen(settings.transfer),
        concurrency=settings.concurrency,
        multipart_threshold=settings.multipart_threshold,
        multipart_part_size=settings.multipart_part_size,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        bucket_cache_seconds=settings.bucket_cache_seconds,
        clock=time.monotonic,
    )


def without_libcurl(transfer: str) -> str | None:
    """Return why boto3 does the work where libcurl is wanted; None if it does not."""
    found = _curl() if transfer == "curl" else None
    return str(found) if isinstance(found, Exception) else None


def speaks_socks(transfer: str) -> bool:
    """Whether files go through SOCKS proxies, too."""
    return transfer == "curl" and without_libcurl(transfer) is None


def _chosen(transfer: str) -> "Callable[..., Uploader]":
    # Each imports one library, not the other.
    if transfer == "curl":
        found = _curl()
        if not isinstance(found, Exception):
            return found
        event(
            _log,
            logging.WARNING,
            "libcurl cannot be used",
            reason=f"{found}; boto3 sends the files, more slowly: install pycurl,"
            " or set --transfer boto3",
        )
    from workers.s3 import S3

    return S3


def _curl() -> "Callable[..., Uploader] | Exception":
    # Who imports a module that fails just then in another thread is given half of it, and no error.
    with _importing:
        try:
            from workers.curl import Curl
        except Exception as error:  # noqa: BLE001  whatever a pycurl that is broken, or another, raises
            return error
        return Curl
