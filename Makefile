PYTHON ?= python3
# Two processes. The tests of a file stay together, so that most kernels compile in one process only, and the files in
# their order, so that no long one is last. NUMBA_BOUNDSCHECK=1 make test checks every index.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

VENV := .venv
LOWEST := .venv-lowest
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# What depends on versions most: times and ids of pandas, kernels, and a run that is kept and resumed.
SMOKE := tests/test_times.py tests/test_account_ids.py tests/test_small_cases.py \
    tests/test_determinism.py::test_a_resumed_run_is_the_run
# Kernels as Python runs them, line by line: what ends in minutes so.
INTERPRETED := $(SMOKE) tests/test_kernels.py tests/test_reference.py tests/test_options.py \
    tests/test_scenario_vectors.py tests/test_scenario_examples.py
COVERED := 50
# The trading research tools that riskcore.hosts works in: no two of them agree on versions of NumPy and pandas.
HOSTS := .venv-hosts
HOST_NAMES := hftbacktest nautilus vectorbt

# The tests start a hundred processes, which would compile every module again.
export PYTHONDONTWRITEBYTECODE :=

ASV := $(BIN)/python -m asv --config asv_benchmarks/asv.conf.json

.PHONY: help demo test test-hosts hosts warm test-lowest test-nojit coverage lint bench bench-smoke gate simulate study \
    october month storm pictures report-check clean

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "%-14s%s\n", $$1, $$2}' Makefile

demo: $(VENV)/.cli  ## a generated crash from start to finish, in a new folder under runs/
	$(BIN)/riskcore demo

test: $(VENV)/.dev  ## the tests, examples in docstrings among them
	$(BIN)/python -m pytest -q $(PYTEST_ARGS)
	$(if $(filter file,$(origin PYTEST_ARGS)),$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-hosts)

test-hosts: $(HOST_NAMES:%=test-host-%)  ## the contract tests and the page of each host, each in its own venv

# The plain loop over pandas, which has no package of its own, runs beside vectorbt.
test-host-%: $(HOSTS)/%/.dev
	$(HOSTS)/$*/bin/python -m pytest -q tests/hosts/test_$*.py riskcore/hosts/$*.py \
	    $(if $(filter vectorbt,$*),tests/hosts/test_pandas.py)

hosts: $(HOST_NAMES:%=$(HOSTS)/%/.dev)

warm: $(VENV)/.dev
	$(BIN)/riskcore warm

test-lowest: $(LOWEST)/.dev  ## some tests on the lowest versions that pyproject.toml promises
	$(LOWEST)/bin/python -m pytest -q $(SMOKE)

# Whole numbers wrap in compiled code without a word, of which NumPy warns.
test-nojit: $(VENV)/.dev  ## some tests with the JIT off, their lines counted for coverage
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m coverage run -m pytest -q -W 'ignore:overflow encountered:RuntimeWarning' \
	    $(INTERPRETED)

coverage: test-nojit  ## the same, and which lines of riskcore/ and kernels/ ran: refused below COVERED percent
	$(BIN)/python -m coverage report --skip-covered --fail-under $(COVERED)

lint: $(VENV)/.dev  ## style, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.bench  ## every benchmark at full size, and one table of what it measured; half an hour, more or less
	@$(ASV) machine --yes > /dev/null
	$(ASV) run --python=same --set-commit-hash "$$(git rev-parse HEAD)" --show-stderr
	@$(BIN)/python asv_benchmarks/table.py

# asv check sees wrong signatures, not a benchmark that raises; the quick run sees the latter.
bench-smoke: $(VENV)/.bench  ## every benchmark once, small, to see that it runs and that its peers agree
	@$(ASV) machine --yes > /dev/null
	$(ASV) check --python=same
	RISKCORE_BENCH_ACCOUNTS=20000 $(ASV) run --quick --dry-run --python=same --launch-method forkserver --show-stderr

gate: $(VENV)/.cli  ## refuse what is slower than the commit before; make gate GATE_ARGS="--base main"
	$(BIN)/python asv_benchmarks/gate.py $(GATE_ARGS)

simulate: $(VENV)/.dev  ## seeded runs that are killed, resumed, compared and audited; SIMULATE_ARGS="--minutes 60"
	$(BIN)/python -m tests.simulate $(SIMULATE_ARGS)

study: $(VENV)/.dev  ## slices, tenths and dumps on real order books, in one table
	$(BIN)/python -m tests.slice_study $(FOLDERS)

october: $(VENV)/.dev  ## every deleveraging policy on the real event of 10 October 2025, in tables
	$(BIN)/python -m tests.adl_october

month: $(VENV)/.dev  ## the long replay of real inputs, in runs/month
	$(BIN)/python -m tests.real_inputs month runs/month

storm: $(VENV)/.dev  ## who closes what in a day of real fall, over limits, depth, clock and throttle; STORM_ARGS="--day 2022-01-05"
	$(BIN)/python -m tests.storm $(STORM_ARGS)

pictures: $(VENV)/.dev  ## the output in README.md and docs/, and docs/pictures, as they are now
	$(BIN)/python -m tests.pages
	$(BIN)/python -m tests.pictures

report-check: $(VENV)/.dev  ## a report in headless Chromium (not installed here), as on a phone and on a desk
	$(BIN)/python -m tests.report_check

clean:  ## remove what these targets made, .venv included
	rm -rf $(VENV) $(LOWEST) $(HOSTS) runs build dist *.egg-info asv_benchmarks/.asv .coverage .hypothesis \
	    .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "riskcore needs Python 3.11 or newer and $(PYTHON) is not: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps keep pip out of every run that does not follow a change of pyproject.toml.
$(VENV)/.cli: pyproject.toml | $(VENV)/pyvenv.cfg
	$(PIP) install --editable '.[cli]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/pyvenv.cfg
	$(PIP) install --editable '.[dev]'
	@touch $(VENV)/.cli $@

$(VENV)/.bench: pyproject.toml | $(VENV)/pyvenv.cfg
	$(PIP) install --editable '.[bench]'
	@touch $(VENV)/.cli $@

$(LOWEST)/.dev: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt \
	    --editable '.[cli]' hypothesis pytest setuptools
	@touch $@

# One after another: each installation writes riskcore.egg-info.
$(HOSTS)/hftbacktest/.dev: | $(VENV)/.dev
$(HOSTS)/nautilus/.dev: | $(HOSTS)/hftbacktest/.dev
$(HOSTS)/vectorbt/.dev: | $(HOSTS)/nautilus/.dev

$(HOSTS)/%/.dev: pyproject.toml
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
	    --editable '.[cli,$*]' hypothesis pytest
	@touch $@
