# The box. `make` alone lists what it can do. Everything it builds lies in .venv/ and build/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BUILD := build
VENV := .venv
PY := $(VENV)/bin/python
SETUP := tests/house/setup

.PHONY: help
help: ## list the targets
	@echo "The box. Begin with: make run"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/; s/^/  /' | expand -t 18

# --- set-up -------------------------------------------------------------------------------------
.PHONY: setup box homeassistant
setup: ## install everything `make run` needs
	@$(SETUP) box driver flexmeasures page

box:
	@$(SETUP) box

homeassistant:
	@$(SETUP) homeassistant

# --- the main job -------------------------------------------------------------------------------
.PHONY: run
run: setup $(if $(HA),homeassistant) ## the simulated house, the box and a real FlexMeasures (its variables: README.md)
	@exec $(PY) -m tests.house.run

# --- the image ----------------------------------------------------------------------------------
# FLAVOUR=debian|rpios; MIRROR=, SIGN_KEY=, RELEASE_BUILD=1, RELEASE_ADDRESS=, FRESH=1, WORK=, DIST=: image/README.md
export FLAVOUR MIRROR SIGN_KEY RELEASE_BUILD RELEASE_ADDRESS FRESH SQUEEZE IMAGE_URL
.PHONY: image image-test
image: ## the card for a Raspberry Pi, into dist/ (FLAVOUR=debian)
	@image/build

image-test: setup ## the built image, looked through and booted in an emulator (MODULES="boot home": only those; AGAIN=1: what failed)
	@$(SETUP) browser emulator
	@$(PY) -m tests.image.lanes $(if $(AGAIN),--again) $(MODULES)

.PHONY: image-release
image-release: ## before a release: image-test with a hundred power cuts (FLAVOUR=debian)
	@POWER_CUTS=100 $(MAKE) --no-print-directory image-test

# --- tests --------------------------------------------------------------------------------------
STEPS := lint types layers unit units flow-and-page crash
.PHONY: test lint types layers unit units flow
test: ## everything CI runs, each step with its time; stops at the first that fails
	@for step in $(STEPS); do \
	  echo "── $$step"; began=$$SECONDS; \
	  $(MAKE) --no-print-directory $$step; \
	  echo "── $$step: $$((SECONDS - began)) s"; \
	done
	@echo "── all of it holds"

lint: box ## ruff
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

types: box ## mypy, strict
	@$(PY) -m mypy

layers: box ## which room may import which
	@$(VENV)/bin/lint-imports --no-logo

unit: box ## fast, no network
	@$(PY) -m pytest -q tests/unit

units: box ## the systemd units: sound, hardened, never waiting for a network
	@$(PY) -m pytest -q tests/image/test_units.py

flow: setup homeassistant ## the whole agent in the simulated house
	@$(SETUP) neighbourhood
	@$(PY) -m pytest -q tests/flow

.PHONY: flow-and-page
flow-and-page: setup homeassistant  # they wait more than they compute: each is shown when it is done
	@$(SETUP) browser neighbourhood
	@$(MAKE) --no-print-directory -j2 --output-sync=target flow page

.PHONY: release-test
release-test: test ## before a release: `make test`, and what speaks to FlexMeasures on an older one
	@$(SETUP) flexmeasures_older
	@FLEXMEASURES_HOME=build/flexmeasures-older $(PY) -m pytest -q tests/flow/test_flexmeasures.py \
	  tests/flow/test_flexmeasures_faults.py tests/flow/test_pairing.py tests/flow/test_box_health.py \
	  tests/flow/test_schedules.py tests/flow/test_way_back.py \
	  -k "not used_up_budget"  # it has no limit on triggers

.PHONY: release-image
release-image: ## before a release: the image built twice from nothing and compared, then tried with 100 power cuts
	@$(MAKE) --no-print-directory image FRESH=1
	@$(MAKE) --no-print-directory image FRESH=1 WORK=$(BUILD)/image/again CACHE=$(BUILD)/image/cache/again DIST=$(BUILD)/image/again/dist
	@cmp $(or $(WORK),$(BUILD)/image/$(FLAVOUR))/flexbox.img $(BUILD)/image/again/flexbox.img && echo "twice the same card"
	@POWER_CUTS=100 $(MAKE) --no-print-directory image-test

.PHONY: page
page: setup ## the setup page: its security, and every screen in a real browser
	@$(SETUP) browser
	@$(PY) -m pytest -q tests/page

.PHONY: crash
crash: box ## kill −9, power cuts, a card that is full, locked or dead (root: loop devices)
	@$(SETUP) power_cuts
	@$(PY) -m pytest -q tests/crash

.PHONY: bench
bench: setup ## figures, beside the peers' (root: loop devices)
	@$(PY) -m tests.bench

.PHONY: dump
dump: box ## write a Z-Wave device down for a test: DEVICE=node-number [DRIVER=ws://…]
	@$(PY) -m tests.dumps.record $(DEVICE) $(DRIVER)

.PHONY: screenshots
screenshots: setup ## pictures of every screen into docs/screens/
	@$(SETUP) browser
	@$(PY) -m tests.page.screens docs/screens

.PHONY: fmt locks clean
fmt: box ## format the code
	@$(PY) -m ruff check --fix -q . ; $(PY) -m ruff format -q .

locks: box ## renew the lock files of the box
	@for out in "box" "dev --group dev"; do set -- $$out; \
	  $(VENV)/bin/uv pip compile -q --upgrade --generate-hashes --no-header --no-annotate \
	    --python-version 3.13 pyproject.toml $${2:-} $${3:-} -o locks/$$1.txt; done
	@cd tests/house/flexmeasures && for older in "" -older; do \
	  $(abspath $(VENV))/bin/uv pip compile -q --upgrade --generate-hashes --no-header --no-annotate \
	    --python-version 3.13 --excludes excluded.txt requirements$$older.txt -o ../../../locks/flexmeasures$$older.txt; done

clean: ## forget everything that was built
	@rm -rf $(BUILD) $(VENV) dist
