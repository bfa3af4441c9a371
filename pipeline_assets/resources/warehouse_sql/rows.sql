-- How many rows a table holds. Snowflake answers this from metadata, without a scan.
SELECT COUNT(*) AS ROWS_HELD
FROM ${DATABASE}.${SCHEMA}.${TABLE}
