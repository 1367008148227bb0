# Every target sets itself up: .venv is made at first use, and made up to date when pyproject.toml changes.
.PHONY: help setup demo test testbeds test-schedulers lint types bench test-installed clean

# Tests mostly wait for jobs, so there may be more workers than cores; WORKERS= runs them one after the other.
WORKERS = -n 4 --dist loadscope
PYTHON_HERE = $(or $(VENV),.venv)/bin/python

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

setup: ## .venv with the project, editable, and all that its checks need
	@tools/setup.sh dev

demo: ## jobs, an array, control and endings on the embedded scheduler, shown as they happen
	@tools/setup.sh
	@$(PYTHON_HERE) examples/demo.py

test: setup ## the tests; ARGS="..." goes to pytest, FULL=1 takes the long forms
	@$(PYTHON_HERE) -m pytest $(WORKERS) $(ARGS)

testbeds: setup ## real schedulers on this machine: Slurm (two releases), Grid Engine, HTCondor, OAR; root on Debian
	@$(PYTHON_HERE) tools/test_schedulers.py --up-only

test-schedulers: setup ## the suites on each of them; BED=slurm takes one, FULL=1 also the cases that timers make long
	@$(PYTHON_HERE) tools/test_schedulers.py $(addprefix --bed ,$(BED)) -- $(ARGS)

lint: setup ## ruff: rules, and the format of every file
	@$(PYTHON_HERE) -m ruff check .
	@$(PYTHON_HERE) -m ruff format --check .

types: setup ## mypy, strict
	@$(PYTHON_HERE) -m mypy

bench: setup ## the speed table, and bench/out/*.json
	@$(PYTHON_HERE) -m bench $(ARGS)

test-installed: ## build sdist and wheel; the tests against the installed wheel
	@tools/test_installed.sh $(ARGS)

clean: ## all that these targets made
	rm -rf .venv build dist .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
