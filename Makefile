# The words of the project: demo, test, check, fix, torture, bench, zoo, zoo-report, zoo-lineage, lock, dependencies.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check
TORCH := torch==2.13.0
JOBS ?= 3
BENCH ?=
TORTURE ?=
ZOO_LINEAGE ?= lineage-zoo
ZOO_LINEAGE_REPORT ?=
export HF_HUB_DISABLE_TELEMETRY = 1
unexport PYTHONDONTWRITEBYTECODE  # or each of the hundreds of processes that tests start compiles all it imports

.PHONY: demo test check fix torture bench zoo zoo-report zoo-lineage install install-dev lock dependencies clean

demo: install                       ## environment, then the whole story on really trained weights
	$(BIN)/reg demo

# A few more test processes than cores, for many wait for the disk: threads that wait for each other awake would take the cores from the other tests.
test: export OMP_NUM_THREADS = 1
test: export OMP_WAIT_POLICY = passive
test: install-dev                   ## every test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -q --durations 40 --durations-min 3

check: install-dev                  ## lint, format, types, contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: install-dev                    ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

torture: install-dev                ## kills, crowds, full disks and bad input, half an hour of them: TORTURE="--seed 0 --minutes 30"
	PYTHONPATH=tests $(BIN)/python -m torture.run $(TORTURE)

bench: install-dev                  ## against plain reads and writes, and mergekit: BENCH="--folder DIR --mergekit PYTHON --write"
	$(BIN)/python tests/bench/run.py $(BENCH)

zoo: install-dev                    ## train the family of data/zoo again, from nothing
	$(BIN)/python tests/zoo/train.py --out data/zoo
	$(BIN)/python tests/zoo/finds.py --zoo data/zoo --out data/finds

zoo-report: install-dev             ## merge the family by every method, score the results: data/methods.md
	$(BIN)/python tests/zoo/report.py

zoo-lineage: install-dev            ## families whose descent is known, inferred, merged and judged: data/lineage.md, data/mergeable.md
	$(BIN)/python tests/zoo_lineage/make.py --out $(ZOO_LINEAGE) --split dev --claims --jobs $(JOBS)
	$(BIN)/python tests/zoo_lineage/make.py --out $(ZOO_LINEAGE) --split sealed --claims --jobs $(JOBS)
	$(BIN)/python tests/zoo_lineage/report.py $(ZOO_LINEAGE) $(ZOO_LINEAGE_REPORT)
	$(BIN)/python tests/zoo_lineage/outcomes.py $(ZOO_LINEAGE)

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# torch first and alone: which build of it suits a machine, the CPU's or one for a GPU with a dozen packages of its maker,
# is for that machine and its package index to say, so no lock holds it. All else comes by the hashes of the locks,
# what torch brought with it once more. Python compiles what it imports, a small part of it, when it first does.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	touch $@

$(VENV)/.locked: $(VENV)/.torch .ci/requirements.lock
	$(PIP) --no-deps --no-compile --require-hashes --force-reinstall -r .ci/requirements.lock
	touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(PIP) --no-deps --no-build-isolation -e .
	$(BIN)/pip check
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed .ci/requirements-dev.lock
	$(PIP) --no-deps --no-compile --require-hashes -r .ci/requirements-dev.lock
	$(BIN)/pip check
	touch $@

LOCK = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--constraint .ci/constraints.txt .ci/build.in pyproject.toml
WITHOUT_TORCH = awk '/^[a-z]/ {keep = $$0 !~ /^(torch|triton|(nvidia|cuda)-[a-z0-9-]*)==/} keep'

lock: $(VENV)/.torch                ## pin all that is needed, with hashes, at today's newest
	$(PIP) uv
	$(LOCK) --upgrade --extra score --extra dev --extra real > $(VENV)/lock
	$(WITHOUT_TORCH) $(VENV)/lock > .ci/requirements-dev.lock
	$(LOCK) --extra score --constraint .ci/requirements-dev.lock > $(VENV)/lock
	$(WITHOUT_TORCH) $(VENV)/lock > .ci/requirements.lock

dependencies: install-dev           ## the licences of all that is needed: data/dependencies.md
	$(BIN)/python tests/dependencies.py > data/dependencies.md

clean:                              ## remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
