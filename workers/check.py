"""One run of flood-check: this machine with all stores, side by side."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from flood import (
    check_database,
    check_directories,
    check_notify,
    check_profiles,
    check_spool,
    check_work,
    inotify_limits,
    installing,
    models,
)
from flood.check_findings import ERROR, SETTINGS, SPOOL, STORE, WARNING, Finding
from flood.config import Settings, command, with_database
from flood.profiles import Profile
from flood.spool import Spool
from flood.states import INCOMING
from workers.lanes import Lanes
from workers.probe import Probe, blame_clock
from workers.probe_upload import ProbeUpload
from workers.uploaders import speaks_socks, without_libcurl

#: How long all stores together have, in seconds; each step has less.
PATIENCE: Final = 30.0

#: How long the removal of an object may take after that, or after the stop, in seconds.
GRACE: Final = 20.0

_TICK: Final = 0.1
_LANES: Final = 64

Tell = Callable[[Finding], None]


@dataclass
class _Look:
    """One of the things that are done side by side; `profile` is None for this machine."""

    profile: str | None
    call: Callable[[Tell], None]
    upload: ProbeUpload | None = None
    found: list[Finding] = field(default_factory=list)
    done: bool = False

    def run(self) -> None:
        self.call(self.found.append)

    def leaves_something(self) -> bool:
        return self.upload is not None and self.upload.left is not None


class Check:
    """Looks at everything. `probes` are the buckets to upload to, by their profile's name; `now`
    answers aware times, `clock` monotonic seconds."""

    def __init__(
        self,
        settings: Settings,
        profiles: Mapping[str, Profile],
        probes: Mapping[str, list[str]],
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        stopping: Callable[[], bool],
    ) -> None:
        #: Objects of an upload that may still be in the store, once `run` has returned.
        self.left: list[str] = []
        self._settings = settings
        self._profiles = profiles
        self._spool = Spool(settings.server_directory)
        self._now = now
        self._clock = clock
        self._stopping = stopping
        self._late = False
        self._looks: list[_Look] = []
        for name, profile in profiles.items():
            self._looks.append(_Look(name, partial(self._ask, profile)))
            for bucket in probes.get(name, ()):
                upload = ProbeUpload(profile, bucket, settings, clock=clock, stopping=self._over)
                self._looks.append(_Look(name, upload.run, upload))
        self._looks.append(_Look(None, self._look_here))

    def run(self) -> list[Finding]:
        """Return what was found, store by store, then this machine; on a stop, what was by then."""
        *_, here = self._looks
        with Lanes[_Look, None](min(_LANES, len(self._looks)), "flood-check") as lanes:
            # There may be more stores than lanes.
            for look in (here, *self._looks[:-1]):
                lanes.start(look, look.run)
            failure = self._wait(lanes)
        self.left = [each.upload.left for each in self._looks if each.upload and each.upload.left]
        if failure is not None:
            raise failure
        return blame_clock([finding for look in self._looks for finding in list(look.found)])

    def _wait(self, lanes: Lanes[_Look, None]) -> BaseException | None:
        """Wait for all of them; return what broke one, as the others are worth their while."""
        begun = self._clock()
        stopped: float | None = None
        failure: BaseException | None = None
        while waiting := [look for look in self._looks if not look.done]:
            finished = lanes.next(_TICK)
            if finished is not None:
                finished[0].done = True
                failure = failure or finished[1]
            now = self._clock()
            self._late = now - begun > PATIENCE
            if self._stopping():
                stopped = now if stopped is None else stopped
                if now - stopped > GRACE or not any(look.leaves_something() for look in waiting):
                    return failure
            elif self._late:
                patient = now - begun <= PATIENCE + GRACE
                for look in waiting:
                    if look.profile is not None and not (patient and look.leaves_something()):
                        look.done = True
                        look.found.append(_silent(look.profile))
        return failure

    def _over(self) -> bool:
        return self._late or self._stopping()

    def _ask(self, profile: Profile, tell: Tell) -> None:
        probe = Probe(
            profile,
            self._spool.subdirectories(f"{INCOMING}/{profile.name}"),
            now=self._now,
            clock=self._clock,
            stopping=self._over,
            again=partial(command, self._settings, "flood-check"),
            remains=partial(check_directories.remains, self._spool, profile.name),
            socks=speaks_socks(self._settings.transfer),
        )
        for finding in probe.ask():
            tell(finding)

    def _look_here(self, tell: Tell) -> None:
        for finding in _library(self._settings.transfer):
            tell(finding)
        try:
            ready = True
            watches = inotify_limits.limit(inotify_limits.WATCHES)
            for finding in check_spool.look(self._spool, self._settings, watches):
                tell(finding)
                ready = ready and (finding.about, finding.status) != (check_directories.ROOT, ERROR)
            if ready:
                self._look_at_records(tell)
        except OSError as error:
            remedy = f"look at {error.filename or self._spool.root} and its disk"
            told = error.strerror or str(error)
            tell(
                Finding(
                    SPOOL, check_directories.ROOT, ERROR, told, "the spool cannot be used", remedy
                )
            )
        finally:
            models.close()
        for finding in check_notify.look(self._spool, self._settings):
            tell(finding)

    def _look_at_records(self, tell: Tell) -> None:
        now = self._now()
        database, found = check_database.look(self._spool, self._settings, now)
        known = database or self._settings.database
        for finding in check_spool.exposed(self._spool.root, known):
            tell(finding)
        for finding in found:
            tell(finding)
        whose = self._settings if database is None else with_database(self._settings, database)
        for finding in check_work.look(self._spool, whose, now, readable=database is not None):
            tell(finding)
        # Credentials that cannot be read have no profile, and nothing is known of those they have.
        if self._profiles:
            names = self._profiles.keys()
            readable = database is not None
            for finding in check_profiles.look(self._spool, whose, names, readable=readable):
                tell(finding)


def _library(transfer: str) -> Iterator[Finding]:
    why_not = without_libcurl(transfer)
    if why_not is not None:
        yield Finding(
            SETTINGS,
            "transfer",
            WARNING,
            f"libcurl cannot be used ({why_not})",
            "boto3 sends the files: small ones take many times as long",
            # What is built on this machine has its own libcurl, however old.
            installing.command("--force-reinstall", "--only-binary", "pycurl", "pycurl"),
        )


def _silent(profile: str) -> Finding:
    return Finding(
        STORE,
        "answers",
        ERROR,
        f"not everything was answered within {PATIENCE:.0f} seconds",
        "files for this profile wait in processing, and are tried again for hours",
        "look at the network, then run flood-check again",
        profile,
    )
