"""The fetch: candles as the exchange replied, decimal strings and all. Typing and checking them is
in candles.py.
"""

import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    Config,
    MaterializeResult,
    ResourceParam,
    asset,
)
from pydantic import Field

from pipeline_assets.assets import layer
from pipeline_assets.assets.presentation import archive_metadata, failures, moment
from pipeline_assets.collection.archive_source import ArchiveReport, archived_frames, uses_archive
from pipeline_assets.collection.empty_days import believed_empty_days
from pipeline_assets.collection.fetch_plan import FetchPlan, RunKind
from pipeline_assets.collection.planning import Request, make_plan
from pipeline_assets.collection.progress import LogProgress, Progress
from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.candles import empty_raw
from pipeline_assets.market.intervals import Interval, from_milliseconds, to_milliseconds
from pipeline_assets.market.replies import raw_candles as rows_of
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.exchange import ExchangeClient
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.exchange_pages import weight_of_a_tick
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import Output, Staged, write_document, write_frames
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

# A row group of the staged Parquet holds at least so many rows, and whole symbols: some 30 MB while it
# is decoded, cleaned and encoded, whatever the range. At 250,000 a run took 800 MB at its peak.
_ROWS_PER_GROUP = 40_000
# A tick's weight beside its candles: the universe, the clock, asked by itself and by three schedules.
# Without it others left 900 for 900 symbols at a full hour, and the last symbol waited for a minute.
_OTHER_WEIGHT = 10
# Replies come as symbols complete; cleaning would have to sort rows that are not by symbol.
_SYMBOL = itemgetter(0)


class FetchConfig(Config):
    """Which symbols a run fetches."""

    symbols: list[str] | None = Field(
        None, description="Fetch only these symbols; all of PIPELINE_SYMBOLS when left out."
    )
    refresh: bool = Field(
        False, description="Fetch days again that are stored and complete; else they are left out."
    )


class NothingFetchedError(OutsideSystemError):
    """Every symbol failed, and nothing of the run's was there. The message carries the first reason."""


def raw_candles(interval: Interval) -> AssetsDefinition:
    """The asset of the fetch of one interval."""

    @asset(
        **layer.options(layer.RAW, interval),
        kinds={"binance", "parquet", "s3"},
        description=(
            f"{interval} candles as Binance replied, decimal strings, all symbols in one Parquet under "
            "`raw/`. A tick fetches what is due by the exchange's clock; any other run fetches the "
            "whole days of its partitions. Only closed candles are asked for."
        ),
    )
    def fetch(
        context: AssetExecutionContext,
        config: FetchConfig,
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
        settings: ResourceParam[Settings],
        progress: ResourceParam[Progress | None],
    ) -> MaterializeResult[Any]:
        kind = RunKind.of(context.run.tags)
        with ExitStack() as clients:
            client = clients.enter_context(
                exchange.client(priority(kind, interval), patient=kind is not RunKind.TICK)
            )
            plan = make_plan(
                client,
                store,
                Request(
                    interval,
                    kind,
                    context.partition_keys,
                    settings.symbols,
                    config.symbols,
                    config.refresh,
                ),
                exchange.settle,
            )
            root_run = context.run.root_run_id or context.run_id
            own = Staged(interval, plan.days[0], plan.days[-1], root_run)
            if context.run.root_run_id:
                # Re-executed: the plan of the first time must not stand beside the rows of this one.
                store.delete([own.plan])
            if plan.kind is not kind:
                # A tick that found a day to seal must not spend the weight of live minutes on it.
                client = clients.enter_context(
                    exchange.client(priority(plan.kind, interval), patient=True)
                )
            if plan.ticks:
                weight = len(plan.windows) * weight_of_a_tick(interval) + _OTHER_WEIGHT
                exchange.expect_tick(priority(kind, interval), interval, weight, plan.now())
            told = progress or LogProgress(context.log.info)
            began = time.monotonic()
            archive = ArchiveReport() if uses_archive(plan, settings.binance) else None
            frames = clients.enter_context(
                closing(
                    archived_frames(client, plan, settings.binance, told, archive, _ROWS_PER_GROUP)
                    if archive
                    else _frames(client, plan, told)
                )
            )
            received = _Received()
            rows = write_frames(
                store, own.key(Output.RAW), empty_raw(), received.watch(frames, plan)
            )
            seconds = time.monotonic() - began
            if not plan.ticks:
                plan.witnessed = believed_empty_days(client, store, plan, received.newest, root_run)
            plan.weight = client.weight_spent
            if archive is not None:
                archive.keep(store, plan)
        # Where the others are stored already, those that fail again fail alone, as they did beside them.
        if plan.windows and plan.failures.keys() >= plan.windows.keys() and not plan.complete:
            raise NothingFetchedError(
                f"None of {len(plan.windows)} symbols could be fetched. The first: "
                f"{next(iter(plan.failures.values()))}"
            )
        # After the rows: the steps that follow read the plan first. Of a fetch that failed there is none, so
        # that no later run of a single step takes it for the newest.
        write_document(store, own.plan, plan.to_facts())
        return MaterializeResult(
            metadata={
                "rows": rows,
                "symbols": len(plan.windows),
                "newest closed candle": moment(plan.newest),
                "rows/s": round(rows / seconds),
                "weight spent": plan.weight,
                "weight allowed a minute": client.weight_now.allowed,
                "symbol-days stored before": sum(map(len, plan.complete.values())),
                "kind of run": plan.kind.value,
                "replies": store.address(own.key(Output.RAW)),
                **(archive_metadata(archive) if archive else {}),
                **failures(plan),
            }
        )

    return fetch


