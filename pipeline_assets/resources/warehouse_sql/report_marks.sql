-- For the report: the prices of the symbols that an account held or traded in a span: closes of 15m candles, and
-- fills before the span. They begin before it, so that a position has the value at the start of a span that it
-- has at the end of the span before.
SELECT C.SYMBOL, DATEADD('minute', 15, C.OPEN_TIME) AS KNOWN_AT, C.CLOSE AS PRICE
FROM ${DATABASE}.${SCHEMA}.CANDLES_15M AS C
JOIN (
    SELECT SYMBOL
    FROM ${DATABASE}.${SCHEMA}.FILLS
    WHERE FILLED_AT < ${END}
    GROUP BY SYMBOL
    HAVING MAX(FILLED_AT) >= ${START}
        OR SUM(CASE WHEN SIDE = 'buy' THEN QUANTITY ELSE -QUANTITY END) <> 0
) AS S ON S.SYMBOL = C.SYMBOL
WHERE C.OPEN_TIME >= ${FIRST} AND C.OPEN_TIME < ${END}
UNION ALL
SELECT SYMBOL, FILLED_AT, CAST(PRICE AS FLOAT)
FROM ${DATABASE}.${SCHEMA}.V_FILLS
WHERE FILLED_AT >= ${FIRST} AND FILLED_AT < ${START}
ORDER BY SYMBOL, KNOWN_AT
