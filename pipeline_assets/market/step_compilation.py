"""Whether Numba compiles the step of position_step.py, and a notice before it does. How it is compiled is in
that module.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def before_compilation(notify: Callable[[], None]) -> Iterator[None]:
    """Call a function if the step is about to be compiled within the block.

    Compilation takes about ten seconds. Later processes load its result, which is kept beside the code.
    """
    from numba.core import event

    from pipeline_assets.market.position_step import run

    class Compiles(event.Listener):  # type: ignore[misc]
        def on_start(self, event: event.Event) -> None:
            # The functions that it calls are compiled meanwhile, each with an event of its own.
            if event.data["dispatcher"] is run:
                notify()

        def on_end(self, event: event.Event) -> None:
            pass

    with event.install_listener("numba:compile", Compiles()):
        yield


def without_compilation() -> None:
    """Have this process run the step as plain Python, without Numba. To be called before its first use.

    For processes that do a minute at a time: the result is the same, in about 100 MB less.
    """
    os.environ["NUMBA_DISABLE_JIT"] = "1"
