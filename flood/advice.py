"""What a person runs next, as it has to be typed here."""

from dataclasses import dataclass

from flood import config
from flood.config import Settings
from flood.put_locks import start_consumers


@dataclass(frozen=True)
class Advice:
    """Commands to be copied, which find what the command found that prints them, by its `settings`.
    `database` is the spool's own: flood-watch and consumers have to be told of it, where no setting
    leads to it; the others find it by themselves."""

    settings: Settings
    database: str

    def start(self) -> str:
        """What starts everything."""
        return config.command(self._whole, "flood-watch", "--consumers", "2")

    def watch(self) -> str:
        """What starts flood-watch where consumers run by themselves."""
        return config.command(self._whole, "flood-watch")

    def once(self) -> str:
        """What takes in what is there, where no flood-watch runs."""
        return config.command(self._whole, "flood-watch", "--once")

    def consumers(self) -> str:
        """What starts consumers where flood-watch runs."""
        return start_consumers(self._whole)

    def retry(self, *words: str) -> str:
        """What puts failed files back."""
        return config.command(self.settings, "flood-retry", *words)

    def repair(self) -> str:
        """What makes records for files that have none."""
        return config.command(self.settings, "flood-fsck", "--repair")

    def check(self) -> str:
        """What tells, for one, whether the credentials have the profiles that files wait for."""
        return config.command(self.settings, "flood-check")

    @property
    def _whole(self) -> Settings:
        return config.with_database(self.settings, self.database)
