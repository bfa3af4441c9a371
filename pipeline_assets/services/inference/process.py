"""The process of the inference service: candidates from a consumer group go to the decider, its decisions to
the topic `decisions`, and only then is the place in the group committed. It may be killed at any point.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from pipeline_assets.collection.overview import collected_symbols
from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.strategies import configured_rules
from pipeline_assets.research.model_inputs import model_inputs
from pipeline_assets.research.model_registry import ModelRegistry
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.candidate_group import Batch, CandidateGroup
from pipeline_assets.resources.exchange_clock import ExchangeClock
from pipeline_assets.resources.heartbeat import Heartbeat, inference_heartbeat
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
from pipeline_assets.services.exchange_time import measure
from pipeline_assets.services.inference.judging import ModelJudge
from pipeline_assets.services.inference.live_features import LiveFeatures
from pipeline_assets.services.inference.live_models import LiveModels
from pipeline_assets.services.repeated import Repeated
from pipeline_assets.services.until_stopped import run_in_thread, run_until_stopped
from pipeline_assets.settings import Settings, SettingsError
from pipeline_assets.stop_flag import StopFlag
from pipeline_assets.trading.decision_store import LakeDecisions
from pipeline_assets.trading.decisions import DECISION_SCHEMA, DECISIONS_TOPIC, Decision
from pipeline_assets.trading.model_decider import ModelDecider

_READ_SECONDS = 1.0
_MODELS_SECONDS = 60.0
_PAUSE_SECONDS = 5.0
_FIRST_READ_SECONDS = 30.0
_logger = logging.getLogger(__name__)


@dataclass
class InferenceLoop:
    """Reads, decides, publishes and commits, one batch after another.

    Attributes:
        group: where candidates come from.
        decider: fixes a decision for each.
        publish: sends decisions to the topic; returns once these are acknowledged.
        after_round: is called after each batch, and each second without one.
    """

    group: CandidateGroup
    decider: ModelDecider
    publish: Callable[[Sequence[Decision]], object]
    after_round: Callable[[], object]

    def run(self, stop: StopFlag) -> None:
        """Decide until `stop` is set.

        Raises:
            OutsideSystemError: Kafka or S3 failed; begin again at the committed places.
        """
        while not stop.is_set():
            self.handle(self.group.read(_READ_SECONDS))
            self.after_round()

    def handle(self, batch: Batch) -> None:
        """Decide about a batch; a repeat of it changes nothing."""
        if batch.candidates:
            self.publish(self.decider.decide(batch.candidates))
        self.group.commit(batch)


def run_inference(settings: Settings, stop: StopFlag) -> None:
    """Decide about candidates until `stop` is set. A system that does not answer is waited for.

    Raises:
        SettingsError: the settings do not fit.
        DataError: a document of decisions cannot be read.
    """
    _check(settings)
    heartbeat = inference_heartbeat(settings.data_dir)
    heartbeat.beat()
    while not stop.is_set():
        try:
            _session(settings, stop, heartbeat)
        except OutsideSystemError as error:
            _logger.warning("The inference service begins again at its committed places: %s", error)
            heartbeat.beat()
            stop.wait(_PAUSE_SECONDS)


def _check(settings: Settings) -> None:
    if not settings.inference.enabled:
        raise SettingsError(
            "PIPELINE_INFERENCE__ENABLED is false, so the trader decides. Set it to true for the "
            "inference service and the trader: candidates have one author."
        )
    if not settings.features.enabled:
        raise SettingsError(
            "PIPELINE_FEATURES__ENABLED must be true for the inference service: models read features."
        )
    if settings.ingest.load_minutes > 15:
        raise SettingsError(
            "PIPELINE_INGEST__LOAD_MINUTES must be 15 for the inference service: features of candles that "
            "are loaded later are too old."
        )


def _session(settings: Settings, stop: StopFlag, heartbeat: Heartbeat) -> None:
    """Decide until `stop` is set or a system does not answer."""
    from pipeline_assets.resources.warehouse import Warehouse
    from pipeline_assets.resources.warehouse_features import FeatureTable

    clock = ExchangeClock(time.monotonic)
    measure(settings, clock)
    # A decision is of use for less than a minute: a store that hangs for longer begins a new session.
    store = ObjectStore(settings.s3, PERSON_PATIENCE)
    lag = timedelta(seconds=settings.features.load_lag_seconds)
    table = FeatureTable(Warehouse(settings.snowflake, settings.s3))
    features = LiveFeatures(table, lambda: collected_symbols(settings, store), lag)
    named = list(configured_rules(settings.strategies))
    pairs = [(name, version) for name, _, version in (each.partition(" ") for each in named)]
    models = LiveModels(ModelRegistry(store), pairs)
    models.refresh()

    def refresh_features() -> None:
        features.refresh(from_milliseconds(clock.now_ms()))

    def measure_again() -> None:
        if clock.due:
            clock.postpone()
            measure(settings, clock)

    topic = settings.kafka.model_copy(update={"topic": DECISIONS_TOPIC})
    decider = ModelDecider(
        ModelJudge(models, features, partial(model_inputs, load_lag=lag)),
        LakeDecisions(store),
        frozenset(named),
        settings.inference.minimum_value,
        clock.now_ms,
    )
    # A warehouse may take minutes to answer, and delays neither decisions nor the other two.
    refreshed = [
        Repeated("features", refresh_features, 1.0),
        Repeated("models", models.refresh, _MODELS_SECONDS),
        Repeated("clock", measure_again, 1.0),
    ]

    def after_round() -> None:
        heartbeat.beat()
        for each in refreshed:
            each.check()

    with ExitStack() as opened:
        for each in refreshed:
            opened.enter_context(each.running())
        # A warehouse that hangs must not keep candidates waiting.
        features.tried.wait(_FIRST_READ_SECONDS)
        joined = CandidateGroup(settings.kafka, settings.inference.group_id).joined()
        group = opened.enter_context(joined)
        publish = CandidateTopic(topic, DECISION_SCHEMA).publish
        InferenceLoop(group, decider, publish, after_round).run(stop)


def main(settings: Settings) -> None:
    """Decide until SIGINT or SIGTERM.

    Raises:
        PipelineError: as `run_inference`.
    """
    # Read when scikit-learn is imported. More threads make a small prediction many times slower.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(name, "1")
    _check(settings)
    # It logs two lines a query.
    logging.getLogger("snowflake.connector").setLevel(logging.WARNING)

    async def serve(stop: asyncio.Event) -> None:
        _logger.info("The inference service of group %s begins.", settings.inference.group_id)
        await run_in_thread(lambda flag: run_inference(settings, flag), stop)

    run_until_stopped(serve)
