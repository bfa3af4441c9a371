-- The column that a table of outcomes from before this release lacks.
ALTER TABLE ${DATABASE}.${SCHEMA}.${TABLE} ADD COLUMN IF NOT EXISTS
    DELISTED_AT TIMESTAMP_NTZ(6) COMMENT 'End of trading, UTC, if it came within 4 hours of the entry; null otherwise'
