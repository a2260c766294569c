"""Reads a store's refusals the way boto3 does."""

from collections.abc import Mapping
from typing import Any

from botocore.awsrequest import HeadersDict
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError, create_parser


def refusal(operation: str, status: int, headers: Mapping[str, str], content: bytes) -> Exception:
    """Return what boto3 would raise for this answer; names of headers are in lower case."""
    answer: dict[str, Any] = {
        "status_code": status,
        "headers": HeadersDict(headers),
        "body": content,
    }
    try:
        parsed: dict[str, Any] = create_parser("rest-xml").parse(answer, None)
    except ResponseParserError as error:
        problem: Exception = error
    else:
        problem = ClientError(parsed, operation)
    return problem
