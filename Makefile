# Each target works on a fresh clone; `make` alone lists them.
PY := .venv/bin/python
# Where the environment forbids compiled files, as images of containers do, every process would compile all of it again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install clean demo play stack test unit check lock types doctor report deploy bench mutants hard
help:            ## this list
	@grep -E '^[a-z]+: .*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12
install:         ## install into .venv and dev/node_modules
	@dev/install
clean:           ## remove what these targets made here: .venv, dev/node_modules, .local, caches
	@rm -rf .venv dev/node_modules .local .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage mutants
demo: install    ## play the whole story on a local stack
	@$(PY) -m dev.demo
play: install    ## the same stack, simulator and functions to try by hand, with lines to paste
	@$(PY) -m dev.play
stack: install   ## run PostgreSQL + PostgREST in the foreground (facts in .local/stack.json)
	@$(PY) -m dev.stack
test: install    ## all tests
	@$(PY) -m pytest -n 4 --dist worksteal
unit: install    ## the tests that need no database: the loop one works in (under 15 s)
	@$(PY) -m pytest -q -n 2 --hypothesis-profile=loop tests/unit
check: install   ## what a change must pass: format, lint, types, tests, coverage
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) -m pytest -n 4 --dist worksteal --cov --cov-report=term
lock: install    ## write the requirement files anew from pyproject.toml
	@$(PY) -m pip install --quiet uv
	@$(PY) -m uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-strip-extras --quiet --no-header -o requirements.txt
	@$(PY) -m uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-strip-extras --quiet --no-header -c requirements.txt -o dev/requirements.txt
	@echo 'psycopg[binary]' | $(PY) -m uv pip compile - --universal --python-version 3.11 --generate-hashes --no-strip-extras --quiet --no-header -c dev/requirements.txt -o deploy/requirements.txt
	@$(PY) -m uv pip compile pyproject.toml --extra bench --universal --python-version 3.11 --generate-hashes --no-strip-extras --quiet --no-header -c dev/requirements.txt -o bench/requirements.txt
	@$(PY) -m uv pip compile pyproject.toml --extra mutants --universal --python-version 3.11 --generate-hashes --no-strip-extras --quiet --no-header -c dev/requirements.txt -o dev/mutants-requirements.txt
bench: install   ## measure everything against its floor (25 to 35 min; ARGS="--quick" in 3, "webhook" for a part)
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r bench/requirements.txt
	@$(PY) -m bench $(ARGS)
hard: install    ## the tests that take long: histories, kills, crowds, weeks of work (over an hour; SEED=1)
	@HARD=1 HARD_SEED=$${SEED:-1} $(PY) -m pytest -s -q tests/endurance tests/functions/test_provider_outages.py tests/database/test_database_faults.py tests/functions/test_hostile_input.py
mutants: install ## change the pure modules in every small way and see a test fail: some 10 min (ARGS="'shared.core.brake.*'" for a part)
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r dev/mutants-requirements.txt
	@$(PY) -m dev.mutants $(ARGS)
types: install   ## write the row types anew from the migrated schema
	@$(PY) -m dev.types
doctor: install  ## check a real project: settings, database, lines, webhooks, sweeps (ARGS="--json", "--fix-webhooks", "--contract LINE")
	@$(PY) -m ops.doctor $(ARGS)
report: install  ## write one HTML page from the database (ARGS="--out report.html")
	@$(PY) -m ops.report $(ARGS)
deploy:          ## deploy both functions with gcloud (ARGS="--dry-run" prints only)
	@deploy/deploy $(ARGS)
