# Every command of this project, in one list: `make help` shows it. Continuous integration runs the same commands.
#
# All tools live in .venv, and a Rust toolchain in .rust where none is installed. Nothing is installed anywhere else but,
# by the system's own package manager and where they are missing, a C compiler, the browser and the node of the tests,
# and the tools that count. A file in .venv whose name begins with a dot says what has been done, so that nothing is done twice.
# `make test-checked` calls this file again with a VENV, a PROFILE and a DIST of its own.

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
# Finds a Rust toolchain, or fetches one into .rust; `CARGO=` takes another cargo.
WITH_RUST := scripts/with-rust
CARGO ?= $(WITH_RUST) cargo
# The cargo profile that the wheel of the tests is built with, and the folder that it is put into.
PROFILE ?= release
DIST ?= target/wheel
# What `make dist` builds for: every Linux whose glibc is of 2018 or newer.
MANYLINUX ?= manylinux_2_28
# One pip at a time in an environment, also where make does two things at once.
PIP = flock $(VENV)/.pip $(BIN)/python -m pip install --quiet
# What `make test` and friends hand to pytest, such as ARGS="-k resume -x".
ARGS ?=
# In how many processes the Python tests run: one more than cores, because most of them wait most of the time. With 0 they
# run one after the other in pytest's own process, as a debugger wants it: WORKERS=0 ARGS="-k resume --pdb".
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
# What builds the site has an environment of its own: none of it is needed to run or test the package.
SITE ?= .venv-site
PORT ?= 8080
# Which of loadtest/scenarios `make load` runs.
SCENARIO ?= smoke
# How many seeds `make test-slow` gives the simulation of the engine; the test itself has a smaller number.
SEEDS ?= 10000

LOOM := RUSTFLAGS="--cfg loom" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
  $(CARGO) test --locked -p sse-fast-server --release --lib --target-dir target/loom loom
# What makes this file speak of the engine whose assertions are on.
CHECKED := VENV=.venv-checked PROFILE=checked DIST=target/checked-wheel
# Optimized, with the engine's assertions on.
SIMULATION := $(CARGO) test --locked -p sse-fast-server --profile checked --lib simulation
# cargo is content with a filter that finds nothing.
SOME_TEST := { grep -q ': test$$' || { echo "there is no such test" >&2; exit 1; }; }

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# What pytest makes of the tests' files is kept: every one of its processes would make it anew.
export PYTHONDONTWRITEBYTECODE :=
# One interpreter for every build, so that the binding is not compiled again for another.
export PYO3_PYTHON := $(abspath $(BIN)/python)

SOURCES := Cargo.toml Cargo.lock pyproject.toml README.md LICENSE \
  $(shell find rust python -type f -not -path '*/__pycache__/*' 2>/dev/null)

.PHONY: help run test test-rust test-python test-checked test-loom test-slow test-hosts test-site test-wheels load compare bars waiting \
  versions bench check check-format lints builds built-wheels built-tests types architecture lint format wheel dist docs site screens \
  browser npm-clients counters node clean
.DEFAULT_GOAL := help

help: ## Shows this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

# With BACKPLANE, two engines behind a Redis on a free port; the second has the next port.
run: $(VENV)/.installed ## Builds, installs into .venv and starts the demo (ONCE=1: one benchmark, then exit; PORT=8080; BACKPLANE=1)
	$(if $(BACKPLANE),$(WITH_REDIS) $(BIN)/python scripts/run-backplane $(if $(ONCE),--once --port 0,--port $(PORT)),\
	  $(BIN)/python -m sse_fast demo $(if $(ONCE),--once,--push --port $(PORT)))

test: test-rust test-python ## Runs every test but the slow ones, installing what they need, a browser included

# The backplane is tested against a real Redis and a real Valkey.
WITH_REDIS := scripts/with-redis $(abspath $(BIN))/python $(abspath build/valkey)

test-rust: $(VENV)/.python
	$(WITH_REDIS) $(CARGO) test --workspace --locked

test-python: $(VENV)/.installed $(VENV)/.test-tools $(VENV)/.load-tools browser counters node npm-clients
	$(WITH_REDIS) $(WITH_RUST) scripts/run-tests $(BIN)/python $(WORKERS) tests $(ARGS)

# With the engine's assertions on, and integers that may not overflow. What counts instructions builds its own program
# and never sees the wheel, so it is not run again; neither are pages, scripts and types, which see nothing of the engine
# that other tests do not.
UNCHECKED := --ignore-glob='tests/test_module*.py' --ignore-glob='tests/test_*_page.py' --ignore=tests/test_demo_pages.py \
  --ignore=tests/test_browser.py --ignore=tests/test_loadtest.py --ignore=tests/test_types.py --ignore=tests/test_docs.py \
  --ignore=tests/test_architecture.py --ignore=tests/test_clients_and_demos.py

