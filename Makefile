# The verbs of the project. Each makes .venv by itself when it is absent or out of date.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
ONLY   ?=

.DEFAULT_GOAL := help
.PHONY: help demo test drills check bench docs lock clean

help:  ## list the verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/' | sort

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY)  ## bricks to an approved model and a catalogue, on a synthetic survey, in ./demo
	$(BIN)/brickyard demo

test: $(READY)  ## unit and integration tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not drill" --durations 20

drills: $(READY)  ## failure drills: all services killed in the middle of their work (half an hour)
	$(BIN)/python -m pytest -m drill

check: $(READY)  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(READY)  ## benchmarks that two cores can carry; ONLY=loader for one group
	$(BIN)/python -m pytest tests/benchmarks -o addopts="--strict-markers -ra" -o timeout=0 $(if $(ONLY),-k '$(ONLY)')

docs: $(READY)  ## the docs site, in ./site
	$(BIN)/mkdocs build --strict

lock: $(READY)  ## freeze .venv into requirements.lock
	$(BIN)/python .ci/lock

clean:  ## remove what the demo and the tests wrote (not .venv)
	rm -rf demo test-artefacts .pytest_cache .mypy_cache .ruff_cache build *.egg-info
