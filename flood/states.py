"""The words that tables, directories, log lines, exit statuses share."""

from typing import Final

# A file's state is the directory that it lies in; file_records.current_state uses the same words.
INCOMING_TMP: Final = "incoming_tmp"
INCOMING: Final = "incoming"
PROCESSING: Final = "processing"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
STATES: Final = (INCOMING_TMP, INCOMING, PROCESSING, COMPLETED, FAILED)

# file_records.upload_outcome and retry_attempts.outcome.
SUCCESS: Final = "success"
FAILURE: Final = "failure"

# retry_attempts.kind: why an attempt that was no success ended.
TRANSIENT: Final = "transient"
PERMANENT: Final = "permanent"
LOST: Final = "lost"
INTERRUPTED: Final = "interrupted"

#: file_records.error_code of files that went before they could come to failed, be it flood-put that
#: took its copy back: flood-retry has nothing to put back.
GONE_BEFORE: Final = (
    *("vanished", "abandoned", "no_room"),
    *("put_interrupted", "put_refused", "put_failed"),
)

#: file_records.error_code of failures that come of a file's own place, its name or its bucket's:
#: flood-retry would bring it there again, a person moves it to incoming, below another.
MISNAMED: Final = (
    *("key_not_utf8", "key_too_long", "key_not_normalized", "invalid_request"),
    *("KeyTooLongError", "InvalidObjectName", "InvalidURI", "XMinioInvalidObjectName"),
    "InvalidBucketName",
)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_TRY_AGAIN: Final = 75  # EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells report it
