"""Which model, candidates, features and trades the drift of a day is measured on, over a real S3 server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import polars as pl
import pytest

from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.drift_days import DriftOfDay, DriftSources, keep_drift
from pipeline_assets.research.drift_documents import DriftReport, read_drift
from pipeline_assets.resources.current_models import go_back
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings, StrategySettings
from pipeline_assets.trading.record_objects import Kind, merge_records, object_key
from pipeline_assets.trading.record_rows import decision_row
from pipeline_assets.trading.traded_decisions import read_day, read_trades
from pipeline_assets_tests.fixtures.drifting import (
    DAY,
    STRATEGY,
    decisions,
    promoted,
    trade,
    trade_all,
)
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates
from pipeline_assets_tests.fixtures.models import facts
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.research.made_features import feature_frame

ONE_DAY = timedelta(days=1)
SETTINGS = Settings(strategies=(StrategySettings(name=STRATEGY),))


class Features:
    """Stands for the feature tables, and keeps which spans were asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[datetime, datetime]] = []

    def __call__(
        self, interval: Interval, symbols: Sequence[str], start: datetime, end: datetime
    ) -> pl.DataFrame:
        if not symbols:
            return feature_frame(interval, ["NONE"], start, start)
        self.asked.append((start, end))
        return feature_frame(interval, symbols, start, end)


@pytest.fixture
def sources(s3_bucket: S3Bucket) -> DriftSources:
    """Provide an empty lake."""
    store = ObjectStore(s3_bucket.settings())
    return DriftSources(
        store,
        Features(),
        lambda day: read_day(store, day),
        lambda days: read_trades(store, "paper", days),
    )


def measure(sources: DriftSources, day: date = DAY) -> tuple[DriftOfDay, DriftReport | None]:
    """Measure a day; return the result and the document."""
    return keep_drift(sources, SETTINGS, day), read_drift(sources.store, STRATEGY, day)


def decide_on(store: ObjectStore, at: datetime, number: int, gain: float | None = None) -> None:
    """Leave accepted decisions of one minute, and their trades, of which every third one loses.

    A model said 60 % of each.
    """
    made = decisions(candidates(symbols=number, start=at), [""], probability=0.6)
    merge_records(store, Kind.DECISIONS, at.date(), map(decision_row, made))
    if gain is not None:
        first = at.toordinal() * 10_000
        gains = [-gain if place % 3 == 0 else gain for place in range(number)]
        fills = [
            row
            for place, each in enumerate(made)
            for row in trade(each, first + 2 * place, gains[place])
        ]
        trade_all(store, at.date(), fills)


def test_probabilities_meet_closed_trades(sources: DriftSources) -> None:
    """Trades of four weeks count, those before do not; two in three won where 60 % were promised."""
    promoted(sources.store)
    for ago in (0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28):
        decide_on(sources.store, MIDNIGHT - ago * ONE_DAY, 6, gain=2.0)
    _, found = measure(sources)
    assert found is not None
    held = found.calibration
    assert held is not None
    assert (held.trades, held.days, held.unfinished) == (60, 10, 0)
    assert held.probability == pytest.approx(0.6)
    assert held.won.mean == pytest.approx(2 / 3)
    assert held.net_return.mean == pytest.approx((2 * 2 - 2) / 3 / 100 - 0.002)
    # Every day has the same share, so that the difference is sure.
    assert found.warnings[-1].startswith("Calibration moved: 67% of 60 trades won")


def test_probability_comes_from_records(sources: DriftSources) -> None:
    """The probability of a trade is its decision's; a decision of an earlier release has none."""
    store = sources.store
    promoted(store)
    made = decisions(candidates(symbols=4, start=MIDNIGHT), [""])
    said = (0.9, 0.7, 0.5, None)
    judged = [
        each.model_copy(update={"probability": probability})
        for each, probability in zip(made, said, strict=True)
    ]
    merge_records(store, Kind.DECISIONS, DAY, map(decision_row, judged))
    fills = [row for place, each in enumerate(made) for row in trade(each, 2 * place, 1.0)]
    trade_all(store, DAY, fills)
    _, found = measure(sources)
    assert found is not None
    assert found.calibration is not None
    assert found.calibration.trades == 3
    assert found.calibration.probability == pytest.approx(0.7)


