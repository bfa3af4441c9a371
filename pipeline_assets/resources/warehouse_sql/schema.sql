-- The schema of tables and stage.
CREATE SCHEMA IF NOT EXISTS ${DATABASE}.${SCHEMA}
