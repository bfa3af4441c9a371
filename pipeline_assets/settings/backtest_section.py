"""The section `backtest` of the settings: the account and the fills that backtests assume. Rules of
positions stand at each strategy.
"""

from pydantic import Field

from pipeline_assets.settings.sections import Section


class BacktestSettings(Section):
    """The account and the fills that backtests assume, and what the asset `backtest_report` covers."""

    capital: float = Field(10_000, gt=0, le=1_000_000_000, examples=[25000])
    # Candidates reach Kafka 10 to 18 s into the next minute: the open after that is the first to be had.
    fill_delay: int = Field(2, ge=1, le=60, examples=[1])
    slippage: float = Field(0.0002, ge=0, lt=1)
    max_positions: int = Field(10, ge=1, le=1000)
    report_days: int = Field(90, ge=1, le=3660)
