"""The texts of the DAGs, as Airflow's UI shows them. The DAGs are built in candle_dags.py."""

INGEST_DOC = """
### An ingest run of {what}

One Dagster run of the job `{job}` does the work; each task watches one asset of it.

| task | asset |
|---|---|
{tasks}

An ingest run stores what is due **now** by the exchange's clock. A late, cleared or missed run
ends in the same data, so a failed one needs no attention if the next is green. Retries re-execute from the
failed step and stop once the next run is due. Clear a run to make a new Dagster run. The button *Dagster run*
opens it.
"""
FINALIZE_DOC = """
### Finalizing

Once a day, the job `seal` reads which symbols the exchange lists (asset `universe`: listed and delisted since
the last time), fetches the day that ended again, in all intervals, checks it against itself, and stores it as
one object per symbol. It catches up: days in which Airflow was down are finalized when it is back; days that
the sensor gap_repair has filled by then are left out. A day whose retries have all failed stays red: clear
its run once the cause is gone.
`airflow backfill create --dag-id candles_seal --from-date 2026-11-01 --to-date 2026-11-03` finalizes 1 and
2 November (the last date is excluded). Variable `candles_first_day` says from which day on (its default:
2026-11-01).
"""
BACKFILL_DOC = """
### Backfill

Trigger with parameters: intervals (`funding` for funding rates), symbols (none: all that Dagster's settings
name), first and last UTC day, both included. Each interval becomes one Dagster backfill, 1m first, since 15m
and 1h are compared with it. A retry backfills what failed. May be repeated: nothing is duplicated or lost.
"""
HOUSEKEEPING_DOC = """
### Housekeeping

Once a day, the job `housekeeping` removes from Dagster and the lake what can be made again: ingest runs of
finalized days, their logs, staged files. Stored candles are never touched.
"""
CLEANING_DOC = """
### Airflow's own cleaning

Once a day, `airflow db clean` removes records older than `keep_days`, and log files of that age go too:
a minute's ingest run leaves one DAG run, four task instances and four log files, 5,760 a day. It touches the
records of **every** DAG, so it is skipped unless the connection `airflow_database` holds the database's
address in its password.
"""
OUTCOMES_DOC = """
### Outcomes of candidates

Once a day, the job `outcomes` computes what became of yesterday's candidates after 15 minutes, 1 and 4 hours,
and loads the table. The last candidate's four hours end at 04:00 UTC. The day before is computed once more:
finalizing yesterday stored minutes that ingest runs had missed. The DAG catches up, as finalizing does.
A run may be repeated: the same minutes give the same rows.
"""
