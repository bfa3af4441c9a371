"""Whether a service without a port works: the health check of a container that runs it. Status 1 says no.

Run as `python -m pipeline_assets.services.alive worker NAME`, `… trader` or `… inference`, in the service's
container and with its settings. The embedded stack has checks of its own (local/health.py); services with a
port are asked there.
"""

import argparse
import sys
from collections.abc import Sequence

from pipeline_assets.errors import OutsideSystemError, PipelineError
from pipeline_assets.resources.heartbeat import inference_heartbeat, trader_heartbeat
from pipeline_assets.settings import Settings, load_settings

# Trader and inference service beat each second, and at worst after the time limits of what they ask.
SILENCE_SECONDS = 120.0


class NotAliveError(OutsideSystemError):
    """A service shows no work. The message says for how long."""


def require_alive(settings: Settings, service: str, name: str) -> None:
    """Return if the service of this machine works.

    Args:
        settings: those of the service.
        service: `worker`, `trader` or `inference`.
        name: of the worker, as it was started with `--name`.

    Raises:
        NotAliveError: it does not.
        OutsideSystemError: Redis, where workers report, failed.
    """
    if service == "worker":
        from pipeline_assets.resources.workers import WorkerRegistry

        living = [each.name for each in WorkerRegistry(settings.redis).living()]
        if name not in living:
            shown = ", ".join(living) or "none"
            raise NotAliveError(f"The worker {name!r} does not report. Living workers: {shown}.")
        return
    beats = {
        "trader": lambda: trader_heartbeat(settings.data_dir, settings.trading.account),
        "inference": lambda: inference_heartbeat(settings.data_dir),
    }
    age = beats[service]().age()
    if age is None or age > SILENCE_SECONDS:
        since = "at all" if age is None else f"for {age:.0f} s"
        raise NotAliveError(f"The {service} has shown no work {since}; see its log.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipeline_assets.services.alive")
    parser.add_argument("service", choices=("worker", "trader", "inference"))
    parser.add_argument("name", nargs="?", default="", help="of the worker")
    given = parser.parse_args(arguments)
    if given.service == "worker" and not given.name:
        parser.error("worker needs the name that the worker was started with")
    try:
        require_alive(load_settings(), given.service, given.name)
    except PipelineError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the container runtime shows it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
