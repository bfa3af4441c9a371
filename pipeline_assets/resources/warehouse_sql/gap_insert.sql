-- What is known of the days now. No row of another day may come in: a repeat would not replace it.
INSERT INTO ${DATABASE}.${SCHEMA}.CANDLE_GAPS (
    DAY, SYMBOL, "INTERVAL", FIRST_OPEN_TIME, LAST_OPEN_TIME, CANDLES, CAUSE
)
SELECT "DAY", "SYMBOL", "INTERVAL", "FIRST", "LAST", "COUNT", "CAUSE"
FROM ${DATABASE}.${SCHEMA}.${LANDING}
WHERE "DAY" IN (${DAYS})
