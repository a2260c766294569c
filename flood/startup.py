"""What every process of flood does with its settings as it starts."""

from collections.abc import Iterable, Mapping
from logging import INFO, WARNING, getLogger

from flood import config, credentials, exposure, log, syscalls
from flood.config import Settings
from flood.credentials import Credentials

logger = getLogger(__name__)


def announce(settings: Settings, environ: Mapping[str, str]) -> None:
    """Log each setting's value, with where it came from; warn of variables that set nothing."""
    for name, value, origin in config.describe(settings):
        log.event(logger, INFO, "setting", name=name, value=value, origin=origin)
    for name, advice in config.unknown_variables(environ):
        log.event(logger, WARNING, "unknown setting", name=name, advice=advice)


def read_credentials(settings: Settings, environ: Mapping[str, str]) -> Credentials:
    """Find and read the credentials file, and log which one was taken; raises CredentialsError."""
    found = credentials.load(settings.credentials, settings.credentials_first, environ)
    warn_of_credentials(found.warnings)
    log.event(
        logger,
        INFO,
        "credentials",
        file=found.path,
        why=found.why,
        profiles=",".join(sorted(found.profiles)),
    )
    return found


def warn_of_credentials(warnings: Iterable[str]) -> None:
    """Log what is odd about the credentials file."""
    for warning in warnings:
        log.event(logger, WARNING, "credentials", warning=warning)


def warn(settings: Settings) -> None:
    """Say what other users of this machine may do to the spool; call it once it is set up."""
    for each in exposure.of_spool(settings.server_directory, settings.database):
        log.event(logger, WARNING, "exposed", reason=each.line)
    if not syscalls.hard_links_guarded():
        log.event(
            logger,
            WARNING,
            "exposed",
            reason="this kernel lets every user make hard links to files of others: files with "
            "another name are left in incoming; run sysctl fs.protected_hardlinks=1",
        )
