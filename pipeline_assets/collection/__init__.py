"""What is stored of what should be: use cases that know no Dagster."""
