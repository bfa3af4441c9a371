"""The subcommands of `inference` about trained models: list them, choose one, go back. The registry is in
research/model_registry.py, the subcommand `train` in model_training.py, `card` in model_cards.py.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from pipeline_assets.cli.model_cards import card
from pipeline_assets.cli.model_training import train
from pipeline_assets.cli.options import json_option, known_strategy
from pipeline_assets.cli.output import Row, console, print_json, print_problems, print_rows
from pipeline_assets.settings import load_settings

if TYPE_CHECKING:
    from pipeline_assets.research.model_registry import ModelRegistry
    from pipeline_assets.resources.model_objects import Manifest

_STYLES = {"current": "green", "failed": "red", "withdrawn": "yellow"}


@click.command()
@click.option("--strategy", "chosen", help="Its name; by default all strategies that have a model.")
@json_option
def models(chosen: str | None, as_json: bool) -> None:
    """List the trained models: which of each strategy decides, why, and what each earned in its tests.

    Exit status 1: the model that decides cannot be used, or a model cannot be read.
    """
    from pipeline_assets.market.strategies import strategy_names

    names = strategy_names() if chosen is None else (known_strategy(chosen),)
    registry = _registry()
    found = [_described(registry, name) for name in names]
    held = [each for each in found if each["models"] or each["problems"] or chosen is not None]
    if as_json:
        print_json(held)
    else:
        _show(held)
    problems = [line for each in held for line in each["problems"]]
    if problems:
        print_problems([] if as_json else problems)
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("strategy")
@click.argument("model")
@json_option
def promote(strategy: str, model: str, as_json: bool) -> None:
    """Let a MODEL of a STRATEGY decide, if it passed its tests; it may be older than the current one."""
    from pipeline_assets.resources.current_models import Promoter

    registry = _registry()
    outcome = registry.promote(known_strategy(strategy), model, Promoter.PERSON, datetime.now(UTC))
    _report(strategy, model, outcome.value, as_json=as_json)


@click.command()
@click.argument("strategy")
@json_option
def back(strategy: str, as_json: bool) -> None:
    """Let the model of a STRATEGY decide again that did so before the current one.

    The check `promotion` will not promote the withdrawn model again. Before the first model no model
    decides, and every candidate is declined. Exit status 1: no model is current, or the earlier one cannot
    be used.
    """
    from pipeline_assets.research.model_registry import NoModel

    registry = _registry()
    current = registry.history(known_strategy(strategy)).current
    if current is None:
        print_problems(
            [
                f"No model of {strategy} is current, so there is nothing to go back from. "
                f"`pipeline-assets inference models --strategy {strategy}` lists its models."
            ]
        )
        raise click.exceptions.Exit(1)
    now = registry.go_back(strategy, current.model_id, datetime.now(UTC)).current
    _report(
        strategy,
        None if now is None else now.model_id,
        f"went back from {current.model_id}",
        as_json=as_json,
    )
    found = registry.current(strategy)
    if now is not None and isinstance(found, NoModel):
        print_problems([found.detail])
        raise click.exceptions.Exit(1)


def _registry() -> "ModelRegistry":
    from pipeline_assets.research.model_registry import ModelRegistry
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE

    return ModelRegistry(ObjectStore(load_settings().s3, PERSON_PATIENCE))


def _described(registry: "ModelRegistry", strategy: str) -> dict[str, Any]:
    """Return a strategy's models, which one is current, and what is wrong with them."""
    from pipeline_assets.errors import DataError
    from pipeline_assets.research.model_registry import NoModel

    manifests, problems = registry.models(strategy)
    current, withdrawn = None, set()
    try:
        history = registry.history(strategy)
    except DataError as error:
        problems.append(str(error))
    else:
        current = history.current.model_id if history.current else None
        withdrawn = {each.model_id for each in history.withdrawn}
        found = registry.current(strategy)
        if current is not None and isinstance(found, NoModel):
            problems.append(found.detail)
    return {
        "strategy": strategy,
        "current": current,
        "models": [_listed(each, current, withdrawn) for each in manifests],
        "problems": problems,
    }


def _listed(manifest: "Manifest", current: str | None, withdrawn: set[str]) -> dict[str, Any]:
    """Return a model for a program: its manifest without the facts, which are long, and its state."""
    if manifest.model_id == current:
        state = "current"
    elif manifest.model_id in withdrawn:
        state = "withdrawn"
    else:
        state = "passed" if manifest.passes else "failed"
    return {"state": state, **manifest.model_dump(mode="json", exclude={"facts", "columns"})}


def _show(found: list[dict[str, Any]]) -> None:
    if not any(each["models"] for each in found):
        click.echo("No model is stored. Train one: pipeline-assets inference train STRATEGY.")
        return
    rows = [
        Row(
            (
                *(each["strategy"], held["model_id"], held["state"]),
                f"{held['trained_from'][:10]} to {held['trained_to'][:10]}",
            ),
            _STYLES.get(held["state"], ""),
            f"{_why(each['strategy'], held)} {_figures(held['metrics'])}",
        )
        for each in found
        for held in each["models"]
    ]
    print_rows(console(), ("strategy", "model", "state", "trained on"), rows)
    console().print(
        "Returns are after fees, slippage and funding, in % of a trade's value, on candidates later than "
        "those that the model was trained on. In brackets: where the true mean lies nine times in ten.",
        style="dim",
    )


def _why(strategy: str, held: Mapping[str, Any]) -> str:
    """Return in words whether a model decides, and why."""
    if held["state"] == "current":
        return f"Promoted: it decides about candidates of {strategy}."
    if held["state"] == "withdrawn":
        return "Not promoted: a person went back from it, and the check does not promote it again."
    if held["state"] == "passed":
        command = f"pipeline-assets inference promote {strategy} {held['model_id']}"
        return f"Not promoted, though it passed its tests: another model decides, or none (`{command}`)."
    return f"Not promoted: it failed its tests. {' '.join(held['failures'])}"


def _figures(metrics: Mapping[str, float]) -> str:
    """Return what the model earned on candidates that it had not seen."""
    if "candidates" not in metrics:
        return "Its figures are not known."
    said = (
        f"It would have traded {metrics.get('traded', 0):,.0f} of {metrics['candidates']:,.0f} candidates "
        "that it had not seen"
    )
    if "traded_win_rate" in metrics:
        said += f", and {metrics['traded_win_rate']:.0%} of the trades won"
    for name, what in (("traded_return", "trade"), ("net_return", "candidate")):
        if name in metrics:
            said += f"; {_interval(metrics, name)} a {what}"
    if "calibration_error" in metrics:
        said += f"; probability off by {metrics['calibration_error'] * 100:.1f} percentage points"
    return f"{said}."


def _interval(metrics: Mapping[str, float], name: str) -> str:
    ends = [metrics[each] for each in (f"{name}_low", f"{name}_high") if each in metrics]
    span = f" ({ends[0]:+.2%} to {ends[1]:+.2%})" if len(ends) == 2 else ""
    return f"{metrics[name]:+.2%}{span}"


def _report(strategy: str, model: str | None, outcome: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"strategy": strategy, "current": model, "outcome": outcome})
        return
    click.echo(f"{strategy}: {outcome}. Current is {model or 'no model'}.")


def add_model_commands(group: click.Group) -> None:
    """Add the subcommands to the group `inference`."""
    for command in (models, card, promote, back, train):
        group.add_command(command)
