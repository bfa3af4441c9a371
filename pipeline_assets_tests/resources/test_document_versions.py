"""Versions of documents: those of the version before are read, and those of a newer release are refused."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator, TypeAdapter

from pipeline_assets.collection.history_requests import LedgerRequest
from pipeline_assets.collection.overdue_ingest import Request, Return
from pipeline_assets.collection.reconcile_cursor import Cursor
from pipeline_assets.collection.repairs import Repair
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.trading_rules import Bracket, Dated, Fees, TradingRules
from pipeline_assets.market.windows import Window
from pipeline_assets.research.report_requests import next_report
from pipeline_assets.resources.day_findings import (
    keep_disagreements,
    keep_zero_volume,
    read_disagreements,
    read_zero_volume,
)
from pipeline_assets.resources.document_versions import NewerVersionError, cursor_content
from pipeline_assets.resources.empty_answers import EmptyAnswer, note_empty_answers
from pipeline_assets.resources.evaluation_record import note_evaluation, read_evaluation
from pipeline_assets.resources.finalized_days import FinalizedDay, mark_finalized, read_finalized
from pipeline_assets.resources.funding_objects import note_loaded, note_stored, objects_to_load
from pipeline_assets.resources.ingest_state import read_ingest_state
from pipeline_assets.resources.lake_documents import (
    read_document,
    update_document,
    write_document,
)
from pipeline_assets.resources.listing_history import (
    note_first_candles,
    note_identities,
    read_identities,
    read_universe,
    write_universe,
)
from pipeline_assets.resources.load_times import Mark, read_loaded_until
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import read_document as read_staged
from pipeline_assets.resources.trading_documents import (
    note_fees,
    note_trading_rules,
    read_trading_documents,
)
from pipeline_assets.signals.due_minutes import Cursor as CandidateCursor

ONE, HOUR = Interval.ONE_MINUTE, Interval.ONE_HOUR
DAY, MONTH = date(2026, 11, 19), date(2026, 11, 1)
MIDNIGHT = datetime(2026, 11, 19, tzinfo=UTC)
NOON = MIDNIGHT + timedelta(hours=12)
WHOLE = Window(MIDNIGHT, MIDNIGHT + timedelta(days=1))
BTC = "BTCUSDT"
NEWER = b'{"version":2,"contents":"of which this release knows nothing"}'
# The texts that commit 68e39cd wrote, before documents had a version.
RULES = (
    '{"BTCUSDT":[[1795089600000,{"tick_size":"0.10","step_size":"0.001","min_quantity":"0.001",'
    '"max_quantity":"120","min_notional":"100","liquidation_fee":"0.0125",'
    '"brackets":[["300000","0.004","0"]]}]]}'
)
FEES = '[[1795089600000,"0.0002","0.0005"]]'
ANSWERS = (
    '{"BTCUSDT":["2026-11-19T00:00:00+00:00","2026-11-20T00:00:00+00:00","run-1",'
    '"2026-11-19T12:00:00+00:00"]}'
)
LOADED = '{"until":"2026-11-19T12:00:00+00:00"}'
FUNDING = '{"BTCUSDT":["\\"1\\"",null]}'
RETURN = (
    '{"looked_at": "2026-11-19T12:00:00+00:00", "pending": {"1m": [0, null]}, "process": "p", '
    '"since": "2026-11-19T12:00:00+00:00"}'
)
CANDIDATES = json.dumps(
    {
        "evaluated": "2026-11-19T12:00:00+00:00",
        "others": {"ETHUSDT": "2026-11-19T00:00:00+00:00"},
        "strategies": ["rsi 1"],
        "told": ["x"],
    }
)
RECONCILER = (
    '{"read":41,"repairs":[["1h","2026-11-19","a",7,"2026-11-19T12:00:00Z",2,1,true]],'
    '"first_stored":"2026-11-19","ledger":["2026-11-19","2026-11-19","2026-11-19T12:00:00Z",2],'
    '"known":["BTCUSDT 1"],"left":[],"asked":[],"unsealed":{}}'
)

Access = Callable[[ObjectStore], Any]
ANSWER = {BTC: EmptyAnswer(WHOLE, "run-1", NOON)}
DOCUMENTS: dict[str, tuple[Access, ...]] = {
    "state/1m.json": (lambda store: read_ingest_state(store, ONE, [BTC], NOON),),
    "state/1h.loaded.json": (lambda store: read_loaded_until(store, HOUR),),
    "state/1h.features.json": (lambda store: read_loaded_until(store, HOUR, Mark.FEATURES),),
    "state/sealed/1m/20261119.json": (
        lambda store: read_finalized(store, ONE, DAY),
        lambda store: mark_finalized(store, ONE, DAY, {BTC: FinalizedDay(None)}),
    ),
    "state/archive_disagreements/1m/20261119.json": (
        lambda store: read_disagreements(store, ONE, DAY),
        lambda store: keep_disagreements(store, ONE, DAY, [BTC], {}),
    ),
    "state/zero_volume/20261119.json": (
        lambda store: read_zero_volume(store, DAY),
        lambda store: keep_zero_volume(store, DAY, [BTC]),
    ),
    "state/universe.json": (
        read_universe,
        lambda store: write_universe(store, {"seen_ms": 0, "symbols": {}}),
    ),
    "state/listings.json": (
        read_identities,
        lambda store: note_identities(store, [], NOON),
        lambda store: note_first_candles(store, {(BTC, MIDNIGHT): NOON}),
    ),
    "state/candidates.json": (
        read_evaluation,
        lambda store: note_evaluation(store, since={BTC: NOON}),
    ),
    "state/empty_answers/1m/20261119.json": (
        lambda store: note_empty_answers(store, ONE, DAY, ANSWER),
    ),
    "state/funding/202611.json": (
        lambda store: objects_to_load(store, MONTH),
        lambda store: note_stored(store, MONTH, {BTC: '"2"'}),
        lambda store: note_loaded(store, MONTH, {BTC: '"2"'}),
    ),
    "state/trading_rules.json": (
        lambda store: read_trading_documents(store, [BTC]),
        lambda store: note_trading_rules(store, {}, NOON),
    ),
    "state/fees.json": (
        lambda store: read_trading_documents(store, [BTC]),
        lambda store: note_fees(store, Fees(), NOON),
    ),
    "raw/1m/run/plan.json": (lambda store: read_staged(store, "raw/1m/run/plan.json"),),
}


@pytest.fixture
def store(s3_bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


@pytest.mark.parametrize(
    ("key", "access"), [(key, access) for key, each in DOCUMENTS.items() for access in each]
)
def test_newer_document_is_refused_and_kept(store, key, access):
    """A document of a newer release is named, and neither read, replaced nor moved."""
    store.put(key, NEWER)
    with pytest.raises(
        NewerVersionError, match=r"has version 2, .* update this installation"
    ) as it:
        access(store)
    assert store.address(key) in str(it.value)
    assert {each.key for each in store.objects("")} - {key} <= {
        each.key for each in store.objects("state/store_checks/")
    }
    assert store.get(key) == NEWER


def test_earlier_documents_are_read(store):
    """Documents without a version are read, and stay as they are where nothing is new."""
    held = {
        "state/trading_rules.json": RULES,
        "state/fees.json": FEES,
        "state/empty_answers/1m/20261119.json": ANSWERS,
        "state/1h.loaded.json": LOADED,
        "state/funding/202611.json": FUNDING,
    }
    for key, text in held.items():
        store.put(key, text.encode())
    bracket = Bracket(Decimal(300000), Decimal("0.004"), Decimal(0))
    numbers = map(Decimal, ("0.10", "0.001", "0.001", "120", "100", "0.0125"))
    rules, found = TradingRules(*numbers, (bracket,)), read_trading_documents(store, [BTC])
    assert found.rules == {BTC: [Dated(NOON, rules)]}
    assert found.fees == [Dated(NOON, Fees())]
    assert note_empty_answers(store, ONE, DAY, {BTC: EmptyAnswer(WHOLE, "run-2", NOON)}) == ANSWER
    assert read_loaded_until(store, HOUR) == NOON
    assert objects_to_load(store, MONTH) == {BTC: '"1"'}
    note_trading_rules(store, {BTC: rules}, NOON + timedelta(hours=1))
    assert {key: (store.get(key) or b"").decode() for key in held} == held


def test_next_version_reads_this_one(store):
    """A release with a second version reads the first, and the first refuses what it writes."""
    first = TypeAdapter(dict[str, int])

    def upgraded(content: Any, info: Any) -> Any:
        return content if info.context["version"] == 2 else {"counts": content}

    second: TypeAdapter[Any] = TypeAdapter(
        Annotated[dict[str, dict[str, int]], BeforeValidator(upgraded)]
    )
    write_document(store, "state/a.json", first, {BTC: 1})
    assert store.get("state/a.json") == b'{"BTCUSDT":1}'
    assert read_document(store, "state/a.json", second, version=2) == {"counts": {BTC: 1}}
    changed = {"counts": {BTC: 2}}
    update_document(store, "state/a.json", second, lambda _: changed, version=2)
    assert store.get("state/a.json") == b'{"version":2,"counts":{"BTCUSDT":2}}'
    assert read_document(store, "state/a.json", second, version=2) == changed
    with pytest.raises(NewerVersionError):
        update_document(store, "state/a.json", first, lambda _: {BTC: 3})


def test_version_one_may_be_written(store):
    """A first version that is named is read like one that is not; a version below it is damage."""
    store.put("state/1h.loaded.json", b'{"version":1,"until":"2026-11-19T12:00:00+00:00"}')
    assert read_loaded_until(store, HOUR) == NOON
    store.put("state/1h.loaded.json", b'{"version":0,"until":"2026-11-19T12:00:00+00:00"}')
    assert read_loaded_until(store, HOUR) is None


def test_earlier_cursors_are_read():
    assert Return.from_text(RETURN) == Return(NOON, {ONE: Request()}, "p", NOON)
    assert CandidateCursor.from_text(CANDIDATES) == CandidateCursor(
        NOON, {"ETHUSDT": MIDNIGHT}, frozenset({"rsi 1"}), frozenset({"x"})
    )
    repair = Repair("a", 7, NOON, 2, 1, pending=True)
    assert Cursor.from_text(RECONCILER) == Cursor(
        41, {(HOUR, DAY): repair}, DAY, LedgerRequest(DAY, DAY, NOON, 2), frozenset({"BTCUSDT 1"})
    )


@pytest.mark.parametrize(
    "read",
    [
        Return.from_text,
        CandidateCursor.from_text,
        Cursor.from_text,
        lambda text: next_report(text, [], DAY),
        lambda text: cursor_content(text, "freshness"),
    ],
)
def test_newer_cursor_is_refused(read):
    """A sensor whose cursor a newer release wrote does not begin anew."""
    with pytest.raises(NewerVersionError, match="The cursor of the sensor"):
        read(NEWER.decode())
