"""The asset `account_reconciliation` and the command `gateway reconcile`, against the replay exchange."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from dagster import AssetCheckEvaluation, AssetCheckSeverity

from pipeline_assets.cli import gateway as command
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.market.trading_rules import units
from pipeline_assets.research.daily_report.reconciliations import ledger_warnings
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.trading.account_records import (
    AccountRecords,
    FillRecord,
    FundingRecord,
    summary_of,
)
from pipeline_assets.trading.state import GatewayState
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.signed import SignedClient
from pipeline_assets_tests.fixtures.webhook import Webhook
from pipeline_assets_tests.trading.binance_bench import account_fields

DAY = date(2026, 11, 20)
EVENING = datetime(2026, 11, 20, 20, tzinfo=UTC)
MORNING = datetime(2026, 11, 21, 4, 20, tzinfo=UTC)
KEY = "reconciliations/desk-1/20261120.json"


class Desk:
    """An account that traded for a day, and the documents that its gateway leaves on the lake."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.client = SignedClient(platform.exchange)
        self.store = ObjectStore(platform.settings.s3)

    def trade(self) -> None:
        """Buy at noon, be paid or pay funding at four, sell half in the evening; then it is the next day."""
        assert self.client.order("BUY", "0.010").status == 200
        self.platform.exchange.set_clock(EVENING)
        assert self.client.order("SELL", "0.005").status == 200
        self.platform.exchange.set_clock(MORNING)

    def fills(self) -> list[FillRecord]:
        """Return the account's trades as the ledger has these."""
        start = to_milliseconds(datetime(2026, 11, 20, tzinfo=UTC))
        rows = self.client.call("GET", "v1/userTrades", symbol="BTCUSDT", startTime=start).document
        return [
            FillRecord(
                symbol=row["symbol"],
                trade_id=row["id"],
                venue_id=str(row["orderId"]),
                side=row["side"].lower(),
                quantity=units(row["qty"]),
                price=units(row["price"]),
                fee=units(row["commission"]),
                filled_at=row["time"],
                client_id="",
                strategy="",
                decision_id="",
                sequence=number,
            )
            for number, row in enumerate(rows, 1)
        ]

    def funding(self) -> list[FundingRecord]:
        """Return the account's funding payments as the ledger has these, of two days."""
        rows = self.client.call("GET", "v1/income", incomeType="FUNDING_FEE").document
        return [
            FundingRecord(
                symbol=row["symbol"], paid_at=row["time"], amount=units(row["income"]), sequence=100
            )
            for row in rows
        ]

    def copy(self, fills: list[FillRecord], funding: list[FundingRecord]) -> None:
        """Leave a document on the lake, of which no sensor has made daily objects."""
        document = AccountRecords(
            account="desk-1",
            venue="demo",
            at=to_milliseconds(EVENING),
            sequence=100,
            copy_begun=1,
            orders=[],
            fills=fills,
            summary=summary_of(GatewayState()),
            funding=funding,
        )
        key = "accounts/20261120/200000-desk-1-000000000100.json"
        self.store.put(key, msgspec.json.encode(document))

    def reconcile(self, **changes: Any) -> tuple[dict[str, Any], AssetCheckEvaluation]:
        """Run the job for the day; return the metadata and the check's result."""
        ended = self.platform.with_settings(**changes).run("reconciliation", str(DAY))
        [event] = ended.asset_materializations_for_node("account_reconciliation")
        [check] = ended.get_asset_check_evaluations()
        return {name: value.value for name, value in event.metadata.items()}, check

    def stored(self) -> dict[str, Any]:
        """Return the stored result."""
        body = self.store.get(KEY)
        assert body is not None
        document: dict[str, Any] = json.loads(body)
        return document


@pytest.fixture
def desk(platform: Platform, webhook: Webhook) -> Desk:
    """Provide an account `desk-1` on the exchange of the platform, before it trades, with a webhook."""
    alerts = type(platform.settings.alerts)(webhook_url=webhook.url)
    return Desk(platform.with_settings(trading=account_fields(platform.exchange), alerts=alerts))


def test_equal_ledger_passes(desk: Desk) -> None:
    """Funding of the next day belongs to that day; a repeated run writes the same document."""
    desk.trade()
    desk.copy(desk.fills(), desk.funding())
    shown, check = desk.reconcile()
    assert check.passed, check.description
    assert (shown["fills"], shown["funding payments"], shown["differences"]) == (2, 1, 0)
    assert shown["fees"] == pytest.approx(sum(each.fee for each in desk.fills()) / 1e8)
    before = desk.store.get(KEY)
    desk.reconcile()
    assert desk.store.get(KEY) == before


def test_difference_is_sent_and_reported(desk: Desk, webhook: Webhook) -> None:
    """The alert has the differences; the report of the day names their number."""
    desk.trade()
    desk.copy(*spoil_funding(desk))
    desk.reconcile()
    [alert] = webhook.received
    assert "Account desk-1, 2026-11-20: 1 difference" in alert["text"]
    assert [each["what"] for each in alert["differences"]] == ["funding payment"]
    [warning] = ledger_warnings(desk.store, "desk-1", [DAY, MORNING.date()])
    assert "1 difference from the exchange on 2026-11-20 (funding payment: 1)" in warning
    desk.store.put(KEY, b"{")
    [warning] = ledger_warnings(desk.store, "desk-1", [DAY])
    assert "is damaged" in warning