test-checked: ## Runs the Python tests against an engine whose assertions are on
	+$(MAKE) --no-print-directory test-python $(CHECKED) \
	  ARGS="--deselect tests/test_counts.py::test_the_core_s_work_takes_no_more_instructions_than_it_did \
  --deselect tests/test_counts.py::test_a_lone_event_takes_no_more_instructions_than_it_did $(UNCHECKED) $(ARGS)"

# With a folder of its own, because the flag compiles every dependency anew.
test-loom: $(VENV)/.python ## Runs every interleaving of the models of what threads share
	$(LOOM) -- --list | $(SOME_TEST)
	$(LOOM)

test-slow: $(VENV)/.installed $(VENV)/.test-tools browser ## Runs what takes minutes: provisioning, 1,000 servers, SEEDS=10000 simulations
	$(SIMULATION) -- --list | $(SOME_TEST)
	SEEDS=$(SEEDS) $(WITH_REDIS) $(SIMULATION) -- --nocapture
	LOOM_MAX_PREEMPTIONS=1 $(LOOM)_publishers_that_wait
	RUN_SLOW=1 $(WITH_REDIS) $(BIN)/python -m pytest tests/slow $(ARGS)

test-hosts: $(VENV)/.installed $(VENV)/.test-tools $(VENV)/.host-tools ## Runs it in gunicorn, Celery, Jupyter and others
	@command -v systemd-analyze >/dev/null || scripts/system-packages apt-get:systemd dnf:systemd || true
	@{ command -v nginx || test -x /usr/sbin/nginx; } >/dev/null || scripts/system-packages apt-get:nginx-light dnf:nginx apk:nginx
	RUN_HOSTS=1 $(WITH_REDIS) scripts/run-tests $(BIN)/python $(WORKERS) tests/hosts $(ARGS)

test-site: $(SITE)/.tools browser ## Builds the site, follows its links, and runs what it shows of nginx, Caddy and haproxy
	@{ command -v nginx || test -x /usr/sbin/nginx; } >/dev/null || scripts/system-packages apt-get:nginx-light dnf:nginx apk:nginx
	@{ command -v haproxy || test -x /usr/sbin/haproxy; } >/dev/null || scripts/system-packages apt-get:haproxy dnf:haproxy apk:haproxy
	RUN_SITE=1 PYTHONPATH= scripts/run-tests $(SITE)/bin/python $(WORKERS) tests/site $(ARGS)

test-wheels: dist ## Tries what is published in an empty environment, without Rust, on every Python that is found
	scripts/test-wheels dist/sse_fast-*.whl

load: $(VENV)/.installed $(VENV)/.load-tools ## Runs a load test: SCENARIO=smoke, ARGS="--set clients.count=100"; report in loadtest/results
	$(BIN)/python -m loadtest run $(SCENARIO) $(ARGS)

compare: $(VENV)/.installed $(VENV)/.load-tools ## Puts the same load on sse_fast and every installed peer; table in loadtest/results
	$(WITH_REDIS) $(BIN)/python -m loadtest compare $(ARGS)

.PHONY: two-machines
two-machines: $(VENV)/.installed ## Two groups of engines behind one Redis, one of them killed: ARGS="--readers 1000 --seconds 60"
	$(WITH_REDIS) $(BIN)/python -m loadtest two-machines $(ARGS)

bars: $(VENV)/.installed $(VENV)/.load-tools ## Measures every promise about cost beside the floor: ARGS="--only delivery --runs 1"
	$(WITH_REDIS) $(WITH_RUST) $(BIN)/python -m loadtest bars $(ARGS)

waiting: $(VENV)/.installed ## Measures what slow and dead readers cost publishers: ARGS="--only dead --seconds 60"
	$(BIN)/python -m loadtest waiting $(ARGS)

versions: $(VENV)/.python ## Runs rows of bars with two wheels in turn: ARGS="--before A.whl --after B.whl --rows delivery,burst"
	$(BIN)/python -m loadtest versions $(ARGS)

bench: $(VENV)/.python ## Times the engine's parts, for a comparison of two versions on one quiet machine: ARGS=walk for some of them
	$(CARGO) bench --locked --package sse-fast-core --package sse-fast-server --bench core --bench server --bench rights -- $(ARGS)

# In this order, the quickest answers first; the first failure ends it. One after the other under `make -j` as well:
# each takes the whole machine by itself.
STEPS := check-format lints builds types architecture test-rust test-loom test-python test-hosts test-site test-checked

check: ## Everything a change must pass, in order: formatting, lints, types, architecture, tests, examples
	+@for step in $(STEPS); do \
	  began=$$SECONDS; \
	  echo "== make $$step"; \
	  $(MAKE) --no-print-directory $$step || { echo "== make $$step failed" >&2; exit 1; }; \
	  echo "== make $$step took $$((SECONDS - began)) s"; \
	done

# What the steps after it run, built at the same time in two lines, because the end of a released build keeps one core only.
builds: $(VENV)/.python
	+@$(MAKE) --no-print-directory $(CHECKED) .venv-checked/.python
	+@$(MAKE) --no-print-directory built-wheels & wheels=$$!; \
	  $(MAKE) --no-print-directory built-tests; code=$$?; \
	  wait $$wheels && exit $$code

