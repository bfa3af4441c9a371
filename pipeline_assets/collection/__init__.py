"""Use cases of collecting candles: what to fetch, what is stored, what is missing. No Dagster here."""