def spoil_fill(desk: Desk) -> tuple[list[FillRecord], list[FundingRecord]]:
    return desk.fills()[:1], desk.funding()


def spoil_fee(desk: Desk) -> tuple[list[FillRecord], list[FundingRecord]]:
    first, second = desk.fills()
    return [msgspec.structs.replace(first, fee=first.fee + 1), second], desk.funding()


def spoil_funding(desk: Desk) -> tuple[list[FillRecord], list[FundingRecord]]:
    return desk.fills(), desk.funding()[1:]


def spoil_ledger(desk: Desk) -> tuple[list[FillRecord], list[FundingRecord]]:
    fills = desk.fills()
    return [*fills, msgspec.structs.replace(fills[0], trade_id=1)], desk.funding()


def spoil_price(desk: Desk) -> tuple[list[FillRecord], list[FundingRecord]]:
    first, second = desk.fills()
    return [first, msgspec.structs.replace(second, price=second.price + 10**8)], desk.funding()


@pytest.mark.parametrize(
    ("spoil", "what", "without"),
    [
        (spoil_fill, "fill", "ledger"),
        (spoil_fee, "fee", None),
        (spoil_funding, "funding payment", "ledger"),
        (spoil_ledger, "fill", "exchange"),
        (spoil_price, "fill", None),
    ],
)
def test_difference_fails_the_check(
    desk: Desk,
    spoil: Callable[[Desk], tuple[list[FillRecord], list[FundingRecord]]],
    what: str,
    without: str | None,
) -> None:
    """The run succeeds and the check is red, with the difference in its table."""
    desk.trade()
    desk.copy(*spoil(desk))
    _, check = desk.reconcile()
    assert (check.passed, check.severity) == (False, AssetCheckSeverity.ERROR)
    [record] = check.metadata["each difference"].records
    assert record.data["what"] == what
    assert {side for side in ("ledger", "exchange") if record.data[side] == "nothing"} == (
        {without} - {None}
    )
    assert len(desk.stored()["differences"]) == 1


def test_symbol_without_orders_is_found(desk: Desk) -> None:
    """A trade of a symbol that the ledger knows nothing of is found by the income."""
    assert desk.client.order("BUY", "0.10", symbol="ETHUSDT").status == 200
    desk.platform.exchange.set_clock(MORNING)
    _, check = desk.reconcile()
    found = {(each["what"], each["symbol"]) for each in desk.stored()["differences"]}
    assert found == {("fill", "ETHUSDT"), ("funding payment", "ETHUSDT")}
    assert not check.passed


def test_liquidation_fee_is_a_difference(desk: Desk) -> None:
    """The exchange takes it beside the trade, and no fill has it."""
    assert desk.client.order("BUY", "0.010").status == 200
    desk.platform.exchange.trading("close", symbol="BTCUSDT", by="liquidation")
    desk.platform.exchange.set_clock(MORNING)
    desk.copy(desk.fills(), desk.funding())
    desk.reconcile()
    [difference] = desk.stored()["differences"]
    assert (difference["what"], difference["id"]) == ("fee", "INSURANCE_CLEAR")


def test_paper_is_not_compared(desk: Desk) -> None:
    """The check passes and says so; the exchange is not asked for an account."""
    desk.platform.exchange.set_clock(MORNING)
    shown, check = desk.reconcile(trading={"venue": "paper", "api_key": None})
    assert check.passed
    assert "The venue is paper" in str(check.description)
    assert "The venue is paper" in shown["not compared"]


def test_old_day_is_not_compared(desk: Desk) -> None:
    """Binance has forgotten; the check warns and the run succeeds, so that no DAG hangs on the day."""
    desk.platform.exchange.set_clock(datetime(2027, 3, 1, tzinfo=UTC))
    _, check = desk.reconcile()
    assert (check.passed, check.severity) == (False, AssetCheckSeverity.WARN)
    assert "three months" in str(check.description)


def test_revoked_key_fails_the_run(desk: Desk) -> None:
    """The error has Binance's answer, and no result is stored."""
    desk.platform.exchange.trading("account", revoked=True)
    desk.platform.exchange.set_clock(MORNING)
    ended = desk.platform.run("reconciliation", str(DAY), raise_on_error=False)
    assert not ended.success
    (failed,) = [each for each in ended.all_events if each.event_type_value == "STEP_FAILURE"]
    assert "Check PIPELINE_TRADING__API_KEY" in str(failed.event_specific_data.error)
    assert desk.store.get(KEY) is None


def invoke(desk: Desk, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(command, "load_settings", lambda: desk.platform.settings)
    return CliRunner().invoke(command.gateway, ["reconcile", *arguments])


def test_command_names_each_difference(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Yesterday by default; the exit status says whether the ledger is right."""
    desk.trade()
    desk.copy(*spoil_fee(desk))
    answer = invoke(desk, monkeypatch)
    assert answer.exit_code == 1
    assert f"{DAY}  1 difference from the exchange's 2 fills and 1 funding payment" in answer.output
    again = json.loads(invoke(desk, monkeypatch, str(DAY), "--json").output)
    assert again == desk.stored()
    assert [each["what"] for each in again["differences"]] == ["fee"]


def test_command_refuses_open_day(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day is compared once it has ended."""
    answer = invoke(desk, monkeypatch, str(DAY))
    assert "cannot be compared before 2026-11-21 00:05 UTC" in str(answer.exception)
