# One command each, on a machine with Python >= 3.11 and make, and nothing else:
#   make demo     set up .venv, attack, measure and harden a carried model, write report.html
#   make test     set up .venv, run the tests
#   make check, slow, docs, bench: lint and types; tests on real models; the course as pages; overhead
# CPU=1 pins torch to constraints-cpu.txt (a small CPU build where pip's find-links offers one).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export UV_FIND_LINKS := $(or $(UV_FIND_LINKS),$(PIP_FIND_LINKS))
comma  := ,
EXTRA  := $(if $(CPU),test,vision$(comma)test)
INSTALL = $(BIN)/uv pip install -q --python $(BIN)/python $(if $(CPU),-c constraints-cpu.txt) -e

demo: $(VENV)/ready
	$(BIN)/sparring demo

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2

check: $(VENV)/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

slow: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 -m slow --timeout 1800

docs: $(VENV)/ready
	$(INSTALL) '.[docs]'
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

bench: $(VENV)/ready
	$(BIN)/python benchmarks/overhead.py

$(VENV)/bin/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check uv

$(VENV)/ready: pyproject.toml | $(VENV)/bin/uv
	$(INSTALL) '.[$(EXTRA)]'
	touch $@

$(VENV)/ready-dev: pyproject.toml | $(VENV)/ready
	$(INSTALL) '.[dev]'
	touch $@

.PHONY: demo test check slow docs bench
