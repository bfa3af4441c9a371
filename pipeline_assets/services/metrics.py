"""The metrics exporter: one process that asks the lake, Redis, Dagster and the order gateway when Prometheus
scrapes it. Run as `python -m pipeline_assets.services.metrics [--host 127.0.0.1] [--port 9102]`.

Metrics are gauges of what is stored in shared systems, so one exporter serves all hosts, and a restart loses
nothing. It changes nothing and shows no secret.
"""

import argparse
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from pipeline_assets.dagster_instance.celery_app import QUEUES
from pipeline_assets.errors import PipelineError
from pipeline_assets.process_identity import boot_clock
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.workers import WorkerRegistry
from pipeline_assets.services import metric_names as names
from pipeline_assets.services.freshness_judge import FreshnessJudge
from pipeline_assets.services.metric_text import CONTENT_TYPE, Sample, exposition
from pipeline_assets.settings import Settings, load_settings
from pipeline_assets.trading.order_types import Mode
from pipeline_assets.web_guard import GuardedApplication, WebGuard

PARTS = ("s3", "redis", "dagster", "gateway")
# Scrapers of several kinds, or a person's browser, share the answers of so many seconds.
_KEPT_SECONDS = 10.0
_ASKING_SECONDS = 5.0
_UNFINISHED = ("QUEUED", "STARTING", "STARTED", "CANCELING")
_DAGSTER = """
query Health {
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
  runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING]}) {
    __typename ... on Runs { results { status } }
  }
}
"""
logger = logging.getLogger("pipeline_assets.metrics")


