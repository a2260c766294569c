"""Runs one of flood's programs with a defect planted in it, to see whether a trial finds it."""

import runpy
import sys
from collections.abc import Callable
from typing import Any, Final


def _no_fence() -> None:
    """A settlement that does not ask whether its claim still stands."""
    from flood import claims, records

    fenceless = "id = ? AND ? IS NOT NULL AND ? IS NOT NULL"
    _replace(claims, MINE=fenceless, STANDING="id = record", still_mine=list)
    _replace(records, MINE=fenceless)


def _no_sweep() -> None:
    """A sweep that never runs."""
    from flood import queries

    _replace(queries, sweep_begins=lambda *_arguments: False)


def _commit_first() -> None:
    """An admission that commits before it renames."""
    from flood import models
    from flood.intake import Intake
    from flood.record_values import Arrival
    from flood.states import PROCESSING

    def transaction(intake: Any, ready: Any, result: Any, _starting: bool) -> None:
        now = intake._now()
        arrivals = []
        for _, place, _ in ready:
            identity = intake._spool.identify(place.path)
            if identity is not None:
                target = place.moved(PROCESSING)
                name = (target.profile, target.bucket, target.key, target.path)
                arrivals.append(Arrival(*name, identity, now))
        with models.write():
            intake._record(arrivals, {}, {})
        for candidate, place, _ in ready:
            intake._move(candidate, place, None, result)
        result.admitted += len(arrivals)

    _replace(Intake, _transaction=transaction)


def _name_alone() -> None:
    """Recognition by name alone: whatever lies at a path is the file that its row is about."""
    from flood.identity import Identity

    class Same(tuple[int, ...]):
        """Equal to anything."""

        def __eq__(self, _other: object) -> bool:
            return True

        def __ne__(self, _other: object) -> bool:
            return False

        def __hash__(self) -> int:
            return 0

    def part(identity: Any, at: Any) -> Any:
        found = tuple.__getitem__(identity, at)
        return Same(found) if isinstance(at, slice) else found

    _replace(
        Identity,
        __eq__=Same.__eq__,
        __ne__=Same.__ne__,
        __hash__=Same.__hash__,
        __getitem__=part,
    )


def _gives_up() -> None:
    """Whatever passes is taken for what stays: nothing is tried again."""
    from dataclasses import replace

    from flood.states import PERMANENT, TRANSIENT
    from workers import classify

    known = classify.classify

    def judge(error: BaseException) -> classify.Verdict:
        verdict = known(error)
        return replace(verdict, kind=PERMANENT) if verdict.kind == TRANSIENT else verdict

    _replace(classify, classify=judge)


def _prunes_unproven() -> None:
    """Retention that deletes what has no receipt: whatever lies in failed."""
    from flood.retention import Retention
    from flood.states import FAILED

    limited = Retention._horizon

    def horizon(retention: Any, state: str) -> Any:
        retention._keep[FAILED] = 0.0
        return limited(retention, state)

    _replace(Retention, _horizon=horizon)


def _replace(owner: Any, **members: Any) -> None:
    for name, member in members.items():
        setattr(owner, name, member)


#: The defects by name.
DEFECTS: Final[dict[str, Callable[[], None]]] = {
    "no-fence": _no_fence,
    "no-sweep": _no_sweep,
    "commit-first": _commit_first,
    "name-alone": _name_alone,
    "gives-up": _gives_up,
    "prunes-unproven": _prunes_unproven,
}


def main() -> None:
    """Plant the defect, then run the module with the arguments that follow."""
    defect, module, *arguments = sys.argv[1:]
    DEFECTS[defect]()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
