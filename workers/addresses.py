"""Builds the addresses of buckets where that takes no more than their names."""

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flood.profiles import Profile

_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{3,63}")

# Amazon's rules for names, as far as a host name can be made of them: dots would not fit the
# certificate, and two hyphens make names of other kinds (AWS, "General purpose buckets naming
# rules").
_AMAZON: Final = re.compile(r"(?!.*--)[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]")
_SPECIAL: Final = re.compile(r"xn--.*|sthree-.*|amzn-s3-demo-.*|.*-s3alias|.*\.mrap")

# What botocore takes for one.
_ANY_REGION: Final = re.compile(r"(?![0-9]+\Z)(?!-)[A-Za-z0-9-]{1,63}(?<!-)")

# Regions of the partition "aws", as botocore's own table has it; others have other domains.
_REGION: Final = re.compile(r"(us|eu|ap|sa|ca|me|af|il|mx)-\w+-\d+")


def address(profile: "Profile", bucket: str, region: str | None) -> str | None:
    """Return the URL that keys of a bucket are appended to, as boto3 would choose it; `region` is
    where the bucket lies if that is not the profile's. None: that takes boto3 itself."""
    root = service(profile, region)
    if root is None:
        return None
    if profile.provider.addressing_style == "path":
        return f"{root}{bucket}/" if is_plain(bucket) else None
    if _AMAZON.fullmatch(bucket) and not _SPECIAL.fullmatch(bucket):
        return root.replace("://", f"://{bucket}.", 1)
    return None


def is_plain(bucket: str) -> bool:
    """Whether a bucket's name stands in paths and texts as it is."""
    return _PLAIN.fullmatch(bucket) is not None


def is_region(text: str) -> bool:
    """Whether it can be a region's name, of whatever store."""
    return _ANY_REGION.fullmatch(text) is not None


def service(profile: "Profile", region: str | None = None) -> str | None:
    """Return the URL at which buckets are listed; None: that takes boto3 itself."""
    if profile.provider.addressing_style == "path":
        return f"{profile.endpoint}/" if profile.endpoint else None
    region = region or profile.region
    if profile.endpoint or not _REGION.fullmatch(region):
        return None
    return f"https://s3.{region}.amazonaws.com/"
