"""Asks through libcurl whether a bucket is there."""

import re
from typing import Final

from workers.addresses import is_plain
from workers.curl_connections import Connections
from workers.curl_store import Store
from workers.known import Known

# The end of a list, and what stands in one that goes on (AWS, "ListBuckets"). What R2 or another
# store pages by has other names with the same beginning or end.
_END: Final = b"</ListAllMyBucketsResult>"
_MORE: Final = (b"ContinuationToken>", b"<IsTruncated>true", b"<NextMarker>")

# Names that need no reading of XML: those of which libcurl is asked.
_NAME: Final = re.compile(rb"<Name>([A-Za-z0-9._-]{3,63})</Name>")


def listed(store: Store, connections: Connections, bucket: str, known: Known) -> bool | None:
    """Whether the store's list has the bucket; None where that takes boto3 to know. False is no
    proof: a list leaves out other accounts' buckets. What else the list has is `known` from now on.

    Raises TransportFailed, OSError or ConfigError where there is no whole answer.
    """
    store.check()
    asked = store.list_buckets(bucket) if is_plain(bucket) else None
    if asked is None:
        return None
    connections.ask(asked, _never)
    if not asked.succeeded:
        return None
    names = {name.decode() for name in _NAME.findall(asked.content)}
    known.add_listed(names)
    if bucket in names:
        return True
    whole = asked.content.rstrip().endswith(_END)
    return None if not whole or any(each in asked.content for each in _MORE) else False


def _never() -> bool:
    return False
