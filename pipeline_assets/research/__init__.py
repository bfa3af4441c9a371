"""Research on stored data, such as backtests. Readers are passed in; there is no Dagster and no command here."""