def test_damaged_records_are_left_out(sources: DriftSources) -> None:
    """The other days are measured; the check warns and names the objects, and so does the document."""
    store = sources.store
    promoted(store)
    for ago in (0, 1, 2, 27):
        decide_on(store, MIDNIGHT - ago * ONE_DAY, 120, gain=2.0)
    keys = tuple(
        object_key(kind, DAY - ago * ONE_DAY)
        for kind, ago in ((Kind.DECISIONS, 27), (Kind.DECISIONS, 1), (Kind.FILLS, 2))
    )
    for key in keys:
        store.put(key, b"nonsense")
    result, found = measure(sources)
    assert not result.finding.passed
    described = result.finding.description
    assert described.startswith(f"Left out, because the objects are damaged: {', '.join(keys)}. ")
    assert "is damaged: " in described
    assert found is not None
    assert found.damaged == keys
    # Decisions of two days of the week; one of these has trades.
    assert found.candidates == 240
    assert found.calibration is not None
    assert found.calibration.trades == 120
    store.delete(keys)
    assert "damaged" not in measure(sources)[0].finding.description


def test_candidates_are_of_a_week(sources: DriftSources) -> None:
    """The first minute of the first day counts, with features that were available before midnight."""
    store, features = sources.store, sources.features
    promoted(store)
    for ago in (0, 6, 7):
        decide_on(store, MIDNIGHT - ago * ONE_DAY, 120)
    _, found = measure(sources)
    assert found is not None
    assert found.candidates == 240
    assert max(each.missing for each in found.features) == 0
    assert isinstance(features, Features)
    assert len(features.asked) == 4
    assert min(start for start, _ in features.asked) < MIDNIGHT - 6 * ONE_DAY


def test_other_version_is_not_counted(sources: DriftSources) -> None:
    """Candidates of other parameters are not those of the training."""
    promoted(sources.store, strategy_version="2")
    decide_on(sources.store, MIDNIGHT, 6)
    _, found = measure(sources)
    assert found is not None
    assert (found.candidates, found.decisions) == (0, None)


def test_model_is_of_the_days_end(sources: DriftSources) -> None:
    """A repeated day is measured on the model of that time; a withdrawn one does not count."""
    first = promoted(sources.store)
    result, before = measure(sources, DAY - 2 * ONE_DAY)
    assert before is None
    assert "no model was promoted by then" in result.finding.description
    _, found = measure(sources)
    assert found is not None
    assert found.model == first
    go_back(sources.store, STRATEGY, first, MIDNIGHT)
    assert "no model was promoted" in measure(sources)[0].finding.description


def test_renamed_feature_is_named(sources: DriftSources) -> None:
    """A model of an earlier catalogue: the column that is missing is named, and nothing is written."""
    made = facts()
    old = {"columns": (*made.columns, "f15_gone")}
    for name in ("deciles", "missing", "medians"):
        held = getattr(made, name)
        old[name] = held | {"f15_gone": held[made.columns[0]]}
    promoted(sources.store, made.model_copy(update=old))
    decide_on(sources.store, MIDNIGHT, 240)
    result, found = measure(sources)
    assert found is None
    assert "f15_gone" in result.finding.description


def test_incomplete_manifest_is_named(sources: DriftSources) -> None:
    made = facts()
    promoted(sources.store, made.model_copy(update={"deciles": {}}))
    assert "is without deciles of some columns" in measure(sources)[0].finding.description


def test_killed_run_is_repeated(sources: DriftSources) -> None:
    """A run that dies while it reads leaves nothing, and the next one writes the document."""
    promoted(sources.store)
    decide_on(sources.store, MIDNIGHT, 240)

    def die(*_: object) -> pl.DataFrame:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        measure(replace(sources, features=die))
    assert read_drift(sources.store, STRATEGY, DAY) is None
    _, found = measure(sources)
    assert measure(sources)[1] == found
