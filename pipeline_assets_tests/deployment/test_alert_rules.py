"""The alert rules name metrics that the exporter has, with labels that these have."""

import re
from typing import Any

import pytest

from pipeline_assets.services.metric_names import DESCRIPTIONS
from pipeline_assets_tests.deployment.files import DEPLOY, document

RULES: list[dict[str, Any]] = [
    rule
    for group in document(DEPLOY / "monitoring" / "alerts.yaml")["groups"]
    for rule in group["rules"]
]
LABELS = {
    "pipeline_part_answers": {"part"},
    "pipeline_candles_fresh": {"interval"},
    "pipeline_workers": {"queue"},
    "pipeline_dagster_daemon_healthy": {"daemon"},
    "pipeline_dagster_runs": {"status"},
    "pipeline_gateway_mode": {"account", "mode"},
    "pipeline_gateway_unknown_orders": {"account"},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_rule_names_existing_metrics(rule: dict[str, Any]) -> None:
    metrics = set(re.findall(r"\bpipeline_\w+", rule["expr"]))
    assert metrics != set()
    assert metrics <= set(DESCRIPTIONS)
    used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    used |= set(re.findall(r"[{,](\w+)=", rule["expr"]))
    assert used <= {label for name in metrics for label in LABELS.get(name, set())}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_rule_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+m", rule["for"])
    assert set(rule["annotations"]) == {"summary", "action"}


def test_rules_cover_every_part() -> None:
    """Candles, workers, daemon, the exchange's block and the gateway each have a rule."""
    named = {name for rule in RULES for name in re.findall(r"\bpipeline_\w+", rule["expr"])}
    assert set(LABELS) <= named
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_prometheus_reads_the_rules() -> None:
    """The compose file mounts the rules where Prometheus' configuration names them."""
    configuration = document(DEPLOY / "monitoring" / "prometheus.yaml")
    mounts = {
        each["source"]: each["target"]
        for each in document(DEPLOY / "compose" / "compose.yaml")["services"]["prometheus"][
            "configs"
        ]
    }
    assert configuration["rule_files"] == [mounts["alerts"]]
