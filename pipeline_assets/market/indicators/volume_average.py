"""Volume average: the moving average of volumes."""

from typing import TYPE_CHECKING

from pydantic.dataclasses import dataclass

from pipeline_assets.market.indicators.indicator import Candles, Period, known, window_mean

if TYPE_CHECKING:
    from pipeline_assets.market.indicators.indicator import Array, Counts

# Windows added up at once: they stay in a core's cache until all their volumes are in.
_ROWS = 8192


@dataclass(frozen=True)
class VolumeAverage:
    """TA-Lib's SMA of `volume`, in the base asset. Exactly 0 where nothing was traded."""

    period: Period

    @property
    def columns(self) -> tuple[str, ...]:
        """`volume_average_{period}`."""
        return (f"volume_average_{self.period}",)

    @property
    def candles_needed(self) -> int:
        """The window."""
        return self.period

    @property
    def height(self) -> int:
        """The volumes of the window, oldest first."""
        return self.period

    def history(self, candles: Candles) -> "tuple[Array, ...]":
        """Compute the averages without TA-Lib. Its running sum keeps the rounding of every earlier volume:
        after large ones the average of minutes without trades is not exactly zero.
        """
        import numpy as np

        average = np.empty(len(candles.volume))
        average[: self.period - 1] = np.nan
        for first in range(0, len(average) - self.period + 1, _ROWS):
            volumes = candles.volume[first : first + _ROWS + self.period - 1]
            total = _window_sums(volumes, self.period)
            start = first + self.period - 1
            np.divide(total, self.period, out=average[start : start + len(total)])
        return (average,)

    def advance(
        self, state: "Array", candles: Candles, close_before: "Array", seen: "Counts"
    ) -> "tuple[Array, ...]":
        """One step."""
        state[:-1] = state[1:]
        state[-1] = candles.volume
        return (known(window_mean(state), seen, self.period),)


def _window_sums(values: "Array", length: int) -> "Array":
    """Return the sum of each window of `length` values, put together from sums of 1, 2, 4, 8 … of them.

    A window of twenty takes five additions, not nineteen.
    """
    import numpy as np

    windows = len(values) - length + 1
    total, covered, power, doubled = np.zeros(windows), 0, 1, values
    while power <= length:
        if length & power:
            total += doubled[covered : covered + windows]
            covered += power
        doubled = doubled[:-power] + doubled[power:]
        power *= 2
    return total
