"""The promises of conftest.py to every test, checked in a pytest run of its own."""

from pathlib import Path

import pytest
from hypothesis import settings

from pipeline_assets_tests.arrangement import GROUPS, HERE, LONGEST, SHARED, arrange
from pipeline_assets_tests.examples import examples, profile_of
from pipeline_assets_tests.market_data import FILES, made_up, market_data


def test_no_property_test_has_a_deadline() -> None:
    assert settings().deadline is None


@pytest.mark.parametrize(("chosen", "number"), [("not matrix", 25), ("", 100), ("matrix", 100)])
def test_only_make_test_tries_fewer(chosen: str, number: int) -> None:
    """Only the selection of `make test` tries fewer examples than a test asks for."""
    assert settings.get_profile(profile_of(chosen)).max_examples == number


def test_run_follows_its_profile(pytestconfig: pytest.Config) -> None:
    """This run tries as many examples as its own selection of tests says."""
    expected = settings.get_profile(profile_of(pytestconfig.getoption("-m"))).max_examples
    assert examples(100) == settings().max_examples == expected


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.symbol}-{file.interval}")
def test_made_up_candles_are_stable(file) -> None:
    """Made-up candles are the same in every run, and possible."""
    made = made_up(file)
    assert made.equals(made_up(file))
    assert made.height == file.rows
    assert (made["low"] > 0).all()
    assert (made["low"] <= made.select("open", "close").min_horizontal()).all()
    assert (made["high"] >= made.select("open", "close").max_horizontal()).all()
    assert (made["volume"] == 0).sum() == file.quiet


def test_market_data_files_exist() -> None:
    """Every file of the market data exists."""
    for file in FILES:
        assert (market_data() / file.name).is_file()


def test_a_skipped_test_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makeconftest(
        "from pipeline_assets_tests.conftest import pytest_make_collect_report as pytest_make_collect_report"
        "\n"
        "from pipeline_assets_tests.conftest import pytest_runtest_makereport as pytest_runtest_makereport"
    )
    pytester.makepyfile(
        """
        import pytest

        def test_skipped():
            pytest.skip("its data is absent")

        @pytest.mark.skipif(True, reason="its server is absent")
        def test_skipped_by_a_mark():
            pass

        @pytest.mark.xfail(strict=True)
        def test_expected_to_fail():
            assert False

        def test_passes():
            pass
        """
    )
    pytester.makepyfile(test_whole_file="import pytest\npytest.importorskip('no_such_module')")
    result = pytester.runpytest_subprocess("-p", "no:xdist", "--continue-on-collection-errors")
    # A mark skips before the test's setup, and a file while it is collected: both are errors then.
    assert result.parseoutcomes() == {"failed": 1, "errors": 2, "xfailed": 1, "passed": 1}
    result.stdout.fnmatch_lines(
        ["*A skipped test proves nothing, so it fails: *its data is absent*"]
    )


def test_grouped_item_keeps_its_worker(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test item gets the name that keeps its group on one worker.

    pytest-xdist 3.8 groups by an internal attribute. Where pytest no longer reads it (9.2), each worker
    starts the stack that a group shares.
    """
    named = f"{request.node.nodeid}@group"
    monkeypatch.setattr(request.node, "_nodeid", named)
    assert request.node.nodeid == named


@pytest.mark.parametrize("named", [*LONGEST, *(f"{file}::{name}" for name, file in SHARED.items())])
def test_arranged_names_exist(named: str) -> None:
    """A renamed test or fixture cannot leave the arrangement unnoticed."""
    file, _, name = named.partition("::")
    assert f"\ndef {name}(" in (HERE / file).read_text("utf-8")


@pytest.mark.parametrize("file", GROUPS)
def test_grouped_files_exist(file: str) -> None:
    assert (HERE / file).is_file()


def test_groups_and_longest_tests_are_arranged(pytester: pytest.Pytester) -> None:
    """A test joins the worker of its shared fixture, a mark of its own decides, and long tests are first."""
    items = pytester.getitems(
        """
        import pytest

        @pytest.fixture
        def kafka_server(): ...

        def test_plain(): ...

        def test_shares(kafka_server): ...

        @pytest.mark.xdist_group("own")
        def test_marked(kafka_server): ...

        def test_first_matching_cause_is_given(): ...
        """
    )
    items[-1].path = HERE / "market/test_gap_causes.py"
    arrange(items)
    assert [
        (item.name, [mark.args for mark in item.iter_markers("xdist_group")]) for item in items
    ] == [
        ("test_first_matching_cause_is_given", []),
        ("test_plain", []),
        ("test_shares", [("kafka_server",)]),
        ("test_marked", [("own",)]),
    ]
