# make study   install into .venv and run the masking-ratio study (Figure 5), about 20 minutes
# make test    all tests, as CI runs them, about 18 minutes; `.venv/bin/python -m pytest` alone
#              leaves out the slow ones, `make test-all` adds the rare ones
# make ui      browse the results in MLflow

PYTHON ?= python3
STUDY ?= studies/mask_ratio.yaml
BIN := .venv/bin

.PHONY: study test test-all lint ui

study: .venv/.installed
	$(BIN)/python -m platform.run $(STUDY)

test: .venv/.installed lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile
	$(BIN)/python -m pytest -q -m "slow and not rare" --durations=10

test-all: test
	$(BIN)/python -m pytest -q -m rare

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

ui: .venv/.installed
	$(BIN)/python -m platform ui

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
