-- For people: decisions, each with what the trader did.
CREATE OR REPLACE VIEW ${DATABASE}.${SCHEMA}.V_DECISIONS (
    DECISION_ID COMMENT 'Id of the decision',
    CANDIDATE_ID COMMENT 'Id of the candidate',
    STRATEGY COMMENT 'Name of the strategy',
    VERSION COMMENT 'Version of the strategy and digest of its parameters',
    SYMBOL COMMENT 'Symbol of the future',
    "INTERVAL" COMMENT 'Interval of the candle, such as 1m',
    SIDE COMMENT 'long or short',
    OPEN_TIME COMMENT 'Open time of the candle, UTC',
    PRICE COMMENT 'Close of the candle, quote asset',
    VERDICT COMMENT 'accept or decline',
    DECLINE_REASON COMMENT 'Why the candidate was declined; null if accepted',
    AUTHOR COMMENT 'Program that decided',
    DECIDED_AT COMMENT 'Time of the decision, UTC',
    MODEL COMMENT 'Model that decided; null without one',
    PROBABILITY COMMENT 'Probability of a win by the model; null without one',
    EXPECTED_VALUE COMMENT 'Expected return of the trade by the model, share of its value; null without one',
    REASONS COMMENT 'Strongest reasons of the model, a JSON list of input, value and effect; null without a judgement',
    ACTION COMMENT 'open, close or reverse; null without an intent',
    OUTCOME COMMENT 'sent or skipped; null without an intent',
    ORDER_ID COMMENT 'Client id of the order; null without one',
    SKIP_REASON COMMENT 'Why the order was skipped; null otherwise'
)
COMMENT = 'Decisions, each with what the trader did after it'
AS SELECT
    D.ID,
    D.CANDIDATE_ID,
    D.STRATEGY,
    D.VERSION,
    D.SYMBOL,
    D."INTERVAL",
    D.SIDE,
    D.OPEN_TIME,
    D.PRICE,
    D.VERDICT,
    NULLIF(D.REASON, ''),
    D.AUTHOR,
    D.DECIDED_AT,
    D.MODEL,
    D.PROBABILITY,
    D.EXPECTED_VALUE,
    D.REASONS,
    I.ACTION,
    I.OUTCOME,
    NULLIF(I.ORDER_ID, ''),
    NULLIF(I.REASON, '')
FROM ${DATABASE}.${SCHEMA}.DECISIONS AS D
LEFT JOIN ${DATABASE}.${SCHEMA}.INTENTS AS I ON I.DECISION_ID = D.ID
