# Every target sets up .venv by itself from constraints.txt; nothing needs to be installed before,
# but Python 3.11 or newer and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
STUDY ?= nano
# Many tests wait for servers and children: one process more than cores, up to four.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); [ $$n -lt 4 ] && echo $$((n + 1)) || echo 4)

.DEFAULT_GOAL := help
.PHONY: help setup study up test test-acceptance check fix docs bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(READY) ## create .venv with the tested versions

study: $(READY) ## run the nano study to its report (STUDY=file for another)
	@$(BIN)/grokpath run $(STUDY)

up: $(READY) ## start Prefect, MLflow and a worker here; Ctrl-C ends them
	@$(BIN)/grokpath up

TEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(READY) ## run the tests that a change is likely to break
	@$(TEST) -m "not acceptance"

test-acceptance: $(READY) ## run the others: real servers, browsers, killed processes, whole studies
	@$(TEST) -m acceptance

check: $(READY) ## lint, formatting, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

fix: $(READY) ## format, and fix what the linter can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(READY) ## generate docs/measures.md from the registry of measures
	@$(BIN)/grokpath measures --markdown > docs/measures.md

bench: $(READY) ## measure time and memory of the nano study, results in benchmarks/
	@$(BIN)/python benchmarks/nano_study.py

clean: ## remove .venv and caches; studies' data stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"grokpath needs Python 3.11 or newer, this is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)
