"""The HTML report of a backtest: one file that fetches nothing. Its content is made in report_view.py;
template, style and script are in report_page/.
"""

import base64
import hashlib

from pipeline_assets.research.backtest_types import BacktestResult, CandleReader
from pipeline_assets.research.page_template import page_file, template
from pipeline_assets.research.report_candles import read_charts
from pipeline_assets.research.report_view import Page, page_of

_LIBRARY = "lightweight_charts/lightweight-charts.standalone.production.js"


def report_of(result: BacktestResult, candles: CandleReader) -> str:
    """Return the report of a result; the same result over the same candles gives the same text.

    Args:
        result: the backtest's result.
        candles: reads the candles of the charts.
    """
    return render(page_of(result, read_charts(result, candles)))


def render(page: Page) -> str:
    """Return a page as HTML.

    Text is escaped by the template. A browser runs only the two scripts of this package: the page's
    content security policy names their digests, and forbids every request.
    """
    from markupsafe import Markup

    library, script = page_file(_LIBRARY), page_file("page.js")
    return template("page.html.j2").render(
        page=page,
        css=Markup(page_file("page.css")),  # noqa: S704 - files of this package
        library=Markup(library),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_sources=Markup(f"{_source(library)} {_source(script)}"),  # noqa: S704
        library_version=page_file("lightweight_charts/VERSION").split()[1],
    )


def _source(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
