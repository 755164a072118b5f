# Everything happens in .venv; a second call of any target does only what changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL ?= docs/examples/iris

.PHONY: help install install-dev serve test fuzz interop deviations soak check bench bench-quick format protos clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A .venv that has no pip, or that Python 3.10 or an older one made, is made again.
ifneq ($(wildcard $(addprefix $(VENV)/lib/python3.,[0-9] 10)),)
.PHONY: $(BIN)/pip $(VENV)/.installed
endif

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo >&2 \
		"Python 3.11 or newer is needed, and $(PYTHON) is: $$($(PYTHON) --version 2>&1)." \
		"Name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo >&2 \
		"$(PYTHON) has no ensurepip, which a virtual environment is made with." \
		"On Debian and Ubuntu: apt install $(notdir $(PYTHON))-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[examples]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

install: $(VENV)/.installed ## Create .venv with the runtime and what the examples need

install-dev: $(VENV)/.installed-dev

serve: install ## Serve the iris example; INTERFACE=omi|kserve|modzy chooses the interface
	@OMI_MODEL=$${OMI_MODEL:-$(MODEL)} exec $(BIN)/omi serve

test: install-dev ## Run the whole test suite
	$(BIN)/pytest -n 2 --dist loadfile

interop: install-dev ## Make virtual environments of others' software and run the tests with them
	INTEROP=make $(BIN)/pytest -n 2 --dist loadfile tests/interop

deviations: install-dev ## Ask KServe's server and ours, and write the table of what differs into its page
	INTEROP=make DEVIATIONS=write $(BIN)/pytest -q tests/interop/test_deviations_observed.py

fuzz: install-dev ## Send 10,000 malformed bodies to each interface; SEED repeats a run
	FUZZ_BODIES=$${FUZZ_BODIES:-10000} $(BIN)/pytest -n 2 --hypothesis-seed=$${SEED:-0} tests/adapters/test_malformed*.py

soak: install-dev ## All interfaces under mixed traffic while workers are killed, for SOAK_S seconds
	SOAK_S=$${SOAK_S:-600} $(BIN)/pytest -s tests/soak

check: install-dev ## Formatting, lint, types, import contracts, generated stubs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check

bench: install-dev ## Measure this runtime and its peers side by side; writes docs/benchmarks.md
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[bench]"
	$(BIN)/python tests/benchmarks/bench.py

bench-quick: install-dev ## Measure this runtime alone, against the bare limits and the stored run
	$(BIN)/python tests/benchmarks/bench.py --quick --seconds 3

format: install-dev ## Format and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: install-dev ## Regenerate the protobuf code
	$(BIN)/python protos/generate.py

clean: ## Remove what make made
	rm -rf $(VENV) .bench .interop .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
