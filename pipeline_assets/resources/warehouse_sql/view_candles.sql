-- For people: the candles of both tables. Filter by INTERVAL, which reads one table only.
CREATE OR REPLACE VIEW ${DATABASE}.${SCHEMA}.V_CANDLES (
    "INTERVAL" COMMENT 'Interval of the candle: 15m or 1h',
    SYMBOL COMMENT 'Symbol of the future',
    OPEN_TIME COMMENT 'Open time of the candle, UTC',
    OPEN COMMENT 'First price, quote asset',
    HIGH COMMENT 'Highest price, quote asset',
    LOW COMMENT 'Lowest price, quote asset',
    CLOSE COMMENT 'Last price, quote asset',
    VOLUME COMMENT 'Volume, base asset',
    QUOTE_VOLUME COMMENT 'Volume, quote asset',
    TAKER_BUY_VOLUME COMMENT 'Volume that takers bought, base asset',
    TAKER_BUY_QUOTE_VOLUME COMMENT 'Volume that takers bought, quote asset',
    TRADES COMMENT 'Number of trades',
    CLOSE_TIME COMMENT 'Last millisecond before the next open time, UTC'
)
COMMENT = 'Closed candles of 15m and 1h, one row a symbol, interval and open time'
AS SELECT
    '15m',
    SYMBOL,
    OPEN_TIME,
    OPEN,
    HIGH,
    LOW,
    CLOSE,
    VOLUME,
    QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    TAKER_BUY_QUOTE_VOLUME,
    TRADES,
    CLOSE_TIME
FROM ${DATABASE}.${SCHEMA}.CANDLES_15M
UNION ALL
SELECT
    '1h',
    SYMBOL,
    OPEN_TIME,
    OPEN,
    HIGH,
    LOW,
    CLOSE,
    VOLUME,
    QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    TAKER_BUY_QUOTE_VOLUME,
    TRADES,
    CLOSE_TIME
FROM ${DATABASE}.${SCHEMA}.CANDLES_1H
