"""Programs that run beside Dagster for as long as the platform does."""
