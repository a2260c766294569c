"""Asks for the verdict on an exception."""

from workers.classify_rule import SCARCE, SCARCE_ERRNOS, Verdict
from workers.late import late


def judge(error: BaseException) -> Verdict:
    """Return what `workers.classify.classify` says of an error."""
    try:
        with late():
            from workers.classify import classify
    except (OSError, MemoryError) as scarcity:
        if isinstance(scarcity, OSError) and scarcity.errno not in SCARCE_ERRNOS:
            raise
        return Verdict(SCARCE.kind, str(SCARCE.code), f"{SCARCE.what}; {SCARCE.advice}")
    return classify(error)
