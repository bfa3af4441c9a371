"""The loop of the inference service over a real broker and a real S3 server: one decision a candidate."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest
from confluent_kafka import Producer

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.resources.candidate_group import Batch, CandidateGroup
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.services.inference.process import run_inference
from pipeline_assets.settings import KafkaSettings, Settings, SettingsError
from pipeline_assets.stop_flag import StopFlag
from pipeline_assets.trading.decisions import Decision
from pipeline_assets_tests.fixtures.judge import FakeJudge
from pipeline_assets_tests.fixtures.kafka import KafkaServer, candidates, messages
from pipeline_assets_tests.fixtures.s3 import S3Bucket, eventually
from pipeline_assets_tests.services.inference import deciding_group
from pipeline_assets_tests.services.inference.deciding_group import Place


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
    place.send(candidates(symbols=36))
    with ExitStack() as opened:
        loop = opened.enter_context(place.joined())
        held = _gathered(loop.group, 36)
        with place.running(FakeJudge(value=-1)):
            # The first member learns of the second one by a poll; until then it owns all partitions.
            eventually(lambda: loop.group.read(0.2) and place.decided(), "the second decides", 60)
            loop.handle(held)
            eventually(lambda: place.committed() >= 36, "all is committed", 60)
    sent = candidates(symbols=36)
    assert place.decided() == sorted(each.id for each in sent)
    verdicts: dict[str, set[str]] = {}
    for each in place.published.known:
        verdicts.setdefault(each.id, set()).add(each.verdict)
    assert len(verdicts) == len(sent)
    assert all(len(each) == 1 for each in verdicts.values())


@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_kills_at_each_step(place: Place, s3_bucket: S3Bucket) -> None:
    """Instances die by kill -9, each one later in its work; the last instance would decide otherwise."""
    sent: list[Candidate] = []
    environment = {
        **s3_bucket.environment(),
        "PIPELINE_KAFKA__BOOTSTRAP_SERVERS": place.kafka.bootstrap_servers,
        "PIPELINE_KAFKA__TOPIC": place.kafka.topic,
    }
    steps = [("write", 1), ("write", 2), ("write", 4), ("write", 9)]
    for number, step in enumerate([*steps, ("publish", 1), ("commit", 1), ("committed", 1)]):
        fresh = candidates(symbols=3 * number + 3)[-3:]
        place.send(fresh)
        sent += fresh
        done = subprocess.run(
            [sys.executable, "-m", deciding_group.__name__, place.group_id, *map(str, step)],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
    last = candidates(symbols=24)[-3:]
    place.send(last)
    sent += last
    with place.running(FakeJudge(value=-1)):
        eventually(lambda: place.committed() == len(sent), "all is committed", 120)
    expected = sorted(each.id for each in sent)
    assert place.decided() == expected
    published: dict[str, Decision] = {}
    for message in messages(place.published.settings):
        made = Decision.model_validate_json(message.value() or b"")
        assert published.setdefault(made.candidate.id, made) == made
    assert sorted(published) == expected
    assert {each.verdict for each in published.values()} == {"accept", "decline"}


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
        eventually(lambda: len(place.decided()) == 2, "the second is decided", 120)


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
