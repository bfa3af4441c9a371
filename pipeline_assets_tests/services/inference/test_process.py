"""The loop of the inference service over a real broker and a real S3 server: one decision a candidate."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.candidate_group import Batch, CandidateGroup
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.services.inference.process import InferenceLoop, run_inference
from pipeline_assets.settings import KafkaSettings, Settings, SettingsError
from pipeline_assets.stop_flag import StopFlag
from pipeline_assets.trading.decision_store import LakeDecisions, read_decisions
from pipeline_assets.trading.decisions import DECISION_SCHEMA, Decision
from pipeline_assets_tests.fixtures.judge import FakeJudge, decider
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, KafkaServer, candidates
from pipeline_assets_tests.fixtures.s3 import S3Bucket, eventually
from pipeline_assets_tests.fixtures.threads import running

IN_TIME = to_milliseconds(MIDNIGHT + timedelta(seconds=75))


@dataclass
class Published:
    """The topic of decisions of one test."""

    settings: KafkaSettings
    known: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.topic = CandidateTopic(self.settings, DECISION_SCHEMA)

    def __call__(self, decisions: Sequence[Decision]) -> object:
        self.known += decisions
        return self.topic.publish(decisions)


@dataclass
class Place:
    """A broker, a lake, and the group that reads from one to the other."""

    kafka: KafkaSettings
    store: ObjectStore
    group_id: str = field(default_factory=lambda: f"group-{uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.published = Published(
            self.kafka.model_copy(update={"topic": f"{self.kafka.topic}-decisions"})
        )

    def loop(self, group: CandidateGroup, judge: FakeJudge | None = None) -> InferenceLoop:
        made = decider(LakeDecisions(self.store), judge or FakeJudge(), IN_TIME)
        return InferenceLoop(group, made, self.published, lambda: None)

    @contextmanager
    def joined(self, judge: FakeJudge | None = None) -> Iterator[InferenceLoop]:
        with CandidateGroup(self.kafka, self.group_id).joined() as group:
            yield self.loop(group, judge)

    @contextmanager
    def running(self, judge: FakeJudge | None = None) -> Iterator[None]:
        """Run an instance in a thread of its own."""

        def run(stop: StopFlag) -> None:
            with self.joined(judge) as loop:
                loop.run(stop)

        with running(run):
            yield

    def send(self, found: Sequence[Candidate]) -> None:
        CandidateTopic(self.kafka).publish(found)

    def decided(self) -> list[str]:
        """Return the candidates' ids of all decisions on the lake."""
        return sorted(each.candidate.id for each in read_decisions(self.store, MIDNIGHT.date()))

    def committed(self) -> int:
        """Return how many messages the group has behind it."""
        consumer = Consumer(
            {"bootstrap.servers": self.kafka.bootstrap_servers, "group.id": self.group_id}
        )
        partitions = consumer.list_topics(self.kafka.topic).topics[self.kafka.topic].partitions
        places = [TopicPartition(self.kafka.topic, number) for number in partitions]
        found = sum(max(0, each.offset) for each in consumer.committed(places, timeout=10))
        consumer.close()
        return found


@pytest.fixture
def place(kafka_settings: KafkaSettings, s3_bucket: S3Bucket) -> Place:
    return Place(kafka_settings, ObjectStore(s3_bucket.settings()))


def _gathered(group: CandidateGroup, count: int) -> Batch:
    """Read until so many candidates are there; joining takes some seconds."""
    found: list[Candidate] = []
    offsets: dict[int, int] = {}

    def complete() -> bool:
        batch = group.read(0.2)
        found.extend(batch.candidates)
        offsets.update(batch.offsets)
        return len(found) >= count

    eventually(complete, f"{count} candidates", 60)
    return Batch(tuple(found), offsets)


def test_each_candidate_gets_one_decision(place: Place) -> None:
    """Duplicates, another order and messages that are no candidates; all are behind the committed place."""
    sent = candidates(minutes=2, symbols=8)
    place.send(sent)
    place.send([*sent[::-1], *sent[:4]])
    producer = Producer({"bootstrap.servers": place.kafka.bootstrap_servers})
    producer.produce(place.kafka.topic, value=b"no candidate")
    producer.flush(10)
    messages = 2 * len(sent) + 5
    with place.running():
        eventually(lambda: place.committed() == messages, "all is committed", 60)
    assert place.decided() == sorted(each.id for each in sent)
    by_id = {each.id: each for each in place.published.known}
    assert len(by_id) == len(sent)
    assert all(by_id[each.id] == each for each in place.published.known)


def test_kill_before_the_commit_repeats_the_batch(place: Place) -> None:
    """After the lake's writes, and after the publication: the next instance publishes what stands."""
    sent = candidates(symbols=6)
    place.send(sent)
    with CandidateGroup(place.kafka, place.group_id).joined() as group:
        first = place.loop(group).decider.decide(_gathered(group, len(sent)).candidates)
    assert place.committed() == 0
    with place.running(FakeJudge(value=-1)):
        eventually(lambda: place.committed() == len(sent), "the batch is committed", 60)
    assert {each.id: each for each in place.published.known} == {each.id: each for each in first}


def test_rebalance_keeps_one_decision(place: Place) -> None:
    """A second instance joins in the middle; the first one goes on with a batch that it no longer owns."""
    place.send(candidates(minutes=3, symbols=12))
    with ExitStack() as opened:
        loop = opened.enter_context(place.joined())
        held = _gathered(loop.group, 36)
        with place.running(FakeJudge(value=-1)):
            # The first member learns of the second one by a poll; until then it owns all partitions.
            eventually(lambda: loop.group.read(0.2) and place.decided(), "the second decides", 60)
            loop.handle(held)
            eventually(lambda: place.committed() >= 36, "all is committed", 60)
    sent = candidates(minutes=3, symbols=12)
    assert place.decided() == sorted(each.id for each in sent)
    verdicts: dict[str, set[str]] = {}
    for each in place.published.known:
        verdicts.setdefault(each.id, set()).add(each.verdict)
    assert len(verdicts) == len(sent)
    assert all(len(each) == 1 for each in verdicts.values())


def test_broker_outage_is_waited_for(own_kafka_server: KafkaServer, s3_bucket: S3Bucket) -> None:
    """Reading goes on when the broker is back."""
    settings = own_kafka_server.settings(topic="candidates", delivery_timeout_ms=20_000)
    place = Place(settings, ObjectStore(s3_bucket.settings()))
    first, second = candidates(minutes=2)
    place.send([first])
    with place.running():
        eventually(lambda: place.decided() == [first.id], "the first is decided", 60)
        own_kafka_server.kill()
        own_kafka_server.start()
        place.send([second])
        eventually(lambda: len(place.decided()) == 2, "the second is decided", 60)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "PIPELINE_INFERENCE__ENABLED is false"),
        (
            {"inference": {"enabled": True}, "ingest": {"load_minutes": 60}},
            "PIPELINE_INGEST__LOAD_MINUTES must be 15",
        ),
        (
            {"inference": {"enabled": True}, "features": {"enabled": False}},
            "PIPELINE_FEATURES__ENABLED must be true",
        ),
    ],
)
def test_unfit_settings_are_refused(values: dict[str, object], text: str) -> None:
    settings = Settings.model_validate(json.loads(json.dumps(values)))
    with pytest.raises(SettingsError, match=text):
        run_inference(settings, StopFlag())
