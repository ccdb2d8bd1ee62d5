# Every target first makes .venv match pyproject.toml and constraints.txt.
#
#   make train ARGS="experiment=stdlib_gpt duration.max_steps=200"
#   make test  ARGS="tests/trainer -k resume"
#   make train PYTHON=/usr/bin/python3.12

SHELL := /bin/bash
PYTHON ?=
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install train test test-slow test-all check format bench

help:
	@echo "make train      train the default experiment; ARGS=... adds overrides"
	@echo "make test       fast tests (under 3 minutes on 2 cores)"
	@echo "make test-slow  slow tests: kill and resume, Ray, packaging"
	@echo "make test-all   both"
	@echo "make check      format, lint and types"
	@echo "make format     put files into the format that check wants"
	@echo "make bench      this engine beside a hand-written loop"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@set -e; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  python=; \
	  for candidate in $(or $(PYTHON),python3.11 python3); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	        2>/dev/null; then python=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "no $(or $(PYTHON),python3.11 or python3) of version 3.11 or newer:" \
	      "install one, or name it with PYTHON=/path/to/python3.11" >&2; exit 1; \
	  fi; \
	  echo "==> creating .venv with $$("$$python" --version)"; \
	  "$$python" -m venv .venv; \
	fi; \
	echo "==> installing perennial into .venv (some minutes the first time)"; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'; \
	touch $@

train: $(INSTALLED)
	@$(BIN)/python -m trainer $(ARGS)

test: $(INSTALLED)
	@$(BIN)/python -m pytest -m "not slow" -n 2 $(ARGS)

test-slow: $(INSTALLED)
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-all: $(INSTALLED)
	@$(BIN)/python -m pytest $(ARGS)

check: $(INSTALLED)
	@echo "==> format"; $(BIN)/ruff format --check .
	@echo "==> lint"; $(BIN)/ruff check .
	@echo "==> types"; $(BIN)/mypy

format: $(INSTALLED)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	@$(BIN)/python -m tests.benchmarks $(ARGS)
