# make demo, make test: the two commands for a fresh clone. The others are for people who change the code.
# Everything is installed into .venv with the versions of constraints.txt; nothing is reinstalled until those change.
#
# make PYTHON=/path/to/python     build .venv with that interpreter
# make test WITH_TORCH=1          install torch too, so that the calibration driver's tests run instead of being skipped
# make test WORKERS=8             run the tests in that many processes

PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
WITH_TORCH ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test lint docs bench results clean
.NOTPARALLEL:

help:
	@echo "make demo    plan capacity for DLRM-RMC1 on 16 cores and an H200; writes demo.png"
	@echo "make test    run the tests with coverage"
	@echo "make lint    style, types and import rules"
	@echo "make docs    build the documentation and run the code in it"
	@echo "make bench   time the main operations against references of the same run, and other simulators"
	@echo "make results renew the results, tables and pictures of the studies and the README (the accuracy study's simulations are kept)"
	@echo "make clean   remove .venv and everything built"

demo: $(VENV)/.installed
	$(BIN)/recqueue optimize dlrm-rmc1 --plot demo.png

test: $(VENV)/.installed-test $(if $(WITH_TORCH),$(VENV)/.installed-calibration)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --cov

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-docs
	rm -rf docs/generated
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet -b html docs docs/_build/html
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet -b doctest docs docs/_build/doctest
	@echo "documentation: docs/_build/html/index.html"

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks

results: $(VENV)/.installed-test
	$(BIN)/python -m studies.accuracy --formula-only
	$(BIN)/python -m studies.contention
	$(BIN)/python -m studies.drift
	$(BIN)/python -m studies.coverage
	$(BIN)/python -m studies.robustness --scenarios 10000 --fresh
	$(BIN)/python -m studies.approximations
	$(BIN)/python -m studies.dispatch
	$(BIN)/python -m studies.batch_service
	$(BIN)/python -m studies.stages
	$(BIN)/python -m studies.time_varying
	$(BIN)/python -m studies.dlrm_rmc1
	$(BIN)/python -m studies.eight_models
	$(BIN)/python -m studies.shadow_prices --fresh
	$(BIN)/python -m studies.exact_search
	$(BIN)/python -m studies.exact_search --random 210
	$(BIN)/python -m studies.mgk_waits
	$(BIN)/python -m studies.mgk_waits --sharpen 0.025 --batches 400
	$(BIN)/python -m studies.optimizer
	$(BIN)/python -m studies.live_server
	$(BIN)/python -m studies.live_rounds
	$(BIN)/python -m studies.live_ledger
	$(BIN)/python -m studies.live_campaign
	$(BIN)/python -m studies.gallery
	$(BIN)/python -m studies.planning
	$(BIN)/python -m studies.readme

clean:
	rm -rf $(VENV) docs/_build docs/generated demo.png

$(BIN)/pip:
	@python=; for candidate in $(PYTHON); do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "recqueue needs Python 3.11 or newer; tried $(PYTHON). Name one with: make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$python has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$($$python --version)"; \
	$$python -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing recqueue and the pinned packages into $(VENV)"
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	@echo "Installing the pinned packages for: $*"
	@$(PIP) --no-build-isolation --editable ".[$*]"
	@touch $@
