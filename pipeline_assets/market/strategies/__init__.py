"""The strategies, one module each and nothing else: the file's name is the strategy's name.

A module has `VERSION`, to be raised when the rules change, `Parameters`, and `declare`. market/strategy.py
has the parts that a strategy is made of; `configured_strategies` finds strategies by name.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline_assets.market.indicators import IndicatorSet
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.strategy import Strategy, StrategyError, StrategyParameters

Model = TypeVar("Model", bound=BaseModel)
_RULES_EXAMPLE = "- {name: rsi_reversal, rules: {stop: 0.01, target: 0.02, side: long}}"


class StrategyChoice(Protocol):
    """An entry of the setting `strategies`."""

    @property
    def name(self) -> str:
        """The strategy's name."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters that the settings change from their defaults."""

    @property
    def rules(self) -> Any:
        """The position rules that the settings change from their defaults."""


@cache
def strategy_names() -> tuple[str, ...]:
    """Return the names of all strategies there are."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def configured_strategies(chosen: Iterable[StrategyChoice]) -> tuple[Strategy, ...]:
    """Return the strategies of the setting `strategies`, in its order.

    Raises:
        StrategyError: a name or a parameter is unknown, a parameter is out of range, a strategy
            cannot be loaded, or two entries have the same name and parameters.
    """
    strategies: dict[tuple[str, str], Strategy] = {}
    for choice in chosen:
        strategy = _configured(choice.name, choice.parameters, choice.rules)
        if strategies.setdefault((strategy.name, strategy.version), strategy) is not strategy:
            raise StrategyError(
                f"strategies: {strategy.name} stands there twice with the same parameters: remove "
                "one, or give it another parameter. Example: "
                f"{_example(strategy.name, type(strategy.parameters))}"
            )
    return tuple(strategies.values())


def configured_rules(chosen: Iterable[StrategyChoice]) -> dict[str, PositionRules]:
    """Return the position rules of the setting `strategies`, by `name version`.

    For a process that only trades: no condition is declared, so Polars is not loaded. An entry that stands
    there twice counts once.

    Raises:
        StrategyError: a name or a parameter is unknown, a parameter is out of range, or a strategy cannot be
            loaded.
    """
    found = (_identified(each.name, each.parameters, each.rules) for each in chosen)
    return {f"{each.name} {each.version}": each.rules for each in found}


def indicators_of(strategies: Iterable[Strategy]) -> IndicatorSet:
    """Return what these strategies look at, and nothing else."""
    return IndicatorSet(indicator for strategy in strategies for indicator in strategy.indicators)


class _Identified(NamedTuple):
    name: str
    version: str
    parameters: StrategyParameters
    rules: PositionRules
    module: ModuleType


def _identified(name: str, values: Mapping[str, Any], rules: Any) -> _Identified:
    if name not in strategy_names():
        raise StrategyError(
            f"strategies: there is no strategy {name!r}; there are {', '.join(strategy_names())}. "
            f"Example: - {{name: {strategy_names()[0]}}}"
        )
    try:
        module = import_module(f"{__name__}.{name}")
        kind: type[StrategyParameters] = module.Parameters
        parameters = _validated(name, kind, values, _example(name, kind))
        version = module.VERSION
    except StrategyError:
        raise
    except Exception as error:
        raise _not_loaded(name, error) from error
    # The digest lets two entries of one strategy have candidates of their own, and makes new ids
    # when a parameter changes, be it by its default.
    canonical = json.dumps(parameters.model_dump(mode="json"), sort_keys=True)
    if not isinstance(rules, Mapping):
        raise StrategyError(
            f"strategies: {name}: rules must be a mapping. Example: {_RULES_EXAMPLE}"
        )
    position_rules = _validated(f"{name}: rules", PositionRules, rules, _RULES_EXAMPLE)
    if declared := position_rules.declared():
        canonical += json.dumps(declared, sort_keys=True)
    digest = sha256(canonical.encode()).hexdigest()[:8]
    return _Identified(name, f"{version}-{digest}", parameters, position_rules, module)


def _configured(name: str, values: Mapping[str, Any], rules: Any) -> Strategy:
    found = _identified(name, values, rules)
    try:
        declaration = found.module.declare(found.parameters)
    except StrategyError:
        raise
    except Exception as error:
        raise _not_loaded(name, error) from error
    return Strategy(name, found.version, found.parameters, declaration, found.rules)


def _not_loaded(name: str, error: Exception) -> StrategyError:
    return StrategyError(
        f"strategies: {name} cannot be loaded: {type(error).__name__}: {error}. Mend its file "
        "in market/strategies or remove it from the setting."
    )


def _validated(where: str, kind: type[Model], values: Mapping[str, Any], example: str) -> Model:
    try:
        return kind(**values)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, each['loc'])) or 'parameters'}: "
            + (
                f"there is no such parameter; there are {', '.join(kind.model_fields)}"
                if each["type"] == "extra_forbidden"
                else each["msg"].removeprefix("Value error, ")
            )
            for each in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise StrategyError(
            f"strategies: {where}: {'; '.join(problems)}. Example: {example}"
        ) from None


def _example(name: str, kind: type[StrategyParameters]) -> str:
    defaults = kind().model_dump(mode="json")
    return f"- {{name: {name}, {', '.join(f'{key}: {value}' for key, value in defaults.items())}}}"
