"""Output of the gateway's commands for a person."""

from io import StringIO

import pytest
from click.testing import CliRunner
from rich.console import Console

from pipeline_assets.cli.gateway import gateway
from pipeline_assets.cli.gateway_output import print_state, state_fields
from pipeline_assets.cli.stack import print_live_gateway
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.settings import Settings


def test_state_keeps_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Protobuf puts fields without a value last: `mode` would move when a position opens."""
    idle = pb.State(account="desk-1", venue="demo", result="0")
    busy = pb.State(account="desk-1", venue="demo", result="5", open_orders=2, sequence=9)
    names = []
    for state in (idle, busy):
        print_state(state_fields(state))
        names.append([line[:15].strip() for line in capsys.readouterr().out.splitlines()])
    assert names[0] == names[1]
    assert names[0][:4] == ["account", "venue", "mode", "result"]


def test_every_field_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A field that the interface gets later has its place, too."""
    state = pb.State(account="a", venue="a", reason="a", result="1", day_result="1", fees="1")
    state.funding = state.gross_exposure = "1"
    state.limits["daily_loss"] = "5"
    state.halted_symbols["BTCUSDT"] = "BTCUSDT: a foreign order"
    state.foreign_orders.append("web_1")
    state.troubles.append("venue_ban")
    print_state(state_fields(state))
    shown = capsys.readouterr().out.replace(" ", "_")
    for field in pb.State.DESCRIPTOR.fields:
        assert field.name.removesuffix("s").removesuffix("_symbol") in shown


def test_halted_symbol_says_what_ends(capsys: pytest.CaptureFixture[str]) -> None:
    state = pb.State()
    state.halted_symbols["SOLUSDT"] = "SOLUSDT: an order of others"
    print_state(state_fields(state))
    shown = capsys.readouterr().out
    assert "halted SOLUSDT  an order of others" in shown
    assert "`pipeline-assets gateway resume --symbol SOLUSDT`" in shown


def test_misplaced_live_shows_its_place() -> None:
    result = CliRunner().invoke(gateway, ["--live", "desk-1", "prepare"])
    assert result.exit_code == 2
    assert "`pipeline-assets gateway prepare --live desk-1`" in result.output


@pytest.mark.parametrize(("venue", "said"), [("live", "gateway --live desk-1`."), ("demo", "")])
def test_up_says_how_to_start_a_live_gateway(venue: str, said: str) -> None:
    """The gateway is listed as down on live; the line below says how to start it."""
    settings = Settings(_env_file=None, trading={"venue": venue, "account": "desk-1"})
    text = StringIO()
    print_live_gateway(Console(file=text, width=200), settings)
    assert text.getvalue().rpartition("pipeline-assets ")[2].strip() == said
