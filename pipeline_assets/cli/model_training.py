"""Training of a strategy's model by a run of the job `models`, for the command `inference train` and the
demo. Who executes the run is in run_executor.py, the training itself in research/.
"""

import sys
from dataclasses import asdict, dataclass

import click

from pipeline_assets.cli.options import check_dagster_home, json_option
from pipeline_assets.cli.output import console, print_json
from pipeline_assets.cli.run_executor import Say, executor
from pipeline_assets.collection.run_names import MODEL_JOB
from pipeline_assets.settings import Settings, load_settings


@dataclass(frozen=True)
class Trained:
    """A model that was trained.

    Attributes:
        strategy: the name of the strategy.
        model: the model's id.
        passed: whether the check `promotion` found that the model may decide.
        description: the check's sentence: what became current, or what the model failed.
        run: the Dagster run.
    """

    strategy: str
    model: str
    passed: bool
    description: str
    run: str


def train_model(settings: Settings, strategy: str, say: Say | None = None) -> Trained:
    """Train a strategy's model on the newest finalized days, and promote it if it passes; may be repeated.

    Args:
        settings: the settings.
        strategy: the name of a configured strategy.
        say: prints how far the run is; by default on standard error.

    Raises:
        BackfillError: the run failed, as where too few candidates have an outcome. The message says why.
        StoppedError: a signal came.
        DagsterWebError: Dagster stopped answering. A run on a worker goes on.
    """
    with executor(settings, MODEL_JOB, None, say) as execute:
        outcome = execute(strategy, strategy, {})
    # The asset has this one check.
    check = outcome.checks[-1]
    model = outcome.metadata["model"]["model"]
    return Trained(strategy, model, check.passed, check.description or "", outcome.run_id)


@click.command()
@click.argument("strategy")
@json_option
def train(strategy: str, as_json: bool) -> None:
    """Train the model of a configured STRATEGY on the stored days, and let it decide if it passes.

    It materializes the asset `model`, as Dagster's UI does. Exit status 1: the model did not pass, or could
    not be trained.
    """
    from pipeline_assets.research.strategy_choice import chosen_strategies

    settings = load_settings()
    check_dagster_home()
    # Refused before a run, which would leave a failed partition.
    chosen_strategies(settings, [strategy])
    done = train_model(settings, strategy)
    if as_json:
        print_json(asdict(done))
    else:
        console().print(done.description, markup=False)
    if not done.passed:
        sys.exit(1)
