"""The names of a deployed model in Snowflake, and the SQL that predicts with it. Deployment: deployment.py.

Plain functions of a manifest, without snowflake-ml-python.
"""

from pipeline_assets.resources.model_objects import Manifest

METHOD = "PREDICT_PROBA"
# The two columns that a prediction returns: the probabilities of a candidate that loses and one that wins.
LOST, WON = "probability_lost", "probability_won"


def model_name(strategy: str) -> str:
    """Return the model's name; a strategy has one model, whose versions are the trainings."""
    return f"CANDIDATE_{strategy.upper()}"


def version_name(manifest: Manifest) -> str:
    """Return the version's name: the model's id in Snowflake's alphabet."""
    return f"V{manifest.model_id.replace('-', '_').upper()}"


def description(manifest: Manifest) -> str:
    """Return what a person reads beside the version in Snowflake."""
    return (
        f"{manifest.strategy} {manifest.strategy_version}, trained on {manifest.trained_from:%Y-%m-%d} to "
        f"{manifest.trained_to:%Y-%m-%d}, model {manifest.model_id}, SHA-256 {manifest.sha256}"
    )


def prediction_sql(manifest: Manifest, inputs: str = "CANDIDATE_INPUTS") -> str:
    """Return the statement that predicts for every row of a table or view with the model's input columns.

    For a real account alone: the embedded server refuses it.
    """
    columns = ", ".join(manifest.columns)
    named = f"MODEL {model_name(manifest.strategy)} VERSION {version_name(manifest)}"
    return (
        f"WITH judge AS {named}\n"
        f"SELECT id, judge!{METHOD}({columns}):{WON}::FLOAT AS probability\n"
        f"FROM {inputs};\n"
    )
