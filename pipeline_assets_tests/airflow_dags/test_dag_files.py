"""The DAG folder alone, copied into an Airflow that has only `requests` beside it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pipeline_assets.collection.scheduled_days import days_of_outcomes
from pipeline_assets.definitions import definitions
from pipeline_assets.local.stack import REPOSITORY
from pipeline_assets.market.strategies import strategy_names
from pipeline_assets_tests.fixtures.exchange import die_with_parent

FOLDER = REPOSITORY / "pipeline_assets" / "airflow_dags"
REPORTS = {f"{span}_report": f"report_{span}" for span in ("day", "week", "month")}

# Packages that are installed here without being required by Airflow or requests cannot be imported.
PARSE = """
import importlib.metadata as metadata, json, re, sys
from packaging.requirements import Requirement

def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()

allowed, left = set(), ["apache-airflow", "requests"]
while left:
    name = canonical(left.pop())
    if name in allowed:
        continue
    allowed.add(name)
    try:
        wanted = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        wanted = []
    for text in wanted:
        requirement = Requirement(text)
        # Requirements of extras do not count; all others do, also those of other platforms.
        if requirement.marker is None or "extra" not in str(requirement.marker):
            left.append(requirement.name)

class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        owners = {canonical(each) for each in distributions.get(top, ())}
        if top == "pipeline_assets" or (owners and not owners & allowed):
            raise ModuleNotFoundError(f"{name} is not there beside Airflow", name=name)
        return None

distributions = metadata.packages_distributions()
assert "dagster" not in allowed
sys.meta_path.insert(0, Block())

from airflow.dag_processing.dagbag import DagBag

sys.path.insert(0, sys.argv[1])
bag = DagBag(sys.argv[1])
from airflow.serialization.serialized_objects import DagSerialization

facts = {}
for dag_id, dag in bag.dags.items():
    DagSerialization.to_dict(dag)
    facts[dag_id] = {
        "tasks": {
            task.task_id: {
                "upstream": sorted(task.upstream_task_ids),
                "retries": task.retries,
                "timeout": task.execution_timeout and task.execution_timeout.total_seconds(),
                "owner": task.owner,
                "steps": getattr(task, "step", None),
            }
            for task in dag.tasks
        },
        "catchup": dag.catchup,
        "dagrun_timeout": str(dag.dagrun_timeout) if dag.dagrun_timeout else None,
        "schedule": getattr(dag.timetable, "expression", None),
        "doc": bool(dag.doc_md),
        "tags": sorted(dag.tags),
        "alerts": dag.has_on_failure_callback,
    }
