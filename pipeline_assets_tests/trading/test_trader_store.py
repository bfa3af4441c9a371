"""The trader's documents on a real S3 server: decided once, and one trader an account."""

import json
from datetime import date, timedelta
from importlib.resources import files

import msgspec
import pytest

from pipeline_assets.market.step_tables import from_minute
from pipeline_assets.resources.document_versions import NewerVersionError
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.trading.decider import AUTHOR
from pipeline_assets.trading.decision_store import (
    TraderStateError,
    decisions_key,
    read_decisions,
)
from pipeline_assets.trading.decisions import Decision, MinuteDecisions, decided, decision_id
from pipeline_assets.trading.trader_store import Checkpoint, LakeTraderStore, SecondTraderError
from pipeline_assets.trading.trades import Trade
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates
from pipeline_assets_tests.fixtures.s3 import S3Bucket

MINUTE = int(MIDNIGHT.timestamp()) // 60


def _decisions(reason: str) -> MinuteDecisions:
    found = decided(candidates(symbols=2), reason, AUTHOR, MIDNIGHT + timedelta(seconds=90))
    return MinuteDecisions(decisions=tuple(found))


def test_second_decision_does_not_stand(s3_bucket: S3Bucket) -> None:
    """Later writers get the first one, unchanged."""
    store = ObjectStore(s3_bucket.settings())
    first, second = (LakeTraderStore(store, "paper") for _ in range(2))
    assert first.decisions(MINUTE) is None
    assert first.fix(MINUTE, _decisions("")) == _decisions("")
    assert second.fix(MINUTE, _decisions("stale")) == _decisions("")
    assert second.decisions(MINUTE) == _decisions("")
    late = second.fix(MINUTE, _decisions("stale"), late="an-id")
    assert late == _decisions("stale")
    store.put("decisions/1m/19991231/2359.json", b"of another day")
    assert read_decisions(store, MIDNIGHT.date()) == [*late.decisions, *_decisions("").decisions]
    assert read_decisions(store, date(2000, 1, 1)) == []
    keys = [each.key for each in store.objects(f"decisions/1m/{MIDNIGHT:%Y%m%d}/")]
    assert keys == [decisions_key(from_minute(MINUTE), "an-id"), decisions_key(from_minute(MINUTE))]


def test_checkpoint_keeps_a_second_trader_out(s3_bucket: S3Bucket) -> None:
    store = ObjectStore(s3_bucket.settings())
    first, second = (LakeTraderStore(store, "paper") for _ in range(2))
    trade = Trade(
        entry_id="e", decision_id="d", strategy="s 1", symbol="BTCUSDT", sign=-1, quantity=5,
        signal_minute=MINUTE, reasons={"a": "stop"},
    )  # fmt: skip
    kept = Checkpoint(minute=MINUTE, sequence=7, keeper=b"\x00\xff", trades=[trade], offsets={3: 9})
    assert first.checkpoint() is None
    first.keep(kept)
    assert second.checkpoint() == kept
    second.keep(msgspec.structs.replace(kept, minute=MINUTE + 1))
    with pytest.raises(SecondTraderError, match="stop one of the two"):
        first.keep(kept)
    assert LakeTraderStore(store, "other").checkpoint() is None


def test_newer_checkpoint_is_kept(s3_bucket: S3Bucket) -> None:
    """A release that does not know the checkpoint's version names it, and writes nothing."""
    store = ObjectStore(s3_bucket.settings())
    newer = b'{"version": 2, "minute": 1}'
    store.put("state/trader/paper.json", newer)
    with pytest.raises(NewerVersionError, match="update this installation"):
        LakeTraderStore(store, "paper").checkpoint()
    assert store.find("state/trader/paper.json").body == newer


def test_unreadable_decisions_are_named(s3_bucket: S3Bucket) -> None:
    """A document of another version is neither believed nor replaced."""
    store = ObjectStore(s3_bucket.settings())
    key = decisions_key(from_minute(MINUTE))
    store.put(key, b'{"decisions": [{"schema_version": 2}]}')
    with pytest.raises(TraderStateError, match=key):
        LakeTraderStore(store, "paper").fix(MINUTE, _decisions(""))


def test_published_schema_is_current() -> None:
    published = files("pipeline_assets.trading").joinpath("decision.schema.json").read_text("utf-8")
    assert json.loads(published) == Decision.model_json_schema()


def test_decision_id_follows_from_candidate() -> None:
    """Ids are compared over years: this value never changes."""
    assert (
        decision_id("e87764ba-6db1-526d-b742-660324360b26")
        == "3c787c51-7cd9-58e6-a530-a45b53707b4b"
    )
