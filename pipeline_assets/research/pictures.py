"""The common look of pictures: colours, lines and the PNG. Each picture has a module of its own."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of Okabe and Ito, as on the reports' pages: distinct without colour vision.
BLUE, ORANGE, GREY = "#0072b2", "#b34700", "#5b6570"
LINES = "#d5dae0"


def figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches."""
    # A figure of its own needs no display and shares no state, as pyplot's do.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def plain(axes: "Axes") -> None:
    """Give axes the common look."""
    axes.grid(visible=True, color=LINES, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def png(drawn: "Figure", dots: int = 100) -> bytes:
    """Return a figure as a PNG of so many dots an inch. The same figure gives the same bytes."""
    body = io.BytesIO()
    # The version of matplotlib in the file would change its bytes.
    drawn.savefig(body, format="png", dpi=dots, metadata={"Software": None})
    return body.getvalue()
