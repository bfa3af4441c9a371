"""The clock of positions without a confirmed stop, and the stops that this process has sent anew. Questions
about the state are in stops.py, the orders that follow in stop_orders.py and protecting.py.

The clock is derived from the journal's records, so that a restart does not begin it anew.
"""

from dataclasses import dataclass, field

from pipeline_assets.trading import records, stops
from pipeline_assets.trading.state import GatewayState


@dataclass
class StopWatch:
    """Everything about stops that the state does not have.

    Attributes:
        since: by symbol, since when its position has no confirmed stop: the fill's time by the exchange's
            clock, or the time of the record by which a stop ended.
        known: by symbol, since when this process knows that, and could do something about it; a pause of the
            process begins it anew, once.
        paused: symbols whose present clock was already held up by a pause of the process.
        started_at: when this process began; 0 before.
        read_at: when the newest answered reading of open orders was asked for; 0 before the first.
        at_start: entries of the positions with which this process began.
        repeated: entries whose missing stop this process has sent anew.
        misfits: entries whose stop a filter refused, until the filters are read.
        refitted: entries whose stop was sent anew after that.
    """

    since: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    started_at: int = 0
    read_at: int = 0
    at_start: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)
    misfits: dict[str, None] = field(default_factory=dict)
    refitted: set[str] = field(default_factory=set)

    def note(self, state: GatewayState, record: records.AnyRecord) -> None:
        """Begin or end the clock of the symbol that a record has just changed."""
        match record:
            case records.FillBooked(at=at, fill=fill):
                symbol, at = fill.symbol, min(at, fill.time)
            case records.OrderChanged(at=at, client_id=client_id):
                symbol = state.orders[client_id].order.symbol
            case _:
                return
        if symbol not in state.guarded or stops.is_protected(state, symbol):
            self.since.pop(symbol, None)
            self.known.pop(symbol, None)
            self.paused.discard(symbol)
        else:
            self.since.setdefault(symbol, at)

    def start(self, state: GatewayState, now: int) -> None:
        """Note with which positions a process begins."""
        self.started_at = now
        self.at_start = {each for entries in state.guarded.values() for each in entries}

    def pause(self, now: int) -> None:
        """Give each stop that is not confirmed its grace anew, once: its confirmation may wait to be read."""
        for symbol in self.known.keys() - self.paused:
            self.known[symbol] = now
            self.paused.add(symbol)

    @property
    def awaits_reading(self) -> bool:
        """Whether the venue has not said since the start which orders are open."""
        return bool(self.started_at) and not self.read_at
