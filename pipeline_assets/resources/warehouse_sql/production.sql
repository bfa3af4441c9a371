-- What only a real account needs, run once by ACCOUNTADMIN before the first load. It has never run
-- on a real account: it parses under sqlglot's Snowflake dialect, and the embedded server has neither
-- roles nor warehouses. Edit the names to your settings (PIPELINE_SNOWFLAKE__*, PIPELINE_S3__BUCKET)
-- and the ARN to your AWS role, then give that role's trust policy what the last statement shows.

USE ROLE ACCOUNTADMIN;

-- Loads every 15 minutes (PIPELINE_INGEST__LOAD_MINUTES) need some 53 credits a month: each wakes the
-- warehouse for its seconds and the 60 until it suspends itself. Features make 58 of them, the
-- inference service 92, and funding rates add 13 at most.
CREATE RESOURCE MONITOR IF NOT EXISTS CANDLE_LOADING_LIMIT
WITH CREDIT_QUOTA = 130 FREQUENCY = MONTHLY START_TIMESTAMP = IMMEDIATELY
TRIGGERS ON 80 PERCENT DO NOTIFY ON 100 PERCENT DO SUSPEND;

-- A load takes seconds and a warehouse is billed for a minute at least, so it stops at once after.
CREATE WAREHOUSE IF NOT EXISTS CANDLE_LOADING
WAREHOUSE_SIZE = XSMALL
AUTO_SUSPEND = 60
AUTO_RESUME = TRUE
INITIALLY_SUSPENDED = TRUE
STATEMENT_TIMEOUT_IN_SECONDS = 600;

ALTER WAREHOUSE CANDLE_LOADING SET RESOURCE_MONITOR = CANDLE_LOADING_LIMIT;

CREATE STORAGE INTEGRATION IF NOT EXISTS S3_CANDLES
TYPE = EXTERNAL_STAGE
STORAGE_PROVIDER = 'S3'
ENABLED = TRUE
STORAGE_AWS_ROLE_ARN = 'arn:aws:iam::123456789012:role/snowflake-reads-candles'
STORAGE_ALLOWED_LOCATIONS = (
    's3://candles/ohlcv/', 's3://candles/gaps/', 's3://candles/funding/', 's3://candles/candidates/',
    's3://candles/decisions/', 's3://candles/intents/', 's3://candles/orders/', 's3://candles/fills/',
    's3://candles/candidate_outcomes/', 's3://candles/accounts/');

-- An integration of an earlier version may not read all of these yet, nor its loader make views:
-- ALTER STORAGE INTEGRATION S3_CANDLES
-- SET STORAGE_ALLOWED_LOCATIONS = (
--     's3://candles/ohlcv/', 's3://candles/gaps/', 's3://candles/funding/', 's3://candles/candidates/',
--     's3://candles/decisions/', 's3://candles/intents/', 's3://candles/orders/', 's3://candles/fills/',
--     's3://candles/candidate_outcomes/', 's3://candles/accounts/');
-- GRANT CREATE VIEW ON SCHEMA MARKET_DATA.FUTURES TO ROLE CANDLE_LOADER;
-- GRANT SELECT ON FUTURE VIEWS IN SCHEMA MARKET_DATA.FUTURES TO ROLE CANDLE_READER;

CREATE ROLE IF NOT EXISTS CANDLE_LOADER;
CREATE ROLE IF NOT EXISTS CANDLE_READER;
GRANT ROLE CANDLE_READER TO ROLE CANDLE_LOADER;
GRANT ROLE CANDLE_LOADER TO ROLE SYSADMIN;

CREATE DATABASE IF NOT EXISTS MARKET_DATA;
CREATE SCHEMA IF NOT EXISTS MARKET_DATA.FUTURES;

-- The loader makes stages, tables and views itself at its first load, and so owns them.
GRANT USAGE, OPERATE ON WAREHOUSE CANDLE_LOADING TO ROLE CANDLE_LOADER;
GRANT USAGE ON INTEGRATION S3_CANDLES TO ROLE CANDLE_LOADER;
GRANT USAGE ON DATABASE MARKET_DATA TO ROLE CANDLE_LOADER;
GRANT USAGE, CREATE TABLE, CREATE STAGE, CREATE VIEW ON SCHEMA MARKET_DATA.FUTURES TO ROLE CANDLE_LOADER;

GRANT USAGE ON DATABASE MARKET_DATA TO ROLE CANDLE_READER;
GRANT USAGE ON SCHEMA MARKET_DATA.FUTURES TO ROLE CANDLE_READER;
GRANT SELECT ON FUTURE TABLES IN SCHEMA MARKET_DATA.FUTURES TO ROLE CANDLE_READER;
GRANT SELECT ON FUTURE VIEWS IN SCHEMA MARKET_DATA.FUTURES TO ROLE CANDLE_READER;

-- Key pair only: set RSA_PUBLIC_KEY to the public half of PIPELINE_SNOWFLAKE__PRIVATE_KEY_PATH.
CREATE USER IF NOT EXISTS PIPELINE
TYPE = SERVICE
DEFAULT_ROLE = CANDLE_LOADER
DEFAULT_WAREHOUSE = CANDLE_LOADING;
GRANT ROLE CANDLE_LOADER TO USER PIPELINE;

DESCRIBE INTEGRATION S3_CANDLES;
