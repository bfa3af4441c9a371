-- For people: what became of candidates, one row a candidate and horizon, with the decision.
CREATE OR REPLACE VIEW ${DATABASE}.${SCHEMA}.V_OUTCOMES (
    CANDIDATE_ID COMMENT 'Id of the candidate',
    STRATEGY COMMENT 'Name of the strategy',
    VERSION COMMENT 'Version of the strategy and digest of its parameters',
    SYMBOL COMMENT 'Symbol of the future',
    SIDE COMMENT 'long or short',
    OPEN_TIME COMMENT 'Open time of the candle of the candidate, UTC',
    ENTRY_TIME COMMENT 'Open time of the next minute, UTC: the earliest entry',
    ENTRY_PRICE COMMENT 'Open of that minute, quote asset; null if the minute is missing',
    HORIZON_MINUTES COMMENT 'Minutes from the entry: 15, 60 or 240',
    SIGNED_RETURN COMMENT 'Return at the end of the horizon, share of the entry price, positive if the candidate was right; null unless STATE is known',
    FAVOURABLE COMMENT 'Greatest move in favour within the horizon, share of the entry price, 0 or more; null unless STATE is known',
    ADVERSE COMMENT 'Greatest move against within the horizon, share of the entry price, 0 or less; null unless STATE is known',
    STATE COMMENT 'known, delisted within the horizon, minutes missing, or not over when it was computed',
    VERDICT COMMENT 'accept or decline; null without a decision'
)
COMMENT = 'What became of candidates, one row a candidate and horizon of 15, 60 and 240 minutes, with the decision'
AS SELECT
    X.CANDIDATE_ID,
    X.STRATEGY,
    X.VERSION,
    X.SYMBOL,
    X.SIDE,
    X.OPEN_TIME,
    X.ENTRY_TIME,
    X.ENTRY_PRICE,
    X.MINUTES,
    X.CHANGE,
    X.FAVOURABLE,
    X.ADVERSE,
    CASE
        WHEN X.MISSING IS NULL THEN 'not over'
        WHEN X.MISSING > 0 AND X.DELISTED_AT < DATEADD('minute', X.MINUTES, X.ENTRY_TIME) THEN 'delisted'
        WHEN X.MISSING > 0 THEN 'minutes missing'
        ELSE 'known'
    END,
    D.VERDICT
FROM (
    SELECT
        CANDIDATE_ID, STRATEGY, VERSION, SYMBOL, SIDE, OPEN_TIME, ENTRY_TIME, ENTRY_PRICE, 15 AS MINUTES,
        RETURN_15M AS CHANGE, FAVOURABLE_15M AS FAVOURABLE, ADVERSE_15M AS ADVERSE, MISSING_15M AS MISSING,
        DELISTED_AT
    FROM ${DATABASE}.${SCHEMA}.CANDIDATE_OUTCOMES
    UNION ALL
    SELECT
        CANDIDATE_ID, STRATEGY, VERSION, SYMBOL, SIDE, OPEN_TIME, ENTRY_TIME, ENTRY_PRICE, 60 AS MINUTES,
        RETURN_1H AS CHANGE, FAVOURABLE_1H AS FAVOURABLE, ADVERSE_1H AS ADVERSE, MISSING_1H AS MISSING,
        DELISTED_AT
    FROM ${DATABASE}.${SCHEMA}.CANDIDATE_OUTCOMES
    UNION ALL
    SELECT
        CANDIDATE_ID, STRATEGY, VERSION, SYMBOL, SIDE, OPEN_TIME, ENTRY_TIME, ENTRY_PRICE, 240 AS MINUTES,
        RETURN_4H AS CHANGE, FAVOURABLE_4H AS FAVOURABLE, ADVERSE_4H AS ADVERSE, MISSING_4H AS MISSING,
        DELISTED_AT
    FROM ${DATABASE}.${SCHEMA}.CANDIDATE_OUTCOMES
) AS X
LEFT JOIN ${DATABASE}.${SCHEMA}.DECISIONS AS D ON D.CANDIDATE_ID = X.CANDIDATE_ID
