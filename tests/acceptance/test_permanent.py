"""Errors that no retry mends: one attempt, then failed, while everything else goes on."""

import os
from collections.abc import Callable
from typing import Any

from tests.acceptance.harness import (
    Flood,
    MakeFlood,
    check_promises,
    credentials,
    without_roots_rights,
)
from tests.faults import s3_error
from tests.proxy import FaultProxy
from tests.servers import (
    ACCESS_KEY_ID,
    SECRET_ACCESS_KEY,
    S3Server,
    credentials_section,
)

NOT_UTF8 = os.fsdecode(b"caf\xe9")
TOO_LONG = "/".join([*["d" * 200] * 5, "key" * 10])
DECOMPOSED = "cafe\N{COMBINING ACUTE ACCENT}"


def check_failed(flood: Flood, key: str, code: str) -> None:
    """Check that one permanent attempt was all that was made of this file."""
    filepath: str | bytes = os.fsencode(key) if key == NOT_UTF8 else key
    row = flood.row(filepath=filepath)
    attempts = flood.attempts(row["id"])
    assert row["current_state"] == "failed"
    assert [(each["retry_number"], each["kind"]) for each in attempts] == [(0, "permanent")]
    assert row["error_code"] == attempts[0]["error_code"] == code
    assert row["error_message"] == attempts[0]["error_message"]

    def told() -> list[dict[str, Any]]:
        lines = [line for one in flood.running for line in one.events("failed")]
        return [each for each in lines if each["record"] == row["id"]]

    flood.wait_for(told, "its line in the log, which comes after the commit")
    [line] = told()
    assert (line["error"], line["reason"]) == (code, row["error_message"])


def test_each_permanent_error_has_one_attempt(
    make_flood: MakeFlood,
    server: S3Server,
    proxy: FaultProxy,
    bucket: str,
    bucket_name: Callable[[], str],
) -> None:
    main = credentials(("main", proxy.url))
    flood = make_flood(
        "\n".join(
            [
                main,
                main.replace("[main]", "[unknown-key]").replace(ACCESS_KEY_ID, "no-such-key"),
                main.replace("[main]", "[wrong-secret]").replace(SECRET_ACCESS_KEY, "no-secret"),
                credentials_section("r2", proxy.url, "cloudflare"),
            ]
        )
    )
    denied, huge, absent = (bucket_name() for _ in range(3))
    for name in (denied, huge):
        server.make_bucket(name)
        flood.spool.joinpath("incoming/main", name).mkdir(parents=True)
    proxy.inject(s3_error(403, "AccessDenied", "Access Denied"), "PUT", f"^/{denied}/", times=None)
    proxy.inject(s3_error(400, "EntityTooLarge", "Too large."), "PUT", f"^/{huge}/", times=None)
    flood.start_watch()
    flood.start_consumer()
    bad = {
        ("main", absent, "absent"): "NoSuchBucket",
        ("main", denied, "denied"): "AccessDenied",
        ("main", huge, "huge"): "EntityTooLarge",
        ("unknown-key", bucket, "unknown-key"): "InvalidAccessKeyId",
        ("wrong-secret", bucket, "wrong-secret"): "SignatureDoesNotMatch",
        ("main", bucket, NOT_UTF8): "key_not_utf8",
        ("main", bucket, TOO_LONG): "key_too_long",
        ("r2", bucket, DECOMPOSED): "key_not_normalized",
    }
    for number, (profile, name, key) in enumerate(bad):
        flood.drop(name, key, b"bad %d" % number, profile)
        flood.drop(bucket, f"good-{number}", b"good %d" % number)
    flood.wait_delivered()
    for (_, _, key), code in bad.items():
        check_failed(flood, key, code)
    check_promises(flood, server, failed={key for _, _, key in bad})
    # Only two of these errors are answers to a PUT; the others come before one.
    sent = {name: proxy.count("PUT", f"^/{name}/") for name in (absent, denied, huge)}
    assert sent == {absent: 0, denied: 1, huge: 1}
    assert proxy.count("PUT", f"^/{bucket}/(?!good-)") == 0


def test_an_unreadable_file_has_one_attempt(
    make_flood: MakeFlood, server: S3Server, bucket: str
) -> None:
    flood = make_flood(credentials(("main", server.url)), prefix=without_roots_rights())
    flood.start_watch()
    flood.start_consumer()
    for key, mode in (("secret", 0o000), ("public", 0o644)):
        outside = flood.outside(key)
        outside.write_bytes(key.encode())
        outside.chmod(mode)
        flood.expect(bucket, key, key.encode())
        outside.rename(flood.incoming(bucket) / key)
    flood.wait_delivered()
    check_failed(flood, "secret", "local_io")
    (flood.spool / flood.row(filepath="secret")["spool_path"]).chmod(0o400)
    check_promises(flood, server, failed={"secret"})
