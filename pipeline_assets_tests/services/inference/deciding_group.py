"""A group that reads candidates from a broker and fixes decisions on a lake. No tests here.

As a program, it is an instance that kills itself at a step: its arguments are the group, the step,
and how often it comes to the step before.
"""

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, TopicPartition

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.candidate_group import CandidateGroup
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.services.inference.process import InferenceLoop
from pipeline_assets.settings import KafkaSettings, Settings
from pipeline_assets.stop_flag import StopFlag
from pipeline_assets.trading.decision_store import LakeDecisions, read_decisions
from pipeline_assets.trading.decisions import DECISION_SCHEMA, Decision
from pipeline_assets_tests.fixtures.judge import FakeJudge, decider
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT
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


def run_until_killed(place: Place, at: str, last: int) -> None:
    """Decide until the process kills itself.

    Args:
        place: where candidates and decisions are.
        at: `write` (before one to the lake), `publish`, `commit` (before each), or `committed`.
        last: how often this has to come.
    """
    seen: Counter[str] = Counter()

    def come_to(name: str) -> None:
        seen[name] += 1
        if name == at and seen[name] == last:
            os.kill(os.getpid(), signal.SIGKILL)

    with place.joined() as loop:
        lake: Any = loop.decider.store
        fix = lake.fix

        def fix_after(*given: Any) -> Any:
            come_to("write")
            return fix(*given)

        lake.fix = fix_after
        while True:
            batch = loop.group.read(1.0)
            if batch.candidates:
                decisions = loop.decider.decide(batch.candidates)
                come_to("publish")
                loop.publish(decisions)
                come_to("commit")
                loop.group.commit(batch)
                come_to("committed")


if __name__ == "__main__":
    settings = Settings()
    given = Place(settings.kafka, ObjectStore(settings.s3), sys.argv[1])
    run_until_killed(given, sys.argv[2], int(sys.argv[3]))
