"""Which ingest runs may be deleted."""

from pipeline_assets.collection.old_runs import deletable


def test_last_runs_and_open_days_stay() -> None:
    """Last runs and open days are kept.

    A run without a partition is kept as well; only finalized days are looked up.
    """
    days = {"a": "2026-11-19", "b": "2026-11-18", "c": "2026-11-19", "d": "2026-11-20", "e": ""}
    last = {"2026-11-18": {"f"}, "2026-11-19": {"c"}}
    found = [run for run, day in days.items() if deletable(run, day, last, last.__getitem__)]
    assert found == ["a", "b"]
