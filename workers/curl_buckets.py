"""Asks through libcurl whether a bucket is there."""

from typing import Final

from workers.addresses import is_plain
from workers.curl_connections import Connections
from workers.curl_store import Store

_TICK: Final = 0.1


def listed(store: Store, connections: Connections, bucket: str) -> bool:
    """Whether the first page of the store's list has the bucket. False is no proof.

    Raises TransportFailed, OSError or ConfigError where there is no answer.
    """
    store.check()
    asked = store.list_buckets(bucket) if is_plain(bucket) else None
    if asked is None:
        return False
    connections.start(asked)
    while not connections.turn(_TICK):
        pass
    # An answer that is too long to be kept ends as a failure, too.
    if asked.failure is not None and not asked.status and not asked.head:
        raise asked.failure
    return asked.succeeded and f"<Name>{bucket}</Name>".encode() in asked.content
