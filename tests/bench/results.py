"""What came out of several rounds, in numbers."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from tests.bench.measure import Figures, IdleFigures
from tests.bench.workloads import MIB, Workload


class Spread(NamedTuple):
    """The median of some rounds, with the least and the most."""

    median: float
    least: float
    most: float


@dataclass
class Series:
    """The rounds of one contestant on one workload; `problems` are those that came to nothing."""

    runs: list[Figures] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def spread(self, value: Callable[[Figures], float | None]) -> Spread | None:
        """Return how a value of the figures is spread, None if there is none."""
        values = [found for run in self.runs if (found := value(run)) is not None]
        return Spread(statistics.median(values), min(values), max(values)) if values else None


@dataclass
class Result:
    """All of one workload; `skipped` says why it was not run."""

    workload: Workload
    series: dict[str, Series] = field(default_factory=dict)
    idle: list[IdleFigures] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: str | None = None

    def failed(self) -> bool:
        """Whether anything came to nothing."""
        return bool(self.problems) or any(one.problems for one in self.series.values())

    def ratio(self, name: str) -> float | None:
        """Return how many times as fast as a contestant the first one is, a flood."""
        flood, other = self._median(next(iter(self.series))), self._median(name)
        return other / flood if flood and other else None

    def _median(self, name: str) -> float | None:
        spread = self.series[name].spread(lambda run: run.seconds) if name in self.series else None
        return spread.median if spread else None

    def values(self) -> dict[str, Callable[[Figures], float | None]]:
        """Return the columns, each with what it is computed by."""
        count, mib = self.workload.count, self.workload.bytes / MIB
        return {
            "files/s": lambda run: count / run.seconds,
            "MiB/s": lambda run: mib / run.seconds,
            "CPU ms/file": lambda run: 1000 * run.cpu / count,
            "peak MiB": lambda run: run.pss / MIB,
            "opened": lambda run: run.connections,
            "store %": lambda run: round(100 * run.store_cpu / run.seconds),
        }

    def data(self) -> dict[str, Any]:
        """Return it as what JSON can hold; times are in seconds, memory in bytes."""
        return {
            "workload": asdict(self.workload),
            "skipped": self.skipped,
            "problems": self.problems,
            "contestants": {
                name: {
                    "medians": {
                        column: spread and spread._asdict()
                        for column, value in self.values().items()
                        for spread in [series.spread(value)]
                    },
                    "flood_is_times_as_fast": self.ratio(name),
                    "runs": [asdict(run) for run in series.runs],
                    "problems": series.problems,
                }
                for name, series in self.series.items()
            },
            "idle": [asdict(figures) for figures in self.idle],
        }
