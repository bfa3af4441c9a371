-- Fills of the ledger of the gateway, as the objects of fills/ hold them. Amounts are exact. Times and the
-- key are as in candidates.sql.
CREATE TABLE IF NOT EXISTS ${DATABASE}.${SCHEMA}.${TABLE} (
    ACCOUNT VARCHAR NOT NULL COMMENT 'Account of the gateway',
    VENUE VARCHAR COMMENT 'Venue of the account, such as paper',
    SYMBOL VARCHAR NOT NULL COMMENT 'Symbol of the future',
    TRADE_ID NUMBER(19, 0) NOT NULL COMMENT 'Id of the trade, given by the venue',
    VENUE_ID VARCHAR COMMENT 'Id of the order, given by the venue',
    SIDE VARCHAR COMMENT 'buy or sell',
    QUANTITY NUMBER(38, 8) COMMENT 'Quantity, base asset',
    PRICE NUMBER(38, 8) COMMENT 'Price, quote asset',
    FEE NUMBER(38, 8) COMMENT 'Fee, quote asset',
    FILLED_AT TIMESTAMP_NTZ(6) NOT NULL COMMENT 'Time at which the venue matched the trade, UTC',
    CLIENT_ID VARCHAR COMMENT 'Client id of the order; empty if the gateway did not know the order yet',
    STRATEGY VARCHAR COMMENT 'Name and version of the strategy; empty if a person asked for the order',
    DECISION_ID VARCHAR COMMENT 'Id of the decision; empty without one',
    SEQUENCE NUMBER(19, 0) COMMENT 'Number of the newest record about the fill in the journal of the gateway',
    COPY_BEGUN TIMESTAMP_NTZ(6) COMMENT 'Time at which the copy of this journal to the lake began, UTC',
    PRIMARY KEY (ACCOUNT, SYMBOL, TRADE_ID)
)
COMMENT = 'Fills of the ledger of the gateway, one row an account, symbol and trade id'