print("FACTS" + json.dumps({"dags": facts, "errors": bag.import_errors}))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("airflow") / "dags"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    completed = subprocess.run(
        [sys.executable, "-I", "-c", PARSE, str(folder)],
        env={
            "PATH": os.environ["PATH"],
            "AIRFLOW_HOME": str(folder.parent),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        },
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr[-4000:]
    line = next(line for line in completed.stdout.splitlines() if line.startswith("FACTS"))
    return json.loads(line.removeprefix("FACTS"))


def test_folder_needs_only_airflow_and_requests(parsed: dict) -> None:
    """The folder parses beside Airflow and requests alone."""
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == {
        "candles_1m",
        "candles_15m",
        "candles_1h",
        "candles_seal",
        "candles_backfill",
        "candles_housekeeping",
        "airflow_cleaning",
        "funding_rates",
        "trading_tables",
        "candidate_outcomes",
        "models",
        "model_drift",
        "reconciliation",
        *REPORTS,
    }


def test_funding_is_two_step_tasks(parsed: dict) -> None:
    """Funding rates are fetched hourly by one Dagster run, and a backfill of them is a choice."""
    dag = parsed["dags"]["funding_rates"]
    steps = {name: (each["upstream"], each["steps"]) for name, each in dag["tasks"].items()}
    assert steps == {"fetch": ([], "funding_rates"), "insert": (["fetch"], "funding_table")}
    assert (dag["schedule"], dag["catchup"], dag["alerts"]) == ("5 * * * *", False, True)
    assert "backfill_funding" in parsed["dags"]["candles_backfill"]["tasks"]


def test_trading_tables_load_with_candles(parsed: dict) -> None:
    """Each table of trading records has a task, at the times of the loads of 15m candles."""
    dag = parsed["dags"]["trading_tables"]
    assert {name: each["steps"] for name, each in dag["tasks"].items()} == {
        "candidates": "candidate_table",
        "decisions": "decision_table",
        "intents": "intent_table",
        "orders": "order_table",
        "fills": "fill_table",
        "views": "analysis_views",
    }
    assert dag["schedule"] == parsed["dags"]["candles_15m"]["schedule"]
    assert not dag["catchup"]


def test_training_is_a_task_a_strategy(parsed: dict) -> None:
    """Each strategy is trained weekly at the time of Dagster's own schedule, whatever the others end as."""
    dag = parsed["dags"]["models"]
    assert set(dag["tasks"]) == set(strategy_names())
    assert all((each["upstream"], each["steps"]) == ([], None) for each in dag["tasks"].values())
    assert dag["schedule"] == definitions.resolve_schedule_def("models").cron_schedule


def test_drift_is_one_watched_run(parsed: dict) -> None:
    """One task watches the whole run; a missed day is not made up."""
    dag = parsed["dags"]["model_drift"]
    assert {name: each["steps"] for name, each in dag["tasks"].items()} == {"drift": None}
    assert (dag["catchup"], dag["alerts"]) == (False, True)


# To import Airflow takes two CPU seconds, so programs run in children of a process that has imported it.
BESIDE = """
import json, os, sys
import airflow.models, airflow.sdk, requests

for line in sys.stdin:
    program, arguments, environment = json.loads(line)
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(writable, 1)
            os.environ.update(environment)
            sys.argv = ["-c", *arguments]
            exec(program, {"__name__": "__main__"})
            sys.stdout.flush()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    os.close(writable)
    with os.fdopen(readable) as output:
        printed = output.read()
    _, status = os.waitpid(child, 0)
    print("ENDED" + json.dumps([status, printed]), flush=True)
"""


class BesideAirflow:
    """Runs programs beside the DAG folder, each in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, program: str, *arguments: str, **environment: str) -> list[str]:
        """Return the lines that a program prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = program, [str(FOLDER), *arguments], environment
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        ended = next(line for line in self._process.stdout if line.startswith("ENDED"))
        status, printed = json.loads(ended.removeprefix("ENDED"))
        assert status == 0, printed
        return str(printed).splitlines()


@pytest.fixture(scope="module")
def beside_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BesideAirflow]:
    home = tmp_path_factory.mktemp("home")
    with subprocess.Popen(
        [sys.executable, "-c", BESIDE],
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
    ) as process:
        yield BesideAirflow(process)


STRATEGIES = """
import sys; sys.path.insert(0, sys.argv[1])
import model_dags
for text in ("macd_cross, ema_trend,macd_cross", " , "):
    try:
        print("NAMES", *model_dags.strategies(text))
    except ValueError as error:
        print("REFUSED", error)
"""


def test_variable_chooses_strategies(beside_airflow: BesideAirflow) -> None:
    """The variable's names make the tasks; one without names is refused, and so is the file."""
    environment = {"AIRFLOW_VAR_MODEL_STRATEGIES": "macd_cross"}
    printed = beside_airflow(STRATEGIES, **environment)
    assert "NAMES macd_cross ema_trend" in printed
    assert any(line.startswith("REFUSED Variable model_strategies") for line in printed)


TRAININGS = """
import sys; sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
import dagster_base_operator, model_dags
from dagster_api import Run

class Dagster:
    launched = []
    def runs(self, tags):
        held = [tag for tag in self.launched if tags.items() <= tag.items()]
        return [Run(run_id=str(self.launched.index(each)), root="", status="SUCCESS", planned=(), steps={},
                    tags=each) for each in held]
    def launch(self, job, tags, config):
        print("LAUNCHED", job, tags["dagster/partition"])
        self.launched.append(tags)
        return ""
    def run_url(self, run_id):
        return f"run {run_id}"

dagster_base_operator.dagster_api = Dagster
context = {
    "dag_run": SimpleNamespace(dag_id="models", run_id="weekly", clear_number=0),
    "ti": SimpleNamespace(try_number=1, xcom_push=lambda **_: None),
}
for task in ("macd_cross", "ema_trend", "macd_cross"):
    print("ENDED", task, model_dags.model_dag().get_task(task).execute(context))
"""


