"""Uploads a small object the way files go, then removes it."""

import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from flood.check_findings import OK, STORE, WARNING, Finding
from flood.config import Settings
from flood.profiles import Profile
from flood.states import PERMANENT
from workers.classify import classify
from workers.failures import SocksProxy
from workers.probe import ANSWER, refused
from workers.probe_way import STEP
from workers.s3_client import Clients
from workers.transfer import Hooks, Interrupted, Receipt, Upload, Uploader
from workers.uploaders import maker

_CONTENT: Final = b"Written by flood-check --probe, which removes it again. It may be deleted.\n"
_NEVER_DELETES: Final = (
    "flood itself never deletes objects, so that its access key need not be allowed to"
)


class ProbeUpload:
    """One upload to a bucket. `left` names the object while it may be there; `clock` is monotonic
    seconds."""

    def __init__(
        self,
        profile: Profile,
        bucket: str,
        settings: Settings,
        *,
        clock: Callable[[], float],
        stopping: Callable[[], bool],
    ) -> None:
        self.left: str | None = None
        self._profile = profile
        self._bucket = bucket
        self._settings = replace(settings, connect_timeout=STEP, read_timeout=ANSWER)
        self._clock = clock
        self._stopping = stopping
        self._key = f"flood-check-{uuid.uuid4().hex}"

    def run(self, tell: Callable[[Finding], None]) -> None:
        """Upload it, ask for it, remove it; whatever becomes of the upload, the removal is tried if
        anything may be there."""
        about = f"upload to {self._bucket}"
        uploader = maker(self._settings)(self._profile)
        begun = self._clock()
        try:
            uploader.ensure_bucket(self._bucket)
            result = self._sent(uploader)
        except Exception as error:  # noqa: BLE001  classify knows every one
            result = error
        finally:
            uploader.close()
        if isinstance(result, Receipt):
            tell(self._proven(about, result, self._clock() - begun))
        else:
            tell(refused(about, self._profile, result))
        if self.left is None:
            return
        removal = self._removed(result.version_id if isinstance(result, Receipt) else None)
        if not isinstance(result, Receipt) and classify(result).kind == PERMANENT:
            self.left = None  # what was refused is hardly there, and nothing to tell of
        else:
            tell(removal)

    def _sent(self, uploader: Uploader) -> Receipt | BaseException:
        file = os.memfd_create("flood-check")  # nothing is written to any disk
        try:
            os.write(file, _CONTENT)
            # Said before the last look at the stop: whoever stops this knows what to wait for.
            self.left = f"s3://{self._profile.name}/{self._bucket}/{self._key}"
            if self._stopping():
                self.left = None
                return Interrupted()
            upload = Upload(0, self._bucket, self._key, file, len(_CONTENT))
            hooks = Hooks(self._stopping, lambda *_: None, lambda _: None)
            for outcome in uploader.transfer([upload], hooks):
                if outcome is not None:
                    return outcome[1]
        finally:
            os.close(file)
        raise AssertionError  # pragma: no cover  an uploader answers for each upload

    def _proven(self, about: str, receipt: Receipt, seconds: float) -> Finding:
        compared = "size" if receipt.checksum is None else f"size, {receipt.checksum.split(':')[0]}"
        text = f"PUT of {len(_CONTENT)} bytes and HEAD took {seconds:.2f} s"
        name = self._profile.name
        if receipt.unverified is None:
            return Finding(STORE, about, OK, f"{text}; compared: {compared}", profile=name)
        return Finding(
            STORE,
            about,
            WARNING,
            f"{text}; {receipt.unverified}",
            "flood relies on the store's answer to the upload alone",
            "let this access key read from the bucket",
            name,
        )

    def _removed(self, version: str | None) -> Finding:
        about, name = f"removal from {self._bucket}", self._profile.name
        clients = Clients(self._profile, 1, STEP, ANSWER)
        try:
            self._delete(clients.main, version)
        except Exception as error:  # noqa: BLE001  classify knows every one
            why, meaning, how = classify(error).code, _NEVER_DELETES, "with another key"
            if isinstance(error, SocksProxy):
                why = f"{error.variable} is a SOCKS proxy, which flood-check cannot use"
                meaning, how = "files themselves go through it", "with another program"
            return Finding(
                STORE,
                about,
                WARNING,
                f"{self.left} may still be there ({why})",
                meaning,
                f"delete {self._key} in the bucket {self._bucket} {how}",
                name,
            )
        finally:
            clients.close()
        self.left = None
        return Finding(STORE, about, OK, "the object is gone again", profile=name)

    def _delete(self, client: Any, version: str | None) -> None:
        which = {"Bucket": self._bucket, "Key": self._key}
        if version is None:
            client.delete_object(**which)
            return
        try:
            # Without its number the version would stay, hidden.
            client.delete_object(**which, VersionId=version)
        except Exception as error:
            if classify(error).kind != PERMANENT:
                raise
            client.delete_object(**which)
