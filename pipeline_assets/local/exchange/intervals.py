"""The candle intervals the exchange answers for, in milliseconds. No candles here."""

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

INTERVALS = {
    "1m": MINUTE,
    "3m": 3 * MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "30m": 30 * MINUTE,
    "1h": HOUR,
    "2h": 2 * HOUR,
    "4h": 4 * HOUR,
    "6h": 6 * HOUR,
    "8h": 8 * HOUR,
    "12h": 12 * HOUR,
    "1d": DAY,
}
"""Interval name to span in ms. Each divides a UTC day, so a candle never crosses midnight.

Binance also knows 3d, 1w and 1M; those do not divide a day and are answered with -1120 here.
"""
