-- For people: orders in their newest state, with the candidate they came from and their fills.
CREATE OR REPLACE VIEW ${DATABASE}.${SCHEMA}.V_ORDERS (
    ACCOUNT COMMENT 'Account of the gateway',
    VENUE COMMENT 'Venue of the account, such as paper',
    CLIENT_ID COMMENT 'Id of the order, given by the gateway',
    SYMBOL COMMENT 'Symbol of the future',
    SIDE COMMENT 'buy or sell',
    KIND COMMENT 'market, limit or stop',
    QUANTITY COMMENT 'Quantity asked for, base asset',
    PRICE COMMENT 'Price asked for, quote asset; null for a market order',
    REDUCE_ONLY COMMENT 'Whether the order may only reduce a position',
    STRATEGY COMMENT 'Name and version of the strategy; null if a person asked for the order',
    DECISION_ID COMMENT 'Id of the decision; null without one',
    CANDIDATE_ID COMMENT 'Id of the candidate; null without one',
    PARENT COMMENT 'Client id of the order, or id of the close, that the order belongs to; null without one',
    LEVERAGE COMMENT 'Leverage of the position that an entry opens; 0 leaves that of the venue',
    STATUS COMMENT 'State of the order',
    STATUS_REASON COMMENT 'Why the order is in this state; null without a reason',
    FILLED COMMENT 'Quantity filled so far, base asset',
    FILL_PRICE COMMENT 'Mean price of the fills, quote asset; null without one',
    FEES COMMENT 'Fees of the fills, quote asset',
    SENT_AT COMMENT 'Time of sending, UTC',
    CHANGED_AT COMMENT 'Time of the newest change, UTC'
)
COMMENT = 'Orders in their newest state, with their candidate and the sums of their fills'
AS SELECT
    O.ACCOUNT,
    O.VENUE,
    O.CLIENT_ID,
    O.SYMBOL,
    O.SIDE,
    O.KIND,
    O.QUANTITY,
    O.PRICE,
    O.REDUCE_ONLY,
    NULLIF(O.STRATEGY, ''),
    NULLIF(O.DECISION_ID, ''),
    D.CANDIDATE_ID,
    NULLIF(O.PARENT, ''),
    O.LEVERAGE,
    O.STATUS,
    NULLIF(O.REASON, ''),
    O.FILLED,
    F.VALUE / NULLIF(F.QUANTITY, 0),
    COALESCE(F.FEES, 0),
    O.SENT_AT,
    O.CHANGED_AT
FROM ${DATABASE}.${SCHEMA}.ORDERS AS O
LEFT JOIN ${DATABASE}.${SCHEMA}.DECISIONS AS D ON D.ID = O.DECISION_ID
LEFT JOIN (
    SELECT
        ACCOUNT, CLIENT_ID, SUM(QUANTITY) AS QUANTITY,
        SUM(CAST(QUANTITY AS FLOAT) * CAST(PRICE AS FLOAT)) AS VALUE, SUM(FEE) AS FEES
    FROM ${DATABASE}.${SCHEMA}.FILLS
    WHERE CLIENT_ID <> ''
    GROUP BY ACCOUNT, CLIENT_ID
) AS F ON F.ACCOUNT = O.ACCOUNT AND F.CLIENT_ID = O.CLIENT_ID
