"""The sensor's process is killed at any point: in the end Kafka holds exactly the candidates that follow from
the exchange's candles.

Run as a program this module is the process that gets killed: it imports everything once, and forks
a child for each order on its standard input. The child evaluates one tick of the real sensor and
keeps its cursor in a file, as Dagster does after a tick.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets_tests.fixtures.candidates import CandidateSensor
from pipeline_assets_tests.fixtures.exchange import die_with_parent
from pipeline_assets_tests.fixtures.kafka import KafkaServer

# The process that is killed


class Points:
    """Counts what this process does to the outside, and kills it at one of these points."""

    def __init__(self, kill_at: int | None, when: str | None) -> None:
        self.count, self._kill_at, self._when = 0, kill_at, when

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            number = self.count
            self._kill(number, "before")
            result = function(*args, **kwargs)
            self._kill(number, "after")
            return result

        return counted

    def _kill(self, number: int, when: str) -> None:
        if (number, when) == (self._kill_at, self._when):
            os.kill(os.getpid(), signal.SIGKILL)


def obey(order: dict[str, Any]) -> int:
    """Evaluate one tick; return the number of points at which it could have been killed."""
    import redis
    from dagster import build_sensor_context

    from pipeline_assets.resources.broker import CandidateTopic
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.sensors.candidates import candidate_sensor
    from pipeline_assets.settings import Settings
    from pipeline_assets_tests.fixtures.candidates import sensor_resources

    points = Points(order.get("kill_at"), order.get("when"))
    redis.client.Pipeline.execute = points.around(redis.client.Pipeline.execute)
    CandidateTopic.publish = points.around(CandidateTopic.publish)
    ObjectStore.put = points.around(ObjectStore.put)
    file = Path(order["cursor"])
    cursor = file.read_text() if file.exists() else None
    resources = sensor_resources(Settings(_env_file=None, **order["settings"]))
    with build_sensor_context(cursor=cursor, resources=resources) as context:
        result: Any = candidate_sensor().evaluate_tick(context)
    keep: Callable[[str], Any] = points.around(lambda text: write_whole(file, text))
    keep(result.cursor)
    return points.count


def write_whole(file: Path, text: str) -> None:
    """Replace a file in one step, as a database does a row."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def serve() -> None:
    """Import what takes long, then fork a child for each order; one JSON line answers each."""
    import binance.async_client
    import dagster_aws.s3
    import talib

    import pipeline_assets.definitions

    assert all((binance, dagster_aws, talib, pipeline_assets))
    for line in sys.stdin:
        order = json.loads(line)
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.write(writable, str(obey(order)).encode())
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        os.close(writable)
        if "kill_after" in order:
            time.sleep(order["kill_after"])
            os.kill(child, signal.SIGKILL)
        with os.fdopen(readable) as answer:
            count = answer.read()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        ended = {"killed": killed, "status": status, "points": int(count or 0)}
        print(json.dumps(ended), flush=True)


# The tests


class Runner:
    """The process that forks the killed ones; its children share the sensor's cursor."""

    def __init__(self, sensor: CandidateSensor, directory: Path) -> None:
        settings = sensor.settings.model_dump(mode="json")
        settings["s3"]["secret_access_key"] = "any"
        settings["snowflake"]["password"] = "any"
        self._order = {"settings": settings, "cursor": str(directory / "cursor.json")}
        self.kills = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
        )

    def tick(self, **kill: Any) -> dict[str, Any]:
        """Evaluate one tick in a process of its own, killed as the order says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._order | kill) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        self.kills += answer["killed"]
        return answer

    def stop(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture
def runner(candidate_sensor: CandidateSensor, tmp_path: Path) -> Iterator[Runner]:
    started = Runner(candidate_sensor, tmp_path)
    yield started
    started.stop()


def judged(sensor: CandidateSensor, first: Any) -> dict[str, int]:
    """Return what Kafka holds against the fold over the exchange's own candles."""
    ids = sensor.published_ids()
    expected = set(sensor.expected(first, sensor.newest())["id"])
    return {
        "lost": len(expected - set(ids)),
        "invented": len(set(ids) - expected),
        "candidates": len(expected),
        "repeats": len(ids) - len(set(ids)),
    }


def test_crash_anywhere_loses_no_candidate(
    candidate_sensor: CandidateSensor, runner: Runner
) -> None:
    """Killed at any point of a tick, the sensor loses and invents no candidate."""
    first = candidate_sensor.newest()
    assert runner.tick()["status"] == 0
    candidate_sensor.minutes(4)
    points = runner.tick()["points"]
    # Read, publish, keep, write the states, read again, and the cursor.
    assert points >= 6
    for number in range(1, points + 1):
        for when in ("before", "after"):
            candidate_sensor.minutes(1)
            runner.tick(kill_at=number, when=when)
    assert runner.kills >= points
    assert runner.tick()["status"] == 0
    found = judged(candidate_sensor, first)
    assert (found["lost"], found["invented"]) == (0, 0)
    assert found["candidates"] > 20
    assert found["repeats"] > 0


@pytest.mark.matrix
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_crashes_lose_no_candidate(
    candidate_sensor: CandidateSensor,
    kafka_server: KafkaServer,
    runner: Runner,
    seed: int,
) -> None:
    """Killed at random for hours, the sensor loses and invents no candidate.

    Besides, ingest of 1m stops for a while, Redis is flushed, and Kafka hangs.
    """
    chance = random.Random(seed)
    first = candidate_sensor.newest()
    assert runner.tick()["status"] == 0
    redis = candidate_sensor.redis_client()
    minutes = flushes = pauses = 0
    while minutes < 220:
        still = chance.random() < 0.1
        passed = chance.randint(2, 25) if still else 1
        candidate_sensor.minutes(passed - 1, slots=False)
        candidate_sensor.minutes(1)
        minutes += passed
        if chance.random() < 0.05:
            redis.flushall()
            flushes += 1
            candidate_sensor.minutes(1)
            minutes += 1
        for _ in range(chance.randint(0, 2)):
            if chance.random() < 0.5:
                runner.tick(kill_after=chance.uniform(0, 0.6))
            else:
                when = chance.choice(["before", "after"])
                runner.tick(kill_at=chance.randint(1, 12), when=when)
        if chance.random() < 0.03:
            kafka_server.pause()
            runner.tick(kill_after=0.8)
            kafka_server.resume()
            pauses += 1
        if chance.random() < 0.6:
            runner.tick()
    assert runner.tick()["status"] == 0
    found = judged(candidate_sensor, first)
    print(
        f"seed {seed}: {minutes} minutes, {runner.kills} kills, {flushes} flushes of Redis, {pauses} "
        f"pauses of Kafka: {found}"
    )
    assert (found["lost"], found["invented"]) == (0, 0)
    assert found["candidates"] > 200
    assert runner.kills > 40


if __name__ == "__main__":
    serve()
