"""The command pipeline-assets. A command `x` is `x.py`: its options, one call, what it prints.

To add a command: write its module here and add it to `COMMANDS` in main.py. Its tests are in
pipeline_assets_tests/cli/. The work of a command belongs into collection/, signals/ or services/. Work that
needs Dagster or the embedded stack is a module here that prints nothing: day_runs, backfill_runs,
funding_runs, gap_repair, status_report, filling, questions.
"""
