-- For the report: the funding that a long position of each symbol paid in a span, as a share of its value.
SELECT SYMBOL, COUNT(*) AS SETTLEMENTS, SUM(FUNDING_RATE) AS PAID
FROM ${DATABASE}.${SCHEMA}.FUNDING_RATES
WHERE FUNDING_TIME >= ${START} AND FUNDING_TIME < ${END}
GROUP BY SYMBOL
ORDER BY SYMBOL
