# Onestory. `make demo` shows it, `make test` proves it; both set up what they need.

VENV ?= .venv
PORT ?= 3000
PROOF ?=
ONESTORY_HOME ?= $(CURDIR)/var
# The first Python that is new enough; PYTHON=/path/to/python takes another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test prove check bench

help:
	@echo 'make install  a virtual environment in $(VENV) with everything needed'
	@echo 'make demo     load the demo data, train, and serve on http://127.0.0.1:$(PORT) (PORT=... another)'
	@echo 'make test     all tests, lint and types among them'
	@echo 'make prove    the long proofs; PROOF=name for one'
	@echo 'make check    lint, types, import rules'
	@echo 'make bench    the benchmarks as a table'

install: $(INSTALLED)

# Made once, and again when what is needed has changed. pip's own words go to $(VENV)/install.log.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n '$(PYTHON)' || { echo 'no Python 3.11 or newer found; install one, or say PYTHON=/path/to/python'; exit 2; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo '`$(PYTHON)` is older than Python 3.11; say PYTHON=/path/to/a/newer/one'; exit 2; }
	@echo 'install: $(VENV) with $(PYTHON) (the first time about 1 GB is downloaded, a few minutes)'
	@test -x $(BIN)/python || '$(PYTHON)' -m venv $(VENV)
	@{ $(BIN)/python -m pip install --no-input --disable-pip-version-check -r requirements.lock 2>&1; \
		echo "exit $$?"; } | { total=$$(grep -c '==' requirements.lock); count=0; status=1; : > $(VENV)/install.log; \
		while IFS= read -r line; do printf '%s\n' "$$line" >> $(VENV)/install.log; case $$line in \
			Collecting*|Processing*) count=$$((count + 1)); \
				if [ $$((count % 20)) -eq 0 ]; then echo "install: $$count of $$total packages fetched"; fi;; \
			'Installing collected'*) echo 'install: unpacking';; \
			'exit '*) status=$${line#exit };; \
		esac; done; \
		if [ "$$status" -ne 0 ]; then tail -n 20 $(VENV)/install.log; echo 'install: pip failed, see $(VENV)/install.log'; fi; \
		exit "$$status"; }
	@$(BIN)/python -m pip install --no-input --disable-pip-version-check --no-deps -e . >> $(VENV)/install.log 2>&1 \
		|| { tail -n 20 $(VENV)/install.log; exit 1; }
	@touch $@
	@echo 'install: done'

# The first run does every step once; a mark in ONESTORY_HOME/demo says which are done, so that an
# interrupted run goes on where it stopped and the next one goes straight to serving.
demo: export ONESTORY_HOME := $(ONESTORY_HOME)
demo: install
	@set -eu; mkdir -p "$$ONESTORY_HOME/demo"; \
	ONESTORY_HOME=$$(cd "$$ONESTORY_HOME" && pwd); \
	export BENTOML_HOME="$$ONESTORY_HOME/bentoml"; \
	export MLFLOW_TRACKING_URI="$${MLFLOW_TRACKING_URI:-sqlite:///$$ONESTORY_HOME/mlflow.db}"; \
	step() { \
		number=$$1; name=$$2; say=$$3; shift 3; mark="$$ONESTORY_HOME/demo/$$name"; \
		if [ -e "$$mark" ]; then return 0; fi; \
		echo "demo: step $$number of 7: $$say"; "$$@" || exit $$?; touch "$$mark"; \
	}; \
	python=$(BIN)/python; \
	train_and_promote() { "$$python" -m training train "$$1" && "$$python" -m training promote "$$1"; }; \
	echo "demo: step 1 of 7: installed; the workspace is $$ONESTORY_HOME"; \
	step 2 ingested "load a year of a grocer's history" "$$python" -m features ingest completejourney --ending now; \
	step 3 built-9 'build every profile' "$$python" -m features build; \
	step 4 propensity 'train and promote propensity' train_and_promote propensity; \
	step 5 churn 'train and promote churn' train_and_promote churn; \
	echo 'demo: step 6 of 7: renew the validity of the offers'; \
	"$$python" -m features renew; \
	echo 'demo: step 7 of 7: serve on http://127.0.0.1:$(PORT) until Ctrl-C'; \
	exec "$$python" -m serving demo --port $(PORT)

# Node.js, Chromium and the JavaScript clients are set up by the script: only what is missing, nothing when all is there.
test: install
	@sh tests/clients/install.sh
	@$(BIN)/python -m pytest -n 2 --dist loadscope -q

prove: install
	@$(BIN)/python -m pytest -q -m prove --hypothesis-profile=prove $(if $(PROOF),-k '$(PROOF)')

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_imports.py

bench: install
	@$(BIN)/python -m benchmarks
