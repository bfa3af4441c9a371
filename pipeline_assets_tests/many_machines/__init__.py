"""Failures between machines: network namespaces on one machine stand for hosts, each with its own host name,
addresses, process numbers and, where a case says so, clock.

`python -m pipeline_assets_tests.many_machines` runs every case and prints the table of docs/production.md.
laboratory.py has the namespace around all hosts, hosts.py one host, databases.py PostgreSQL, cluster.py what
runs where, minutes.py the view of a reader of the slots, checks.py the counts after a case, and cases.py the
failures.
"""
