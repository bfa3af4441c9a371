"""The result of a minute's decisions for the trader, as both sources of decisions return it. The sources are
own_decisions.py and awaited_decisions.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.trading.decisions import Decision, Intent

# The candles of a minute, by symbol.
Bars = Mapping[str, Bar]


@dataclass(frozen=True)
class MinuteOutcome:
    """The decisions of a minute as the trader acts on these.

    Attributes:
        accepted: by the author of the decisions and by the position rules; orders follow.
        settled: ids of the candidates that the trader need not remember any longer.
        skipped: intents of decisions that are accepted and that no order follows from.
        unpublished: decisions to publish after the orders.
    """

    accepted: Sequence[Decision]
    settled: frozenset[str]
    skipped: Sequence[Intent] = ()
    unpublished: Sequence[Decision] = ()


class DecisionSource(Protocol):
    """Where the trader's decisions come from. Moving the positions on is a part of it."""

    def is_complete(self, candidates: Sequence[Candidate]) -> bool:
        """Return whether nothing more is awaited before these candidates can be traded."""

    def settle(self, minute: int, late: Sequence[Candidate]) -> frozenset[str]:
        """Deal with candidates of minutes before `minute`; return the ids of those that are done."""

    def decide(self, minute: int, bars: Bars, due: Sequence[Candidate]) -> MinuteOutcome:
        """Move the positions on by a minute, and return what its decisions mean."""
