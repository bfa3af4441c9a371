"""What to fetch, what is stored, what is missing: plans and rules as pure functions. No Dagster here."""
