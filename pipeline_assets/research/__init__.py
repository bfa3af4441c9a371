"""Research on stored data, such as backtests. Readers are passed in. No Dagster and no commands here."""
