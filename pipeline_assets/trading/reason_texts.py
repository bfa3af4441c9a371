"""The reasons of declined candidates in words: what each means, and what to do. The reasons themselves are in
decisions.py and market/step_tables.py; the rules behind them do not belong here.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

_MODELS = "pipeline-assets inference models"

REASON_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        # Outcomes of the position rules: nothing is wrong.
        "position_held": "another strategy holds the symbol, which has one position at a time.",
        "same_side": "the strategy holds the symbol on this side already.",
        "exit_pending": "the position that the strategy holds is being closed.",
        "opposite_ignored": "the strategy holds the other side, and its rule opposite_signal is ignore.",
        "side_not_allowed": "the strategy's rule side excludes this side.",
        "cooling_down": "the strategy's rule cool_down does not permit an entry so soon after an exit.",
        "position_limit": "as many positions are open as max_positions permits.",
        "below_minimum": "the sizing gives less than the exchange's minimum of an order.",
        "insufficient_margin": "too little margin is free.",
        "no_atr": "the sizing needs the ATR, and it is 0 or not known.",
        "not_listed": "the symbol did not trade then.",
        "gap": "the candle at whose open the entry was to be filled is missing.",
        # Reasons of the trader and of the inference service.
        "stale": "it was too old for an order. After a start or a pause this is expected; otherwise read the "
        "logs of trader and inference service.",
        "not_closed": "it came before its candle closed: compare the clocks, and find out what else writes "
        "to the topic of candidates.",
        "no_candle": "its candle is not stored: pipeline-assets gaps.",
        "unknown_strategy": "its strategy, or this version of it, is not configured: compare the settings of "
        "all programs, and restart them.",
        "unknown_symbol": "its symbol is not in the settings of the trader: restart the trader.",
        "other_interval": "it is not of a 1m candle: compare the settings of all programs.",
        "low_value": "the expected result after costs does not exceed PIPELINE_INFERENCE__MINIMUM_VALUE.",
        "no_model": f"no model of its strategy is promoted: {_MODELS} says why. "
        "pipeline-assets inference train STRATEGY trains one.",
        "model_damaged": f"the current model cannot be read: {_MODELS}, then promote another or go back.",
        "model_unfit": "the current model is of another version of the strategy, of other features or other "
        "libraries: pipeline-assets inference train STRATEGY.",
        "features_missing": "the symbol has no features. If it is not new, materialize features_15m and "
        "features_1h in Dagster.",
        "features_old": "the newest features are too old: see the runs of tick_15m and tick_1h in Dagster.",
        "warehouse_down": "features are too old and the warehouse does not answer: pipeline-assets status.",
    }
)


def explained(reasons: Iterable[str]) -> list[str]:
    """Return a line for each known reason, once, in the order of the alphabet."""
    return [f"{each}: {REASON_TEXTS[each]}" for each in sorted({*reasons} & {*REASON_TEXTS})]
