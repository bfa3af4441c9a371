"""Deployment of promoted models to Snowflake's model registry. It runs in an environment of its own, since
snowflake-ml-python needs an older pandas than the product: `make snowpark-ml` makes it. Nothing else of the
product imports this package, and this package imports no Dagster.
"""
