# `make demo` and `make test` work on a fresh clone: each makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The build of torch that pip takes; README, "CPU or CUDA", says how to choose another.
TORCH ?= torch==2.13.0
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Octans needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	@echo "Installing into $(VENV) (once, a minute or two) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) $(TORCH)
	@$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed  ## run the demo: cheque amounts from real handwritten digits
	@$(BIN)/octans demo

# Two at a time, a file on one worker; a worker's own libraries take one thread each.
test: $(VENV)/.installed  ## run every test, slow ones included
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@mkdir -p .typing && ln -sfn .. .typing/octans
	@$(BIN)/mypy

bench: $(VENV)/.installed  ## every benchmark, quick
	@for name in engine startup exact_search promise guarantees profiling search; do $(BIN)/python -m benchmarks.$$name --quick || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info
