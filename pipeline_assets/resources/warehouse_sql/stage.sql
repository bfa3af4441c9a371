-- Objects of the lake below one prefix, read only. File names of a COPY are relative to this address.
-- STORAGE_CLAUSE is empty or names the storage integration, whose role may read the bucket.
CREATE STAGE IF NOT EXISTS ${DATABASE}.${SCHEMA}.${STAGE}
URL = ${URL}
${STORAGE_CLAUSE}
FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE)
