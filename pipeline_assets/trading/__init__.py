"""Use cases after a candidate: decisions, orders, fills, positions. No Dagster, HTTP or gRPC here."""
