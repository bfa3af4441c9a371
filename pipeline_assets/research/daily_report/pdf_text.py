"""Texts of a PDF: styles, embedded fonts, escaping and links. The order of a report's parts is in pdf.py."""

import re
from functools import cache
from importlib.resources import as_file
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from pipeline_assets.research.daily_report.chart_looks import INK, fallback_font
from pipeline_assets.research.pictures import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Flowable

CELL = 7.5
_TEXT, _BOLD, _FALLBACK = "DejaVuSans", "DejaVuSans-Bold", "DroidSansFallback"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@cache
def _load_fonts() -> tuple[frozenset[int], frozenset[int]]:
    """Register the fonts, once a process; return the characters of the text's and of the fallback's."""
    import matplotlib as mpl
    from reportlab.pdfbase.pdfmetrics import registerFont, registerFontFamily
    from reportlab.pdfbase.ttfonts import TTFont

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    text = TTFont(_TEXT, str(folder / f"{_TEXT}.ttf"))
    bold = TTFont(_BOLD, str(folder / f"{_BOLD}.ttf"))
    with as_file(fallback_font()) as path:
        fallback = TTFont(_FALLBACK, str(path))
    for font in (text, bold, fallback):
        registerFont(font)
    registerFontFamily(_TEXT, normal=_TEXT, bold=_BOLD, italic=_TEXT, boldItalic=_BOLD)
    return frozenset(text.face.charToGlyph), frozenset(fallback.face.charToGlyph)


@cache
def _styles() -> "dict[str, ParagraphStyle]":
    from reportlab.lib.enums import TA_RIGHT
    from reportlab.lib.styles import ParagraphStyle

    def style(name: str, size: float, colour: str = INK, **more: Any) -> ParagraphStyle:
        base = {"fontName": _TEXT, "fontSize": size, "leading": size * 1.35, "textColor": colour}
        # Chinese has no spaces at which a line could end.
        return ParagraphStyle(name, **(base | {"splitLongWords": 1} | more))

    found = [
        style("title", 18, fontName=_BOLD, spaceAfter=4),
        style("heading", 14, fontName=_BOLD, spaceBefore=20, spaceAfter=4, keepWithNext=1),
        style("subheading", 10, fontName=_BOLD, spaceBefore=10, spaceAfter=3, keepWithNext=1),
        style("headline", 11, spaceAfter=6, keepWithNext=1),
        style("contents", 9.5, spaceBefore=3),
        style("warning", 9.5, ORANGE, spaceBefore=4),
        style("faint", 7.5, GREY, spaceAfter=3),
        style("value", 13),
    ]
    for kind, font in (("head", _BOLD), ("cell", _TEXT)):
        found.append(style(f"{kind} left", CELL, fontName=font))
        found.append(style(f"{kind} right", CELL, fontName=font, alignment=TA_RIGHT))
    found.append(
        style(
            "code",
            7,
            backColor="#f4f6f8",
            borderPadding=4,
            spaceBefore=7,
            spaceAfter=8,
            leftIndent=6,
        )
    )
    return {each.name: each for each in found}


def text_width(text: str, *, bold: bool = False) -> float:
    """Return the width of a line of a table's cell, in points."""
    from reportlab.pdfbase.pdfmetrics import stringWidth

    known, fallback = _load_fonts()
    own = "".join(each for each in text if ord(each) in known)
    others = [ord(each) in fallback for each in text if ord(each) not in known]
    # A Chinese character is as wide as high; one in no font is written as its number.
    beside = sum(CELL if each else 6 * CELL * 0.65 for each in others)
    return float(stringWidth(own, _BOLD if bold else _TEXT, CELL)) + beside


class PdfText:
    """Makes paragraphs of plain text, which is escaped, and of marked text, which is not."""

    def __init__(self) -> None:
        self._text, self._fallback = _load_fonts()

    def escaped(self, text: str) -> str:
        """Return plain text as reportlab's markup, each character in a font that has it."""
        pieces: list[str] = []
        for run in re.findall(r"[\x20-\x7e]+|[^\x20-\x7e]", _CONTROL.sub("�", text)):
            if run.isspace() or all(ord(each) in self._text for each in run):
                pieces.append(escape(run))
            elif ord(run) in self._fallback:
                pieces.append(f'<font name="{_FALLBACK}">{run}</font>')
            else:
                pieces.append(f"U+{ord(run):04X}")
        return "".join(pieces)

    def link(self, text: str, address: str) -> str:
        """Return a link as markup; an address with "#" leads within the document."""
        return f'<a href={quoteattr(address)} color="{BLUE}">{self.escaped(text)}</a>'

    def paragraph(self, text: str, style: str) -> "Flowable":
        """Return plain text as a paragraph."""
        return self.marked(self.escaped(text), style)

    def marked(self, markup: str, style: str) -> "Flowable":
        """Return markup as a paragraph; text in it is escaped already."""
        from reportlab.platypus import Paragraph

        return Paragraph(markup, _styles()[style])

    def heading(self, text: str, key: str) -> "Flowable":
        """Return a heading that links lead to."""
        return self.marked(f"<a name={quoteattr(key)}/>{self.escaped(text)}", "heading")

    def code(self, text: str) -> "Flowable":
        """Return text with its line breaks and indents."""
        lines = (line.rstrip() for line in text.strip("\n").splitlines())
        kept = (re.sub(r"^ +", lambda found: "\u00a0" * len(found[0]), line) for line in lines)
        return self.marked("<br/>".join(map(self.escaped, kept)), "code")

    def footer(self, canvas: Any, document: Any) -> None:
        """Write the number of a page, and the report's name."""
        canvas.setFont(_TEXT, 7.5)
        canvas.setFillColor(GREY)
        canvas.drawString(document.leftMargin, 24, document.title)
        right = document.pagesize[0] - document.rightMargin
        canvas.drawRightString(right, 24, str(document.page))