def test_training_has_own_run(beside_airflow: BesideAirflow) -> None:
    """Tasks of a DAG run launch and join the run of their own strategy only."""
    lines = beside_airflow(TRAININGS)
    assert [line for line in lines if line.startswith(("LAUNCHED", "ENDED"))] == [
        "LAUNCHED models macd_cross",
        "ENDED macd_cross run 0",
        "LAUNCHED models ema_trend",
        "ENDED ema_trend run 1",
        "ENDED macd_cross run 0",
    ]


@pytest.mark.parametrize("interval", ["1m", "15m", "1h"])
def test_ingest_is_four_step_tasks(parsed: dict, interval: str) -> None:
    """An ingest run is four tasks in a row, each with a step of its own."""
    tasks = parsed["dags"][f"candles_{interval}"]["tasks"]
    last = "candle_slots_1m" if interval == "1m" else f"candle_table_{interval}"
    assert {name: (each["upstream"], each["steps"]) for name, each in tasks.items()} == {
        "fetch": ([], f"raw_candles_{interval}"),
        "format": (["fetch"], f"candles_{interval}"),
        "upload": (["format"], f"candle_objects_{interval}"),
        "insert": (["upload"], last),
    }


def test_every_dag_has_owner_and_alerts(parsed: dict) -> None:
    """Every DAG is documented, has an owner and limits, and alerts."""
    for name, dag in parsed["dags"].items():
        assert dag["doc"], name
        assert dag["alerts"], name
        assert dag["tags"], name
        for task in dag["tasks"].values():
            assert task["owner"] == "market-data"
            assert task["retries"] > 0
            assert task["timeout"]


def test_only_daily_work_catches_up(parsed: dict) -> None:
    """A day that was missed is finalized, compared with the exchange and judged later."""
    caught_up = {name for name, dag in parsed["dags"].items() if dag["catchup"]}
    assert caught_up == {"candles_seal", "candidate_outcomes", "reconciliation", *REPORTS}


@pytest.mark.parametrize(
    ("dag", "job"),
    [
        *(("candles_seal", "seal"), ("candidate_outcomes", "outcomes")),
        *(("model_drift", "model_drift"), ("reconciliation", "reconciliation"), *REPORTS.items()),
    ],
)
def test_daily_dags_share_dagsters_schedule(parsed: dict, dag: str, job: str) -> None:
    """Daily work is at the time of Dagster's own schedule."""
    own = definitions.resolve_schedule_def(job).cron_schedule
    assert parsed["dags"][dag]["schedule"] == own


def test_airflow_reads_the_dag_file_only() -> None:
    """Airflow looks for DAGs in the DAG file only."""
    ignored = (FOLDER / ".airflowignore").read_text().split("\n")
    modules = {path.name for path in FOLDER.glob("*.py")}
    assert modules - set(ignored) == {"candle_dags.py", "model_dags.py", "report_dags.py"}


PARTITIONS = """
import sys; sys.path.insert(0, sys.argv[1])
from datetime import datetime, timedelta
from types import SimpleNamespace
from dagster_operators import DagsterStepOperator
for start, after, now, minutes in (each.split(",") for each in sys.argv[2:]):
    run = SimpleNamespace(
        data_interval_start=datetime.fromisoformat(start) if start else None,
        run_after=datetime.fromisoformat(after),
    )
    span = timedelta(minutes=int(minutes)) if minutes else None
    step = DagsterStepOperator(task_id="step", job="job", span=span)
    tags = step._partition_tags({"dag_run": run}, datetime.fromisoformat(now))
    print("DAY", tags["dagster/partition"], tags.get("pipeline/kind", "-"))
    if not start:
        continue
    import candle_dags
    (step,) = candle_dags.outcomes_dag().tasks
    tags = step._partition_tags({"dag_run": run}, datetime.fromisoformat(now))
    print("RANGE", *(tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end")))
"""


