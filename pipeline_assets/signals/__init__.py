"""From fresh minutes to candidates: use cases that know no Dagster."""
