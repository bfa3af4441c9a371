"""A trading data platform for Binance USD-M Futures, modelled as Dagster assets.

Each folder's docstring says what belongs in it. Where to add:

- a strategy: a file in market/strategies/, and its name under `strategies` in config.yaml
- a position rule: market/position_rules.py, market/step_tables.py, market/position_step.py, and the reference
  in the tests
- an indicator: a file in market/indicators/, exported by its __init__.py
- an interval: an entry in market/intervals.py, then `make generate`
- a sink of candles: its client in resources/, its steps in collection/, its asset in assets/sinks.py, its
  name in market/intervals.py, then `make generate`
- a table of trading records: resources/record_tables.py, its columns in resources/warehouse_sql/, its prefix
  in production.sql there, its asset in assets/record_tables.py, then `make generate`
- a command: a file in cli/, and a line in cli/main.py
- a setting: a field in settings/sections.py, a line in config.yaml and in .env.example
- an error reply of the exchange: resources/exchange_refusals.py, and local/exchange/errors.py for the replay
- a check: of whole days in collection/day_checks.py, with its name in assets/layer.py and its declaration in
  assets/checks.py; of the rows in hand in the module of the asset, whose use case finds what is wrong
- a sensor: its rule in collection/, its declaration in sensors/, a line in definitions.py
- a health check of an embedded server: local/probes.py or local/scheduling_probes.py, and the server's entry
  in local/store_services.py or local/dagster_services.py
- an exception: beside the code that raises it, below a branch of errors.py
"""
