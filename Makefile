# Everything happens in .venv, made on first use.  Stamps in it say what is installed, so that a second run starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

NATIVE := usernet/burst/native
# What a user's install compiles stands in build/compiled, and runs instead of the sources where this precedes a command.
AS_COMPILED := PYTHONSAFEPATH=1 PYTHONPATH="$(CURDIR)/build/compiled:$(CURDIR)"
LOAD := tests/bench/load/src/main.rs
CARGO_LINT := rustfmt --check --edition 2021 $(LOAD) && \
	cd $(NATIVE) && cargo fmt --check && cargo clippy --release -q -- -D warnings

.PHONY: demo test test-compiled lint netsim interop bench bench-quick profile fuzz clean

demo: $(VENV)/installed
	$(BIN)/usernet demo $(ARGS)

test: $(VENV)/test
	$(BIN)/python -m pytest -n auto -m "not interop" $(ARGS)

# The same tests against what setup.py compiles, but for those that replace a part of it by one of their own.
test-compiled: $(VENV)/compiled
	$(AS_COMPILED) $(BIN)/python -m pytest -n auto -m "not interop and not sources" -o pythonpath= \
		tests/test_compiled.py tests/wire tests/burst tests/tcp tests/stack tests/wireguard tests/filter tests/conformance \
		tests/aio tests/proxy $(ARGS)

lint: $(VENV)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.14
	$(BIN)/lint-imports
	@if command -v cargo >/dev/null; then $(CARGO_LINT); else \
		echo "no cargo here: the native kernel was not looked at" >&2; [ -z "$$CI" ]; fi

# TCP over bad paths in virtual time, against the committed figures; ARGS=--update writes new ones.
netsim: $(VENV)/test
	$(BIN)/python -m tests.netsim $(ARGS)

# Needs root, network namespaces and real programs: see CONTRIBUTING.md.
interop: $(VENV)/compiled
	$(BIN)/python -m pytest -m "interop and sources" \
		tests/interop/test_full_socket.py tests/interop/test_kernel_options.py
	$(AS_COMPILED) $(BIN)/python -m pytest -n 3 --dist loadfile -m "interop and not sources" -o pythonpath= tests/interop $(ARGS)

# Needs what interop needs, and rustc.
bench: $(VENV)/bench $(VENV)/compiled
	$(AS_COMPILED) $(BIN)/python -m tests.bench.compare $(ARGS)

bench-quick: $(VENV)/bench $(VENV)/compiled
	$(AS_COMPILED) $(BIN)/python -m tests.bench.compare --quick $(ARGS)

# Flame graphs in build/profile, of the sources: nothing sees the frames of what is compiled.
profile: $(VENV)/bench
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.bench.profile $(ARGS)

fuzz: $(VENV)/test
	$(PIP) install --group fuzz
	$(BIN)/python -m tests.fuzz.kernels -max_total_time=300 $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# `pip install --group` came with pip 25.1, which distributions do not have yet.
$(VENV)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "usernet needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "no virtual environment could be made; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PIP) install -U 'pip>=25.1'
	@touch $@

$(VENV)/installed: $(VENV)/pip pyproject.toml $(NATIVE)/Cargo.toml $(wildcard $(NATIVE)/src/*.rs)
	@echo "installing; where there is a Rust toolchain it also builds the native kernel, for a minute or two"
	PYTHONWARNINGS=ignore $(PIP) install -e .
	@touch $@

$(VENV)/test: $(VENV)/installed
	$(PIP) install --group test
	@touch $@

$(VENV)/compiled: $(VENV)/test setup.py $(shell find usernet proxy -type f -not -path '*/target/*' -not -name '*.pyc' -not -name '*.so')
	@echo "compiling as a user's install does, for two minutes"
	rm -rf build/compiled build/wheel build/lib build/lib.* build/temp.*
	USERNET_COMPILE=1 $(PIP) wheel --no-deps --wheel-dir build/wheel .
	$(PIP) install --no-deps --target build/compiled build/wheel/*.whl
	@touch $@

$(VENV)/lint: $(VENV)/test
	$(PIP) install --group lint
	@touch $@

$(VENV)/bench: $(VENV)/test
	$(PIP) install --group bench
	@cargo install --quiet --locked --root $(VENV) onetun || echo "the bench will be without onetun" >&2
	@touch $@
