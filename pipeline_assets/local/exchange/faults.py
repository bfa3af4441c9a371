"""Injected faults: their configuration, and which of them strike which request.

The reply to a faulty request is built in server.py. Outages are no faults (market.py):
those candles never existed.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pipeline_assets.local.exchange.accounts.faults import TradingFaults
from pipeline_assets.local.exchange.draws import uniform

SHARES = (
    "http_500",
    "http_503",
    "http_408",
    "html_502",
    "reset",
    "hang",
    "truncated",
    "cut_json",
    "duplicate_rows",
    "shuffled_rows",
    "missing_rows",
    "malformed_rows",
    "disguised_open_row",
)
"""The faults that strike a share of the requests, from 0 (never) to 1 (always)."""

ROW_FAULTS = SHARES[8:]

ARCHIVE_FILE_FAULTS = (
    "archive_missing",
    "archive_holes",
    "archive_zero_volume",
    "archive_partial",
    "archive_malformed",
)
"""The faults that a share of the archive's files has, the same at each request."""

ARCHIVE_FAULTS = ("archive_corrupt", "archive_checksum")
"""The faults that strike a share of the requests for the archive's zips, or for their checksums."""

ANYWHERE = SHARES[:7]
"""The faults that strike requests for the archive's files as well as calls."""

EVERY_SHARE = (*SHARES, *ARCHIVE_FILE_FAULTS, *ARCHIVE_FAULTS)
DOWN = (None, "reset", "http_503")


@dataclass(frozen=True)
class Faults:
    """Everything that can be made to go wrong; the default is nothing.

    Attributes:
        http_500: share of requests answered with HTTP 500, code -1000.
        http_503: share answered with HTTP 503, code -1001.
        http_408: share answered with HTTP 408, code -1007.
        html_502: share answered with HTTP 502 and an HTML page.
        reset: share whose connection is reset before any reply.
        hang: share that get no reply for `hang_seconds`, after which the connection closes.
        truncated: share whose reply ends half-way, short of its Content-Length.
        cut_json: share whose reply is complete HTTP with half a JSON document.
        duplicate_rows: share of klines replies with their middle row twice.
        shuffled_rows: share with the first and the last row swapped.
        missing_rows: share without their middle row.
        malformed_rows: share whose middle row has its high below its low, or opens 7 s late.
        disguised_open_row: share whose still-open candle claims a close time in the past.
        archive_missing: share of the archive's files that are not there.
        archive_holes: share of its files in which a run of rows is missing, under a right checksum.
        archive_zero_volume: share of its files with a false run without volume.
        archive_partial: share of its files with one candle as it stood half-way.
        archive_malformed: share of its files whose first row is blank, cut short or has a column too
            many, under a right checksum.
        archive_corrupt: share of the requests for a zip that get damaged bytes.
        archive_checksum: share of the requests for a checksum that get another file's.
        hang_seconds: see `hang`; real seconds.
        latency_ms: added to every reply; real milliseconds.
        settling_ms: for how long after its close a candle is still served short.
        refuse_next: how many further requests get HTTP 429.
        ban_seconds: the next request gets HTTP 418 and a ban of so many seconds (0: none).
        down: `reset` or `http_503` makes every request fail so.
        seed: chooses which requests a share strikes.
        trading: faults of orders and private streams (`TradingFaults`), e.g. {"order_hidden": 0.1}.
        symbols: shares by symbol, over those above, e.g. {"ETHUSDT": {"http_500": 1}}.
    """

    http_500: float = 0
    http_503: float = 0
    http_408: float = 0
    html_502: float = 0
    reset: float = 0
    hang: float = 0
    truncated: float = 0
    cut_json: float = 0
    duplicate_rows: float = 0
    shuffled_rows: float = 0
    missing_rows: float = 0
    malformed_rows: float = 0
    disguised_open_row: float = 0
    archive_missing: float = 0
    archive_holes: float = 0
    archive_zero_volume: float = 0
    archive_partial: float = 0
    archive_malformed: float = 0
    archive_corrupt: float = 0
    archive_checksum: float = 0
    hang_seconds: float = 60
    latency_ms: float = 0
    settling_ms: int = 0
    refuse_next: int = 0
    ban_seconds: int = 0
    down: str | None = None
    seed: int = 1
    trading: Mapping[str, Any] = field(default_factory=dict)
    symbols: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "Faults":
        """Return the faults that a JSON object names; what it leaves out does not happen.

        Raises:
            ValueError: a name is unknown, or a value is out of its range.
        """
        known = {one.name for one in fields(cls)}
        refuse_unknown(document, known)
        for name, value in document.items():
            check(name, value)
        return cls(**document)

    def shares(self, symbol: str | None, names: tuple[str, ...] = SHARES) -> dict[str, float]:
        """Return the shares above 0, of the faults named, that hold for requests for `symbol`."""
        own = self.symbols.get(symbol or "", {})
        every = {name: own.get(name, getattr(self, name)) for name in names}
        return {name: share for name, share in every.items() if share > 0}

    def document(self) -> dict[str, Any]:
        """Return what `parse` reads, without the defaults."""
        default = asdict(Faults())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


def refuse_unknown(document: Mapping[str, Any], known: set[str]) -> None:
    """Raise a ValueError that names the first unknown key and the known ones."""
    for name in document:
        if name not in known:
            raise ValueError(f"There is no fault {name!r}: use {', '.join(sorted(known))}")


