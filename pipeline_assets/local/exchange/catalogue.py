"""The synthetic contracts: well-known names first, then invented ones, and a few odd ones.

A contract here is a pure function of its symbol. Candles are made in synthetic.py.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from pipeline_assets.local.exchange.contracts import Contract
from pipeline_assets.local.exchange.intervals import DAY, HOUR
from pipeline_assets.local.exchange.moments import parse_moment

# base, price level, tick, price precision, quantity precision, turnover in millions, listed
WELL_KNOWN = """
BTC 95000 0.10 2 3 14000 2019-09-08T17:57
ETH 3200 0.01 2 3 11000 2019-11-27T07:45
SOL 160 0.0100 4 2 4200 2020-09-14T07:00
XRP 2.2 0.0001 4 1 2600 2020-01-06T08:00
BNB 640 0.010 3 2 900 2020-02-10T08:00
DOGE 0.19 0.00001 6 0 1900 2020-07-10T09:00
ADA 0.72 0.00010 5 0 800 2020-01-31T08:00
AVAX 22 0.0010 4 0 600 2020-09-23T07:00
LINK 15 0.001 3 2 520 2020-01-17T08:00
LTC 92 0.01 2 3 400 2020-01-09T08:00
TRX 0.27 0.00001 5 0 300 2020-01-15T08:00
DOT 4.6 0.001 3 1 240 2020-08-22T07:00
BCH 420 0.01 2 3 260 2019-12-23T08:00
NEAR 2.6 0.0010 4 0 230 2020-10-15T07:00
UNI 7.1 0.0010 4 0 280 2020-09-18T07:00
ATOM 4.4 0.001 3 2 110 2020-02-07T08:00
ETC 18 0.001 3 2 150 2020-01-16T08:00
FIL 2.7 0.001 3 1 190 2020-10-16T07:00
APT 5.1 0.00010 5 1 170 2022-10-19T02:00
ARB 0.38 0.000100 6 1 210 2023-03-23T13:00
OP 0.75 0.0001000 7 1 160 2022-06-01T08:00
SUI 3.4 0.000100 6 1 1400 2023-05-03T12:00
1000PEPE 0.0128 0.0000001 7 0 1500 2023-05-05T16:00
WIF 0.95 0.0001 4 1 450 2024-01-18T14:30
1000SHIB 0.0132 0.000001 6 0 330 2021-05-10T11:00
币安人生 0.16 0.00001 5 0 120 2025-10-07T09:15
我踏马来了 0.021 0.000001 6 0 45 2026-01-08T12:30
龙虾 0.0093 0.000001 6 0 12 2026-03-10T11:00
哈基米 0.034 0.000001 6 0 8 2025-10-22T13:45
雪球 0.0017 0.0000001 7 0 2 2026-09-16T10:30
XLM 0.28 0.00001 5 0 180 2020-01-20T08:00
INJ 11 0.001 3 1 140 2022-08-17T13:30
AAVE 180 0.010 3 1 320 2020-10-16T07:00
HBAR 0.18 0.00001 5 0 240 2021-04-02T07:00
TON 3.1 0.0001 4 1 130 2024-03-01T12:30
TIA 2.4 0.0001 4 0 200 2023-10-31T15:30
SEI 0.19 0.00001 5 0 150 2023-08-16T12:30
GALA 0.016 0.00001 5 0 90 2021-09-14T07:00
SAND 0.27 0.00001 5 0 60 2021-01-22T07:00
CRV 0.62 0.001 3 1 170 2020-08-31T07:00
"""

INITIALS = "BDFGKLMNPRSTVZ"
VOWELS = "AEIOU"


def catalogue(universe: int | Sequence[str]) -> dict[str, Contract]:
    """Return the contracts of an exchange.

    Args:
        universe: how many trading USDT perpetuals of underlying type COIN, in the catalogue's
            order, in which case the contracts outside the universe are listed too (`outsiders`);
            or exactly the symbols to list, where an unknown one gets an invented contract.

    Raises:
        ValueError: a symbol that no contract can be made of.
    """
    known = {contract.symbol: contract for contract in (*well_known(), *outsiders())}
    if not isinstance(universe, int):
        return {symbol: known.get(symbol) or invented(symbol) for symbol in universe}
    names = [contract.symbol for contract in well_known()]
    names += invented_names(universe - len(names))
    return {name: known.get(name) or invented(name) for name in names[:universe]} | {
        contract.symbol: contract for contract in outsiders()
    }


def well_known() -> list[Contract]:
    """Return the contracts of the table, USDT perpetuals all, five with Chinese characters."""
    return [from_row(row) for row in WELL_KNOWN.split("\n") if row]


def from_row(row: str) -> Contract:
    """Return the contract of a row of the table."""
    base, price, tick, price_precision, quantity_precision, millions, listed = row.split()
    unit = Decimal(1).scaleb(-int(price_precision))
    return Contract(
        symbol=f"{base}USDT",
        base=base,
        quote="USDT",
        price_units=int(Decimal(price) / unit),
        price_precision=int(price_precision),
        tick_units=int(Decimal(tick) / unit),
        quantity_precision=int(quantity_precision),
        turnover=int(millions) * 1_000_000,
        onboard_ms=parse_moment(listed),
        sub_types=("Layer-1",),
    )


def outsiders() -> list[Contract]:
    """Contracts that a universe of trading USDT perpetuals on coins must leave out."""
    bitcoin, ether = well_known()[:2]
    return [
        replace(
            invented("AGIXUSDT"),
            onboard_ms=parse_moment("2023-02-09T13:30"),
            delivery_ms=parse_moment("2024-07-08T09:00"),
        ),
        replace(
            invented("ALPACAUSDT"),
            onboard_ms=parse_moment("2024-11-14T12:00"),
            delivery_ms=parse_moment("2026-10-20T09:00"),
        ),
        replace(
            bitcoin,
            symbol="BTCUSDT_261225",
            contract_type="CURRENT_QUARTER",
            tick_units=10,
            turnover=60_000_000,
            onboard_ms=parse_moment("2026-06-26T08:00"),
            delivery_ms=parse_moment("2026-12-25T08:00"),
        ),
        replace(invented("BTCDOMUSDT"), underlying_type="INDEX", sub_types=("Index",)),
        replace(ether, symbol="ETHUSDC", quote="USDC", onboard_ms=parse_moment("2024-01-04T10:30")),
    ]


def invented_names(count: int) -> list[str]:
    """Return `count` distinct symbols of four letters, in a fixed order from BABAUSDT on.

    Raises:
        ValueError: there are not so many; the message says how many there are.
    """
    syllables = [consonant + vowel for vowel in VOWELS for consonant in INITIALS]
    taken = {contract.symbol for contract in well_known()}
    names = [f"{second}{first}USDT" for first in syllables for second in syllables]
    names = [name for name in names if name not in taken]
    if count > len(names):
        most = len(names) + len(taken)
        raise ValueError(f"The catalogue holds at most {most} symbols: ask for fewer by --symbols")
    return names[: max(0, count)]


def invented(symbol: str) -> Contract:
    """Return a small contract made up from the symbol alone: level, precision, turnover, listing.

    Raises:
        ValueError: the symbol does not end in a quote asset.
    """
    quote = next((name for name in ("USDT", "USDC") if symbol.endswith(name)), None)
    if quote is None or symbol == quote:
        raise ValueError(f"The symbol {symbol!r} must end in USDT or USDC, e.g. BTCUSDT")
    bits = int.from_bytes(hashlib.blake2b(symbol.encode(), digest_size=16).digest())
    magnitude = bits % 6
    digits = 11 + (bits >> 8) % 80
    price_precision = (7, 6, 5, 4, 3, 2)[magnitude]
    day = parse_moment("2020-02-01T00:00") + (bits >> 24) % 2480 * DAY
    return Contract(
        symbol=symbol,
        base=symbol.removesuffix(quote),
        quote=quote,
        price_units=digits * 1000,
        price_precision=price_precision,
        tick_units=1,
        quantity_precision=(0, 0, 0, 0, 1, 2)[magnitude],
        turnover=1_000_000 * (1 + (bits >> 48) % 8 * ((bits >> 56) % 8)),
        onboard_ms=day + (7 + (bits >> 64) % 8) * HOUR + (bits >> 72) % 2 * (HOUR // 2),
        sub_types=("Meme",),
    )
