"""The files that are generated from the code and kept with it; `make generate` writes them.

They are for readers that do not import this package: Airflow's DAG folder, and consumers of candidates.
A test says whether they are current.
"""

import json
from importlib.resources import files

from pipeline_assets.assets import layer
from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.intervals import Interval

_DAG_INTERVALS = '''"""The intervals of the DAGs: generated from the registry by `make generate`."""

from datetime import timedelta

SPANS = {
{spans}
}
CRONS = {
{crons}
}
# By interval the assets that a DAG run's tasks watch after fetch, format and upload.
SINKS = {
{sinks}
}
'''


def dag_intervals() -> str:
    """Return the registry of intervals as Airflow's DAG folder reads it."""
    lines: dict[str, list[str]] = {"spans": [], "crons": [], "sinks": []}
    for interval in Interval:
        minutes = interval.span.total_seconds() / 60
        lines["spans"].append(f'    "{interval}": timedelta(minutes={minutes:g}),')
        lines["crons"].append(f'    "{interval}": "{interval.definition.cron}",')
        lines["sinks"].append(f'    "{interval}": {json.dumps(_sink_tasks(interval))},')
    text = _DAG_INTERVALS
    for name, made in lines.items():
        text = text.replace(f"{{{name}}}", "\n".join(made))
    return text


def _sink_tasks(interval: Interval) -> dict[str, str]:
    """The assets of an interval's sinks by the task that watches each: `insert`, or one for each sink."""
    sinks = interval.definition.sinks
    return {
        "insert" if len(sinks) == 1 else f"insert_{name}": layer.name(layer.sink(name), interval)
        for name in sinks
    }


def generated() -> dict[str, str]:
    """Return the text of each generated file, by its path in the package."""
    schema = json.dumps(Candidate.model_json_schema(), indent=2, ensure_ascii=False)
    return {
        "airflow_dags/candle_intervals.py": dag_intervals(),
        "market/candidate.schema.json": f"{schema}\n",
    }


def main() -> None:
    """Write every generated file."""
    for path, text in generated().items():
        files("pipeline_assets").joinpath(path).write_text(text, "utf-8")  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
