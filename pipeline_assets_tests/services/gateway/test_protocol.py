"""gateway.proto as an interface: generated code is current, lint is clean, and the released form is not
broken.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.trading import order_types, records
from pipeline_assets_tests.generated_protocol import FOLDER, NAME, REPOSITORY, generate

PROTO = REPOSITORY / FOLDER
SOURCE = Path("pipeline/gateway/v1/gateway.proto")


def buf(*arguments: str, cwd: Path = PROTO) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).with_name("buf")), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """Provide a copy of the interface, for a test to change."""
    (tmp_path / SOURCE.parent).mkdir(parents=True)
    (tmp_path / "buf.yaml").write_bytes((PROTO / "buf.yaml").read_bytes())
    (tmp_path / SOURCE).write_bytes((PROTO / SOURCE).read_bytes())
    return tmp_path


def test_generated_code_is_current(tmp_path: Path) -> None:
    """`make generate` would change nothing."""
    generate(tmp_path)
    assert (tmp_path / FOLDER / NAME).read_text() == (PROTO / NAME).read_text()


def test_lint_is_clean(changed: Path) -> None:
    assert (found := buf("lint")).returncode == 0, found.stdout
    text = (changed / SOURCE).read_text()
    (changed / SOURCE).write_text(text.replace("MODE_ACTIVE", "ACTIVE"))
    assert buf("lint", cwd=changed).returncode != 0


def test_released_interface_is_kept(changed: Path) -> None:
    """A field may be added; a removed, renumbered or retyped one breaks callers."""
    released = str(PROTO / "released.json")
    assert (found := buf("breaking", "--against", released)).returncode == 0, found.stdout
    text = (changed / SOURCE).read_text()
    (changed / SOURCE).write_text(
        text.replace("int64 after = 1;", "int64 after = 1;\n  bool more = 2;")
    )
    assert buf("breaking", "--against", released, cwd=changed).returncode == 0
    for broken in ("int64 after = 2;", "string after = 1;", ""):
        (changed / SOURCE).write_text(text.replace("int64 after = 1;", broken))
        assert buf("breaking", "--against", released, cwd=changed).returncode != 0


def test_proto_names_every_value() -> None:
    """Enumerations and events of the proto are those of the core."""
    for enum, values in (
        (pb.Status, [each.value for each in order_types.Status]),
        (pb.Mode, [each.value for each in order_types.Mode]),
        (pb.Side, ["buy", "sell"]),
        (pb.Kind, ["market", "limit", "stop"]),
    ):
        name = enum.DESCRIPTOR.name.upper()
        wanted = {f"{name}_UNSPECIFIED", *(f"{name}_{value.upper()}" for value in values)}
        assert set(enum.keys()) == wanted
    events = pb.StreamEventsResponse.DESCRIPTOR.oneofs_by_name["event"].fields
    kinds = {each.__struct_config__.tag for each in records.AnyRecord.__args__}
    assert {each.name for each in events} == kinds
