"""The rows of the error table for what goes wrong on this machine."""

from typing import Final

from botocore import exceptions as boto

from flood.errors import ConfigError
from flood.states import INTERRUPTED, PERMANENT, TRANSIENT
from workers import failures
from workers.classify_rule import AGAIN, CONNECTION_ERRNOS, FILE, KEYS, NAME, SCARCE, Rule
from workers.transfer import Interrupted

OWN: Final = (
    Rule(
        INTERRUPTED,
        "interrupted",
        "the worker was told to stop",
        "the file is taken up again when a worker runs",
        exceptions=(Interrupted, KeyboardInterrupt, SystemExit, GeneratorExit),
        quote=False,
    ),
    Rule(TRANSIENT, "changed", None, "", exceptions=(failures.FileChanged,)),
    Rule(TRANSIENT, "contradicted_by_head", None, AGAIN, exceptions=(failures.ContradictedByHead,)),
    Rule(PERMANENT, "NoSuchBucket", None, "", exceptions=(failures.BucketMissing,)),
    Rule(PERMANENT, "InvalidBucketName", None, "", exceptions=(failures.InvalidBucket,)),
    Rule(TRANSIENT, "not_s3", None, AGAIN, exceptions=(failures.NotS3,)),
    Rule(PERMANENT, "key_not_utf8", None, NAME, exceptions=(failures.KeyNotUtf8,)),
    Rule(PERMANENT, "key_too_long", None, NAME, exceptions=(failures.KeyTooLong,)),
    Rule(PERMANENT, "configuration", None, "", exceptions=(ConfigError,)),
    SCARCE,
    Rule(
        INTERRUPTED,
        "local_resources",
        "this machine ran out of memory",
        f"{AGAIN}; see what takes it, or run fewer workers",
        exceptions=(MemoryError,),
    ),
    Rule(PERMANENT, "local_io", None, FILE, exceptions=(failures.LocalReadError,)),
)

REST: Final = (
    Rule(
        PERMANENT,
        "invalid_request",
        "the request cannot be built",
        "move the file to incoming under another name, or to another bucket's directory there",
        exceptions=(boto.ParamValidationError,),
    ),
    Rule(
        PERMANENT,
        "configuration",
        "the profile or this machine's configuration cannot be used",
        KEYS,
        exceptions=(
            *(boto.NoCredentialsError, boto.PartialCredentialsError, boto.ProfileNotFound),
            *(boto.ConfigParseError, boto.NoRegionError, boto.InvalidRegionError),
            *(boto.InvalidConfigError, boto.InvalidProxiesConfigError, boto.UnknownEndpointError),
        ),
    ),
    Rule(
        PERMANENT,
        "configuration",
        "AWS_ENDPOINT is no address",
        KEYS,
        exceptions=(ValueError,),
        text="Invalid endpoint",
    ),
    Rule(
        TRANSIENT,
        "network",
        "the connection to the store failed",
        AGAIN,
        exceptions=(boto.ConnectionError, boto.HTTPClientError),
    ),
    Rule(
        TRANSIENT,
        "network",
        "the connection to the store failed",
        AGAIN,
        errnos=CONNECTION_ERRNOS,
    ),
    Rule(
        PERMANENT,
        "vanished",
        "the file is no longer there",
        "put it into the spool again if it is still wanted",
        exceptions=(FileNotFoundError,),
    ),
    Rule(PERMANENT, "local_io", "the file cannot be read", FILE, exceptions=(OSError,)),
    # A mistake in flood or a library must neither lose a file nor keep it busy for ever: retries
    # are bounded.
    Rule(TRANSIENT, "unexpected", "something failed that flood does not know", AGAIN),
)
