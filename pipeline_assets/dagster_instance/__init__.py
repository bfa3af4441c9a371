"""Adaptations of Dagster itself to the product."""
