-- Decisions: one a candidate, as the objects of decisions/ hold them. MODEL, PROBABILITY,
-- EXPECTED_VALUE and REASONS are null where no model decided. Times and the key are as in candidates.sql.
CREATE TABLE IF NOT EXISTS ${DATABASE}.${SCHEMA}.${TABLE} (
    ID VARCHAR NOT NULL COMMENT 'Id of the decision',
    CANDIDATE_ID VARCHAR COMMENT 'Id of the candidate',
    STRATEGY VARCHAR COMMENT 'Name of the strategy',
    VERSION VARCHAR COMMENT 'Version of the strategy and digest of its parameters',
    SYMBOL VARCHAR COMMENT 'Symbol of the future',
    "INTERVAL" VARCHAR COMMENT 'Interval of the candle, such as 1m',
    SIDE VARCHAR COMMENT 'long or short',
    OPEN_TIME TIMESTAMP_NTZ(6) NOT NULL COMMENT 'Open time of the candle of the candidate, UTC',
    PRICE FLOAT COMMENT 'Close of the candle, quote asset',
    VERDICT VARCHAR COMMENT 'accept or decline',
    REASON VARCHAR COMMENT 'Why the candidate was declined; empty if accepted',
    AUTHOR VARCHAR COMMENT 'Program that decided',
    DECIDED_AT TIMESTAMP_NTZ(6) COMMENT 'Time of the decision, UTC',
    MODEL VARCHAR COMMENT 'Model that decided; null without one',
    PROBABILITY FLOAT COMMENT 'Probability of a win by the model; null without one',
    EXPECTED_VALUE FLOAT COMMENT 'Expected return of the trade by the model, share of its value; null without one',
    REASONS VARCHAR COMMENT 'Strongest reasons of the model, a JSON list of input, value and effect; null without a judgement',
    PRIMARY KEY (ID)
)
COMMENT = 'Decisions: one row a candidate that was decided'