def check(name: str, value: Any) -> None:
    """Raise a ValueError where a fault's value is of the wrong kind or out of range."""
    if name == "symbols":
        check_symbols(value)
    elif name == "trading":
        if not isinstance(value, Mapping):
            raise ValueError('trading must map faults to values: {"order_hidden": 0.1}')
        TradingFaults.parse(value)
    elif name == "down":
        if value not in DOWN:
            raise ValueError(f"down must be null, 'reset' or 'http_503', not {value!r}")
    elif isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{name} must be a number from 0 on, not {value!r}")
    elif name in EVERY_SHARE and value > 1:
        raise ValueError(f"{name} is a share of the requests, from 0 to 1, not {value!r}")


def check_symbols(value: Any) -> None:
    """Raise a ValueError where the shares by symbol cannot be read."""
    if not isinstance(value, Mapping) or not all(isinstance(v, Mapping) for v in value.values()):
        raise ValueError('symbols must map symbols to shares: {"ETHUSDT": {"http_500": 1}}')
    for shares in value.values():
        refuse_unknown(shares, set(EVERY_SHARE))
        for fault, share in shares.items():
            check(fault, share)


class FaultPlan:
    """The faults in force and what of them is used up.

    Which request is struck depends on the seed, the request and how often it was made before, not
    on the order in which different requests arrive: concurrent clients meet the same failures
    again with the same seed, and a retry draws anew.
    """

    def __init__(self, faults: Faults | None = None) -> None:
        self.replace(faults or Faults())

    def replace(self, faults: Faults) -> None:
        """Put other faults in force and forget what was drawn."""
        self.faults = faults
        self.refusals_left = faults.refuse_next
        self.ban_pending = faults.ban_seconds
        self.made: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()

    def draw(
        self, request: str, symbol: str | None, names: tuple[str, ...] = SHARES
    ) -> frozenset[str]:
        """Return the faults, of those named, that strike this request, `request` being path and query."""
        shares = self.faults.shares(symbol, names)
        if not shares:
            return frozenset()
        self.made[request] += 1
        text = f"{self.faults.seed}:{self.made[request]}:{request}"
        struck = frozenset(name for name, share in shares.items() if uniform(name, text) < share)
        self.struck.update(struck)
        return struck

    def of_file(self, name: str, symbol: str) -> frozenset[str]:
        """Return the faults that a file of the archive has, whenever it is asked for."""
        shares = self.faults.shares(symbol, ARCHIVE_FILE_FAULTS)
        text = f"{self.faults.seed}:{name}"
        struck = frozenset(fault for fault, share in shares.items() if uniform(fault, text) < share)
        self.struck.update(struck)
        return struck

    def take_refusal(self) -> bool:
        """Return whether this request is one of those that `refuse_next` asked for."""
        if self.refusals_left <= 0:
            return False
        self.refusals_left -= 1
        return True

    def take_ban(self) -> int:
        """Return the seconds of a ban that is due now, or 0."""
        seconds, self.ban_pending = self.ban_pending, 0
        return seconds


def damaged_rows(rows: list[bytes], struck: frozenset[str], now_ms: int) -> list[bytes]:
    """Return a reply's rows after the row faults that struck it."""
    rows = list(rows)
    middle = len(rows) // 2
    if "malformed_rows" in struck and rows:
        rows[middle] = malformed(rows[middle])
    if "disguised_open_row" in struck and rows:
        rows[-1] = disguised(rows[-1], now_ms)
    if "missing_rows" in struck and rows:
        del rows[middle]
    if "duplicate_rows" in struck and rows:
        middle = len(rows) // 2
        rows.insert(middle, rows[middle])
    if "shuffled_rows" in struck and len(rows) > 1:
        rows[0], rows[-1] = rows[-1], rows[0]
    return rows


def malformed(row: bytes) -> bytes:
    """Return a row that cannot be: its high below its low, or, where they are equal, off the grid."""
    fields = json.loads(row)
    if fields[2] == fields[3]:
        fields[0] += 7000
    else:
        fields[2], fields[3] = fields[3], fields[2]
    return json.dumps(fields, separators=(",", ":")).encode()


def disguised(row: bytes, now_ms: int) -> bytes:
    """Return an open candle that claims to have closed a minute ago; a closed one stays as it is."""
    fields = json.loads(row)
    if fields[6] < now_ms:
        return row
    fields[6] = now_ms - 60_000
    return json.dumps(fields, separators=(",", ":")).encode()


def damaged(path: str, answer: bytes, struck: frozenset[str], now_ms: int) -> bytes:
    """Return the reply of a path after the row faults that struck it; only rows of two paths are struck."""
    if path.endswith("/fundingRate"):
        return damaged_rates(answer, struck)
    if not path.endswith("/klines"):
        return answer
    rows = [json.dumps(row, separators=(",", ":")).encode() for row in json.loads(answer)]
    return b"[" + b",".join(damaged_rows(rows, struck, now_ms)) + b"]"


def damaged_rates(answer: bytes, struck: frozenset[str]) -> bytes:
    """Return a fundingRate reply after the row faults that struck it."""
    rows = json.loads(answer)
    if not rows:
        return answer
    middle = len(rows) // 2
    changes: dict[str, Callable[[], object]] = {
        "malformed_rows": lambda: rows[middle].update(fundingRate="x"),
        "missing_rows": lambda: rows.pop(middle),
        "duplicate_rows": lambda: rows.insert(0, rows[0]),
        "shuffled_rows": rows.reverse,
    }
    for name, change in changes.items():
        if name in struck:
            change()
    return json.dumps(rows, separators=(",", ":")).encode()
