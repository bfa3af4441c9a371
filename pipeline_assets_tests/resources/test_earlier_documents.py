"""Documents of earlier versions are read, and documents written now keep their shape: two versions may share
a lake while one takes the other's place.

The texts are what commit 729bbbc wrote, and where the shape has grown since, what its successors wrote.
"""

from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.day_findings import (
    keep_disagreements,
    keep_zero_volume,
    read_disagreements,
    read_zero_volume,
)
from pipeline_assets.resources.evaluation_record import Evaluation, note_evaluation, read_evaluation
from pipeline_assets.resources.finalized_days import (
    Absence,
    FinalizedDay,
    Rejected,
    mark_finalized,
    read_finalized,
)
from pipeline_assets.resources.identity import Identity
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
from pipeline_assets_tests.fixtures.listings import listing

ONE = Interval.ONE_MINUTE
DAY = date(2026, 11, 19)
START = datetime(2026, 11, 19, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOON = START + 12 * HOUR
NEVER = datetime(2100, 12, 25, tzinfo=UTC)
LISTED = datetime(2026, 8, 11, tzinfo=UTC)

STATE = (
    '{"newest":{"BTCUSDT":"2026-11-19T12:00:00+00:00","币安人生USDT":"2026-11-19T12:00:00+00:00"},'
    '"etags":{"ohlcv/1m/BTCUSDT/20261119_1200.parquet":"\\"a\\""}}'
)
MARKS = (
    '{"BTCUSDT":{"etag":"\\"1\\"","missing":[["2026-11-19T12:00:00+00:00","2026-11-19T13:00:00+00:00",'
    '"confirmed"],["2026-11-19T14:00:00+00:00","2026-11-19T15:00:00+00:00","set_aside"]]},'
    '"ETHUSDT":{"etag":null,"missing":[["2026-11-19T00:00:00+00:00","2026-11-20T00:00:00+00:00",'
    '"unconfirmed"]]},"NEWUSDT":{"etag":"\\"2\\"","missing":[],"judged":["2026-11-19T12:00:00+00:00",'
    '"2026-11-20T00:00:00+00:00"]}'
)
REJECTED = (
    ',"ODDUSDT":{"etag":"\\"3\\"","missing":[["2026-11-19T12:00:00+00:00","2026-11-19T13:00:00+00:00",'
    '"invalid"]],"rejected":[["2026-11-19T12:00:00+00:00","2026-11-19T13:00:00+00:00","low_above_open",'
    '"0f0f","run-1","2026-11-19T12:00:00+00:00"]]}'
)
DISAGREEMENTS = (
    '{"BTCUSDT":[{"kind":"hole","first":"2026-11-19T12:00:00+00:00","last":"2026-11-19T12:00:00+00:00",'
    '"count":1},{"kind":"file refused","first":"2026-11-19T00:00:00+00:00",'
    '"last":"2026-11-19T12:00:00+00:00","count":3,"why":"no checksum"}]}'
)
ZERO_VOLUME = '["BTCUSDT","ETHUSDT"]'
UNIVERSE = (
    '{"seen_ms":1763553600000,"symbols":{"BTCUSDT":[1700000000000,null,"TRADING",true],'
    '"OLDUSDT":[1700000000000,1750000000000,"SETTLING",false]}}'
)
LISTINGS = (
    '{"BTCUSDT":[[1786406400000,4133376000000,true,1795089600000,1795096800000,null]],'
    '"币安人生USDT":[[1795046400000,4133376000000,true,1795089600000,1795089600000,1795096800000]]}'
)
LISTINGS_WITH_FIRST_CANDLES = (
    '{"BTCUSDT":[[1786406400000,4133376000000,true,1795089600000,1795096800000,null,1786492800000,null,'
    '1786406400000]],"币安人生USDT":[[1795046400000,4133376000000,true,1795089600000,1795089600000,'
    "1795096800000,null,null,null]]}"
)
EVALUATION = (
    '{"since":{"BTCUSDT":"2026-11-19T00:00:00+00:00","ETHUSDT":"2026-11-19T12:00:00+00:00"},'
    '"strategies":{"rsi 1":"2026-11-19T00:00:00+00:00"},"skipped":{"BTCUSDT":'
    '[["2026-11-19T12:00:00+00:00","2026-11-19T13:00:00+00:00"]]}}'
)


@pytest.fixture
def store(s3_bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


def held(store: ObjectStore, key: str) -> str:
    return (store.get(key) or b"").decode()


def test_ingest_state(store):
    key = "state/1m.json"
    store.put(key, STATE.encode())
    state = read_ingest_state(store, ONE, [], NOON)
    etags = {"ohlcv/1m/BTCUSDT/20261119_1200.parquet": '"a"'}
    assert state == IngestState({"BTCUSDT": NOON, "币安人生USDT": NOON}, etags)
    write_ingest_state(store, ONE, state)
    assert held(store, key) == STATE


def test_marks_of_finalized_days(store):
    key = "state/sealed/1m/20261119.json"
    store.put(key, (MARKS + "}").encode())
    marks = {
        "BTCUSDT": FinalizedDay(
            '"1"',
            (
                (Window(NOON, NOON + HOUR), Absence.CONFIRMED),
                (Window(NOON + 2 * HOUR, NOON + 3 * HOUR), Absence.REJECTED),
            ),
        ),
        "ETHUSDT": FinalizedDay(None, ((Window(START, START + 24 * HOUR), Absence.UNCONFIRMED),)),
        "NEWUSDT": FinalizedDay('"2"', (), Window(NOON, START + 24 * HOUR)),
    }
    assert read_finalized(store, ONE, DAY) == marks
    span = Window(NOON, NOON + HOUR)
    rejected = Rejected(span, "low_above_open", "0f0f", "run-1", NOON)
    odd = FinalizedDay('"3"', ((span, Absence.INVALID),), None, (rejected,))
    mark_finalized(store, ONE, DAY, {"ODDUSDT": odd})
    assert held(store, key) == MARKS + REJECTED + "}"
    assert read_finalized(store, ONE, DAY) == marks | {"ODDUSDT": odd}


def test_disagreements_with_the_archive(store):
    key = "state/archive_disagreements/1m/20261119.json"
    store.put(key, DISAGREEMENTS.encode())
    found = read_disagreements(store, ONE, DAY)
    assert [each["kind"] for each in found["BTCUSDT"]] == ["hole", "file refused"]
    assert found["BTCUSDT"][1]["why"] == "no checksum"
    store.delete([key])
    keep_disagreements(store, ONE, DAY, found.keys(), found)
    assert held(store, key) == DISAGREEMENTS


def test_days_with_false_zero_volume(store):
    keep_zero_volume(store, DAY, ["ETHUSDT", "BTCUSDT"])
    assert held(store, "state/zero_volume/20261119.json") == ZERO_VOLUME
    assert read_zero_volume(store, DAY) == ["BTCUSDT", "ETHUSDT"]


def test_universe(store):
    key = "state/universe.json"
    store.put(key, UNIVERSE.encode())
    universe = read_universe(store)
    assert universe is not None
    assert universe["symbols"].keys() == {"BTCUSDT", "OLDUSDT"}
    since, until, status, by_all = universe["symbols"]["OLDUSDT"]
    assert (since, until, status, by_all) == (
        1_700_000_000_000,
        1_750_000_000_000,
        "SETTLING",
        False,
    )
    assert universe["left_out"] == {}
    write_universe(store, {key: each for key, each in universe.items() if key != "left_out"})
    assert held(store, key) == UNIVERSE


def test_listings(store):
    key = "state/listings.json"
    store.put(key, LISTINGS.encode())
    btc = Identity("BTCUSDT", LISTED, NEVER, True, NOON, NOON + 2 * HOUR)
    other = Identity("币安人生USDT", START, NEVER, True, NOON, NOON, NOON + 2 * HOUR)
    assert read_identities(store) == [btc, other]
    note_first_candles(store, {("BTCUSDT", LISTED): LISTED + 24 * HOUR})
    assert held(store, key) == LISTINGS_WITH_FIRST_CANDLES
    assert [each.listed_at for each in read_identities(store)] == [LISTED + 24 * HOUR, START]
    note_identities(store, [listing(onboard_date=LISTED, delivery_date=NEVER)], NOON + 2 * HOUR)
    assert held(store, key) == LISTINGS_WITH_FIRST_CANDLES


def test_evaluated_minutes(store):
    key = "state/candidates.json"
    store.put(key, EVALUATION.encode())
    skipped = {"BTCUSDT": [Window(NOON, NOON + HOUR)]}
    expected = Evaluation({"BTCUSDT": START, "ETHUSDT": NOON}, {"rsi 1": START}, skipped)
    assert read_evaluation(store) == expected
    store.delete([key])
    note_evaluation(store, since=expected.since, strategies=expected.strategies)
    note_evaluation(store, skipped={"BTCUSDT": Window(NOON, NOON + HOUR)})
    assert held(store, key) == EVALUATION
