"""The command pipeline-assets. A command `x` is `x.py`: its options, one call, what it prints.

To add a command: write its module here and add it to `COMMANDS` in main.py. Its tests are in
pipeline_assets_tests/cli/. What a command does belongs into collection/, signals/ or services/; where
that needs Dagster or the embedded stack it is a module here that prints nothing: backfill_runs,
gap_repair, status_report, filling, questions.
"""
