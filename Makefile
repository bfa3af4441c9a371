# What a newcomer types. `make demo` and `make test` set everything up by themselves.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# With the backtests of other people, which tests and benchmarks compare ours with.
COMPARED := $(VENV)/.compared
# Twice two cores: a third of the tests' time is waiting.
WORKERS ?= 4
# A worker that crashes ends the run. Replaced, it left some tests unassigned, and the run hung at its end.
# snowflake-ml-python needs an older pandas than everything else, so it has an environment of its own.
SNOWPARK_ML := .venv-snowpark-ml
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadgroup --max-worker-restart 0
# Images of containers often set it: each test worker would rewrite every module of tests anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all lint lint-types lint-rules compile-tests generate bench snowpark-ml clean help

help:
	@echo "make demo       start everything, fill three days, go on live (ONCE=1: stop after the first pass;"
	@echo "                EXCHANGE=binance: the real public API; AIRFLOW=1: Airflow schedules;"
	@echo "                INFERENCE=1: models decide about candidates)"
	@echo "make test       lint, then the tests        make test-all   and the long fault matrices,"
	@echo "                                            and all examples of property tests"
	@echo "make lint       ruff, mypy, imports, prose  make bench      the benchmarks, one JSON line a figure"
	@echo "                                                                (ONLY=\"slots tick\": these; all take two hours)"
	@echo "make generate   write what is generated from the code: Airflow's intervals, the candidates' schema, costs, gRPC,"
	@echo "                the statements of the features"
	@echo "make snowpark-ml  an environment that deploys models to Snowflake: docs/production.md"
	@echo "make clean      remove the environment and the demo's data"

# uv installs four times as fast as pip; where it cannot reach the index in its own way, pip does it.
$(INSTALLED): setup.cfg constraints.txt
	@echo "Setting up $(VENV): some 240 packages, one to four minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -c constraints.txt -e ".[dev,embedded]" \
	  || $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev,embedded]"
	@touch $@

$(COMPARED): $(INSTALLED)
	$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e ".[comparison]" \
	  || $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[comparison]"
	@touch $@

snowpark-ml: $(SNOWPARK_ML)/.installed

$(SNOWPARK_ML)/.installed: constraints-snowpark-ml.txt $(INSTALLED)
	@echo "Setting up $(SNOWPARK_ML): some 80 packages, 600 MB."
	$(PYTHON) -m venv $(SNOWPARK_ML)
	$(BIN)/uv pip install --python $(SNOWPARK_ML)/bin/python --compile-bytecode -r constraints-snowpark-ml.txt \
	  || $(SNOWPARK_ML)/bin/python -m pip install --disable-pip-version-check -r constraints-snowpark-ml.txt
	$(BIN)/uv pip install --python $(SNOWPARK_ML)/bin/python --no-deps -e . \
	  || $(SNOWPARK_ML)/bin/python -m pip install --disable-pip-version-check --no-deps -e .
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/pipeline-assets demo $(if $(ONCE),--once) $(if $(EXCHANGE),--exchange $(EXCHANGE)) $(if $(AIRFLOW),--airflow) $(if $(INFERENCE),--inference)

# Types take two thirds of the time, on one core.
SIDE_BY_SIDE := $(MAKE) --no-print-directory --jobs 2 --output-sync=target

lint: $(INSTALLED)
	@$(SIDE_BY_SIDE) lint-types lint-rules

lint-types: $(INSTALLED)
	$(BIN)/mypy

lint-rules: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m pipeline_assets_tests.prose

# In a fresh clone each test worker would compile all modules of tests anew, 7 CPU seconds. This compiles these
# once, while mypy has the other core. What cannot be imported is reported by the tests.
compile-tests: $(INSTALLED)
	@$(BIN)/pytest -n 0 --collect-only -qq >/dev/null || true

test: $(INSTALLED)
	@$(SIDE_BY_SIDE) lint-types lint-rules compile-tests
	$(PYTEST) -m "not matrix"

test-all: $(COMPARED)
	@$(SIDE_BY_SIDE) lint-types lint-rules compile-tests
	$(PYTEST)

generate: $(INSTALLED)
	$(BIN)/python -m pipeline_assets.cli.generated_files
	$(BIN)/python -m pipeline_assets_tests.benchmarks.cost_table
	$(BIN)/python -m pipeline_assets_tests.generated_protocol
	$(BIN)/python -m pipeline_assets_tests.generated_features

bench: $(COMPARED)
	$(BIN)/python -m pipeline_assets_tests.benchmarks $(ONLY)

clean:
	rm -rf $(VENV) $(SNOWPARK_ML) .pipeline .pipeline-binance build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
