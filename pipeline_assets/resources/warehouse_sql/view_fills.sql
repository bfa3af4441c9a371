-- For people: fills with their value and what each did to the account's cash. Products of exact amounts need
-- more digits than NUMBER has, so they are floats.
CREATE OR REPLACE VIEW ${DATABASE}.${SCHEMA}.V_FILLS (
    ACCOUNT COMMENT 'Account of the gateway',
    VENUE COMMENT 'Venue of the account, such as paper',
    SYMBOL COMMENT 'Symbol of the future',
    TRADE_ID COMMENT 'Id of the trade, given by the venue',
    SIDE COMMENT 'buy or sell',
    QUANTITY COMMENT 'Quantity, base asset',
    SIGNED_QUANTITY COMMENT 'Quantity, negative if sold: the sum is the position',
    PRICE COMMENT 'Price, quote asset',
    VALUE COMMENT 'Quantity times price, quote asset',
    FEE COMMENT 'Fee, quote asset',
    CASH_FLOW COMMENT 'Value sold, or minus the value bought, less the fee, quote asset: over fills that leave no position the sum is the profit before funding',
    FILLED_AT COMMENT 'Time at which the venue matched the trade, UTC',
    CLIENT_ID COMMENT 'Client id of the order; null if the gateway did not know the order yet',
    VENUE_ID COMMENT 'Id of the order, given by the venue',
    STRATEGY COMMENT 'Name and version of the strategy; null if a person asked for the order',
    DECISION_ID COMMENT 'Id of the decision; null without one'
)
COMMENT = 'Fills of the ledger, with value and cash flow'
AS SELECT
    ACCOUNT,
    VENUE,
    SYMBOL,
    TRADE_ID,
    SIDE,
    QUANTITY,
    CASE WHEN SIDE = 'buy' THEN QUANTITY ELSE -QUANTITY END,
    PRICE,
    CAST(QUANTITY AS FLOAT) * CAST(PRICE AS FLOAT),
    FEE,
    CASE WHEN SIDE = 'buy' THEN -1 ELSE 1 END * CAST(QUANTITY AS FLOAT) * CAST(PRICE AS FLOAT)
        - CAST(FEE AS FLOAT),
    FILLED_AT,
    NULLIF(CLIENT_ID, ''),
    VENUE_ID,
    NULLIF(STRATEGY, ''),
    NULLIF(DECISION_ID, '')
FROM ${DATABASE}.${SCHEMA}.FILLS
