"""Colours, fonts and files of a report's charts: the SVG of the page, which follows the reader's light or
dark theme, and the PNG of the PDF and the alert. The content of a chart is drawn in charts.py.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from pipeline_assets.research.pictures import BLUE, GREY, LINES, ORANGE, png

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from matplotlib.figure import Figure

INK, PAPER = "#1b1f24", "#ffffff"
GREEN, PURPLE, SKY = "#007a5a", "#a3497c", "#3a9bd9"
# By the name of the page's variable, which has another value on a dark screen.
_VARIABLES = {
    INK: "--ink",
    PAPER: "--paper",
    GREY: "--faint",
    LINES: "--line",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    PURPLE: "--purple",
    SKY: "--sky",
}
# For lines side by side, distinct without colour vision; labels name these as well.
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, GREY)
FONTS = ("DejaVu Sans", "Droid Sans Fallback")
_PNG_DPI = 170


@cache
def _load_fallback() -> None:
    """Let matplotlib know the font of Chinese names, once a process."""
    from matplotlib import font_manager

    with as_file(fallback_font()) as path:
        font_manager.fontManager.addfont(str(path))


def fallback_font() -> "Traversable":
    """Return the file of the font for characters that DejaVu Sans does not have."""
    return files("pipeline_assets.research") / "report_page" / "fonts" / "DroidSansFallback.ttf"


@contextmanager
def house_style(salt: str) -> Iterator[None]:
    """Draw in the common look within the block.

    Args:
        salt: makes the identifiers of an SVG differ from those of the page's other ones.
    """
    import matplotlib as mpl

    _load_fallback()
    style: Any = {
        "font.family": list(FONTS),
        "font.size": 9,
        # A dollar sign in a strategy's name would start a formula.
        "text.parse_math": False,
        "axes.unicode_minus": True,
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.color": INK,
        "axes.edgecolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "timezone": "UTC",
    }
    with mpl.rc_context(style):
        yield


def svg_of(drawn: "Figure", label: str) -> str:
    """Return a figure as an element of a page. The same figure gives the same text.

    Args:
        drawn: the figure.
        label: what a screen reader says; a text without markup.
    """
    from markupsafe import escape

    body = io.StringIO()
    # Date and program would change the text.
    drawn.savefig(
        body,
        format="svg",
        transparent=True,
        metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
    )
    text = body.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', text)
    shape = box.group(1) if box else "0 0 100 100"
    opening = f'<svg viewBox="{shape}" role="img" aria-label="{escape(label)}">'
    text = opening + text[text.index(">") + 1 :]
    # Elements are numbered in each figure alike, and identifiers of a page have to differ.
    used = set(re.findall(r"#(\w+)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = text.replace("'DejaVu Sans', 'Droid Sans Fallback'", "system-ui, sans-serif")
    for colour, variable in _VARIABLES.items():
        text = text.replace(f": {colour}", f": var({variable})")
    return re.sub(r"\n\s*", "\n", text)


def png_of(drawn: "Figure") -> bytes:
    """Return a figure as a PNG, fine enough for print."""
    return png(drawn, _PNG_DPI)
