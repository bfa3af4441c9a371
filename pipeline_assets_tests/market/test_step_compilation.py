"""The notice before the step is compiled."""

import pytest
from numba.core import event

from pipeline_assets.market import position_step as step
from pipeline_assets.market.step_compilation import before_compilation


@pytest.mark.parametrize(("compiled", "notices"), [(step.run, 1), (step.scaled, 0)])
def test_only_the_whole_step_is_announced(compiled: object, notices: int) -> None:
    """The functions that the step calls are compiled with it, and give no notice of their own."""
    given: list[None] = []
    with (
        before_compilation(lambda: given.append(None)),
        event.trigger_event("numba:compile", data={"dispatcher": compiled}),
    ):
        assert len(given) == notices
    with event.trigger_event("numba:compile", data={"dispatcher": compiled}):
        assert len(given) == notices, "the block has ended"
