# Each target makes the virtual environment .venv first where it is missing or older than its lock.
# Needed beforehand: Python 3.11 or newer with venv, and make. Nothing is installed outside this folder.

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types imports compose rules docs bench night schemas lock clean soak
.DELETE_ON_ERROR:

READY := .venv/.ready
BIN := .venv/bin
# The first of these that is Python 3.11 or newer and can make a virtual environment; `make setup PYTHON=…` overrides.
PYTHON_NAMES := python3.11 python3.12 python3.13 python3.14 python3 python
PYTHON ?=
# More words for pytest or the benchmark, as in `make test ARGS="-k intake"` and `make bench ARGS=bulk`.
ARGS ?=

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv from the hash-pinned lock (the others do it themselves)

$(READY): requirements.lock pyproject.toml
	@for name in $(or $(PYTHON),$(PYTHON_NAMES)); do \
	  if "$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python=$$name; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or newer with venv is needed; looked for: $(or $(PYTHON),$(PYTHON_NAMES))." >&2; \
	  echo "On Debian and Ubuntu: apt-get install python3 python3-venv. Another one: make setup PYTHON=/path/to/python" >&2; \
	  exit 1; \
	fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo "Making .venv with $$("$$python" --version)"; \
	  "$$python" -m venv --clear .venv; \
	fi
	@echo "Installing the locked packages into .venv (about half a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## renew about 1,000 numbers at 240 simulated platforms and write demo-report/report.html
	$(BIN)/renewal run examples/recycled-numbers.csv --sandbox --faults normal --report demo-report

# Three at once, a file to each: what a file has built up is built once, and who waits for a process leaves a core to others.
# Files are taken in the order of tests/conftest.py.
test: $(READY) ## run all tests
	$(BIN)/python -m pytest --numprocesses 3 --dist loadscope --no-loadscope-reorder $(ARGS)

check: lint types imports compose rules docs ## lint, format, types, imports, compose file, alert rules, docs (-k: all)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	PYTHONPATH=. $(BIN)/lint-imports

compose: $(READY)
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

# promtool is of the package `prometheus`. Without it the rules are not tried, and that is said; in CI it fails.
rules:
	@if command -v promtool >/dev/null 2>&1; then \
	  promtool check config deploy/prometheus/prometheus.yml --syntax-only && \
	  promtool test rules deploy/prometheus/rules.test.yml; \
	elif [ -n "$$CI" ]; then \
	  echo "promtool is missing: apt-get install --no-install-recommends prometheus" >&2; exit 1; \
	else \
	  echo "NOT TRIED: deploy/prometheus/rules.yml. promtool is missing; on Debian: apt-get install prometheus" >&2; \
	fi

docs: $(READY)
	$(BIN)/python -m pytest --quiet tests/unit/test_docs.py tests/unit/test_house_rules.py tests/contract/test_schemas_current.py

bench: $(READY) ## measure this machine; fails if a number of the design is missed (ARGS="bulk single --quick")
	$(BIN)/renewal bench $(ARGS)

night: $(READY) ## sweep 33,000 numbers at 240 simulated platforms, kill in the middle, prove the ledger
	$(BIN)/python -m benchmarks.night

soak: $(READY) ## kill, freeze and misbehave for SOAK_SECONDS (1200), then prove that nothing was lost or done twice
	$(BIN)/python -m tests.chaos.soak

schemas: $(READY) ## write docs/schemas/*.schema.json from the models, and docs/api.openapi.json from the routes
	$(BIN)/python -m tests.contract.schema_files

# Needs uv (`pipx install uv`); everybody else only installs what it wrote. Universal: one file for Linux and macOS,
# Python 3.11 and newer. It holds names, versions and hashes, and never the address of a registry.
lock: ## resolve the dependencies anew into requirements.lock and requirements.run.lock (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
	  --extra embedded --extra fast --extra parquet --extra sql --extra bench --group dev --group build \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --output-file requirements.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --constraint requirements.lock \
	  --group build --no-annotate \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --output-file requirements.run.lock

clean: ## remove .venv, caches and demo output
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis demo-report build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
