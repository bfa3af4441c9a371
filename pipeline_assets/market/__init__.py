"""Pure functions over times and candle frames: no I/O, no Dagster, no clock. A quant's part of the tree."""
