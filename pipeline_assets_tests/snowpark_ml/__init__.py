"""Tests of the deployment to Snowflake. The matrix test makes the environment of `make snowpark-ml`."""
