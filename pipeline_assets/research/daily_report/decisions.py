"""The section about decisions: what was accepted, why others were declined or not sent, and the calibration
of the models that decided.
"""

from typing import TYPE_CHECKING

from pipeline_assets.research.daily_report import formats
from pipeline_assets.research.daily_report.composing import (
    bars,
    empty_section,
    most_frequent,
    section_of,
)
from pipeline_assets.research.daily_report.intervals import wilson
from pipeline_assets.research.daily_report.parts import Chart, Edition, Figure, Section, Table
from pipeline_assets.research.daily_report.readers import Answered, Readers, ask, nothing, reason
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    import polars as pl

_SECTION = "decisions", "Decisions"
_PROBABILITY = (
    "The probability is that of a trade which earns money after costs; the outcome is the direction after "
    "one hour, before costs, of all candidates that a model judged."
)
# With ten tenths that are right, chance alone puts three outside their intervals once in a hundred days.
_WRONG_TENTHS = 3


def decisions_section(readers: Readers, edition: Edition) -> Section:
    """Return how candidates of an edition were decided.

    Raises:
        WarehouseError: unreachable, or refused; see its message.
    """
    found = ask(readers, edition, "decisions", "decisions in the warehouse")
    if found.frame.is_empty():
        return empty_section(
            _SECTION,
            "There are no decisions.",
            reason(found, "view of decisions", "No candidate of this span was decided."),
        )
    judged = ask(readers, edition, "calibration", "decisions and outcomes in the warehouse")
    charts = [_reasons_chart(found), _calibration_chart(judged)]
    tables = [_actions(found), _reasons(found), _calibration(judged)]
    return section_of(_SECTION, _headline(found.frame), _figures(found, judged), charts, tables)


def _sum(frame: "pl.DataFrame", **values: str) -> int:
    return int(frame.filter(**values)["decisions"].sum())


def _by(frame: "pl.DataFrame", *names: str) -> "pl.DataFrame":
    """Count decisions by some columns, the most frequent first."""
    import polars as pl

    found = frame.group_by(names).agg(pl.col("decisions").sum())
    return found.sort("decisions", *names, descending=[True, *(False for _ in names)])


def _headline(frame: "pl.DataFrame") -> str:
    total, accepted = int(frame["decisions"].sum()), _sum(frame, verdict="accept")
    text = f"{accepted:,} of {counted(total, 'decision')} accepted the candidate"
    declined = _by(frame.filter(verdict="decline"), "decline_reason")
    if declined.is_empty():
        return f"{text}."
    why, number = declined.row(0)
    return f"{text}; {number:,} {'was' if number == 1 else 'were'} declined for {why}."


def _figures(found: Answered, judged: Answered) -> tuple[Figure, ...]:
    frame, source = found.frame, found.source
    total, accepted = int(frame["decisions"].sum()), _sum(frame, verdict="accept")
    sent, skipped = _sum(frame, outcome="sent"), _sum(frame, outcome="skipped")
    share = formats.percent(formats.share_of(accepted, total), 1)
    authors = ", ".join(
        f"{number:,} by {name}" for name, number in _by(frame, "author").iter_rows()
    )
    calibration = (
        nothing(
            "Calibration",
            reason(
                judged, "view of outcomes", "No model judged a candidate whose outcome is known."
            ),
            judged.source,
        )
        if judged.frame.is_empty()
        else _calibration_figure(judged)
    )
    return (
        Figure("Decisions", formats.count(total), authors, source),
        Figure("Accepted", formats.count(accepted), f"{share} of the decisions", source),
        Figure("Orders sent", formats.count(sent), f"{skipped:,} intents were skipped", source),
        calibration,
    )


def _calibration_figure(judged: Answered) -> Figure:
    frame = judged.frame
    cases, positive = int(frame["cases"].sum()), int(frame["positive"].sum())
    expected = float((frame["probability"] * frame["cases"]).sum()) / cases
    gap = positive / cases - expected
    detail = (
        f"{formats.percent(positive / cases, 1)} positive after one hour, at a mean probability of "
        f"{formats.percent(expected, 1)}, of {counted(cases, 'candidate')}"
    )
    return Figure("Calibration", f"{gap * 100:+.1f} points", detail, judged.source)


