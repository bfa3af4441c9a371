-- Funding rates, one row a (symbol, settlement). FUNDING_TIME is the full hour, UTC without a zone, as in
-- candles.sql. MARK_PRICE is null where the source has none (the archive); INTERVAL_HOURS is what the archive
-- says. A missing rate has no row. The key is a promise to the optimiser; the MERGE keeps it.
CREATE TABLE IF NOT EXISTS ${DATABASE}.${SCHEMA}.FUNDING_RATES (
    SYMBOL VARCHAR NOT NULL,
    FUNDING_TIME TIMESTAMP_NTZ(6) NOT NULL,
    FUNDING_RATE FLOAT NOT NULL,
    MARK_PRICE FLOAT,
    INTERVAL_HOURS NUMBER(19, 0),
    PRIMARY KEY (SYMBOL, FUNDING_TIME)
)
