# Everything runs from a fresh clone: each target first sets up .venv, and only if that is not done already.
# Without make: `sh setup.sh`, then the lines of a target as they stand here.

PYTHON_OF_VENV := '$(or $(MARQUEE_VENV),.venv)/bin/python'
BUNDLE ?= bundle
OUT ?= nightly
RUN_DATE ?= $(shell date +%F)

# A caller's own Python settings must not reach into the project's environment.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help setup nightly test clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1~\2/p' Makefile | awk -F '~' '{ printf "%-16s%s\n", $$1, $$2 }'

setup: ## make .venv from requirements.lock and merlin.lock (PYTHON=... chooses the Python)
	@PYTHON='$(PYTHON)' sh setup.sh

nightly: ## train on the sample if there is no bundle, score everyone, show a taste (RUN_DATE, BUNDLE, OUT)
	@PYTHON='$(PYTHON)' sh setup.sh --night
	test -f '$(BUNDLE)/bundle.json' || $(PYTHON_OF_VENV) -m sdk train --sample --out '$(BUNDLE)'
	$(PYTHON_OF_VENV) -m batch.score --bundle '$(BUNDLE)' --out '$(OUT)' --run-date '$(RUN_DATE)'
	$(PYTHON_OF_VENV) -m batch.taste --bundle '$(BUNDLE)' --out '$(OUT)'

test: setup ## lint, format check, strict types, then the whole suite by two processes
	$(PYTHON_OF_VENV) -m ruff check .
	$(PYTHON_OF_VENV) -m ruff format --check .
	$(PYTHON_OF_VENV) -m mypy
	$(PYTHON_OF_VENV) -m pytest -n 2 --dist worksteal

clean: ## remove .venv, if setup.sh made it, and the caches; bundle and nightly stay
	@sh setup.sh --clean
	rm -rf build/lib build/bdist.* dist/marquee_recs-* marquee_recs.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
