# Everything starts here: `make` alone lists what there is. Needs python3 (3.11 or newer), python3-venv and make.

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python

CONFIG    ?= $(or $(SMARTEDGE_CONFIG),backends.json)
N         ?= 1000
C         ?= 10
URL       ?= http://127.0.0.1:8080/
KEEPALIVE ?=
PORT      ?= 8080
STATUS    ?=
ARGS      ?=

# Tests run in three processes for each processor, for many wait; in one, for a debugger: make test ARGS="-n 0 --pdb"
PYTEST    := -m pytest --durations=25
FORKS     := -p tests.forks --forks $$(( 3 * $$(nproc) ))
# Python keeps what it compiles, whatever the environment says: else 350 test modules are compiled at every start, for 10 s.
test test-live test-long: export PYTHONDONTWRITEBYTECODE :=
# Hypothesis would import trio for a plugin of its: a third of a second.
test test-live test-long: export HYPOTHESIS_NO_PLUGINS := 1

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help package test-pythons run cluster run-prometheus test test-live test-long check fix fast load-test bench bench-routing docs clean venv venv-dev python

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: venv ## start two example backends and the balancer on port 8080; Ctrl-C stops all (CONFIG=backends.json)
	@exec $(PY) deploy/local.py --config "$(CONFIG)"

cluster: venv ## start three nodes with an etcd and two example backends, to play with; Ctrl-C stops all (PORT=8080; 0: free ones)
	@exec $(PY) deploy/cluster.py --port "$(PORT)"

load-test: python ## drive ab against the running balancer, then show how it shared the requests (N= C= URL= KEEPALIVE=1)
	@exec $(PYTHON) deploy/load_test.py -n "$(N)" -c "$(C)" $(if $(KEEPALIVE),--keep-alive) $(if $(STATUS),--status "$(STATUS)") "$(URL)"

run-prometheus: python ## start Prometheus with our rules and alerts beside `make run` (ARGS= such as --listen 127.0.0.1:9091)
	@exec $(PYTHON) deploy/prometheus/run.py $(ARGS)

test: venv-dev ## run the fast tests; `make test-live` has those with real servers (ARGS= goes to pytest)
	@$(PY) $(PYTEST) $(FORKS) -m "not long" tests --ignore tests/live $(ARGS)

test-live: venv-dev ## run the long tests: real servers, a real `make run` (ports 8080-8082 must be free), hours simulated
	@$(PY) $(PYTEST) -n $$(( 2 * $$(nproc) )) --dist loadfile --no-loadscope-reorder tests/live $(ARGS)
	@$(if $(ARGS),,$(MAKE) test-long)

test-long: venv-dev
	@$(PY) $(PYTEST) $(FORKS) --hypothesis-profile all -m "long or hypothesis or examples" tests --ignore tests/live

check: venv-dev ## check format, lint and types, then run the fast tests; edits nothing
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(MAKE) test

fix: venv-dev ## format the code and mend what ruff can mend
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

fast: venv ## compile what a request passes through, in place, with mypyc: needs a C compiler; `make clean` undoes it
	@SMARTEDGE_MYPYC=1 $(PY) -m pip wheel -q --no-deps -w build/fast .
	@$(PY) -m zipfile -e build/fast/smartedge-*.whl build/fast/unpacked
	@cd build/fast/unpacked && find . -name '*.so' -exec cp --parents {} ../../.. \;
	@rm -rf build *.egg-info

bench: venv ## measure speed (ARGS= goes to bench/run.py)
	@$(PY) bench/run.py $(ARGS)

bench-routing: venv ## measure p99 and errors while backends are slow, fail, hang and restart (ARGS= goes to bench/routing.py)
	@$(PY) bench/routing.py $(ARGS)

package: python ## build wheel and sdist, check them, install and run the wheel in an empty environment (ARGS="--keep dist")
	@$(PYTHON) deploy/package.py $(ARGS)

test-pythons: python ## try every CPython 3.11 to 3.14 found on PATH or in pyenv's folder: wheel, extras, fast tests (ARGS="--only 3.12")
	@$(PYTHON) deploy/pythons.py $(ARGS)

docs: venv ## make the tables and pictures of the documentation anew: some five minutes of simulation
	@$(PY) docs/make_configuration.py
	@$(PY) docs/make_metrics.py
	@$(PY) docs/make_commands.py
	@$(PY) docs/make_openapi.py
	@$(PY) docs/make_choosing.py
	@$(PY) docs/make_cluster.py
	@$(PY) docs/make_geo.py
	@$(PY) docs/make_routing.py

clean: ## remove the virtual environment, every cache, and what `make fast` has compiled
	@rm -rf "$(VENV)" .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov build *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find smartedge -name '*.so' -delete
	@rm -f smartedge__mypyc.*.so

# deploy/environment.py looks at what is really there, so these always run; when all is well that takes a tenth of a second.
venv: python
	@$(PYTHON) deploy/environment.py "$(VENV)" requirements.txt

venv-dev: python
	@$(PYTHON) deploy/environment.py "$(VENV)" requirements-dev.txt

python:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON) is missing; install it with: sudo apt install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is too old: 3.11 or newer is needed; name another one: make PYTHON=python3.12 ..." >&2; exit 2; }
