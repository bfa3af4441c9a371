"""The copy of a gateway's records on a real S3 server: complete, and the same whenever its process dies."""

import asyncio
import logging
import shutil
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.trading import messages, record_copy
from pipeline_assets.trading.record_news import RecordCursor, look
from pipeline_assets.trading.record_objects import Kind, read_records
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.trading.paper_world import Deaths
from pipeline_assets_tests.trading.record_bench import CopiedAccount, MortalStore, copied
from pipeline_assets_tests.trading.scripted_venue import ScriptedVenue
from pipeline_assets_tests.trading.virtual_world import BEGIN

DAY = from_milliseconds(BEGIN).date()
_LATENESS = timedelta(hours=1)


def rows(store: ObjectStore, kind: Kind, account: str = "paper") -> pl.DataFrame:
    """Return an account's rows of the day, without its name."""
    found = read_records(store, kind, DAY)
    return found.filter(pl.col("account") == account).drop("account")


def test_records_equal_the_ledger(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    """An order that changes after the first copy has its newest state; each fill is there once."""
    store = ObjectStore(s3_bucket.settings())
    account = asyncio.run(copied(tmp_path, store))
    look(store, RecordCursor(), _LATENESS)
    orders = {each["client_id"]: each for each in rows(store, Kind.ORDERS).to_dicts()}
    states = {name: held.status.value for name, held in account.bench.core.state.orders.items()}
    assert {name: each["status"] for name, each in orders.items()} == states
    assert states["a-2"] == "rejected"
    assert {float(each["filled"]) for each in orders.values()} == {0.1, 0.0}
    assert orders["a-2"]["reason"] == "-2019"
    assert orders["a-1"]["price"] is None
    fills = rows(store, Kind.FILLS)
    ledger = account.bench.core.state.ledger.fills
    assert [("BTCUSDT", each) for each in fills["trade_id"]] == sorted(ledger)
    assert fills["decision_id"].to_list() == ["decision of a-1", "decision of a-3"]
    assert fills["filled_at"].unique().to_list() == [from_milliseconds(BEGIN)]
    assert float(fills["price"][0]) == 100.0
    [payment] = rows(store, Kind.FUNDING).to_dicts()
    paid = (payment["symbol"], payment["paid_at"], payment["amount"])
    assert paid == ("BTCUSDT", from_milliseconds(BEGIN), Decimal("-0.00012345"))
    assert account.bench.core.state.ledger.funding == -12_345


def test_nothing_new_copies_nothing(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    """A gateway that starts again copies only what came since."""
    store = ObjectStore(s3_bucket.settings())

    async def test() -> int:
        account = await copied(tmp_path, store)
        account.open()
        first = await account.copy()
        again = await account.copy()
        await account.bench.stop()
        return first + again

    # A start may record the day that begins, in one document without orders.
    assert asyncio.run(test()) <= 1
    documents = [each.key for each in store.objects("accounts/")]
    assert len(documents) <= 3


def test_killed_copy_leaves_same_rows(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    """The process dies before or after each write: orders and fills are those of an undisturbed copy."""
    deaths = Deaths()
    asyncio.run(copied(tmp_path, MortalStore(s3_bucket.settings(), deaths), "whole"))
    assert deaths.count >= 5
    harmed = [
        (f"killed-{at}-{int(after)}", Deaths(at, after))
        for at in range(1, deaths.count + 1)
        for after in (False, True)
    ]
    for name, death in harmed:
        asyncio.run(_revived(tmp_path, s3_bucket, name, death))
        assert death.count >= death.at
    store = ObjectStore(s3_bucket.settings())
    look(store, RecordCursor(), _LATENESS)
    for kind in (Kind.ORDERS, Kind.FILLS):
        whole = rows(store, kind, "whole")
        assert whole.height == (3 if kind is Kind.ORDERS else 2)
        for name, _ in harmed:
            assert rows(store, kind, name).equals(whole), name


async def _revived(tmp_path: Path, bucket: S3Bucket, name: str, death: Deaths) -> None:
    """Trade with a store that dies once; the next process finds it alive."""

    class Reviving(CopiedAccount):
        def new_copy(self) -> record_copy.RecordCopy:
            death.dead = False
            return super().new_copy()

    account = Reviving(tmp_path, MortalStore(bucket.settings(), death), name)
    await account.trade()
    await account.bench.stop()


@pytest.mark.parametrize("later", [0, 8])
def test_restored_journal_is_copied_anew(
    s3_bucket: S3Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture, later: int
) -> None:
    """After a restore, numbers are given again; what then happens replaces the earlier rows.

    The journal may grow past the place before the first copy.
    """
    store = ObjectStore(s3_bucket.settings())

    async def test() -> None:
        account = CopiedAccount(tmp_path, store)
        await account.place("a-1")
        account.bench.journal.backup(tmp_path / "backup")
        await account.place("a-2")
        await account.place("a-3")
        await account.copy()
        await account.bench.stop()
        account.path = tmp_path / "restored"
        shutil.copy(tmp_path / "backup", account.path)
        account.now += 60_000
        account.venue = ScriptedVenue()
        account.open()
        account.venue.answer = lambda effect: messages.Refused(effect.order.client_id, "-2019")
        await account.place("a-2")
        for number in range(later):
            await account.place(f"b-{number}")
        await account.copy()
        await account.bench.stop()

    with caplog.at_level(logging.WARNING):
        asyncio.run(test())
    assert "was restored" in caplog.text
    look(store, RecordCursor(), _LATENESS)
    found = sorted(rows(store, Kind.ORDERS).select("client_id", "status").rows())
    again = [(f"b-{number}", "rejected") for number in range(later)]
    assert found == [("a-1", "filled"), ("a-2", "rejected"), ("a-3", "filled"), *again]


def test_burst_makes_several_documents(
    s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document has a bounded number of records; together they have all."""
    monkeypatch.setattr(record_copy, "_MOST", 1)
    monkeypatch.setattr(record_copy, "PAGE", 1)
    monkeypatch.setattr("pipeline_assets.trading.gateway.PAGE", 1)
    store = ObjectStore(s3_bucket.settings())
    account = asyncio.run(copied(tmp_path, store))
    last = max(int(key.removesuffix(".json").rpartition("-")[2]) for key in _documents(store))
    assert len(_documents(store)) == last
    look(store, RecordCursor(), _LATENESS)
    assert rows(store, Kind.ORDERS).height == len(account.bench.core.state.orders)
    assert rows(store, Kind.FILLS).height == 2


def _documents(store: ObjectStore) -> list[str]:
    return [each.key for each in store.objects("accounts/")]