def _reasons_chart(found: Answered) -> Chart | None:
    declined = _by(found.frame.filter(verdict="decline"), "decline_reason")
    if declined.is_empty():
        return None
    return bars(
        most_frequent(
            "The most frequent reason to decline is",
            "The most frequent reasons to decline are",
            declined,
        ),
        declined.rename({"decline_reason": "reason"}),
        found.source,
        "decisions",
    )


def calibration_title(judged: "pl.DataFrame") -> str:
    """Say whether more or fewer candidates were right than expected, unless chance explains it.

    Args:
        judged: `probability` (the mean), `cases` and `positive` of each tenth of probability.
    """
    import polars as pl

    cases, positive = int(judged["cases"].sum()), int(judged["positive"].sum())
    expected = float((judged["probability"] * judged["cases"]).sum())
    if not _within_chance(positive, cases, expected):
        more = "More" if positive >= expected else "Fewer"
        return f"{more} of {cases:,} candidates were right than their probabilities say"
    tenths = judged.select("positive", "cases", pl.col("probability") * pl.col("cases"))
    wrong = sum(not _within_chance(*each) for each in tenths.iter_rows())
    if wrong >= _WRONG_TENTHS:
        return f"Probabilities are right on average, and wrong in {wrong} of {judged.height} tenths"
    return f"Candidates were right as often as their probabilities say, within chance: {cases:,}"


def _within_chance(positive: int, cases: int, expected: float) -> bool:
    limits = wilson(positive, cases)
    return limits.low * cases <= expected <= limits.high * cases


def _calibration_chart(judged: Answered) -> Chart | None:
    import polars as pl

    if judged.frame.is_empty():
        return None
    limits = [wilson(*each) for each in judged.frame.select("positive", "cases").iter_rows()]
    shown = judged.frame.select(
        "probability",
        (pl.col("positive") / pl.col("cases")).alias("share"),
        pl.Series("low", [each.low for each in limits], pl.Float64),
        pl.Series("high", [each.high for each in limits], pl.Float64),
    )
    return Chart(
        calibration_title(judged.frame),
        "calibration",
        shown,
        x="probability",
        y="share",
        series=None,
        unit="",
        source=judged.source,
        note=_PROBABILITY,
    )


def _actions(found: Answered) -> Table:
    counts = _by(found.frame, "verdict", "action", "outcome")
    rows = [
        (verdict, action or "none", outcome or "none", formats.count(number))
        for verdict, action, outcome, number in counts.iter_rows()
    ]
    columns = "verdict, action, order, decisions >"
    return formats.table("Decisions by action", columns, rows, found.source)


def _reasons(found: Answered) -> Table:
    import polars as pl

    declined = _by(found.frame.filter(verdict="decline"), "author", "decline_reason")
    skipped = _by(found.frame.filter(pl.col("skip_reason") != ""), "author", "skip_reason")
    rows = [("declined", *map(str, names), formats.count(n)) for *names, n in declined.iter_rows()]
    rows += [("skipped", *map(str, names), formats.count(n)) for *names, n in skipped.iter_rows()]
    columns = "result, decided by, reason, decisions >"
    return formats.table("Why candidates did not become orders", columns, rows, found.source)


def _calibration(judged: Answered) -> Table:
    rows = []
    for bucket, cases, probability, positive in judged.frame.iter_rows():
        limits = wilson(positive, cases)
        rows.append(
            (
                f"{bucket * 10} to {bucket * 10 + 10} %",
                formats.count(cases),
                formats.percent(probability, 1),
                formats.percent(positive / cases, 1),
                formats.interval(limits.low, limits.high, 1),
            )
        )
    columns = "probability, candidates >, mean probability >, positive after 1h >, 95 % >"
    note = f"{_PROBABILITY} Intervals by Wilson's score."
    return formats.table("Probability against outcome", columns, rows, judged.source, note)
