-- Outcomes of candidates: returns and extreme moves after the next minute's open, computed from the 1m
-- candles on the lake (research/outcomes.py), as the objects of candidate_outcomes/ hold them. Times and the
-- key are as in candidates.sql.
CREATE TABLE IF NOT EXISTS ${DATABASE}.${SCHEMA}.${TABLE} (
    CANDIDATE_ID VARCHAR NOT NULL COMMENT 'Id of the candidate',
    STRATEGY VARCHAR COMMENT 'Name of the strategy',
    VERSION VARCHAR COMMENT 'Version of the strategy and digest of its parameters',
    SYMBOL VARCHAR COMMENT 'Symbol of the future',
    SIDE VARCHAR COMMENT 'long or short',
    OPEN_TIME TIMESTAMP_NTZ(6) NOT NULL COMMENT 'Open time of the candle of the candidate, UTC',
    ENTRY_TIME TIMESTAMP_NTZ(6) COMMENT 'Open time of the next minute, UTC: the earliest entry',
    ENTRY_PRICE FLOAT COMMENT 'Open of that minute, quote asset; null if the minute is missing',
    RETURN_15M FLOAT COMMENT 'Return 15 minutes after the entry, share of the entry price, positive if the candidate was right; null if minutes are missing or the time is not over',
    FAVOURABLE_15M FLOAT COMMENT 'Greatest move in favour within 15 minutes, share of the entry price, 0 or more; null as RETURN_15M',
    ADVERSE_15M FLOAT COMMENT 'Greatest move against within 15 minutes, share of the entry price, 0 or less; null as RETURN_15M',
    MISSING_15M NUMBER(19, 0) COMMENT 'Minutes that are missing within 15 minutes; null while the time is not over',
    RETURN_1H FLOAT COMMENT 'Return 1 hour after the entry, share of the entry price, positive if the candidate was right; null if minutes are missing or the time is not over',
    FAVOURABLE_1H FLOAT COMMENT 'Greatest move in favour within 1 hour, share of the entry price, 0 or more; null as RETURN_1H',
    ADVERSE_1H FLOAT COMMENT 'Greatest move against within 1 hour, share of the entry price, 0 or less; null as RETURN_1H',
    MISSING_1H NUMBER(19, 0) COMMENT 'Minutes that are missing within 1 hour; null while the time is not over',
    RETURN_4H FLOAT COMMENT 'Return 4 hours after the entry, share of the entry price, positive if the candidate was right; null if minutes are missing or the time is not over',
    FAVOURABLE_4H FLOAT COMMENT 'Greatest move in favour within 4 hours, share of the entry price, 0 or more; null as RETURN_4H',
    ADVERSE_4H FLOAT COMMENT 'Greatest move against within 4 hours, share of the entry price, 0 or less; null as RETURN_4H',
    MISSING_4H NUMBER(19, 0) COMMENT 'Minutes that are missing within 4 hours; null while the time is not over',
    DELISTED_AT TIMESTAMP_NTZ(6) COMMENT 'End of trading, UTC, if it came within 4 hours of the entry; null otherwise',
    PRIMARY KEY (CANDIDATE_ID)
)
COMMENT = 'What became of candidates after 15 minutes, 1 hour and 4 hours, one row a candidate'
