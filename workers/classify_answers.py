"""The rows of the error table for what a store answers."""

from typing import Final

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from flood.states import PERMANENT, TRANSIENT
from workers.classify_rule import AGAIN, ENDPOINT, KEYS, NAME, Rule

#: The code of requests that the store takes for too old, or for those of a time to come.
SKEWED: Final = "RequestTimeTooSkewed"

_CLOCKS: Final = "this machine's clock and the store's disagree"
_CLOCK: Final = "set the clock, then retry the file"

# Sources: AWS "Error responses" and "Error best practices"; Cloudflare R2 "Error codes";
# Backblaze "Integration checklist". Wider than botocore's own list of what to retry, narrower in
# leaving out certificate errors and local ones.
ANSWERS: Final = (
    Rule(
        TRANSIENT,
        None,
        "the store asks for fewer requests",
        f"{AGAIN}; lower --concurrency if this goes on",
        codes=(
            *("SlowDown", "SlowDownRead", "SlowDownWrite", "TooManyRequests"),
            *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled"),
            *("RequestThrottledException", "TooManyRequestsException", "PriorRequestNotComplete"),
            *("RequestLimitExceeded", "BandwidthLimitExceeded", "TransactionInProgressException"),
        ),
        fewer=True,
    ),
    Rule(
        TRANSIENT,
        None,
        "the store received the file too slowly or not whole",
        AGAIN,
        codes=("RequestTimeout", "RequestTimeoutException", "IncompleteBody", "ClientDisconnect"),
    ),
    Rule(
        TRANSIENT,
        None,
        "the store received other bytes than were signed: the file was changed while it was sent,"
        " or the network altered it",
        AGAIN,
        codes=("BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"),
    ),
    Rule(
        TRANSIENT,
        None,
        "the multipart upload is no longer there",
        "it is begun anew",
        codes=("NoSuchUpload", "InvalidPart", "InvalidPartOrder"),
    ),
    Rule(
        TRANSIENT,
        None,
        "another operation on the same object is under way",
        AGAIN,
        codes=("OperationAborted", "ConditionalRequestConflict"),
    ),
    # AWS, "Request routing": what a redirect names is good for that one request, so that nothing is
    # followed. A new bucket takes up to a day to be known in every region.
    Rule(
        TRANSIENT,
        None,
        "the store sends this bucket's requests to another address: AWS_REGION or AWS_ENDPOINT is"
        " another one than the bucket's, or the bucket is so new that it is not known everywhere",
        f"{AGAIN}; correct AWS_REGION or AWS_ENDPOINT if this goes on",
        codes=("TemporaryRedirect", "Redirect"),
    ),
    Rule(
        PERMANENT,
        None,
        "the store does not accept this access key",
        f"check AWS_ACCESS_KEY_ID, AWS_ENDPOINT, AWS_SESSION_TOKEN; {KEYS}",
        codes=(
            *("InvalidAccessKeyId", "InvalidToken", "ExpiredToken", "TokenRefreshRequired"),
            *("InvalidSecurity", "MissingSecurityHeader", "CredentialsNotSupported"),
            *("Unauthorized", "401"),
        ),
        credentials=True,
    ),
    Rule(
        PERMANENT,
        None,
        "the store computes another signature, usually because the secret key is wrong",
        f"check AWS_SECRET_ACCESS_KEY; {KEYS}",
        codes=("SignatureDoesNotMatch",),
        credentials=True,
    ),
    Rule(
        PERMANENT,
        None,
        _CLOCKS,
        _CLOCK,
        codes=(SKEWED, "RequestExpired", "ExpiredRequest"),
    ),
    Rule(
        PERMANENT,
        SKEWED,
        _CLOCKS,
        _CLOCK,
        codes=("AccessDenied", "403", "Forbidden"),
        # Amazon's words for it, which rclone has under another code.
        text="[Tt]he difference between the request time and the (?:server's|current) time ",
    ),
    Rule(
        PERMANENT,
        "cap_exceeded",
        "a cap of the account is used up",
        "raise the cap with the provider, then retry the file",
        codes=("AccessDenied", "403", "Forbidden"),
        # Backblaze has no code of its own for it; a name in the message may be anything.
        text=r"(?i)\bcap exceeded|\bcaps & alerts|\bcap_exceeded",
    ),
    Rule(
        PERMANENT,
        None,
        "the store denies access",
        "let this access key write to this bucket, then retry the file",
        codes=(
            *("AccessDenied", "AllAccessDisabled", "AccountProblem", "NotSignedUp", "NotEntitled"),
            *("UnauthorizedAccess", "403", "Forbidden", "ObjectLockedByBucketPolicy"),
            *("InvalidObjectState",),
        ),
        # What some stores answer to a key that was revoked.
        credentials=True,
    ),
    Rule(
        PERMANENT,
        None,
        "the bucket does not exist",
        "create it, then retry the file, or move the file to the right bucket's directory in "
        "incoming",
        codes=("NoSuchBucket",),
    ),
    Rule(
        PERMANENT,
        None,
        "the store accepts no bucket of this name",
        "move the file to another bucket's directory in incoming",
        codes=("InvalidBucketName",),
    ),
    Rule(
        PERMANENT,
        None,
        "the bucket belongs to another region or endpoint",
        ENDPOINT,
        codes=(
            *("PermanentRedirect", "AuthorizationHeaderMalformed", "InvalidRegion"),
            "IllegalLocationConstraintException",
        ),
    ),
    Rule(
        PERMANENT,
        None,
        "the file is larger or smaller than the store allows",
        "check --multipart-threshold with --multipart-part-size, or split the file",
        codes=("EntityTooLarge", "EntityTooSmall", "MaxMessageLengthExceeded", "413"),
    ),
    Rule(
        PERMANENT,
        None,
        "the store does not accept the key",
        NAME,
        codes=("KeyTooLongError", "InvalidObjectName", "InvalidURI", "XMinioInvalidObjectName"),
    ),
    Rule(
        PERMANENT,
        None,
        "the store has no room left for this account",
        "make room or raise the quota, then retry the file",
        codes=("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"),
    ),
    Rule(
        TRANSIENT,
        None,
        "the store has no room left",
        f"make room; {AGAIN}",
        statuses=(507,),
    ),
    Rule(
        PERMANENT,
        None,
        "the store does not understand the request",
        "check that `provider` of this profile is the right one, then retry the file",
        codes=(
            *("InvalidArgument", "InvalidRequest", "MalformedXML", "MalformedTrailerError"),
            *("NotImplemented", "MethodNotAllowed", "InvalidDigest", "MissingContentLength"),
            *("MetadataTooLarge", "PreconditionFailed", "InvalidStorageClass"),
        ),
    ),
    Rule(
        PERMANENT,
        "proxy_denied",
        "the HTTP proxy wants other credentials",
        "correct HTTP_PROXY or NO_PROXY, restart flood, then retry the file",
        statuses=(407,),  # RFC 9110, 15.5.8: only a proxy answers so
    ),
    Rule(
        TRANSIENT,
        None,
        "the store asks for fewer requests",
        f"{AGAIN}; lower --concurrency if this goes on",
        statuses=(429,),
        fewer=True,
    ),
    # As an answer to HEAD has no body with a code, this may be a SlowDown; from a proxy before the
    # store it is an overload, too.
    Rule(TRANSIENT, None, "the store failed", AGAIN, codes=("503",), fewer=True),
    Rule(
        TRANSIENT,
        None,
        "the store asks to try later",
        AGAIN,
        statuses=(408, 425, 499),  # 499 is what nginx says of a connection that was cut
    ),
    Rule(
        PERMANENT,
        None,
        "the store cannot do this",
        "check that `provider` of this profile is the right one, then retry the file",
        statuses=(501, 505),
    ),
    Rule(TRANSIENT, None, "the store failed", AGAIN, statuses=range(500, 600)),
    Rule(
        TRANSIENT,
        "not_s3",
        "what answers sends to another address, which no store does without a code of its own: the"
        " network wants a login first, or AWS_ENDPOINT is wrong (http:// instead of https://)",
        f"{AGAIN}; correct AWS_ENDPOINT if this goes on",
        statuses=(301, 302, 303, 307, 308),
    ),
    Rule(
        PERMANENT,
        None,
        "the store refused the request",
        "mend what it names, then retry the file",
        statuses=range(300, 500),
    ),
    Rule(
        TRANSIENT,
        "bad_response",
        "the answer makes no sense",
        f"{AGAIN}; check AWS_ENDPOINT if this goes on",
        exceptions=(ClientError, ResponseParserError),
        reason="nonsense",
    ),
)
