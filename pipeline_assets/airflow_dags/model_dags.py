"""The DAG of the weekly trainings: when each strategy's model is trained. Dagster trains, and its check
promotes; the operators watch it. Candles and funding rates are in candle_dags.py.
"""

from datetime import timedelta

from airflow.sdk import DAG, Variable
from candle_intervals import MODEL_CRON, MODEL_JOB, STRATEGIES
from dag_defaults import scheduled
from dagster_operators import DagsterStepOperator

_DOC = """
### Weekly training

One Dagster run of the job `models` for each strategy, one at a time: it trains a model on the newest
finalized days, and the check `promotion` makes the model current if it is good enough. A model that is not
good enough is no failure: the check warns, and the current model stays. A missed week is not made up: the
next training has newer days. Clear a task to train that strategy again.

Variable `model_strategies` names the strategies, separated by commas (its default: every strategy there is);
name those of Dagster's settings.
"""


def strategies(text: str) -> list[str]:
    """Return the names of a list separated by commas, each once.

    Raises:
        ValueError: the list has no name.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError(
            "Variable model_strategies names no strategy, such as: macd_cross, ema_trend."
        )
    return names


def model_dag() -> DAG:
    """Build the DAG of the trainings: a task a strategy, whose name is the Dagster run's partition."""
    with DAG(
        "models",
        description="Train a model of each strategy, and make it current if it passes its tests.",
        doc_md=_DOC,
        # A training takes a core and up to two gigabytes.
        max_active_tasks=1,
        tags=["dagster", "models"],
        **scheduled(
            MODEL_CRON,
            retries=2,
            retry_delay=timedelta(minutes=15),
            # Dagster ends a training after 45 minutes; the rest is for its queue.
            execution_timeout=timedelta(hours=3),
            poll_seconds=5.0,
        ),
    ) as dag:
        for name in strategies(Variable.get("model_strategies", default=",".join(STRATEGIES))):
            DagsterStepOperator(
                task_id=name,
                job=MODEL_JOB,
                partition=name,
                doc_md=f"Watches the Dagster run that trains the model of `{name}`.",
            )
    return dag


model_dag()
