"""The errors of the exchange's client. When each is raised is decided in exchange_requests.py and
weight_allowance.py.
"""

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.intervals import from_milliseconds


class ExchangeError(OutsideSystemError):
    """The exchange did not give what was asked. The message says what, why, and what to do.

    Attributes:
        code: the exchange's own error code (such as -1121), or None when it gave none.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class ExchangeUnreachableError(ExchangeError):
    """The exchange answers no request: no symbol can be fetched until it does."""


class ExchangeBannedError(ExchangeError):
    """The exchange shut this address out for longer than a run should wait."""


def banned_until(until_ms: int) -> ExchangeBannedError:
    """Return the error for a ban that lasts until then, in ms since the epoch."""
    until = from_milliseconds(until_ms).isoformat(timespec="seconds")
    return ExchangeBannedError(
        f"The exchange has banned this address until {until} (Retry-After header). Send nothing "
        "until then, find out what else at this address calls it, then repeat the run. "
        "`pipeline-assets status` names the reply; `pipeline-assets unblock` lifts the block if it "
        "was not the exchange's."
    )
