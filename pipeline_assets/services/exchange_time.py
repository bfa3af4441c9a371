"""The exchange's time for long-running programs: one request, and its answer as a sample of the clock."""

from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.exchange_clock import ExchangeClock
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.settings import Settings

# The next step of a person once Redis works again, for the errors of programs that wait for it.
AFTER_REDIS = "wait: this program goes on by itself; restart it if its settings changed"


def measure(settings: Settings, clock: ExchangeClock) -> None:
    """Compare a clock with the exchange's.

    Raises:
        OutsideSystemError: the exchange did not answer.
    """
    with Exchange(settings, AFTER_REDIS).client(Priority.GATEWAY, patient=False) as exchange:
        clock.sample(exchange.server_time)