class Collector:
    """Asks each part once a scrape; a part that fails is shown as such and delays no other for long."""

    def __init__(self, settings: Settings, parts: Iterable[str] = PARTS) -> None:
        hurried = {"timeout_seconds": min(settings.redis.timeout_seconds, 2.0), "retry_seconds": 0}
        redis = settings.redis.model_copy(update=hurried)
        self._settings = settings.model_copy(update={"redis": redis})
        self._judge = FreshnessJudge(settings)
        self._workers = WorkerRegistry(redis)
        self._budget = Exchange(self._settings).budget
        asking: dict[str, Callable[[datetime], list[Sample]]] = {
            "s3": self._candles,
            "redis": self._shared_state,
            "dagster": self._dagster,
            "gateway": self._gateway,
        }
        self._asking = {part: asking[part] for part in parts}

    def collect(self, now: datetime) -> list[Sample]:
        """Return the samples of all parts at the time `now`, UTC."""
        found: list[Sample] = []
        for part, ask in self._asking.items():
            try:
                samples = ask(now)
                answers = 1.0
            # Answers of another server at the address miss fields, or hold values of another type.
            except (PipelineError, OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s did not answer: %s", part, str(error)[:300])
                samples, answers = [], 0.0
            found += [Sample(names.PART_ANSWERS, answers, {"part": part}), *samples]
        return found

    def _candles(self, now: datetime) -> list[Sample]:
        del now
        self._judge.judge_all(boot_clock())
        if self._judge.failure is not None:
            raise ValueError(self._judge.failure)
        found = []
        for interval, verdict in self._judge.verdicts.items():
            labels = {"interval": interval.value}
            # Without an ingest run so far it is neither fresh nor stale: the rule CandlesStale would fire in
            # each new installation, in the first hour for the candles of 1h.
            if verdict.newest is None:
                continue
            newest = verdict.newest.timestamp()
            found += [
                Sample(names.CANDLES_FRESH, float(verdict.fresh), labels),
                Sample(names.CANDLES_STALE_SYMBOLS, len(verdict.late), labels),
                Sample(names.CANDLES_NEWEST, newest, labels),
            ]
        return found

    def _shared_state(self, now: datetime) -> list[Sample]:
        living = self._workers.living()
        use = self._budget.use(int(now.timestamp() * 1000))
        return [
            *(
                Sample(
                    names.WORKERS, sum(queue in each.queues for each in living), {"queue": queue}
                )
                for queue in QUEUES
            ),
            Sample(names.WEIGHT_USED, use.used),
            Sample(names.WEIGHT_CAPACITY, use.capacity),
            Sample(names.BLOCKED_SECONDS, use.blocked_ms / 1000),
        ]

    def _dagster(self, now: datetime) -> list[Sample]:
        del now
        dagster = self._settings.dagster
        url = f"http://{dagster.host}:{dagster.webserver_port}/graphql"
        answer = _json("POST", url, {"query": _DAGSTER, "variables": {}})["data"]
        daemons = answer["instance"]["daemonHealth"]["allDaemonStatuses"]
        counts = dict.fromkeys(_UNFINISHED, 0)
        for run in answer["runsOrError"]["results"]:
            status = "QUEUED" if run["status"] == "NOT_STARTED" else run["status"]
            counts[status] += 1
        return [
            *(
                Sample(names.DAEMON_HEALTHY, float(each["healthy"]), {"daemon": each["daemonType"]})
                for each in daemons
                if each["required"]
            ),
            *(Sample(names.RUNS, count, {"status": status}) for status, count in counts.items()),
        ]

    def _gateway(self, now: datetime) -> list[Sample]:
        del now
        gateway = self._settings.gateway
        state = _json("GET", f"http://{gateway.host}:{gateway.http_port}/v1/risk")
        account = {"account": str(state["account"])}
        return [
            *(
                Sample(names.GATEWAY_MODE, float(state["mode"] == mode), account | {"mode": mode})
                for mode in Mode
            ),
            Sample(names.GATEWAY_RESULT, float(state["day_result"]), account),
            Sample(names.GATEWAY_EXPOSURE, float(state["gross_exposure"]), account),
            Sample(names.GATEWAY_POSITIONS, float(state["open_positions"]), account),
            Sample(names.GATEWAY_UNKNOWN, float(state["unknown_orders"]), account),
        ]


def _json(method: str, url: str, body: Any = None) -> Any:
    """Return an HTTP server's answer. Its own address never goes through a proxy.

    Raises:
        OSError: it did not answer, or refused.
    """
    import requests

    with requests.Session() as session:
        session.trust_env = False
        reply = session.request(method, url, json=body, timeout=_ASKING_SECONDS)
        reply.raise_for_status()
        return reply.json()


class KeptText:
    """The text of the last scrape, shared by the scrapes that come soon after it."""

    def __init__(
        self, collector: Collector, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`monotonic` is a clock in seconds that only goes forward."""
        self._collector, self._monotonic = collector, monotonic
        self._lock = threading.Lock()
        self._text, self._until = "", float("-inf")

    def __call__(self) -> str:
        """Return the text; collect first if the last one is too old."""
        with self._lock:
            if self._monotonic() >= self._until:
                samples = self._collector.collect(datetime.now(UTC))
                self._text = exposition(samples, names.DESCRIPTIONS)
                self._until = self._monotonic() + _KEPT_SECONDS
            return self._text


def application(text: Callable[[], str], names: tuple[str, ...] = ()) -> GuardedApplication:
    """Return the ASGI application: `/metrics`, and `/health` for the container's check.

    Args:
        text: what `/metrics` shows.
        names: of this server, beside loopback ones and addresses.
    """
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    # Starlette calls a plain function in a thread.
    def metrics(request: Request) -> Response:
        del request
        return Response(text(), media_type=CONTENT_TYPE)

    def health(request: Request) -> Response:
        del request
        return PlainTextResponse("SERVING\n")

    served = Starlette(routes=[Route("/metrics", metrics), Route("/health", health)])
    return GuardedApplication(served, WebGuard(names, addresses=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and serve until a signal comes."""
    import uvicorn

    parser = argparse.ArgumentParser(
        prog="python -m pipeline_assets.services.metrics",
        description="Serve metrics for Prometheus at /metrics. docs/production.md lists these.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    parser.add_argument("--port", type=int, default=9102, help="the port to listen at")
    parser.add_argument("--parts", default=",".join(PARTS), help="the parts to ask, by commas")
    given = parser.parse_args(arguments)
    parts = given.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = load_settings()
    served = application(KeptText(Collector(settings, parts)), settings.allowed_hosts or ())
    uvicorn.run(served, host=given.host, port=given.port, access_log=False, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
