-- A table of candles, one row a (symbol, open time). Times are UTC without a zone: the objects hold
-- microseconds adjusted to UTC, which COPY makes either the UTC wall clock itself or an instant cast
-- by the session's time zone; sessions of the product set TIMEZONE = 'UTC', so both give UTC. A zoned
-- type would be shown and truncated to days in each reader's own zone (Los Angeles by default).
-- The key is a promise to the optimiser: Snowflake does not enforce it, the MERGE keeps it.
CREATE TABLE IF NOT EXISTS ${DATABASE}.${SCHEMA}.${TABLE} (
    SYMBOL VARCHAR NOT NULL,
    OPEN_TIME TIMESTAMP_NTZ(6) NOT NULL,
    OPEN FLOAT NOT NULL,
    HIGH FLOAT NOT NULL,
    LOW FLOAT NOT NULL,
    CLOSE FLOAT NOT NULL,
    VOLUME FLOAT NOT NULL,
    QUOTE_VOLUME FLOAT NOT NULL,
    TAKER_BUY_VOLUME FLOAT NOT NULL,
    TAKER_BUY_QUOTE_VOLUME FLOAT NOT NULL,
    TRADES NUMBER(19, 0) NOT NULL,
    CLOSE_TIME TIMESTAMP_NTZ(6) NOT NULL,
    PRIMARY KEY (SYMBOL, OPEN_TIME)
)
