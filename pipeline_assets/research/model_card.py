"""The page about a model: what it is worth out of sample, and how sure that is. Pictures are drawn in
model_pictures.py, figures in model_metrics.py; the template is in report_page/.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline_assets.research import model_pictures as pictures
from pipeline_assets.research import report_text as text
from pipeline_assets.research.block_bootstrap import Estimate
from pipeline_assets.research.importance import Importance
from pipeline_assets.research.model_metrics import Figures, Group
from pipeline_assets.research.page_template import page_file, template
from pipeline_assets.research.report_tables import Cell, PageTable, word
from pipeline_assets.research.training_types import ModelCard, TrainingRequest
from pipeline_assets.wording import counted


@dataclass(frozen=True)
class CardContent:
    """All that the page shows.

    Attributes:
        request: what was trained.
        kind: the kind of model that was chosen.
        figures: out of sample.
        metrics: all figures by name.
        failures: why the model does not pass.
        importances: of the input columns.
        outcomes: how many candidates had each outcome.
        found: how many candidates there were before these were thinned.
        used: how many had an outcome.
        span: the first and last open time of these.
        predicted: the first and last open time of the ones predicted out of sample.
        assumptions: what had to be assumed.
        checksum: of the data.
    """

    request: TrainingRequest
    kind: str
    figures: Figures
    metrics: Mapping[str, float]
    failures: Sequence[str]
    importances: Sequence[Importance]
    outcomes: Mapping[str, int]
    found: int
    used: int
    span: tuple[datetime, datetime]
    predicted: tuple[datetime, datetime]
    assumptions: Sequence[str]
    checksum: str


@dataclass(frozen=True)
class _Part:
    """A section of the page: its title, a sentence, a picture as base64 and a table."""

    title: str
    text: str = ""
    picture: str = ""
    table: PageTable | None = None
    long: bool = False


@dataclass(frozen=True)
class _Page:
    """All that the template needs."""

    title: str
    subtitle: str
    verdict: str
    failures: Sequence[str]
    figures: Sequence[tuple[str, str]]
    parts: Sequence[_Part]
    assumptions: Sequence[str]


def model_card(content: CardContent) -> ModelCard:
    """Return the page and its pictures. The same content gives the same bytes."""
    from markupsafe import Markup

    figures = content.figures
    drawn = {
        "calibration": pictures.calibration_picture(figures.buckets),
        "profit by probability": pictures.bucket_picture(figures.buckets),
        "importance": pictures.importance_picture(content.importances),
        "by month": pictures.group_picture(figures.months),
        "by symbol": pictures.group_picture(figures.symbols),
    }
    css = Markup(page_file("page.css"))  # noqa: S704 - a file of this package
    html = template("model.html.j2").render(page=_page(content, drawn), css=css)
    return ModelCard(html.encode(), drawn)


def _page(content: CardContent, drawn: Mapping[str, bytes]) -> _Page:
    strategy = content.request.strategy
    encoded = {name: base64.b64encode(body).decode() for name, body in drawn.items()}
    first, last = map(text.time_text, content.predicted)
    verdict = (
        "The model does not pass, so it cannot be promoted, for these reasons:"
        if content.failures
        else "The model passes: it is better than every baseline after costs, out of sample, and calibrated."
    )
    return _Page(
        title=f"Model of {strategy.name} {strategy.version}",
        subtitle=(
            f"{content.kind.capitalize()}, trained on {content.used:,} candidates of "
            f"{text.time_text(content.span[0])} to "
            f"{text.time_text(content.span[1])} UTC; judged on the {content.metrics['candidates']:,.0f} of "
            f"{first} to {last}, each predicted by a model of earlier candidates"
        ),
        verdict=verdict,
        failures=content.failures,
        figures=_headlines(content.metrics),
        parts=_parts(content, encoded),
        assumptions=content.assumptions or ["Nothing had to be assumed."],
    )


def _headlines(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    traded = metrics["traded"] / metrics["candidates"]
    return [
        ("Net return a trade", _with_interval(metrics, "traded_return")),
        ("Net return a candidate", _with_interval(metrics, "net_return")),
        ("Candidates traded", f"{metrics['traded']:,.0f} ({traded:.0%})"),
        ("Won of these", _percent(metrics.get("traded_win_rate"))),
        ("ROC AUC", f"{metrics.get('roc_auc', float('nan')):.3f}"),
        ("Log loss", f"{metrics['log_loss']:.4f}"),
        ("Probability off by", _percent(metrics["calibration_error"])),
        (
            "Independent spans",
            f"{metrics['blocks']:.0f} of {counted(round(metrics['block_days']), 'day')}",
        ),
        ("Spans with trades", f"{metrics['traded_blocks']:.0f}"),
    ]


def _parts(content: CardContent, encoded: Mapping[str, str]) -> list[_Part]:
    figures = content.figures
    return [
        _Part("Against the baselines", _BASELINES, table=_baselines(content)),
        _Part(
            "Calibration", _CALIBRATION, encoded["calibration"], _groups("bucket", figures.buckets)
        ),
        _Part("Profit by probability", _PROFIT, encoded["profit by probability"]),
        _Part(
            "Importance of the columns",
            _IMPORTANCE,
            encoded["importance"],
            _importance(content),
            True,
        ),
        _Part("By month", _TRADED, encoded["by month"], _groups("month", figures.months)),
        _Part("By symbol", _TRADED, encoded["by symbol"], _groups("symbol", figures.symbols), True),
        _Part("Candidates", _candidates(content), table=_outcomes(content)),
        _Part("All figures", table=_metrics(content), long=True),
    ]


_BASELINES = (
    "Net returns are per candidate, after fees, slippage and funding, in basis points of a trade's notional. "
    "A candidate that is not traded counts 0. The interval holds the true difference nine times in ten; "
    "whole days are drawn with replacement. A model that passes has all four lower limits (from) above 0, "
    "trades often enough, and is calibrated."
)
_CALIBRATION = (
    "Ten equal parts of the candidates by probability. On the diagonal a probability is what it says; bars "
    "are intervals of nine in ten."
)
_PROFIT = (
    "The mean net return of all candidates in a part, traded or not: it should rise to the right."
)
_IMPORTANCE = (
    "How much the log loss grows when a column's values are exchanged between candidates of the last fold, "
    "in three permutations. Columns that say the same share their importance. f15_ and f1h_ stand for "
    "features of 15m and 1h candles, which docs/features.md explains."
)
_TRADED = (
    "Candidates that the model trades; bars are intervals of nine in ten. One good part is luck."
)
_NAMES = {
    "always": "trade every candidate",
    "never": "trade none",
    "buy_and_hold": "hold the symbols for the same hours",
}


def _baselines(content: CardContent) -> PageTable:
    metrics, held = content.metrics, content.figures.baselines
    rows = [
        [
            word(sentence),
            Cell(_points(held[name])),
            Cell(_points(metrics["net_return"])),
            *_interval_cells(metrics, f"edge_{name}", _points),
        ]
        for name, sentence in _NAMES.items()
    ]
    rows.append(
        [
            word("know the share of winners only (log loss)"),
            Cell(f"{held['base_rate']:.5f}"),
            Cell(f"{metrics['log_loss']:.5f}"),
            *_interval_cells(metrics, "edge_base_rate", "{:+.5f}".format),
        ]
    )
    columns = ("baseline", "its figure", "model", "model is better by", "from", "to")
    return PageTable([(name, name == "baseline") for name in columns], rows)


def _interval_cells(
    metrics: Mapping[str, float], name: str, write: Callable[[float], str]
) -> list[Cell]:
    low = metrics[f"{name}_low"]
    kind = "gain" if low > 0 else "loss"
    return [
        Cell(write(metrics[name])),
        Cell(write(low), kind),
        Cell(write(metrics[f"{name}_high"])),
    ]


def _groups(named: str, groups: Sequence[Group]) -> PageTable:
    rows = [
        [
            word(each.name),
            Cell(text.whole(each.candidates)),
            Cell(f"{each.probability:.3f}"),
            *_estimate(each.win_rate, "{:.1%}".format),
            *_estimate(each.net_return, _points),
            Cell(text.whole(each.traded)),
            *_estimate(each.traded_return, _points),
        ]
        for each in groups
    ]
    columns = [
        *(named, "candidates", "probability", "won", "interval"),
        *("net return", "interval", "traded", "net return a trade", "interval"),
    ]
    return PageTable([(name, name == named) for name in columns], rows)


def _estimate(estimate: Estimate, write: Callable[[float], str]) -> list[Cell]:
    if estimate.mean != estimate.mean:
        return [Cell(text.NOTHING), Cell(text.NOTHING)]
    return [Cell(write(estimate.mean)), Cell(f"{write(estimate.low)} to {write(estimate.high)}")]


def _importance(content: CardContent) -> PageTable:
    rows = [
        [word(each.column), *(Cell(f"{value:+.5f}") for value in (each.mean, each.low, each.high))]
        for each in content.importances
    ]
    columns = ("column", "growth of the log loss", "smallest", "largest")
    return PageTable([(name, name == "column") for name in columns], rows)


def _candidates(content: CardContent) -> str:
    request = content.request
    return (
        f"The strategy found {content.found:,} candidates in {len(set(request.symbols)):,} symbols; at most "
        f"{request.most_candidates:,} are used, chosen by their ids. A candidate without a trade, or with "
        f"one that had not ended, has no outcome. Data checksum (SHA-256): {content.checksum}."
    )


def _outcomes(content: CardContent) -> PageTable:
    counted = sorted(content.outcomes.items(), key=lambda each: (-each[1], each[0]))
    rows = [[word(name.replace("_", " ")), Cell(text.whole(number))] for name, number in counted]
    return PageTable([("outcome", True), ("candidates", False)], rows)


def _metrics(content: CardContent) -> PageTable:
    rows = [[word(name), Cell(f"{value:,.6g}")] for name, value in sorted(content.metrics.items())]
    return PageTable([("figure", True), ("value", False)], rows)


def _with_interval(metrics: Mapping[str, float], name: str) -> str:
    if name not in metrics:
        return text.NOTHING
    low, high = _points(metrics[f"{name}_low"]), _points(metrics[f"{name}_high"])
    return f"{_points(metrics[name])} bp ({low} to {high})"


def _points(value: float) -> str:
    return f"{value * 1e4:+.2f}"


def _percent(value: float | None) -> str:
    return text.NOTHING if value is None else f"{value:.1%}"
