"""The same stream on the paper venue and on the demo venue of one replay exchange, and the differences.

    python -m pipeline_assets_tests.trading.paper_and_demo [SEED ...]

prints the table of docs/trader.md, "Differences from the exchange", over the streams of some seeds; each one
takes a quarter of a minute. The exit status is 1 if a difference has no named cause.
"""

import asyncio
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pipeline_assets.market.step_compilation import without_compilation
from pipeline_assets.market.step_tables import FillModel
from pipeline_assets.market.trading_rules import UNIT, Fees
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.trading.compared_desk import Course, Desk
from pipeline_assets_tests.trading.compared_market import Market, compared_exchange, read_market
from pipeline_assets_tests.trading.compared_plan import Plan, make_plan
from pipeline_assets_tests.trading.compared_venues import DemoSide, PaperSide
from pipeline_assets_tests.trading.exit_comparison import compare
from pipeline_assets_tests.trading.fill_causes import Cause, Difference, unnamed
from pipeline_assets_tests.trading.fill_comparison import PART_MS

SEEDS = tuple(range(1, 13))

# A fifth of the orders is filled in two parts, so that this cause is there.
_FAULTS = {"partial_fill": 0.2, "partial_ms": PART_MS, "seed": 5}


@dataclass
class Compared:
    """One stream on both venues."""

    market: Market
    plan: Plan
    paper: Course
    demo: Course

    def differences(self) -> list[Difference]:
        """Return all differences."""
        return compare(self.market, self.paper, self.demo, self.plan.closed_entries)


async def trade_on_paper(
    market: Market, plan: Plan, fees: Fees | None = None, model: FillModel | None = None
) -> Course:
    """Trade a stream on the paper venue."""
    async with Desk(market, lambda clock: PaperSide(market, clock, fees, model)) as desk:
        return await desk.play(plan)


async def trade_on_both(exchange: ExchangeHandle, redis: RedisServer, seed: int) -> Compared:
    """Trade the stream of a seed on both venues."""
    redis.client().flushall()
    market = await read_market(exchange)
    plan = make_plan(market, seed)
    paper = await trade_on_paper(market, plan)
    async with Desk(market, lambda clock: DemoSide(exchange, redis.url, clock, _FAULTS)) as desk:
        return Compared(market, plan, paper, await desk.play(plan))


def table(differences: Sequence[Difference]) -> Iterable[str]:
    """Yield the lines of a table of causes: how often, how large at most, and paper's gain in sum."""
    yield "| cause | differences | largest in price | largest in time | paper's gain, USDT |"
    yield "|---|---|---|---|---|"
    for cause in Cause:
        found = [each for each in differences if each.cause is cause]
        if not found:
            continue
        part = max(abs(each.part) for each in found)
        seconds = max(abs(each.milliseconds) for each in found) / 1000
        money = sum((each.money for each in found), Decimal(0)) / UNIT
        yield (
            f"| {cause} | {len(found)} | {f'{part:.3%}' if part else ''} | "
            f"{f'{seconds:.3f} s' if seconds else ''} | {f'{money:+.2f}' if money else ''} |"
        )


def main() -> None:
    """Compare the streams of the seeds that the command line names, and print the table."""
    without_compilation()
    found: list[Difference] = []
    fills = 0
    with (
        tempfile.TemporaryDirectory() as directory,
        compared_exchange() as exchange,
        RedisServer(Path(directory)) as redis,
    ):
        seeds = [int(each) for each in sys.argv[1:]] or SEEDS
        for seed in seeds:
            compared = asyncio.run(trade_on_both(exchange, redis, seed))
            differences = compared.differences()
            found += differences
            fills += len(compared.paper.fills)
            for each in unnamed(differences):
                print(f"seed {seed}: {each}")
    print("\n".join(table(found)))
    print(f"{len(seeds)} streams, {fills} fills on paper; {len(unnamed(found))} without a cause")
    sys.exit(bool(unnamed(found)))


if __name__ == "__main__":
    main()
