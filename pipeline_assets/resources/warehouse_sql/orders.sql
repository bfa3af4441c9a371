-- Orders in their newest state, as the objects of orders/ hold them. Amounts are exact. Times and the key
-- are as in candidates.sql.
CREATE TABLE IF NOT EXISTS ${DATABASE}.${SCHEMA}.${TABLE} (
    ACCOUNT VARCHAR NOT NULL COMMENT 'Account of the gateway',
    VENUE VARCHAR COMMENT 'Venue of the account, such as paper',
    CLIENT_ID VARCHAR NOT NULL COMMENT 'Id of the order, given by the gateway',
    SYMBOL VARCHAR COMMENT 'Symbol of the future',
    SIDE VARCHAR COMMENT 'buy or sell',
    KIND VARCHAR COMMENT 'market, limit or stop',
    QUANTITY NUMBER(38, 8) COMMENT 'Quantity asked for, base asset',
    PRICE NUMBER(38, 8) COMMENT 'Price asked for, quote asset; null for a market order',
    REDUCE_ONLY BOOLEAN COMMENT 'Whether the order may only reduce a position',
    STRATEGY VARCHAR COMMENT 'Name and version of the strategy; empty if a person asked for the order',
    DECISION_ID VARCHAR COMMENT 'Id of the decision; empty without one',
    PARENT VARCHAR COMMENT 'Client id of the order, or id of the close, that the order belongs to; empty without one',
    LEVERAGE NUMBER(19, 0) COMMENT 'Leverage of the position that an entry opens; 0 leaves that of the venue',
    STATUS VARCHAR NOT NULL COMMENT 'State of the order',
    REASON VARCHAR COMMENT 'Why the order is in this state; often empty',
    VENUE_ID VARCHAR COMMENT 'Id of the order, given by the venue; empty before its answer',
    FILLED NUMBER(38, 8) COMMENT 'Quantity filled so far, base asset',
    SENT_AT TIMESTAMP_NTZ(6) NOT NULL COMMENT 'Time of sending, UTC',
    CHANGED_AT TIMESTAMP_NTZ(6) COMMENT 'Time of the newest change, UTC',
    SEQUENCE NUMBER(19, 0) COMMENT 'Number of the newest record about the order in the journal of the gateway',
    COPY_BEGUN TIMESTAMP_NTZ(6) COMMENT 'Time at which the copy of this journal to the lake began, UTC',
    PRIMARY KEY (ACCOUNT, CLIENT_ID)
)
COMMENT = 'Orders of the gateway in their newest state, one row an account and client id'
