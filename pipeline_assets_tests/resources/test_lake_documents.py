"""Damaged documents on a real S3 server: nothing is believed, nothing ends in a traceback, and one
symbol's entry harms no other symbol.
"""

import json
import logging
import random
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import obstore
import pytest

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.candle_objects import WrittenObject, object_key
from pipeline_assets.resources.day_findings import (
    disagreement_days,
    keep_disagreements,
    keep_zero_volume,
    read_disagreements,
    read_zero_volume,
)
from pipeline_assets.resources.evaluation_record import note_evaluation, read_evaluation
from pipeline_assets.resources.finalized_days import (
    Absence,
    FinalizedDay,
    finalized_days,
    mark_finalized,
    read_finalized,
)
from pipeline_assets.resources.gap_objects import judged_days
from pipeline_assets.resources.ingest_state import (
    IngestState,
    read_ingest_state,
    write_ingest_state,
)
from pipeline_assets.resources.listing_history import (
    note_first_candles,
    note_identities,
    read_identities,
    read_universe,
    write_universe,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures import listings
from pipeline_assets_tests.fixtures.damage import flip_bit, store_damaged

DAY = date(2026, 11, 19)
START = datetime(2026, 11, 19, tzinfo=UTC)
listing = partial(listings.listing, onboard_date=START)
NOON = START + timedelta(hours=12)
DAYS_10 = timedelta(days=10)
ONE = Interval.ONE_MINUTE
SYMBOLS = ["BTCUSDT", "ETHUSDT", "币安人生USDT"]
STATE, UNIVERSE = "state/1m.json", "state/universe.json"
MARKS, DISAGREEMENTS = (
    "state/sealed/1m/20261119.json",
    "state/archive_disagreements/1m/20261119.json",
)
LISTINGS, EVALUATION = "state/listings.json", "state/candidates.json"
ZERO_VOLUME = "state/zero_volume/20261119.json"


@pytest.fixture
def store(s3_bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


def write_documents(store: ObjectStore) -> None:
    written = [
        WrittenObject(object_key(ONE, each, NOON), f'"{each}"', each, 1, NOON, changed=True)
        for each in SYMBOLS
    ]
    write_ingest_state(store, ONE, IngestState().after(written, SYMBOLS))
    universe = {each: [1_700_000_000_000, None, "TRADING", True] for each in SYMBOLS}
    left_out = dict.fromkeys(SYMBOLS, "status is missing")
    write_universe(store, {"seen_ms": 1_763_553_600_000, "symbols": universe, "left_out": left_out})
    missing = ((Window(NOON, NOON + timedelta(hours=1)), Absence.CONFIRMED),)
    mark_finalized(store, ONE, DAY, {each: FinalizedDay(f'"{each}"', missing) for each in SYMBOLS})
    record = {"kind": "hole", "first": NOON.isoformat(), "last": NOON.isoformat(), "count": 1}
    keep_disagreements(store, ONE, DAY, SYMBOLS, {each: [record] for each in SYMBOLS})
    corrected = [listing(each, onboard_date=START - DAYS_10) for each in SYMBOLS]
    note_identities(store, map(listing, SYMBOLS), NOON)
    note_identities(store, corrected, NOON + timedelta(hours=1))
    note_first_candles(store, {(each, START): START - timedelta(days=1) for each in SYMBOLS})
    keep_zero_volume(store, DAY, SYMBOLS)
    note_evaluation(store, since=dict.fromkeys(SYMBOLS, START), strategies={"rsi 1": START})
    skipped = Window(NOON, NOON + timedelta(hours=1))
    note_evaluation(store, skipped=dict.fromkeys(SYMBOLS, skipped))


def of_state(store: ObjectStore) -> dict[str, Any]:
    state = read_ingest_state(store, ONE, SYMBOLS, NOON)
    return {
        each: (at, state.etags.get(object_key(ONE, each, NOON)))
        for each, at in state.newest.items()
    }


def of_universe(store: ObjectStore) -> dict[str, Any]:
    held = read_universe(store) or {"symbols": {}, "left_out": {}}
    return {
        each: (held["symbols"].get(each), held["left_out"].get(each))
        for each in {*held["symbols"], *held["left_out"]}
    }


def of_identities(store: ObjectStore) -> dict[str, Any]:
    return {each.symbol: each for each in read_identities(store)}


def of_evaluation(store: ObjectStore) -> dict[str, Any]:
    held = read_evaluation(store)
    return {each: (since, held.skipped.get(each)) for each, since in held.since.items()}


# By key, what the product reads of each symbol.
READERS: dict[str, Callable[[ObjectStore], Mapping[str, Any]]] = {
    STATE: of_state,
    UNIVERSE: of_universe,
    MARKS: lambda store: read_finalized(store, ONE, DAY),
    DISAGREEMENTS: lambda store: read_disagreements(store, ONE, DAY),
    LISTINGS: of_identities,
    EVALUATION: of_evaluation,
    ZERO_VOLUME: lambda store: dict.fromkeys(read_zero_volume(store, DAY) or (), True),
}
GARBAGE = {
    "empty": b"",
    "cut": b'{"newest":{"BTCUSDT":"2026-11-',
    "no UTF-8": b"\xff\xfe{}",
    "an HTML page": b"<html>504 Gateway Time-out</html>",
    "null": b"null",
    "a number": b"17",
    "a list": b"[[]]",
    "an empty object of another kind": b'{"symbols":17}',
    "nested too deeply": b"[" * 100_000,
}


def put_without_digest(store: ObjectStore, key: str, body: bytes) -> None:
    obstore.put(store._objects, key, body)


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("key", READERS)
def test_garbage_document_counts_as_missing(store, caplog, key, body):
    """A document of garbage counts as missing and is named."""
    put_without_digest(store, key, body)
    with caplog.at_level(logging.WARNING):
        assert not READERS[key](store)
    assert key in caplog.text


@pytest.mark.parametrize("key", READERS)
def test_document_with_wrong_digest_is_ignored(store, s3_bucket, caplog, key):
    """A document that does not match its digest is not believed."""
    write_documents(store)
    body = store.get(key)
    assert body is not None
    assert READERS[key](store).keys() == set(SYMBOLS)
    changed = body.replace(b"BTC", b"BTD")
    store_damaged(s3_bucket, key, body, changed)
    with caplog.at_level(logging.WARNING):
        assert not READERS[key](store)
    assert "SHA-256" in caplog.text


def test_damaged_document_is_rewritten_and_kept(store):
    """A damaged document is written again, and its bytes are kept."""
    write_documents(store)
    for key in (MARKS, DISAGREEMENTS, LISTINGS, EVALUATION):
        put_without_digest(store, key, b"garbage")
    write_documents(store)
    for key, read in READERS.items():
        assert read(store).keys() == set(SYMBOLS), key
    kept = [each.key for each in store.objects("damaged/")]
    assert [key.rpartition(".")[0] for key in kept] == sorted(
        f"damaged/{key}" for key in (MARKS, DISAGREEMENTS, LISTINGS, EVALUATION)
    )
    assert {store.get(key) for key in kept} == {b"garbage"}


def test_wrong_symbol_state_is_rebuilt_alone(store):
    """If one symbol's state is wrong, only that symbol is rebuilt."""
    write_documents(store)
    stored = NOON - timedelta(hours=2)
    store.put(object_key(ONE, "ETHUSDT", stored), b"x")
    held = json.loads(store.get(STATE) or b"")
    held["newest"]["ETHUSDT"] = "2226-11-19T12:00:00+00:00"
    put_without_digest(store, STATE, json.dumps(held).encode())
    state = read_ingest_state(store, ONE, SYMBOLS, NOON)
    assert state.newest == {
        "BTCUSDT": NOON,
        "ETHUSDT": stored - timedelta(minutes=1),
        "币安人生USDT": NOON,
    }
    assert object_key(ONE, "ETHUSDT", NOON) not in state.etags
    assert len(state.etags) == 2


def test_future_open_time_is_rebuilt(store):
    """A cursor at a candle that has not closed is rebuilt. Believed, it would make an exchange outage of
    every candle before it.
    """
    write_documents(store)
    held = json.loads(store.get(STATE) or b"")
    held["newest"]["ETHUSDT"] = START.replace(hour=23, minute=59).isoformat()
    put_without_digest(store, STATE, json.dumps(held).encode())
    assert read_ingest_state(store, ONE, SYMBOLS, NOON).newest.keys() == {"BTCUSDT", "币安人生USDT"}


@pytest.mark.parametrize("name", ["\ud800", "../x", "a b", ""], ids=ascii)
@pytest.mark.parametrize("key", [key for key in READERS if key != ZERO_VOLUME])
def test_invalid_symbol_is_left_out_alone(store, key, name):
    """Only the entry whose name is not a symbol is left out."""
    write_documents(store)
    held = json.loads(store.get(key) or b"")
    entries = held.get({STATE: "newest", UNIVERSE: "symbols", EVALUATION: "since"}.get(key), held)
    entries[name] = entries["BTCUSDT"]
    put_without_digest(store, key, json.dumps(held).encode())
    assert READERS[key](store).keys() == set(SYMBOLS)
    write_documents(store)
    assert READERS[key](store).keys() == set(SYMBOLS)


@pytest.mark.parametrize(
    "span",
    [
        ("1000-01-01T00:00:00+00:00", "9999-01-01T00:00:00+00:00"),
        ("2026-11-20T00:00:00+00:00", "2026-11-20T01:00:00+00:00"),
        ("2026-11-19T10:00:13.500000+00:00", "2026-11-19T11:00:00+00:00"),
    ],
    ids=["all time", "the next day", "off the grid"],
)
def test_mark_beyond_its_day_is_ignored(store, span):
    """A mark that covers more than its day is left out."""
    write_documents(store)
    held = json.loads(store.get(MARKS) or b"")
    held["ETHUSDT"]["missing"] = [[*span, "invalid"]]
    put_without_digest(store, MARKS, json.dumps(held).encode())
    assert read_finalized(store, ONE, DAY).keys() == {"BTCUSDT", "币安人生USDT"}


def test_universe_with_unknown_field_is_ignored(store, caplog):
    """A universe document with an unknown field name is not believed.

    A flipped bit in the name of its optional part would lose all that was left out.
    """
    write_documents(store)
    body = (store.get(UNIVERSE) or b"").replace(b"left_out", b"left_owt")
    put_without_digest(store, UNIVERSE, body)
    with caplog.at_level(logging.WARNING):
        assert read_universe(store) is None
    assert "left_owt" in caplog.text


def test_foreign_objects_are_passed_over(store):
    """Objects of other programs among the day documents are passed over."""
    write_documents(store)
    for key in ("state/sealed/1m/README", "state/sealed/1m/20261399.json", "gaps/notes.txt"):
        store.put(key, b"x")
    store.put("state/archive_disagreements/1m/20261119.json.bak", b"x")
    assert finalized_days(store, ONE) == [DAY]
    assert disagreement_days(store, ONE) == [DAY]
    assert judged_days(store) == []


VALUES: list[Any] = [
    None,
    True,
    -1,
    10**19,
    10**400,
    1.5,
    "",
    "garbage",
    "1999-01-01",
    [],
    {},
    [[]],
]


def mutated(numbers: random.Random, body: bytes) -> bytes:
    """Return a document with one fault: in its bytes, or in one value of one symbol's entry."""
    kind = numbers.randrange(4)
    if kind == 0:
        return body[: numbers.randrange(len(body))]
    if kind == 1:
        return flip_bit(body, numbers.randrange(len(body) * 8))
    document = json.loads(body)
    places = list(_places(document))
    parent, name = numbers.choice(places)
    if kind == 2:
        parent[name] = numbers.choice(VALUES)
    else:
        del parent[name]
    return json.dumps(document, ensure_ascii=False).encode()


def _places(value: Any, *, below: bool = False) -> Any:
    """Every place within a symbol's entry, or the entry itself."""
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
    for name, inner in pairs:
        # The entry of a list of symbols is the symbol itself.
        of_symbol = below or any(symbol in str(name) or symbol == inner for symbol in SYMBOLS)
        if of_symbol:
            yield value, name
        if isinstance(inner, (dict, list)):
            yield from _places(inner, below=of_symbol)


def check_mutations(store: ObjectStore, count: int) -> None:
    write_documents(store)
    bodies = {key: store.get(key) or b"" for key in READERS}
    whole = {key: dict(READERS[key](store)) for key in READERS}
    numbers = random.Random(1313)
    for number in range(count):
        key = numbers.choice(list(READERS))
        body = mutated(numbers, bodies[key])
        put_without_digest(store, key, body)
        found = READERS[key](store)
        harmed = [
            symbol
            for symbol in SYMBOLS
            if symbol not in found or found[symbol] != whole[key][symbol]
        ]
        assert not found or len(harmed) <= 1, f"{number}: {key} {body!r}"
        put_without_digest(store, key, bodies[key])


def test_mutated_document_harms_one_symbol(store):
    """A mutated document harms one symbol at most."""
    check_mutations(store, 150)


@pytest.mark.matrix
def test_thousand_mutations_harm_one_symbol_each(store):
    """Each of a thousand mutated documents harms one symbol at most."""
    check_mutations(store, 1000)


@pytest.mark.parametrize("key", [MARKS, DISAGREEMENTS, LISTINGS, EVALUATION])
def test_writers_repair_one_wrong_entry(store, key):
    """Writers repair a document with one wrong entry."""
    write_documents(store)
    held = json.loads(store.get(key) or b"")
    entries = held["since"] if key == EVALUATION else held
    entries["ETHUSDT"] = 17
    put_without_digest(store, key, json.dumps(held).encode())
    assert READERS[key](store).keys() == {"BTCUSDT", "币安人生USDT"}
    write_documents(store)
    assert READERS[key](store).keys() == set(SYMBOLS)
