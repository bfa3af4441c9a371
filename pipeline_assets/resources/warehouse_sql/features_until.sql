-- When the newest features of a span's candles became available.
SELECT MAX(AVAILABLE_AT) AS NEWEST_AVAILABLE_AT
FROM ${DATABASE}.${SCHEMA}.${TABLE}
WHERE OPEN_TIME >= ${START} AND OPEN_TIME < ${END}
