"""The HTML report of a backtest: one file that fetches nothing. Its content is made in report_view.py;
template, style and script are in report_page/.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from pipeline_assets.errors import InternalError
from pipeline_assets.research.backtest_types import BacktestResult, CandleReader
from pipeline_assets.research.report_candles import read_charts
from pipeline_assets.research.report_view import Page, page_of

_FOLDER = files("pipeline_assets.research") / "report_page"
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
    import jinja2
    from markupsafe import Markup

    library, script = _text(_LIBRARY), _text("page.js")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {
        "sort_keys": True,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    return environment.from_string(_text("page.html.j2")).render(
        page=page,
        css=Markup(_text("page.css")),  # noqa: S704 - files of this package
        library=Markup(library),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_sources=Markup(f"{_source(library)} {_source(script)}"),  # noqa: S704
        library_version=_text("lightweight_charts/VERSION").split()[1],
    )


@cache
def _text(name: str) -> str:
    found = _FOLDER.joinpath(*name.split("/")).read_text(encoding="utf-8")
    if "</script" in found.lower() and name.endswith(".js"):
        raise InternalError(f"{name} would end its own script element. Take another build of it.")
    return found


def _source(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
