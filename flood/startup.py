"""What every process of flood does with its settings as it starts."""

from collections.abc import Mapping
from logging import INFO, WARNING, getLogger

from flood import config, credentials, log
from flood.config import Settings
from flood.credentials import Credentials

logger = getLogger(__name__)


def announce(settings: Settings) -> None:
    """Log each setting's value, with where it came from."""
    for name, value, origin in config.describe(settings):
        log.event(logger, INFO, "setting", name=name, value=value, origin=origin)


def read_credentials(settings: Settings, environ: Mapping[str, str]) -> Credentials:
    """Find and read the credentials file, and log which one was taken; raises CredentialsError."""
    found = credentials.load(settings.credentials, settings.credentials_first, environ)
    for warning in found.warnings:
        log.event(logger, WARNING, "credentials", warning=warning)
    log.event(
        logger,
        INFO,
        "credentials",
        file=found.path,
        why=found.why,
        profiles=",".join(sorted(found.profiles)),
    )
    return found
