"""A trading data platform for Binance USD-M Futures, modelled as Dagster assets."""
