"""Funding rates for the paper venue, read by a short process of its own: Polars and pyarrow would take 33 MB
of the gateway for good. The rates are charged in paper.py.
"""

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime

import msgspec
from pydantic import SecretStr

from pipeline_assets.errors import OutsideSystemError, PipelineError
from pipeline_assets.market.step_tables import FundingRate
from pipeline_assets.market.windows import Window
from pipeline_assets.settings import S3Settings

_LONGEST_SECONDS = 120.0
_Answer = list[tuple[str, FundingRate]]


class RatesUnreadableError(OutsideSystemError):
    """The process that reads funding rates failed. The message has its last line."""


class _Question(msgspec.Struct):
    """The standard input of the process: secrets stay out of its arguments and its environment."""

    s3: dict[str, str | int | None]
    symbols: Sequence[str]
    start: datetime
    end: datetime


def stored_rates(settings: S3Settings, symbols: Sequence[str], window: Window) -> _Answer:
    """Return the lake's funding rates of some symbols within a window, with the symbol of each.

    Raises:
        RatesUnreadableError: the lake does not answer, or an object is damaged.
    """
    plain = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in settings
    }
    question = msgspec.json.encode(_Question(plain, symbols, window.start, window.end))
    try:
        done = subprocess.run(  # noqa: S603 - this file
            [sys.executable, "-m", __name__],
            input=question,
            capture_output=True,
            check=False,
            timeout=_LONGEST_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RatesUnreadableError(
            f"Funding rates are not read: {type(error).__name__}."
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"the process ended with status {done.returncode}"
        raise RatesUnreadableError(f"Funding rates are not read: {reason}")
    return msgspec.json.decode(done.stdout, type=_Answer)


def _answer(question: bytes) -> bytes:
    from pipeline_assets.research.readers import LakeCandles
    from pipeline_assets.resources.object_store import ObjectStore

    asked = msgspec.json.decode(question, type=_Question)
    lake = LakeCandles(ObjectStore(S3Settings.model_validate(asked.s3)))
    window = Window(asked.start, asked.end)
    return msgspec.json.encode(
        [(symbol, rate) for symbol in asked.symbols for rate in lake.funding(symbol, window)]
    )


if __name__ == "__main__":
    try:
        sys.stdout.buffer.write(_answer(sys.stdin.buffer.read()))
    except PipelineError as error:
        sys.exit(str(error))
