# The box. `make` alone lists what it can do. Everything it builds lies in .venv/ and build/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BUILD := build
VENV := .venv
PY := $(VENV)/bin/python
BOX := $(VENV)/.ready
DRIVER := $(BUILD)/zwave-server/.ready
FLEXMEASURES := $(BUILD)/flexmeasures/.ready
PAGE := $(BUILD)/page/.ready

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# --- set-up -------------------------------------------------------------------------------------
.PHONY: setup
setup: $(BOX) $(DRIVER) $(FLEXMEASURES) ## install everything `make run` needs

$(BOX): locks/dev.txt
	@tests/house/setup box

$(DRIVER): $(BOX) $(wildcard image/zwave-server/*)
	@tests/house/setup driver

$(FLEXMEASURES): $(BOX) locks/flexmeasures.txt
	@tests/house/setup flexmeasures

# --- the main job -------------------------------------------------------------------------------
.PHONY: run
run: setup ## the simulated house, the box and a real FlexMeasures
	@exec $(PY) -m tests.house.run

# --- tests --------------------------------------------------------------------------------------
.PHONY: test lint types layers unit flow
test: lint types layers unit flow ## everything CI runs

lint: $(BOX) ## ruff
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

types: $(BOX) ## mypy, strict
	@$(PY) -m mypy

layers: $(BOX) ## which room may import which
	@$(VENV)/bin/lint-imports --no-logo

unit: $(BOX) ## fast, no network
	@$(PY) -m pytest -q tests/unit

flow: setup ## the whole agent in the simulated house
	@$(PY) -m pytest -q tests/flow

.PHONY: fmt locks clean
fmt: $(BOX) ## format the code
	@$(PY) -m ruff check --fix -q . ; $(PY) -m ruff format -q .

locks: $(BOX) ## renew the lock files of the box
	@for out in "box" "dev --group dev"; do set -- $$out; \
	  $(VENV)/bin/uv pip compile -q --upgrade --generate-hashes --no-header --no-annotate \
	    --python-version 3.13 pyproject.toml $${2:-} $${3:-} -o locks/$$1.txt; done

clean: ## forget everything that was built
	@rm -rf $(BUILD) $(VENV) dist
