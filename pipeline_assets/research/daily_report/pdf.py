"""The PDF of a report, by reportlab. Its content is arranged in content.py; styles, fonts and escaping are in
pdf_text.py.
"""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline_assets.research.daily_report.content import Content, Part
from pipeline_assets.research.daily_report.parts import Figure, Source, Table
from pipeline_assets.research.daily_report.pdf_columns import PADDING, column_widths
from pipeline_assets.research.daily_report.pdf_text import PdfText
from pipeline_assets.research.pictures import GREY, LINES

if TYPE_CHECKING:
    from reportlab.platypus import Flowable

_MARGIN = 48
_FRAME = 6
_FIGURES_A_ROW = 3
# A table of more rows is divided between pages.
_ROWS_KEPT = 12
_SHADE = "#f4f6f8"


def pdf_of(content: Content) -> bytes:
    """Return a report as a PDF of A4 pages. The same content gives the same bytes.

    Characters outside the embedded fonts are written as "U+9F98".
    """
    from reportlab.lib.pagesizes import A4
    from reportlab.platypus import SimpleDocTemplate

    body = io.BytesIO()
    document = SimpleDocTemplate(
        body,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=content.title,
        author="pipeline-assets",
        # Without: the time of making and a random identifier.
        invariant=1,
        lang="en",
    )
    text = PdfText()
    # The frame of a page has a margin of its own.
    story = list(_Story(content, text, document.width - 2 * _FRAME).flowables())
    document.build(story, onFirstPage=text.footer, onLaterPages=text.footer)
    return body.getvalue()


class _Story:
    """The report as a sequence of reportlab's flowables."""

    def __init__(self, content: Content, text: PdfText, width: float) -> None:
        self._content, self._text, self._width = content, text, width

    def flowables(self) -> "Iterator[Flowable]":
        """Return everything, in the order of reading."""
        from reportlab.platypus import PageBreak

        content, text = self._content, self._text
        yield text.paragraph(content.title, "title")
        yield text.paragraph(f"{content.span}. Made {content.made_at}. All times are UTC.", "faint")
        for warning in content.warnings:
            yield text.paragraph(f"! {warning}", "warning")
        for part in content.parts:
            line = text.link(part.section.title, f"#{part.section.key}")
            yield text.marked(f"<b>{line}</b>: {text.escaped(part.section.headline)}", "contents")
        for part in content.parts:
            yield from self._section(part)
        if content.sources:
            yield PageBreak()
            yield text.heading("Sources", "sources")
            yield from self._sources()

    def _section(self, part: Part) -> "Iterator[Flowable]":
        from reportlab.platypus import Image, KeepTogether

        section, text = part.section, self._text
        yield text.heading(section.title, section.key)
        yield text.paragraph(section.empty or section.headline, "headline")
        if section.figures:
            yield self._figures(section.figures)
        for chart, drawn in part.charts:
            picture = Image(io.BytesIO(drawn.png))
            # No higher than the rest of a page with its title.
            scale = min(self._width / picture.imageWidth, 620 / picture.imageHeight)
            picture.drawWidth = picture.imageWidth * scale
            picture.drawHeight = picture.imageHeight * scale
            yield KeepTogether(
                [
                    text.paragraph(chart.title, "subheading"),
                    picture,
                    self._note(chart.note, chart.source),
                ]
            )
        for table in section.tables:
            shown = [
                text.paragraph(table.title, "subheading"),
                self._table(table),
                self._note(table.note, table.source),
            ]
            yield from [KeepTogether(shown)] if len(table.rows) <= _ROWS_KEPT else shown

    def _note(self, note: str, source: Source) -> "Flowable":
        text = self._text
        return text.marked(f"{text.escaped(note)} {self._link(source)}".lstrip(), "faint")

    def _link(self, source: Source) -> str:
        number = self._content.numbers[source]
        return self._text.link(f"{source.text} [{number}]", f"#source-{number}")

    def _figures(self, figures: tuple[Figure, ...]) -> "Flowable":
        from reportlab.platypus import Table as Grid

        text = self._text
        cells: list[Any] = [
            [
                text.paragraph(each.label, "faint"),
                text.paragraph(each.value, "value"),
                text.paragraph(each.detail, "faint"),
                text.marked(self._link(each.source), "faint"),
            ]
            for each in figures
        ]
        filled = len(cells)
        cells += [""] * (-filled % _FIGURES_A_ROW)
        rows = [
            cells[start : start + _FIGURES_A_ROW] for start in range(0, len(cells), _FIGURES_A_ROW)
        ]
        grid = Grid(rows, colWidths=[self._width / _FIGURES_A_ROW] * _FIGURES_A_ROW)
        grid.setStyle(
            [
                *(
                    ("BACKGROUND", (column, row), (column, row), _SHADE)
                    for row, column in (divmod(each, _FIGURES_A_ROW) for each in range(filled))
                ),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("INNERGRID", (0, 0), (-1, -1), 4, "#ffffff"),
            ]
        )
        return grid

    def _table(self, table: Table) -> "Flowable":
        from reportlab.platypus import Table as Grid

        text = self._text
        head = [
            text.paragraph(
                f"{each.name}, {each.unit}" if each.unit else each.name, f"head {each.align}"
            )
            for each in table.columns
        ]
        rows = [
            [
                text.paragraph(cell, f"cell {column.align}")
                for cell, column in zip(row, table.columns, strict=True)
            ]
            for row in table.rows
        ]
        grid = Grid(
            [head, *rows], colWidths=column_widths(table, self._width), repeatRows=1, splitInRow=1
        )
        grid.setStyle(
            [
                ("LINEBELOW", (0, 0), (-1, 0), 1, GREY),
                ("LINEBELOW", (0, 1), (-1, -1), 0.5, LINES),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), PADDING),
                ("RIGHTPADDING", (0, 0), (-1, -1), PADDING),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
            ]
        )
        return grid

    def _sources(self) -> "Iterator[Flowable]":
        text = self._text
        for number, entry in enumerate(self._content.sources, 1):
            line = f'<a name="source-{number}"/>[{number}] {text.escaped(entry.text)}'
            if entry.asset:
                named = (
                    text.link(entry.asset, entry.url) if entry.url else text.escaped(entry.asset)
                )
                line += f": asset {named}"
            yield text.marked(line, "contents")
            if entry.query:
                yield text.code(entry.query)
