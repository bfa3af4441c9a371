"""The widths of a PDF table's columns, by the texts in these. The table itself is made in pdf.py."""

from pipeline_assets.research.daily_report.parts import Table
from pipeline_assets.research.daily_report.pdf_text import text_width

# Beside a text: the padding of a cell on both sides, and what rounding takes.
PADDING = 3
_BESIDE = 2 * PADDING + 1
# A longer word is broken, such as a name of hundreds of letters.
_LONGEST_WORD = 0.3


def column_widths(table: Table, width: float) -> list[float]:
    """Return the columns' widths, which together are the table's.

    No word is broken, and no number is separated from its unit, while there is room for all of these. Columns
    whose texts have several words share the rest by what these still need; all columns share what is left.
    """
    least, whole = [], []
    for place, column in enumerate(table.columns):
        head = f"{column.name}, {column.unit}" if column.unit else column.name
        cells = [row[place] for row in table.rows]
        kept = (
            cells if column.align == "right" else [word for each in cells for word in each.split()]
        )
        words = [*(text_width(each, bold=True) for each in head.split()), *map(text_width, kept)]
        lines = [text_width(head, bold=True), *map(text_width, cells)]
        least.append(min(max(words, default=0.0), _LONGEST_WORD * width) + _BESIDE)
        whole.append(max(max(lines) + _BESIDE, least[-1]))
    room = width - sum(least)
    if room <= 0:
        return [each * width / sum(least) for each in least]
    wanted = [many - few for many, few in zip(whole, least, strict=True)]
    share = min(1.0, room / sum(wanted)) if sum(wanted) else 0.0
    rest = (room - share * sum(wanted)) / len(least)
    return [few + share * more + rest for few, more in zip(least, wanted, strict=True)]
