"""A day that passes candle by candle: inputs of the live service equal those of a training afterwards."""

from datetime import datetime, timedelta
from typing import Any, cast

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.candidate_model import CandidateModel
from pipeline_assets.research.model_inputs import model_inputs
from pipeline_assets.research.model_registry import LoadedModel
from pipeline_assets.services.inference.judging import ModelJudge
from pipeline_assets.services.inference.live_features import LiveFeatures
from pipeline_assets.services.inference.live_models import LiveModels
from pipeline_assets_tests.fixtures import features as tables
from pipeline_assets_tests.fixtures.kafka import candidates
from pipeline_assets_tests.fixtures.models import estimator, facts, manifest
from pipeline_assets_tests.fixtures.s3 import S3Server, make_bucket
from pipeline_assets_tests.fixtures.snowflake import Lake, SnowflakeServer

QUARTER, HOUR = Interval.FIFTEEN_MINUTES, Interval.ONE_HOUR
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
LAG = MINUTE
# Features of 1h look back four days and an hour.
FIRST = tables.START + 5 * DAY
LISTED = FIRST + timedelta(minutes=30)
# A rate is stored some minutes after it settled.
RATE_LATE = timedelta(minutes=30)


class OneModel:
    """Has one model for all strategies."""

    def __init__(self) -> None:
        self.model = CandidateModel(estimator("logistic regression"), facts())

    def current(self, strategy: str, version: str) -> LoadedModel:
        """Return the model."""
        del strategy, version
        return LoadedModel(manifest(), self.model)


def _candles(interval: Interval) -> list[dict[str, Any]]:
    """Return six days; one symbol misses a candle, one is listed on the last day."""
    hole = ("GAPUSDT", FIRST + QUARTER.span)
    return [
        row
        for row in tables.made_candles(interval, 6 * DAY // interval.span)
        if (row["symbol"], row["open_time"]) != hole
        and not (row["symbol"] == "NEWUSDT" and row["open_time"] < LISTED)
    ]


def _closing(close: datetime) -> list[Candidate]:
    """Return a candidate of each symbol whose candle closes at a time."""
    held = candidates(symbols=len(tables.SYMBOLS), start=close - MINUTE)
    return [
        each.model_copy(update={"symbol": symbol})
        for each, symbol in zip(held, tables.SYMBOLS, strict=True)
    ]


@pytest.mark.parametrize("hours", [1, pytest.param(24, marks=pytest.mark.matrix)])
@pytest.mark.timeout(1800)
def test_live_inputs_equal_training_inputs(
    snowflake_server: SnowflakeServer, s3_server: S3Server, hours: int
) -> None:
    """Each load is merged and read as the services do; the training reads one MERGE of all days."""
    held = tables.FeatureWarehouse.of(snowflake_server, Lake(make_bucket(s3_server)))
    loads = {interval: _candles(interval) for interval in (QUARTER, HOUR)}
    rates = tables.made_rates(FIRST + DAY)
    for interval, rows in loads.items():
        held.load(interval, [row for row in rows if row["open_time"] < FIRST])
        held.make_tables(interval)
        if interval is QUARTER:
            held.load_rates([rate for rate in rates if rate[1] + RATE_LATE <= FIRST])
        held.table.merge(interval, FIRST - DAY, FIRST)
    live = LiveFeatures(held.table, lambda: tables.SYMBOLS, LAG)
    live.refresh(FIRST)
    asked: list[pl.DataFrame] = []
    given: list[pl.DataFrame] = []

    def make_inputs(found: pl.DataFrame, features: Any) -> pl.DataFrame:
        asked.append(found)
        given.append(model_inputs(found, features, LAG))
        return given[-1]

    judge = ModelJudge(cast("LiveModels", OneModel()), live, make_inputs)
    refusals: dict[str, str] = {}
    for number in range(1, 4 * hours + 1):
        now = FIRST + number * QUARTER.span
        settled = [rate for rate in rates if now - QUARTER.span < rate[1] + RATE_LATE <= now]
        if settled:
            held.load_rates(settled)
        for interval, rows in loads.items():
            closed = [row for row in rows if row["open_time"] + interval.span == now]
            if closed:
                held.load(interval, closed)
                day = closed[0]["open_time"].replace(hour=0, minute=0)
                held.table.merge(interval, day, day + DAY)
        live.refresh(now + LAG + timedelta(seconds=3))
        # The first minute that knows the new row, one in between, and the last before the next row.
        for close in (now + MINUTE, now + 7 * MINUTE, now + QUARTER.span):
            found = _closing(close)
            judged = judge.judge(found)
            refusals |= {f"{close:%H%M} {each.symbol}": judged[each.id].refusal for each in found}

    training = {
        interval: held.made_anew(interval, FIRST - DAY, FIRST + DAY) for interval in (QUARTER, HOUR)
    }
    expected = model_inputs(pl.concat(asked), training, LAG)
    # Another span of a MERGE adds in another order.
    assert_frame_equal(pl.concat(given), expected, abs_tol=1e-9, rel_tol=0)
    refused = {(each.split()[1], reason) for each, reason in refusals.items() if reason}
    assert refused == {("GAPUSDT", "features_old"), ("NEWUSDT", "features_missing")}
    known = expected.filter(pl.col("symbol") == "ETHUSDT").drop("id", "symbol", "open_time")
    assert known.null_count().sum_horizontal().item() == 0
