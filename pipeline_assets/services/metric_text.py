"""Prometheus' text format: samples to the text that a scraper reads. metric_names.py names all metrics.

The client library prometheus_client would do this too; for gauges that are all read at a scrape it would be a
dependency for a dozen lines.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True)
class Sample:
    """One value of one metric."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def exposition(samples: Iterable[Sample], descriptions: Mapping[str, str]) -> str:
    """Return the text of the samples, grouped by metric in the order of `descriptions`.

    Args:
        samples: each of a metric that is described.
        descriptions: what each metric means, by its name. A metric without a sample is left out.
    """
    lines: dict[str, list[str]] = {name: [] for name in descriptions}
    for sample in samples:
        labels = ",".join(
            f'{label}="{value.translate(_ESCAPES)}"' for label, value in sample.labels.items()
        )
        shown = f"{{{labels}}}" if labels else ""
        lines[sample.name].append(f"{sample.name}{shown} {sample.value:.17g}")
    text: list[str] = []
    for name, found in lines.items():
        if found:
            text += [f"# HELP {name} {descriptions[name]}", f"# TYPE {name} gauge", *found]
    return "".join(f"{line}\n" for line in text)
