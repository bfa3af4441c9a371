"""What adapts Dagster itself to the product."""
