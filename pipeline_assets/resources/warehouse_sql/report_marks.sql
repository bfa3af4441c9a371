-- For the report: the closes of the symbols that an account held or traded in a span, from one candle before
-- it, which values the positions at the start.
SELECT C.SYMBOL, C.OPEN_TIME, C.CLOSE
FROM ${DATABASE}.${SCHEMA}.${TABLE} AS C
JOIN (
    SELECT SYMBOL
    FROM ${DATABASE}.${SCHEMA}.FILLS
    WHERE FILLED_AT < ${END}
    GROUP BY SYMBOL
    HAVING MAX(FILLED_AT) >= ${START}
        OR SUM(CASE WHEN SIDE = 'buy' THEN QUANTITY ELSE -QUANTITY END) <> 0
) AS S ON S.SYMBOL = C.SYMBOL
WHERE C.OPEN_TIME >= ${FIRST} AND C.OPEN_TIME < ${END}
ORDER BY C.SYMBOL, C.OPEN_TIME
