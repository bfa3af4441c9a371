"""The files that are generated from the code and kept with it; `make generate` writes them.

They are for readers that do not import this package: Airflow's DAG folder, and consumers of candidates and
decisions; and the MERGE of each table of trading records, for people who review SQL.
A test says whether they are current.
"""

import json
from importlib.resources import files

from pydantic import BaseModel

from pipeline_assets.assets import layer
from pipeline_assets.collection import run_names, scheduled_days
from pipeline_assets.collection.fetch_plan import KIND_TAG, RunKind
from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.strategies import strategy_names
from pipeline_assets.resources.record_tables import RECORD_TABLES, merge_text
from pipeline_assets.trading.decisions import Decision

_DAG_INTERVALS = '''"""The DAGs' intervals and Dagster's names: generated from the code by `make generate`."""

from datetime import timedelta

LOCATION, REPOSITORY = "{LOCATION}", "{REPOSITORY}"
FINALIZE_JOB, HOUSEKEEPING_JOB = "{FINALIZE_JOB}", "{HOUSEKEEPING_JOB}"
FUNDING_JOB, FUNDING_CRON = "{FUNDING_JOB}", "{FUNDING_CRON}"
# The asset that each task of a DAG run of funding rates watches.
FUNDING_TASKS = {{"fetch": "{FUNDING_RATES}", "insert": "{FUNDING_TABLE}"}}
# Likewise for trading records.
TRADING_TABLES_JOB, TRADING_TABLES_CRON = "{TRADING_TABLES_JOB}", "{TRADING_TABLES_CRON}"
TRADING_TABLES_TASKS = {{
{trading_tables}
}}
OUTCOMES_JOB, OUTCOMES_CRON = "{OUTCOMES_JOB}", "{OUTCOMES_CRON}"
# So many days before yesterday are computed once more.
OUTCOMES_AGAIN = {OUTCOMES_AGAIN}
RECONCILIATION_JOB, RECONCILIATION_CRON = "{RECONCILIATION_JOB}", "{RECONCILIATION_CRON}"
DAY_REPORT_JOB, DAY_REPORT_CRON = "{DAY_REPORT_JOB}", "{DAY_REPORT_CRON}"
WEEK_REPORT_JOB, WEEK_REPORT_CRON = "{WEEK_REPORT_JOB}", "{WEEK_REPORT_CRON}"
MONTH_REPORT_JOB, MONTH_REPORT_CRON = "{MONTH_REPORT_JOB}", "{MONTH_REPORT_CRON}"
FINALIZE_CRON, HOUSEKEEPING_CRON = "{FINALIZE_CRON}", "{HOUSEKEEPING_CRON}"
MODEL_JOB, MODEL_CRON = "{MODEL_JOB}", "{MODEL_CRON}"
DRIFT_JOB, DRIFT_CRON = "{DRIFT_JOB}", "{DRIFT_CRON}"
# The strategies that can be trained.
STRATEGIES = (
{strategies}
)
PARTITION_TAG = "{PARTITION_TAG}"
# The tags of a run over several days: the first one and the last one.
FIRST_DAY_TAG = "{FIRST_DAY_TAG}"
LAST_DAY_TAG = "{LAST_DAY_TAG}"
# With this kind a run leaves out days that are stored complete, and no more than two run at once.
LATE_TAGS = {{"{KIND_TAG}": "{LATE_KIND}"}}
SPANS = {{
{spans}
}}
CRONS = {{
{crons}
}}
INGEST_JOBS = {{
{jobs}
}}
# By interval the asset that each task of a DAG run watches, in the order of the data.
TASKS = {{
{tasks}
}}
# By interval the asset that follows the tasks' assets in a backfill.
FEATURES = {{
{features}
}}
'''


def dag_intervals() -> str:
    """Return the registry of intervals and Dagster's names as Airflow's DAG folder reads them."""
    kinds = ("spans", "crons", "jobs", "tasks", "features")
    lines: dict[str, list[str]] = {kind: [] for kind in kinds}
    for interval in Interval:
        minutes = interval.span.total_seconds() / 60
        lines["spans"].append(f'    "{interval}": timedelta(minutes={minutes:g}),')
        lines["crons"].append(f'    "{interval}": "{interval.definition.cron}",')
        lines["jobs"].append(f'    "{interval}": "{run_names.ingest_job(interval)}",')
        tasks = [f'        "{task}": "{asset}",' for task, asset in _tasks(interval).items()]
        lines["tasks"] += [f'    "{interval}": {{', *tasks, "    },"]
        if interval.has_table:
            name = layer.name(layer.FEATURES, interval)
            lines["features"].append(f'    "{interval}": "{name}",')
    lines["strategies"] = [f'    "{name}",' for name in strategy_names()]
    names = {**vars(run_names), **vars(scheduled_days), "KIND_TAG": KIND_TAG}
    tables = [key.path[0] for key in layer.TRADING_TABLES]
    watched = {f"{name.removesuffix('_table')}s": name for name in tables}
    watched["views"] = layer.VIEWS.path[0]
    lines["trading_tables"] = [f'    "{task}": "{asset}",' for task, asset in watched.items()]
    for name in ("FUNDING_RATES", "FUNDING_TABLE"):
        names[name] = vars(layer)[name].path[0]
    made = {name: "\n".join(each) for name, each in lines.items()}
    return _DAG_INTERVALS.format_map(names | made | {"LATE_KIND": RunKind.BACKFILL})


def _tasks(interval: Interval) -> dict[str, str]:
    """Return the asset that each task watches; one sink's task is `insert`, several are `insert_{sink}`."""
    sinks = interval.definition.sinks
    layers = {"fetch": layer.RAW, "format": layer.FORMATTED, "upload": layer.OBJECTS}
    for name in sinks:
        layers["insert" if len(sinks) == 1 else f"insert_{name}"] = layer.sink(name)
    return {task: layer.name(own, interval) for task, own in layers.items()}


def generated() -> dict[str, str]:
    """Return the text of each generated file, by its path in the package."""
    return {
        **{
            f"resources/warehouse_sql/{table.file}_merge.sql": merge_text(table)
            for table in RECORD_TABLES.values()
        },
        "airflow_dags/candle_intervals.py": dag_intervals(),
        "market/candidate.schema.json": _schema(Candidate),
        "trading/decision.schema.json": _schema(Decision),
    }


def _schema(record: type[BaseModel]) -> str:
    text = json.dumps(record.model_json_schema(), indent=2, ensure_ascii=False)
    return f"{text}\n"


def main() -> None:
    """Write every generated file."""
    for path, text in generated().items():
        files("pipeline_assets").joinpath(path).write_text(text, "utf-8")  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
