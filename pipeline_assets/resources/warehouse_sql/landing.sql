-- The landing table of one load: new each time, so that no load history makes COPY skip a file.
CREATE OR REPLACE TRANSIENT TABLE ${DATABASE}.${SCHEMA}.${LANDING}
LIKE ${DATABASE}.${SCHEMA}.${TABLE}
