"""A trading data platform for Binance USD-M Futures, modelled as Dagster assets.

Each folder's docstring says what belongs in it. Where to add:

- a strategy: a file in market/strategies/, and its name under `strategies` in config.yaml
- an indicator: a file in market/indicators/
- an interval: an entry in market/intervals.py, then `make generate`
- a sink of candles: assets/sinks.py, and its name in market/intervals.py
- a command: a file in cli/, and a line in cli/main.py
- a setting: a field in settings/sections.py
- an error reply of the exchange: resources/exchange_*.py, and local/exchange/errors.py for the replay
- an exception: beside the code that raises it, below a branch of errors.py
"""
