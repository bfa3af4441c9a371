"""The page of a report: one HTML file that fetches nothing and runs no script. Its content is arranged in
content.py; template and style are in report_page/.
"""

from dataclasses import replace

from pipeline_assets.research.daily_report.charts import DrawnChart
from pipeline_assets.research.daily_report.content import Content, Part
from pipeline_assets.research.daily_report.parts import Chart
from pipeline_assets.research.page_template import page_file, template


def page_of(content: Content) -> str:
    """Return a report as HTML. The template escapes all text; the same content gives the same text."""
    from markupsafe import Markup

    parts = tuple(replace(part, charts=_safe(part)) for part in content.parts)
    return template("daily.html.j2").render(
        page=replace(content, parts=parts),
        css=Markup(page_file("daily.css")),  # noqa: S704 - a file of this package
    )


def _safe(part: Part) -> tuple[tuple[Chart, DrawnChart], ...]:
    """Return the charts with their SVG as markup: matplotlib has escaped the text in these."""
    from markupsafe import Markup

    return tuple(
        (chart, DrawnChart(Markup(drawn.wide), Markup(drawn.narrow), drawn.png))  # noqa: S704
        for chart, drawn in part.charts
    )
