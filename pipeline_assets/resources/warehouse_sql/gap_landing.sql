-- The landing table of gaps, with the names that the objects' columns have: new each time, as the one
-- of candles is (landing.sql).
CREATE OR REPLACE TRANSIENT TABLE ${DATABASE}.${SCHEMA}.${LANDING} (
    "DAY" DATE,
    "SYMBOL" VARCHAR,
    "INTERVAL" VARCHAR,
    "FIRST" TIMESTAMP_NTZ(6),
    "LAST" TIMESTAMP_NTZ(6),
    "COUNT" NUMBER(19, 0),
    "CAUSE" VARCHAR
)
