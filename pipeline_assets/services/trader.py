"""The trader's process: candidates from Kafka, fresh minutes from the slots and events of the gateway go to
trading/trader.py, one after another. With the inference service enabled, the trader makes no decision.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from threading import Thread

from pipeline_assets.collection.overview import collected_symbols
from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.fill_formulas import formulas_of
from pipeline_assets.market.position_keeper import PositionKeeper
from pipeline_assets.market.step_compilation import without_compilation
from pipeline_assets.market.step_tables import FillModel, check_leverage, grid_of
from pipeline_assets.market.strategies import configured_rules
from pipeline_assets.market.trading_rules import Fees
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.candidate_reader import CandidateReader, PlacedCandidate
from pipeline_assets.resources.exchange_clock import ExchangeClock
from pipeline_assets.resources.heartbeat import Heartbeat, trader_heartbeat
from pipeline_assets.resources.kafka_clients import KafkaClients
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets.resources.trading_documents import read_trading_documents
from pipeline_assets.services.exchange_time import AFTER_REDIS, measure
from pipeline_assets.services.gateway.client import GatewayClient
from pipeline_assets.services.outage import Outage
from pipeline_assets.services.trader_gateway import GrpcGateway
from pipeline_assets.services.until_stopped import run_until_stopped
from pipeline_assets.settings import Settings, SettingsError
from pipeline_assets.stop_flag import StopFlag
from pipeline_assets.trading.decider import PassThroughDecider
from pipeline_assets.trading.decisions import DECISION_SCHEMA, DECISIONS_TOPIC
from pipeline_assets.trading.minute_feed import MinuteFeed
from pipeline_assets.trading.records import Record
from pipeline_assets.trading.trader import Trader
from pipeline_assets.trading.trader_store import LakeTraderStore, SecondTraderError
from pipeline_assets.trading.trades import Trade
from pipeline_assets.wording import counted

# Candidates of a minute reach Kafka 10 to 18 seconds after its close; those that come later are stale.
_DECIDED_AFTER = 25_000
_PERIOD_SECONDS = 1.0
_PAUSE_SECONDS = 5.0
_logger = logging.getLogger(__name__)


class WaitingForRulesError(OutsideSystemError):
    """The lake has no trading rules yet: the first ingest run writes these."""


async def run_trader(settings: Settings, stop: asyncio.Event) -> None:
    """Trade until `stop` is set. A system that does not answer is waited for.

    Raises:
        SettingsError: the settings do not fit.
        InputError: a strategy's leverage leaves no margin above the maintenance margin.
        SecondTraderError: another trader works for the account.
        DataError: a document cannot be read, or a trade is open under other rules.
    """
    if settings.backtest.fill_delay != 2:
        raise SettingsError(
            "PIPELINE_BACKTEST__FILL_DELAY must be 2 for the trader: its orders are filled at the second "
            "open after a signal."
        )
    _warn_of_missing_stops(settings)
    heartbeat = trader_heartbeat(settings.data_dir, settings.trading.account)
    waits, outage = False, Outage("The trader")
    while not stop.is_set():
        heartbeat.beat()
        try:
            await _session(settings, stop, heartbeat, outage)
        except SecondTraderError:
            raise
        except WaitingForRulesError as error:
            if not waits:
                _logger.info("%s", error)
            waits = True
            await _stopped_within(_PAUSE_SECONDS, stop)
        except OutsideSystemError as error:
            outage.failed(error)
            await _stopped_within(_PAUSE_SECONDS, stop)


def _warn_of_missing_stops(settings: Settings) -> None:
    """Name the strategies whose positions have no stop at the exchange, also while the trader is dead."""
    if settings.trading.venue == "paper":
        return
    for name, rules in configured_rules(settings.strategies).items():
        if rules.stop is None and rules.trailing_stop is None:
            _logger.warning(
                "The positions of %s have no stop on %s, since its rules have none: give it one in "
                "config.yaml at `strategies`. Example: {name: %s, rules: {stop: 0.01}}.",
                *(name, settings.trading.venue, name.split()[0]),
            )


async def _session(
    settings: Settings, stop: asyncio.Event, heartbeat: Heartbeat, outage: Outage
) -> None:
    """Trade from the checkpoint on until `stop` is set or a system does not answer."""
    clock = ExchangeClock(time.monotonic)
    await asyncio.to_thread(measure, settings, clock)
    slots = CandleSlots(settings.redis, then=AFTER_REDIS)
    with GatewayClient(settings.gateway) as connection:
        gateway = GrpcGateway(connection)
        trader = await asyncio.to_thread(_trader, settings, gateway, clock.now_ms)
        symbols = list(trader.decider.keeper.symbols)
        # In this order: an entry that is filled between the two answers is in one of them.
        open_orders = await gateway.open_orders()
        await asyncio.to_thread(trader.restore, await gateway.positions(), open_orders)
        await trader.align()
        feed = MinuteFeed(after=trader.minute, earliest=_DECIDED_AFTER)
        async with (
            _placed(settings, trader) as candidates,
            _followed(gateway, trader.sequence) as records,
        ):
            # Once Kafka has answered, too: without it, each try began with this line.
            _logger.info("The trader goes on with %s.", counted(len(symbols), "symbol"))
            outage.over()
            while not stop.is_set():
                heartbeat.beat()
                if clock.due:
                    await asyncio.to_thread(measure, settings, clock)
                await _take_in(trader, candidates, records)
                if feed.expects(clock.now_ms()):
                    held = await asyncio.to_thread(slots.candles, symbols)
                    for minute, bars in feed.due(clock.now_ms(), held):
                        if not await _decided(trader, minute, candidates, records, stop):
                            return
                        await trader.on_minute(minute, bars)
                await _stopped_within(_PERIOD_SECONDS, stop)


async def _decided(
    trader: Trader,
    minute: int,
    candidates: "asyncio.Queue[PlacedCandidate | OutsideSystemError]",
    records: "asyncio.Queue[tuple[int, Record] | OutsideSystemError]",
    stop: asyncio.Event,
) -> bool:
    """Wait until the trader awaits no decision of a minute; return False if `stop` is set before that.

    Raises:
        OutsideSystemError: Kafka or the gateway does not answer.
    """
    await _take_in(trader, candidates, records)
    while await asyncio.to_thread(trader.awaits, minute):
        if await _stopped_within(_PERIOD_SECONDS, stop):
            return False
        await _take_in(trader, candidates, records)
    return True


async def _stopped_within(seconds: float, stop: asyncio.Event) -> bool:
    """Wait for some seconds or for `stop`; return whether it is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()


