"""The strategies of a backtest or a check: those of the settings, chosen by name, with changed
parameters. How a strategy is configured is in market/strategies.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.strategies import configured_strategies, strategy_names
from pipeline_assets.market.strategy import Strategy, StrategyError
from pipeline_assets.settings import Settings, StrategySettings

_RULES = "rules"


def chosen_strategies(
    settings: Settings, names: Sequence[str] = (), changes: Sequence[str] = ()
) -> tuple[Strategy, ...]:
    """Return the strategies of these names, in the order of the settings.

    A strategy that the settings do not name has its defaults. Without names: all of the settings.

    Args:
        settings: the settings.
        names: names of strategies.
        changes: parameters as `fast=8`, of every chosen strategy; or as `macd_cross.fast=8`, of this one; or
            rules as `rules.stop=0.01`.

    Raises:
        StrategyError: a name or a parameter does not exist, or a value does not fit. The message says which
            there are.
    """
    unknown = [name for name in names if name not in strategy_names()]
    if unknown:
        raise StrategyError(
            f"There is no strategy {', '.join(map(repr, unknown))}; there are "
            f"{', '.join(strategy_names())}."
        )
    entries = [each for each in settings.strategies if not names or each.name in names]
    held = {each.name for each in entries}
    entries += [StrategySettings(name=name) for name in dict.fromkeys(names) if name not in held]
    changed = [each.model_dump() for each in entries]
    for change in changes:
        _apply(change, changed)
    try:
        return configured_strategies(StrategySettings.model_validate(each) for each in changed)
    except StrategyError as error:
        rules = [each for each in changes if each.partition("=")[0] in PositionRules.model_fields]
        if not rules:
            raise
        raise StrategyError(f"{error} A position rule is written rules.{rules[0]}.") from None


def _apply(change: str, entries: Sequence[dict[str, Any]]) -> None:
    key, separator, text = change.partition("=")
    path = key.strip().split(".")
    if not separator or not all(path):
        raise StrategyError(f"{change!r} is no parameter: write it as fast=8 or rules.stop=0.01.")
    names = {each["name"] for each in entries}
    chosen = entries
    if path[0] in strategy_names() and len(path) > 1:
        if path[0] not in names:
            raise StrategyError(
                f"{change!r} changes a strategy that was not chosen; chosen are {', '.join(sorted(names))}."
            )
        chosen = [each for each in entries if each["name"] == path[0]]
        path = path[1:]
    if path == ["name"] or (len(path) > 1 and path[0] != _RULES):
        raise StrategyError(
            f"{change!r} is no parameter: write it as fast=8, macd_cross.fast=8 or rules.stop=0.01."
        )
    value = _value(change, text)
    for entry in chosen:
        _set(entry, path, value)


def _set(entry: dict[str, Any], path: Sequence[str], value: Any) -> None:
    place: dict[str, Any] = entry
    for name in path[:-1]:
        held = place.get(name)
        # A copy, for the settings are shared.
        place[name] = dict(held) if isinstance(held, Mapping) else {}
        place = place[name]
    place[path[-1]] = value
    if list(path[:2]) == [_RULES, "sizing"] and len(path) > 2:
        # A value alone is a value of the usual kind of sizing.
        place.setdefault("by", PositionRules().sizing.by)


def _value(change: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    # YAML's own dates and numbers raise ValueError, deep brackets RecursionError.
    except (yaml.YAMLError, ValueError, RecursionError):
        raise StrategyError(f"{change!r} has a value that is no number and no word.") from None
