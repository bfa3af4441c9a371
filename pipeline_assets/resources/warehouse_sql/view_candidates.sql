-- For people: candidates, each with its decision.
CREATE OR REPLACE VIEW ${DATABASE}.${SCHEMA}.V_CANDIDATES (
    CANDIDATE_ID COMMENT 'Id of the candidate',
    STRATEGY COMMENT 'Name of the strategy',
    VERSION COMMENT 'Version of the strategy and digest of its parameters',
    SYMBOL COMMENT 'Symbol of the future',
    "INTERVAL" COMMENT 'Interval of the candle, such as 1m',
    SIDE COMMENT 'long or short',
    OPEN_TIME COMMENT 'Open time of the candle, UTC',
    PRICE COMMENT 'Close of the candle, quote asset',
    INDICATORS COMMENT 'Values that the strategy compared, a JSON object by name',
    CREATED_AT COMMENT 'Time of the evaluation, UTC',
    EVALUATED_LATE COMMENT 'Whether the evaluation was too late to publish the candidate',
    VERDICT COMMENT 'accept or decline; null without a decision',
    DECLINE_REASON COMMENT 'Why the candidate was declined; null otherwise'
)
COMMENT = 'Candidates, each with its decision'
AS SELECT
    C.ID,
    C.STRATEGY,
    C.VERSION,
    C.SYMBOL,
    C."INTERVAL",
    C.SIDE,
    C.OPEN_TIME,
    C.PRICE,
    C.INDICATORS,
    C.CREATED_AT,
    COALESCE(C.EVALUATED_LATE, FALSE),
    D.VERDICT,
    NULLIF(D.REASON, '')
FROM ${DATABASE}.${SCHEMA}.CANDIDATES AS C
LEFT JOIN ${DATABASE}.${SCHEMA}.DECISIONS AS D ON D.CANDIDATE_ID = C.ID