async def _take_in(
    trader: Trader,
    candidates: "asyncio.Queue[PlacedCandidate | OutsideSystemError]",
    records: "asyncio.Queue[tuple[int, Record] | OutsideSystemError]",
) -> None:
    """Hand over what has arrived.

    Raises:
        OutsideSystemError: Kafka or the gateway does not answer.
    """
    while not candidates.empty():
        placed = candidates.get_nowait()
        if isinstance(placed, OutsideSystemError):
            raise placed
        trader.take(*placed)
    while not records.empty():
        record = records.get_nowait()
        if isinstance(record, OutsideSystemError):
            raise record
        await trader.on_record(*record)


@asynccontextmanager
async def _placed(
    settings: Settings, trader: Trader
) -> "AsyncIterator[asyncio.Queue[PlacedCandidate | OutsideSystemError]]":
    """Read candidates in a thread, from their places on."""
    loop, stopped = asyncio.get_running_loop(), StopFlag()
    found: asyncio.Queue[PlacedCandidate | OutsideSystemError] = asyncio.Queue()
    reader = CandidateReader(settings.kafka, KafkaClients(settings.kafka))
    each_place = await asyncio.to_thread(
        reader.read_from, trader.offsets, stop=stopped, on_begun=trader.begin_at
    )

    def read() -> None:
        try:
            for each in each_place:
                loop.call_soon_threadsafe(found.put_nowait, each)
        except Exception as error:  # noqa: BLE001 - a thread that ends unseen would stop all trading
            loop.call_soon_threadsafe(found.put_nowait, _ended("Kafka", error))

    thread = Thread(target=read, name="candidates", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stopped.set()
        await asyncio.to_thread(thread.join)


@asynccontextmanager
async def _followed(
    gateway: GrpcGateway, after: int
) -> "AsyncIterator[asyncio.Queue[tuple[int, Record] | OutsideSystemError]]":
    """Follow the gateway's events."""
    found: asyncio.Queue[tuple[int, Record] | OutsideSystemError] = asyncio.Queue()

    async def read() -> None:
        try:
            async for each in gateway.follow(after):
                found.put_nowait(each)
        except Exception as error:  # noqa: BLE001 - a task that ends unseen would stop all trading
            found.put_nowait(_ended("the gateway", error))

    task = asyncio.create_task(read())
    try:
        yield found
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _ended(what: str, error: Exception) -> OutsideSystemError:
    """Return the error that ends a session, for one that ended a reader."""
    if isinstance(error, OutsideSystemError):
        return error
    return OutsideSystemError(f"Reading from {what} ended: {type(error).__name__}: {error}")


def _trader(settings: Settings, gateway: GrpcGateway, clock: Callable[[], int]) -> Trader:
    """Put a trader of the settings together.

    Raises:
        WaitingForRulesError: no symbol has trading rules yet.
        InputError: a strategy's leverage leaves no margin above the maintenance margin.
    """
    store = ObjectStore(settings.s3)
    symbols = sorted(collected_symbols(settings, store))
    held = read_trading_documents(store, symbols)
    newest = {symbol: dated[-1].value for symbol, dated in held.rules.items() if dated}
    if not newest:
        raise WaitingForRulesError(
            "No trading rules are stored yet: the trader waits for the first ingest run."
        )
    markets = {symbol: (grid_of(symbol, [rules]), rules) for symbol, rules in newest.items()}
    fees = held.fees[-1].value if held.fees else Fees()
    strategies = configured_rules(settings.strategies)
    for name, rules in strategies.items():
        for symbol, traded in newest.items():
            check_leverage(name, rules, symbol, traded)
    assumed = settings.backtest
    model = FillModel(2, Decimal(repr(assumed.slippage)), assumed.max_positions)
    keeper = PositionKeeper(
        strategies,
        markets,
        fees,
        model,
        Decimal(repr(assumed.capital)),
    )
    topic = settings.kafka.model_copy(update={"topic": DECISIONS_TOPIC})
    return Trader(
        decider=PassThroughDecider(keeper),
        formulas=formulas_of(markets, fees, model),
        gateway=gateway,
        store=LakeTraderStore(store, settings.trading.account),
        publish=CandidateTopic(topic, DECISION_SCHEMA).publish,
        clock=clock,
        on_closed=_log_closed,
        warn=_logger.warning,
        awaited_ms=1000 * settings.inference.wait_seconds if settings.inference.enabled else None,
        note=_logger.info,
    )


def _log_closed(trade: Trade) -> None:
    _logger.info(
        "%s of %s closed by %s: %s at %s, entered at %s.",
        *(trade.strategy, trade.symbol, trade.exit_reason, trade.filled / 1e8),
        *(trade.exit_price / 1e8, trade.entry_price / 1e8),
    )


def main(settings: Settings) -> None:
    """Trade until SIGINT or SIGTERM.

    Raises:
        PipelineError: as `run_trader`.
    """
    without_compilation()

    async def serve(stop: asyncio.Event) -> None:
        _logger.info("The trader of account %s begins.", settings.trading.account)
        if settings.inference.enabled:
            _logger.info("It follows the decisions of `pipeline-assets inference`.")
        await run_trader(settings, stop)

    run_until_stopped(serve)
