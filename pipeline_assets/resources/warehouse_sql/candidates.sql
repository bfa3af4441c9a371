-- Candidates: the signals of strategies on closed candles, as the objects of candidates/1m/ hold them. Times
-- are UTC without a zone, as in candles.sql; INTERVAL is quoted as in gaps.sql. The key is a promise to the
-- optimiser; the MERGE keeps it. Most columns beside the key and the time of the day may be null: objects of earlier
-- releases can be without them.
CREATE TABLE IF NOT EXISTS ${DATABASE}.${SCHEMA}.${TABLE} (
    ID VARCHAR NOT NULL COMMENT 'Id of the candidate: the same for the same strategy, version, symbol, interval and open time',
    STRATEGY VARCHAR COMMENT 'Name of the strategy',
    VERSION VARCHAR COMMENT 'Version of the strategy and digest of its parameters',
    SYMBOL VARCHAR COMMENT 'Symbol of the future',
    "INTERVAL" VARCHAR COMMENT 'Interval of the candle, such as 1m',
    SIDE VARCHAR COMMENT 'long or short',
    OPEN_TIME TIMESTAMP_NTZ(6) NOT NULL COMMENT 'Open time of the candle, UTC',
    PRICE FLOAT COMMENT 'Close of the candle, quote asset',
    INDICATORS VARCHAR COMMENT 'Values that the strategy compared, a JSON object by name',
    CREATED_AT TIMESTAMP_NTZ(6) COMMENT 'Time of the evaluation, UTC',
    EVALUATED_LATE BOOLEAN COMMENT 'Whether the evaluation was too late to publish the candidate; null in objects of early releases, which were published',
    PRIMARY KEY (ID)
)
COMMENT = 'Candidates: signals of strategies on closed candles, one row an id'
