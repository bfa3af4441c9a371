-- What was known of these days. Only together with gap_insert.sql, in one transaction.
DELETE FROM ${DATABASE}.${SCHEMA}.CANDLE_GAPS
WHERE DAY IN (${DAYS})
