-- A landing table that has been merged, or whose run is dead.
DROP TABLE IF EXISTS ${DATABASE}.${SCHEMA}.${LANDING}
