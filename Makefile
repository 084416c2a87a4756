# Roost: `make help` lists what this file does.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(shell command -v $(p) 2>/dev/null)))
UV ?= $(shell command -v uv 2>/dev/null)
BIN := .venv/bin
STAMP := .venv/.installed
MODELS_STAMP := .venv/.installed-models
DEV_STAMP := .venv/.installed-dev

.PHONY: help install start test check fix bench lock services docs clean

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile | expand -t 18

install: $(STAMP) ## Set up .venv; seconds when nothing changed
	@wanted=$$($(BIN)/python scripts/sdks.py) && \
	  if [ -n "$$wanted" ]; then $(MAKE) --silent --no-print-directory .venv/.installed-$$wanted; fi

start: install ## Everything: set up, migrate, serve; Ctrl-C drains
	@exec $(BIN)/roost up

.venv/bin/python:
	@bash scripts/venv.sh "$(PYTHON)" "$(UV)"

$(STAMP): requirements/base.txt setup.cfg | .venv/bin/python
	@bash scripts/install.sh base "$(UV)"
	@touch $@

# The providers' SDKs: only where a key, or a model's name, asks for one.
$(MODELS_STAMP): requirements/models.txt setup.cfg
	@bash scripts/install.sh models "$(UV)"
	@touch $(STAMP) $@

$(DEV_STAMP): requirements/dev.txt setup.cfg | .venv/bin/python
	@bash scripts/install.sh dev "$(UV)"
	@touch $(STAMP) $(MODELS_STAMP) $@

check: $(DEV_STAMP) ## Format, lint, types, import contracts, docs: seconds
	@bash scripts/check.sh

test: check ## make check, then every test (what CI runs)
	@bash scripts/services.sh
	@$(BIN)/python -m pytest $(ARGS)

fix: $(DEV_STAMP) ## Format and mend what a tool can mend
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(DEV_STAMP) ## The side-by-side measurements, as ratios
	@bash scripts/services.sh
	@for file in wake path throughput interrupt models; do $(BIN)/python bench/$$file.py; done

docs: $(DEV_STAMP) ## Write the generated reference pages
	@$(BIN)/python scripts/reference.py

lock: ## Pin every dependency by hash (needs uv)
	@for set in base models dev; do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet \
	    $$([ $$set = base ] || echo --extra $$set) setup.cfg --output-file requirements/$$set.txt; done

clean: ## Remove what make made
	@rm -rf .venv build dist *.egg-info