def test_partition_is_the_intervals_day(beside_airflow: BesideAirflow) -> None:
    """The partition is the day of the newest candle, or of the DAG's data interval."""
    # Start of the data interval, run after, now, minutes: partition and kind of the DAG run.
    off = "2026-11-20T14:58:00+00:00,2026-11-20T14:59:00+00:00"
    moments = {
        # Just after midnight the last candle belongs to yesterday.
        ",2026-11-22T00:00:00+00:00,2026-11-22T00:00:00+00:00,1": "2026-11-21 -",
        ",2026-11-22T00:00:59+00:00,2026-11-22T00:00:59+00:00,1": "2026-11-21 -",
        ",2026-11-22T00:01:00+00:00,2026-11-22T00:01:00+00:00,1": "2026-11-22 -",
        ",2026-11-22T00:14:59+00:00,2026-11-22T00:14:59+00:00,15": "2026-11-21 -",
        ",2026-11-22T00:15:00+00:00,2026-11-22T00:15:00+00:00,15": "2026-11-22 -",
        ",2026-11-22T02:59:00+03:00,2026-11-21T23:59:00+00:00,60": "2026-11-21 -",
        ",2026-11-22T04:00:00+03:00,2026-11-22T01:00:00+00:00,60": "2026-11-22 -",
        # A worker's clock may be behind the scheduler's.
        ",2026-11-22T00:01:00+00:00,2026-11-22T00:00:58+00:00,1": "2026-11-22 -",
        # After two days off Airflow first runs an interval of that time: what is due now is ingested.
        f"{off},2026-11-22T15:00:20+00:00,1": "2026-11-22 -",
        f"{off},2026-11-22T15:00:20+00:00,60": "2026-11-22 -",
        # A day is finalized for its own interval, and one long past leaves out what is complete.
        "2026-11-21T01:05:00+00:00,2026-11-22T01:05:00+00:00,2026-11-22T01:05:09+00:00,": "2026-11-21 -",
        "2026-11-20T01:05:00+00:00,2026-11-21T01:05:00+00:00,2026-11-22T15:00:20+00:00,": (
            "2026-11-20 backfill"
        ),
    }
    days = [line for line in beside_airflow(PARTITIONS, *moments) if line.startswith("DAY ")]
    assert [line.removeprefix("DAY ") for line in days] == list(moments.values())


def test_outcomes_cover_dagsters_days(beside_airflow: BesideAirflow) -> None:
    """Airflow's run covers the days that Dagster's own schedule always requests."""
    moment = "2026-11-19T04:10:00+00:00,2026-11-20T04:10:00+00:00,2026-11-20T04:10:09+00:00,"
    lines = beside_airflow(PARTITIONS, moment)
    with_candidates = [date(2026, 11, 17), date(2026, 11, 18)]
    days = days_of_outcomes(date(2026, 11, 19), with_candidates, with_candidates)
    assert f"RANGE {min(days)} {max(days)}" in lines


def test_downtime_times_out_no_dag_run(parsed: dict) -> None:
    """No DAG run times out because Airflow was off.

    Airflow counts from the DAG run's start: one in flight at a stop would fail at the restart.
    """
    timeouts = {name: dag["dagrun_timeout"] for name, dag in parsed["dags"].items()}
    assert set(timeouts.values()) == {None}


CLEANING = """
import datetime, json, sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from database_cleaning import AirflowCleaningOperator, remove_logs
before = datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC)
print("REMOVED", remove_logs(Path(sys.argv[2]), before), remove_logs(Path(sys.argv[2]), before))
try:
    AirflowCleaningOperator(task_id="clean").execute({"params": {"keep_days": 3}})
except Exception as error:
    print("RAISED", type(error).__name__, error)
"""


def test_cleanup_deletes_logs_by_age(beside_airflow: BesideAirflow, tmp_path: Path) -> None:
    """Logs are deleted by age, and database records only if somebody named the database."""
    logs = tmp_path / "logs"
    for name, day in (("old", 19), ("young", 21)):
        file = logs / "dag_id=candles_1m" / name / "attempt=1.log"
        file.parent.mkdir(parents=True)
        file.write_text(name)
        written = datetime(2026, 11, day, tzinfo=UTC).timestamp()
        for each in (file, file.parent):
            os.utime(each, (written, written))
    printed = beside_airflow(CLEANING, str(logs))
    assert "REMOVED 1 0" in printed
    assert [path.parent.name for path in logs.rglob("*.log")] == ["young"]
    said = "RAISED AirflowSkipException No connection `airflow_database`"
    assert any(line.startswith(said) for line in printed)
