# Two commands: `make demo` and `make test`. Both make .venv and install into it first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test coverage lint format clean

demo: .venv/installed
	$(BIN)/python cli.py demo

test: .venv/installed-test
	$(BIN)/python -m pytest -n 2 -q

coverage: .venv/installed-test
	$(BIN)/python -m pytest -n 2 -q --cov=gan3d_eval --cov=gan3d_model --cov=studies --cov=cli --cov-report=term:skip-covered

lint: .venv/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

.venv/installed-test .venv/installed-lint: .venv/installed-%: .venv/installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .[$*]
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