# Not both wheels at once: maturin has one place for what it packs.
# Between them the crates as they are released, whose instructions are counted: tests/test_counts.py asks for the same.
built-wheels: $(VENV)/.installed
	$(CARGO) build --release --locked --package sse-fast-core
	$(CARGO) build --release --locked --package sse-fast-server
	+@$(MAKE) --no-print-directory $(CHECKED) .venv-checked/.installed

built-tests: $(VENV)/.test-tools $(VENV)/.load-tools $(VENV)/.host-tools browser counters node npm-clients
	$(CARGO) test --workspace --locked --no-run
	$(LOOM) --no-run
	+@$(MAKE) --no-print-directory $(CHECKED) .venv-checked/.test-tools .venv-checked/.load-tools

lint: ## Formatting, lints, types and architecture, without the tests
	+@for step in $(filter-out builds test-%,$(STEPS)); do $(MAKE) --no-print-directory $$step || exit 1; done

check-format: $(VENV)/.test-tools
	$(CARGO) fmt --all --check
	$(BIN)/ruff format --check .

lints: $(VENV)/.test-tools
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(BIN)/ruff check .

types: $(VENV)/.installed $(VENV)/.test-tools
	$(BIN)/mypy
	$(BIN)/stubtest sse_fast._core --mypy-config-file pyproject.toml

architecture: $(VENV)/.installed $(VENV)/.test-tools
	$(WITH_RUST) $(BIN)/python scripts/check-architecture

format: $(VENV)/.test-tools ## Formats everything and mends what the linters can mend
	$(CARGO) fmt --all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed ## Writes what is written by programs in docs/ anew: tables of options, programs of examples/
	$(BIN)/python scripts/write-options docs/reference/settings.md
	$(BIN)/python scripts/write-programs docs

screens: $(VENV)/.installed $(VENV)/.test-tools browser ## Writes screenshots of every demo's page into build/screens: ARGS=workflow for one
	$(BIN)/python scripts/write-screens build/screens $(ARGS)

wheel: $(VENV)/.wheel ## Builds the wheel of the tests, for this machine, into target/wheel (DIST=...)

dist: $(VENV)/.python ## Builds what is published into dist/: a wheel for every Linux since 2018, and the source
	$(PIP) 'maturin[zig]>=1.14,<2' 'auditwheel>=6.4'
	rm -rf dist
	$(WITH_RUST) scripts/build-published $(BIN) $(MANYLINUX) dist
	$(BIN)/python scripts/check-wheel $(MANYLINUX) dist/sse_fast-*.whl

site: $(SITE)/.tools ## Builds the documentation into build/site, without the network once its tools are there
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/python -m mkdocs build --strict --quiet

browser: ## Installs Chromium and its driver where they are missing
	@scripts/install-browser

node: ## Installs node, and what the tests of sse-fast.js take from npm, where they are missing
	@scripts/install-node

npm-clients: ## Puts the SSE clients from npm that the tests read with into build/npm, and node where it is missing
	@scripts/install-npm-clients

counters: ## Installs strace and valgrind where they are missing: tests count with them
	@scripts/install-counters

clean: ## Removes everything that was built
	rm -rf $(VENV) .venv-checked $(SITE) .rust build dist target .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/js/node_modules
	find python tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- What the commands above stand on ----

$(VENV)/.python:
	scripts/make-venv $(VENV)
	touch $@

$(VENV)/.wheel: $(VENV)/.python $(SOURCES)
	$(PIP) 'maturin>=1.14,<2'
	rm -rf $(DIST)
	$(WITH_RUST) $(BIN)/maturin build --profile $(PROFILE) --locked --interpreter $(BIN)/python --out $(DIST)
	touch $@

$(VENV)/.installed: $(VENV)/.wheel
	$(PIP) --upgrade --force-reinstall --no-deps $(DIST)/sse_fast-*.whl
	$(PIP) $(DIST)/sse_fast-*.whl
	touch $@

$(VENV)/.test-tools: $(VENV)/.python pyproject.toml tests/requirements.txt
	$(PIP) --group dev -r tests/requirements.txt
	touch $@

$(VENV)/.host-tools: $(VENV)/.python tests/hosts/requirements.txt
	$(PIP) -r tests/hosts/requirements.txt
	$(PIP) --no-deps docker-compose==1.29.2 # Of it, only its schema of compose files is used.
	touch $@

$(SITE)/.tools: $(VENV)/.wheel docs/requirements.txt
	scripts/make-venv $(SITE)
	$(SITE)/bin/python -m pip install --quiet -r docs/requirements.txt $(DIST)/sse_fast-*.whl
	touch $@

$(VENV)/.load-tools: $(VENV)/.python loadtest/requirements.txt
	$(PIP) -r loadtest/requirements.txt
	touch $@
