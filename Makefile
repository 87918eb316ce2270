# Every target sets up what it needs; nothing has to be installed by hand.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# One place for everything that the platform writes, so that `make demo` and `make dev` see the same data.
export LANEPAINT_ROOT ?= $(CURDIR)/.lanepaint
export DAGSTER_HOME ?= $(LANEPAINT_ROOT)/dagster
DEMO_SETTINGS = LANEPAINT_SOURCE=$${LANEPAINT_SOURCE:-$(LANEPAINT_ROOT)/sample_drive} \
	LANEPAINT_PROMPTS=$${LANEPAINT_PROMPTS:-single_white_dashed,double_yellow_solid}

.PHONY: demo dev test test-slow check format clean

demo: $(VENV)/.installed $(DAGSTER_HOME)/dagster.yaml ## Sample drive to report, with the CPU engines.
	$(BIN)/lanepaint demo

dev: $(VENV)/.installed $(DAGSTER_HOME)/dagster.yaml ## The Dagster UI with the sample already there.
	$(BIN)/lanepaint sample-data $(LANEPAINT_ROOT)/sample_drive
	$(DEMO_SETTINGS) $(BIN)/lanepaint chunks add
	$(DEMO_SETTINGS) $(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p $${PORT:-3000}

test: $(VENV)/.installed-test ## The fast suite.
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.installed-test ## Browser, faults, long statistics.
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.installed-test ## Style, types, the graph loads.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/dg check defs --no-check-yaml 2>/dev/null || $(BIN)/dagster definitions validate -w workspace.yaml

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1); set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,ui]'
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,ui,test]'
	touch $@ $(VENV)/.installed

$(DAGSTER_HOME)/dagster.yaml: dagster.yaml
	mkdir -p $(DAGSTER_HOME)
	cp dagster.yaml $@

clean: ## Removes what was installed and generated.
	rm -rf $(VENV) .lanepaint .pytest_cache .mypy_cache .ruff_cache
