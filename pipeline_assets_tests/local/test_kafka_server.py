"""The embedded Kafka broker: where it listens, and what it remembers of its last run."""

import json

import psutil

from pipeline_assets.local.kafka_server import without_producers
from pipeline_assets_tests.fixtures.kafka import KafkaServer

TOPICS = {"found": {"id": "7f0c6b1e", "topic": {"name": "found", "num_partitions": 4}}}


def test_listens_on_loopback_only(kafka_server: KafkaServer) -> None:
    """The server listens on the loopback address only."""
    assert kafka_server.process is not None
    listening = [
        connection.laddr
        for connection in psutil.Process(kafka_server.process.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert [tuple(one) for one in listening] == [("127.0.0.1", kafka_server.port)]


def test_only_producers_are_forgotten() -> None:
    """A restart forgets the idempotent producers only, and gives no producer number twice."""
    held = {"0": {"found": {"0": 75, "3": 75}}}
    meta = {"producers": {"2": {"sequences": held}, "11": {"sequences": held}}, "topics": TOPICS}
    kept = json.loads(without_producers(json.dumps(meta).encode()))
    assert kept["topics"] == TOPICS
    assert list(kept["producers"]) == ["12"]
    assert "75" not in json.dumps(kept["producers"])


def test_unwritten_broker_is_left_alone() -> None:
    """A broker without any message is left as it is."""
    meta = {"producers": {}, "topics": {}}
    assert json.loads(without_producers(json.dumps(meta).encode())) == meta
