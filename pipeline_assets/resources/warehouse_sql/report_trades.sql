-- For the report: the trades that their own orders closed in a span. PROFIT is after fees and before funding.
-- Accounts may trade the same decision on different days, so each trade's own last fill is in the span.
SELECT
    ACCOUNT, COALESCE(STRATEGY, '') AS STRATEGY, SYMBOL, DECISION_ID,
    SUM(CASH_FLOW) AS PROFIT, SUM(FEE) AS FEES, MAX(FILLED_AT) AS CLOSED_AT
FROM ${DATABASE}.${SCHEMA}.V_FILLS
WHERE FILLED_AT < ${END} AND DECISION_ID IN (
    SELECT DECISION_ID
    FROM ${DATABASE}.${SCHEMA}.FILLS
    WHERE FILLED_AT >= ${START} AND FILLED_AT < ${END} AND DECISION_ID <> ''
)
GROUP BY ACCOUNT, STRATEGY, SYMBOL, DECISION_ID
HAVING SUM(SIGNED_QUANTITY) = 0 AND MAX(FILLED_AT) >= ${START}
ORDER BY CLOSED_AT, ACCOUNT, DECISION_ID
