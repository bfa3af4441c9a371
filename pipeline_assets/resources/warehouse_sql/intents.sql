-- Intents: what the trader did after an accepted decision, as the objects of intents/ hold them. Times and
-- the key are as in candidates.sql.
CREATE TABLE IF NOT EXISTS ${DATABASE}.${SCHEMA}.${TABLE} (
    DECISION_ID VARCHAR NOT NULL COMMENT 'Id of the decision',
    OPEN_TIME TIMESTAMP_NTZ(6) NOT NULL COMMENT 'Open time of the candle of the candidate, UTC',
    ACTION VARCHAR COMMENT 'open, close or reverse',
    OUTCOME VARCHAR COMMENT 'sent or skipped',
    ORDER_ID VARCHAR COMMENT 'Client id of the order; empty if skipped',
    REASON VARCHAR COMMENT 'Why the order was skipped; empty if sent',
    PRIMARY KEY (DECISION_ID)
)
COMMENT = 'Intents: what the trader did after an accepted decision, one row a decision'
