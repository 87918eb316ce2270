# Every target sets up what it needs; nothing has to be installed by hand.
# Settings: PYTHON, VENV, PORT (of `make dev`), LANEPAINT_* (see `lanepaint doctor`).
VENV ?= .venv
PORT ?= 3000
BIN := $(VENV)/bin

# The first Python that is new enough; a plain `python3` often is not.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# One place for everything that the platform writes, so that `make demo` and `make dev` see the same data. An instance of
# Dagster lies on this machine even where LANEPAINT_ROOT is a bucket.
LANEPAINT_ROOT ?= $(CURDIR)/.lanepaint
LOCAL_ROOT := $(if $(findstring ://,$(LANEPAINT_ROOT)),$(CURDIR)/.lanepaint,$(abspath $(LANEPAINT_ROOT)))
# Where LANEPAINT_POSTGRES_URL names a database (postgresql+psycopg2://...), runs and events are kept in it.
DAGSTER_HOME ?= $(LOCAL_ROOT)/dagster$(if $(LANEPAINT_POSTGRES_URL),-postgres)
SAMPLE := $(LOCAL_ROOT)/sample_drive
# The commit goes on every run as a tag; a checkout without git goes without.
LANEPAINT_GIT_COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
COMMIT := $(if $(LANEPAINT_GIT_COMMIT),LANEPAINT_GIT_COMMIT="$(LANEPAINT_GIT_COMMIT)")
HOMES := LANEPAINT_ROOT="$(LANEPAINT_ROOT)" DAGSTER_HOME="$(DAGSTER_HOME)" $(COMMIT)

# `make dev` shows what `make demo` made: the same source and prompts, unless others are set.
LANEPAINT_SOURCE ?= $(SAMPLE)
LANEPAINT_PROMPTS ?= single_white_dashed,double_yellow_solid
SHOWN := LANEPAINT_SOURCE="$(LANEPAINT_SOURCE)" LANEPAINT_PROMPTS="$(LANEPAINT_PROMPTS)"

# Dagster warns of its own beta and superseded functions ("Function ... is currently in beta"), several times a start.
DAGSTER := PYTHONWARNINGS=ignore:Function $(BIN)/dagster

.PHONY: help demo dev dev-postgres test test-slow screenshots check format install-sam2 clean

help:
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 14

demo: $(VENV)/.compiled $(DAGSTER_HOME)/dagster.yaml ## Sample drive to report, with the CPU engines.
	$(HOMES) $(BIN)/lanepaint demo

dev: $(VENV)/.compiled $(DAGSTER_HOME)/dagster.yaml ## The Dagster UI with the sample already there; PORT=3000. Ctrl-C ends it.
ifeq ($(LANEPAINT_SOURCE),$(SAMPLE))
	$(HOMES) $(BIN)/lanepaint sample-data "$(SAMPLE)"
endif
	$(HOMES) $(SHOWN) $(BIN)/lanepaint chunks add
	@echo "Dagster UI: http://127.0.0.1:$(PORT) (up in about 20 s; Ctrl-C ends it)"
	@# exec: a signal to make reaches Dagster itself, which then ends its own servers.
	@$(HOMES) $(SHOWN) exec env $(DAGSTER) dev -w workspace.yaml -h 127.0.0.1 -p $(PORT)

dev-postgres: $(VENV)/.installed-postgres ## As `make dev`, with a PostgreSQL server of its own beside it.
	@exec $(BIN)/python -m lanepaint_assets.local_postgres "$(LOCAL_ROOT)/postgres" $(MAKE) --no-print-directory dev

test: $(VENV)/.installed-test ## The fast suite.
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.installed-test ## Browser, faults, long statistics.
	$(BIN)/python -m pytest -m slow

screenshots: $(VENV)/.installed-test ## The README's pictures of the Dagster UI, taken anew.
	$(BIN)/python -m pytest lanepaint_assets_tests/browser/test_dagster_ui.py --screenshots docs

check: $(VENV)/.installed-test ## Style, types, the graph loads.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	env -u DAGSTER_HOME $(DAGSTER) definitions validate -w workspace.yaml --log-level warning

format: $(VENV)/.installed-test ## Mends what `make check` can mend by itself.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Not in the extra: while it is built, sam2 asks for the newest torch, and its hydra-core wants antlr4-python3-runtime 4.9,
# while the parser of Dagster's selection language needs 4.13. LanePaint builds SAM 2's models without Hydra.
SAM2 := SAM2_BUILD_CUDA=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	--no-build-isolation --no-deps sam2

install-sam2: $(VENV)/.installed ## SAM 2 with torch, for segmentation with its checkpoints.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,ui,sam2]'
	$(SAM2)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "LanePaint needs Python 3.11 or later, and $$(python3 --version 2>&1) is not;" \
		"install one, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "LanePaint needs Python 3.11 or later," \
		"but PYTHON=$(PYTHON) is $$($(PYTHON) --version 2>&1)"; exit 1; }
	@# Half an environment would look like a whole one the next time.
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV); the first time takes one to three minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,ui]'
	@touch $@

$(VENV)/.installed-postgres: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,ui,local-postgres]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV); the first time takes one to three minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,ui,sam2,videopainter,qwen,train,quality,rerun,gcs,local-postgres,k8s,test]'
	$(SAM2)
	@touch $@ $(VENV)/.installed

# The last step of an installation: the pixel loops of the CPU engines are compiled where they will run.
$(VENV)/.compiled: $(VENV)/.installed
	@echo "Compiling the pixel loops of the CPU engines, once; half a minute to a minute."
	@env -u DAGSTER_HOME $(BIN)/lanepaint warm-up
	@touch $@

# Made once and never overwritten: DAGSTER_HOME may be a folder of yours.
$(DAGSTER_HOME)/dagster.yaml:
	mkdir -p "$(DAGSTER_HOME)"
	cp dagster.yaml $@
ifdef LANEPAINT_POSTGRES_URL
	@# By reference: the address holds a password.
	printf 'storage:\n  postgres:\n    postgres_url:\n      env: LANEPAINT_POSTGRES_URL\n' >> $@
endif

clean: ## Removes what was installed and generated, results included.
	rm -rf $(VENV) .lanepaint .pytest_cache .mypy_cache .ruff_cache .hypothesis
