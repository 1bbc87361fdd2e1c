# Two commands do everything: `make run` starts the relay, `make test` runs the whole suite.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
RUN_STAMP := $(VENV)/.run-is-set-up
DEV_STAMP := $(VENV)/.dev-is-set-up
BENCH_STAMP := $(VENV)/.bench-is-set-up
PROJECTS := pyproject.toml stun/pyproject.toml server/pyproject.toml client_sdk/pyproject.toml uv.lock
SOURCES := stun server client_sdk tests docs bench grafana examples

export UV_PROJECT_ENVIRONMENT := $(CURDIR)/$(VENV)
export VIRTUAL_ENV :=
# The project's interpreter is the one that made the environment; uv downloads none.
export UV_PYTHON_DOWNLOADS := never
# As pip does: the certificates that the system trusts, a company's own among them.
export UV_SYSTEM_CERTS := 1

.PHONY: run test test-hard test-long check format docs screenshots bench bench-quick bench-sdk clean bpf mover pion
run: $(RUN_STAMP) bpf mover
	@exec $(BIN)/turnrelay serve $(ARGS)

# JOBS=3 runs three tests at once, in about half the time: most of them wait more than they compute. What measures
# time or rates runs afterwards, alone.
JOBS ?= 1
test: $(DEV_STAMP) bpf mover
ifeq ($(JOBS),1)
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -m "not alone" -n $(JOBS) --dist loadfile --no-loadscope-reorder --timeout 240 $(ARGS)
	$(BIN)/python -m pytest -m alone $(ARGS)
endif

# A hundred tries at each pair of hard and easy NATs, in the lab; needs root and about an hour.
# ARGS="--count 20 symmetric:linux" makes it shorter.
test-hard: $(DEV_STAMP)
	PYTHONPATH=tests $(BIN)/python -m natlab.hard_nats $(ARGS)

# The long forms: every pair of NATs, those with sites that let little out among them, every reboot, ten minutes
# with a slow reader; needs root.
test-long: $(DEV_STAMP) bpf mover
	PEERPATH_LONG=1 $(BIN)/python -m pytest -s --timeout 3600 tests/natlab/test_calls_matrix.py \
	  tests/natlab/test_only_http.py tests/natlab/test_calls_life.py tests/natlab/test_calls_slow_reader.py $(ARGS)

check: $(DEV_STAMP)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

docs: $(DEV_STAMP)
	$(BIN)/python docs/generate.py
	$(BIN)/python grafana/generate.py

# The pictures in README.md: Chromium looks at a relay that real clients use.
screenshots: $(DEV_STAMP)
	PYTHONPATH=tests $(BIN)/python docs/screenshots.py

# Against coturn on this machine, then the client's side; needs root. ARGS="--only userspace" measures one relay alone.
bench: $(BENCH_STAMP) bench/build/load bpf mover pion
	PYTHONPATH=tests $(BIN)/python -m bench --docs $(ARGS)
	PYTHONPATH=tests:. $(BIN)/python -m bench.sdk --docs

bench-quick: $(BENCH_STAMP) bench/build/load bpf mover
	PYTHONPATH=tests $(BIN)/python -m bench --quick $(ARGS)

# The client's side alone, beside aioice and aiortc; needs root. ARGS="--only codec" measures a part of it.
bench-sdk: $(DEV_STAMP) mover
	PYTHONPATH=tests:. $(BIN)/python -m bench.sdk $(if $(findstring --only,$(ARGS)),,--docs) $(ARGS)

bench/build/load: bench/load.c bench/programs.h
	@mkdir -p $(@D)
	gcc -O2 -Wall -Wextra -o $@ $<

# Another relay to compare with, where Go and Debian's package of pion/turn are there.
GO_SOURCES := /usr/share/gocode
pion:
	@if command -v go >/dev/null && [ -d $(GO_SOURCES)/src/github.com/pion/turn/v2 ]; then mkdir -p bench/build && \
	  GO111MODULE=off GOPATH=$(GO_SOURCES) GOCACHE=$(CURDIR)/bench/build/go go build -o bench/build/pion bench/pion/main.go; \
	else echo "pion/turn is left out: apt-get install golang-go golang-github-pion-turn.v2-dev"; fi

# The kernel plane's program; without clang the relay runs in userspace.
bpf: $(UV)
	@$(BIN)/python server/bpf/build.py --if-possible

# Moves the packets of the userspace plane; without a C compiler Python does.
mover: $(UV)
	@$(BIN)/python server/native/build.py --if-possible

clean:
	rm -rf $(VENV) bench/build server/turnrelay/relay/kernel/*.o server/turnrelay/relay/*.so .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(UV):
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@python3 -m venv $(VENV) || { rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "The venv module is missing; installing python3-venv"; \
	    apt-get update -qq && apt-get install -y -qq python3-venv && python3 -m venv $(VENV); \
	  else \
	    echo "The venv module is missing; install it once: sudo apt-get install python3-venv" >&2; exit 1; \
	  fi; }
	@$(BIN)/pip install --quiet --disable-pip-version-check uv

$(RUN_STAMP): $(UV) $(PROJECTS)
	@$(UV) sync --locked --quiet --inexact --no-default-groups --group run
	@touch $@

$(DEV_STAMP): $(UV) $(PROJECTS)
	@$(UV) sync --locked --quiet --inexact
	@touch $@

$(BENCH_STAMP): $(DEV_STAMP)
	@$(UV) sync --locked --quiet --inexact --group bench
	@touch $@
