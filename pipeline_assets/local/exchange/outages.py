"""Times at which the replay exchange served nothing. Which rows are served is in market.py."""

from dataclasses import dataclass

from pipeline_assets.local.exchange.candles import Block
from pipeline_assets.local.exchange.intervals import MINUTE
from pipeline_assets.local.exchange.moments import format_moment, parse_moment


@dataclass(frozen=True)
class Outage:
    """A span without candles, [start, end) in ms, of the named symbols or (empty) of all.

    This is what happened on the exchange, so no later request brings the candles back.
    """

    start_ms: int
    end_ms: int
    symbols: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Outage":
        """From START/END or START/END/SYMBOL,SYMBOL with ISO 8601 moments.

        Raises:
            ValueError: the text has another form, or the end is not after the start.
        """
        example = "2026-11-20T10:00/2026-11-20T12:30 or 2026-11-20T10:00/2026-11-20T12:30/ETHUSDT"
        try:
            start, end, *symbols = text.split("/")
            outage = cls(
                parse_moment(start), parse_moment(end), tuple(",".join(symbols).split(","))
            )
        except ValueError as error:
            raise ValueError(
                f"The outage {text!r} cannot be read ({error}): use {example}"
            ) from error
        if outage.end_ms <= outage.start_ms:
            raise ValueError(f"The outage {text!r} must end after it starts: use {example}")
        return cls(outage.start_ms, outage.end_ms, tuple(filter(None, outage.symbols)))

    def text(self) -> str:
        """Return the form that `parse` reads."""
        span = f"{format_moment(self.start_ms)}/{format_moment(self.end_ms)}"
        return "/".join((span, ",".join(self.symbols))) if self.symbols else span

    def remaining(self, symbol: str, block: Block) -> Block:
        """Return the candles that opened outside the outage.

        Where it ends within a minute, that minute's candle opens then, off the grid.
        """
        if self.symbols and symbol not in self.symbols:
            return block
        opens = block.open_times.copy()
        minute = self.end_ms - self.end_ms % MINUTE
        if minute >= self.start_ms:
            opens[opens == minute] = self.end_ms
        kept = (opens < self.start_ms) | (opens >= self.end_ms)
        return Block(opens[kept], block.values[:, kept])
