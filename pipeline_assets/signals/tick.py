"""The systems a tick of the candidate sensor works with, and its report. Its work is in evaluation.py."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline_assets.market.windows import Window
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.indicator_state import IndicatorStateStore
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings
from pipeline_assets.signals.due_minutes import Cursor

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Services:
    """The outside systems that a tick works with."""

    settings: Settings
    exchange: Exchange
    store: ObjectStore
    states: IndicatorStateStore
    topic: CandidateTopic


@dataclass
class TickReport:
    """The result of one tick.

    Attributes:
        cursor: where every symbol stands now.
        symbols: how many symbols are collected.
        empty: whether Redis holds neither a state nor a candle of any of them.
        candles: how many candles were evaluated.
        newest: the newest minute that any symbol has evaluated.
        candidates: what was published, repeats of this tick included; a frame for each publication.
        late: what was found on minutes too old to be published, likewise.
        lag: from the newest evaluated candle's close to Kafka's acknowledgement, by the exchange's
            clock; None if nothing was evaluated.
        waiting: symbols whose next minute may still come, and which one it is.
        warming: symbols whose indicators are not ready, and how far they are.
        short: those of them whose whole history is shorter than the indicators need.
        skipped: minutes of symbols that are too old to be evaluated.
        failed_strategies: what a strategy raised, by its name.
        problems: symbols that could not go on, and why.
    """

    cursor: Cursor
    symbols: int = 0
    empty: bool = False
    candles: int = 0
    newest: datetime | None = None
    candidates: "list[pl.DataFrame]" = field(default_factory=list)
    late: "list[pl.DataFrame]" = field(default_factory=list)
    lag: timedelta | None = None
    waiting: dict[str, datetime] = field(default_factory=dict)
    warming: dict[str, str] = field(default_factory=dict)
    short: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, Window] = field(default_factory=dict)
    failed_strategies: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
