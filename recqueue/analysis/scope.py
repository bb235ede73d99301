"""What the formulas know, and one line for what they do not."""

from __future__ import annotations

from recqueue.errors import InputError
from recqueue.serving.scenario import Scenario


def check_dispatch(scenario: Scenario) -> None:
    """Refuse private queues.

    Raises
    ------
    InputError
        When sub-requests do not wait in one central queue.
    """
    dispatch = scenario.system.dispatch
    if dispatch != "central":
        raise InputError(
            f"server.dispatch {dispatch!r}: the formulas know one central queue only; use recqueue simulate, or "
            "'dispatch: central'"
        )
