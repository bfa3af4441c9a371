-- The gap ledger: the candles that are not stored, with the cause, as runs that do not cross midnight.
-- DAY and times are UTC, the times without a zone, as in candles.sql. INTERVAL is quoted: it is a word
-- of SQL's own. The key is a promise to the optimiser; a day's rows are replaced together.
CREATE TABLE IF NOT EXISTS ${DATABASE}.${SCHEMA}.CANDLE_GAPS (
    DAY DATE NOT NULL,
    SYMBOL VARCHAR NOT NULL,
    "INTERVAL" VARCHAR NOT NULL,
    FIRST_OPEN_TIME TIMESTAMP_NTZ(6) NOT NULL,
    LAST_OPEN_TIME TIMESTAMP_NTZ(6) NOT NULL,
    CANDLES NUMBER(19, 0) NOT NULL,
    CAUSE VARCHAR NOT NULL,
    PRIMARY KEY (SYMBOL, "INTERVAL", FIRST_OPEN_TIME)
)