@dataclass
class _Received:
    """The newest open time that the run received of its days; None while there is no row."""

    newest: datetime | None = None

    def watch(
        self, frames: Iterable["pl.DataFrame"], plan: FetchPlan
    ) -> Generator["pl.DataFrame", None, None]:
        """Pass raw frames through, and keep the newest open time of the plan's days."""
        import polars as pl

        window = Window(day_window(plan.days[0]).start, day_window(plan.days[-1]).end)
        # A row may have any time: the exchange's oddest rows are staged as they came.
        within = pl.col("open_time").is_between(
            to_milliseconds(window.start), to_milliseconds(window.end), closed="left"
        )
        for frame in frames:
            newest = frame.select(pl.col("open_time").filter(within).max()).item()
            if newest is not None:
                opened = from_milliseconds(newest)
                self.newest = max(opened, self.newest or opened)
            yield frame


def priority(kind: RunKind, interval: Interval) -> Priority:
    """Whose requests go first: see DESIGN, Weight."""
    if kind is RunKind.TICK:
        return Priority.TICK_1M if interval is Interval.ONE_MINUTE else Priority.TICK_OTHER
    return Priority.SEALING if kind is RunKind.SEAL else Priority.BACKFILL


def _frames(
    client: ExchangeClient, plan: FetchPlan, progress: Progress
) -> Generator["pl.DataFrame", None, None]:
    """The replies as raw frames of a row group each; a symbol that fails is noted in the plan."""
    spans = {symbol: plan.spans(symbol) for symbol in plan.windows}
    due = {symbol: plan.due(symbol) for symbol in plan.windows}
    progress.start(f"{plan.interval} candles", sum(due.values()))
    replies: list[tuple[str, bytes]] = []
    rows = 0
    # A tick's hole is looked at again by the next one; it must not cost more weight than planned.
    for fetched in client.klines(plan.interval, spans, confirm=not plan.ticks):
        plan.note(fetched)
        progress.weight(client.weight_now.used, client.weight_now.allowed)
        progress.advance(fetched.rows, due[fetched.symbol])
        replies += [(fetched.symbol, body) for body in fetched.replies]
        rows += due[fetched.symbol]
        if rows >= _ROWS_PER_GROUP:
            yield rows_of(sorted(replies, key=_SYMBOL))
            replies, rows = [], 0
    progress.finish()
    if replies:
        yield rows_of(sorted(replies, key=_SYMBOL))
