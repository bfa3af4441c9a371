"""Research on stored data: backtests and what is derived from them. Readers are passed in; no Dagster here."""
