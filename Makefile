# `make help` lists the targets. Two are all that a fresh machine with git, make and Python ≥ 3.11
# needs: `make serve` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JUNIT  := .reports

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# ---------------------------------------------------------------------------------- set-up

.PHONY: setup
setup: $(VENV)/.installed ## .venv with everything, telecine itself included; quick when nothing changed

# --without-pip, because Debian's python3 has no ensurepip of its own (docs/adr/0006).
$(VENV)/.pip: scripts/bootstrap_pip.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Telecine needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
	  $(BIN)/python -m ensurepip >/dev/null 2>&1 || \
	  $(BIN)/python scripts/bootstrap_pip.py
	@touch $@

# --no-deps: the lock is complete, so nothing is resolved here. --only-binary: a source archive would
# run its own build, with tools that no lock names. pyvips has no wheel: it is built with the locked
# setuptools, and as pure Python, since what it looks for a libvips of the system with is not there.
# --no-compile: pip does it one file after the other, which is a third of the time for a fresh machine.
# But done it must be: what runs in the sandbox may not write bytecode, and would compile each time
# (reading an hour's index then takes twice as long, and the first picture comes half a second later).
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
               --no-deps --no-build-isolation
$(VENV)/.installed: $(VENV)/.pip requirements/build.txt requirements/dev.txt pyproject.toml
	$(PIP_INSTALL) --only-binary :all: --require-hashes -r requirements/build.txt
	$(PIP_INSTALL) --only-binary :all: --no-binary pyvips --require-hashes -r requirements/dev.txt
	$(PIP_INSTALL) --no-index -e .
	@$(BIN)/python -m compileall -qq -j0 $(VENV)/lib/python3*/site-packages src
	@touch $@

tests/e2e/node_modules/.package-lock.json: tests/e2e/package.json tests/e2e/package-lock.json
	cd tests/e2e && npm ci --no-audit --no-fund --ignore-scripts
	@touch $@

# ---------------------------------------------------------------------------------- use

.PHONY: serve
serve: setup ## the service on http://127.0.0.1:8000, kept in telecine-data (ARGS="--port 9000 --signup open")
	@exec $(BIN)/telecine serve --data telecine-data $(ARGS)

.PHONY: demo
demo: setup ## transcode a clip that is made on the spot (or FILE=…) into demo/ and say how to play it
	@$(BIN)/python scripts/demo.py $(if $(FILE),"$(FILE)")

# ---------------------------------------------------------------------------------- tests

PYTEST := $(BIN)/python -m pytest
PROMISES := $(BIN)/python -m scripts.check_promises
# Apart, because each of them mostly waits for its servers.
SERVICE_LANES := test-service-rest test-service-work test-service-images

.PHONY: test test-unit unit-examples unit-properties unit-programs test-media test-service test-browser
.PHONY: test-images $(SERVICE_LANES)
# The longest lanes first, so that none is left to run alone at the end.
test: setup ## every test that needs no browser, then: did the promised tests run?
	@failed=0; $(MAKE) --no-print-directory test-unit || failed=1; \
	$(MAKE) --no-print-directory --jobs=3 --output-sync=target --keep-going \
	  test-media test-service-rest test-service-work test-images test-service-images || failed=1; \
	exit $$failed
	@$(PROMISES) --ran $(JUNIT)/unit-*.xml $(JUNIT)/media.xml $(JUNIT)/images.xml $(JUNIT)/service-*.xml

test-unit: setup ## the fast ones, without FFmpeg; the pure modules at 100 % branch coverage
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target --keep-going \
	  unit-examples unit-properties unit-programs

# At once, because the ones that start programs mostly wait. Coverage watches only the examples: on
# Python 3.11 its tracer sees every line of Hypothesis too, and takes as long as the tests.
# Each reads only files with tests of its own: rewriting the asserts of all takes seconds in a fresh clone.
unit_files = $(sort $(shell grep -r --include='test_*.py' $(1) tests/unit))
unit-examples: JOB = not hypothesis and not programs
unit-examples: FILES = $(call unit_files,-Le '^pytestmark = pytest.mark.programs')
unit-properties: JOB = hypothesis and not programs
unit-properties: FILES = $(call unit_files,-lwe hypothesis)
unit-programs: JOB = programs
unit-programs: FILES = $(call unit_files,-lwe mark.programs)
unit-examples: setup
	@rm -f $(JUNIT)/$@.xml
	@$(BIN)/coverage run -m pytest $(FILES) -m "$(JOB)" --junitxml=$(JUNIT)/$@.xml
	$(BIN)/coverage report
unit-properties unit-programs: setup
	@rm -f $(JUNIT)/$@.xml
	@$(PYTEST) $(FILES) -m "$(JOB)" --junitxml=$(JUNIT)/$@.xml

test-media: setup ## the ones that run the real FFmpeg
	@mkdir -p $(JUNIT); rm -f $(JUNIT)/media.xml
	$(PYTEST) tests/media tests/corpus --ignore=tests/media/images --junitxml=$(JUNIT)/media.xml

# Apart: a child's memory counts from the size of the process that starts it, and these hold pictures.
test-images: setup ## the ones that run the real libvips
	@mkdir -p $(JUNIT); rm -f $(JUNIT)/images.xml
	$(PYTEST) tests/media/images -o cache_dir=.pytest_cache/images --junitxml=$(JUNIT)/images.xml

# Without npm the tests of tus-js-client say that node is missing.
tests/service/tus/node_modules/.package-lock.json: tests/service/tus/package.json tests/service/tus/package-lock.json
	@! command -v npm >/dev/null || { cd tests/service/tus && npm ci --no-audit --no-fund --ignore-scripts && touch ../../../$@; }

test-service: setup ## the ones of the service: real servers, workers, databases
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going $(SERVICE_LANES)

test-service-rest: TESTS = tests/service --ignore=tests/service/work --ignore=tests/service/images
test-service-work: TESTS = tests/service/work
test-service-images: TESTS = tests/service/images
$(SERVICE_LANES): setup tests/service/tus/node_modules/.package-lock.json
	@mkdir -p $(JUNIT); rm -f $(JUNIT)/$(@:test-%=%).xml
	$(PYTEST) $(TESTS) -o cache_dir=.pytest_cache/$(@:test-%=%) --junitxml=$(JUNIT)/$(@:test-%=%).xml

test-browser: setup tests/e2e/node_modules/.package-lock.json ## the ones that play the output in a real Chromium
	@mkdir -p $(JUNIT); rm -f $(JUNIT)/e2e.xml
	$(PYTEST) tests/e2e --ignore=tests/e2e/test_publish_first.py --junitxml=$(JUNIT)/e2e.xml
	@$(PROMISES) --ran $(JUNIT)/e2e.xml

.PHONY: test-corpus test-image-corpus test-resume test-publish chaos bench bench-service bench-images
test-corpus: setup ## every file of the media corpus (LONG=1: the long ones whole)
	TELECINE_LONG=1 $(PYTEST) tests/corpus/test_facts.py
	$(BIN)/python -m tests.corpus.run $(if $(LONG),--long) $(ARGS)

test-image-corpus: setup ## every picture of the corpus, every operation in every format, beside other programs
	TELECINE_LONG=1 $(PYTEST) -s tests/media/images/test_image_corpus.py tests/media/images/test_references.py

test-resume: setup ## kill -9 at 20 seeded moments
	TELECINE_LONG=1 $(PYTEST) tests/media/test_resume.py

# Not a part of CI: it holds seconds against the clock, which a busy machine fails for the output.
test-publish: setup tests/e2e/node_modules/.package-lock.json ## publish first, at ten minutes and at 4 GB
	TELECINE_LONG=1 $(PYTEST) tests/e2e/test_publish_first.py

chaos: setup ## 200 jobs while the service is killed and stopped (SEED=7), 1,000 seeds of the queue's simulation
	$(BIN)/python -m tests.service.chaos --jobs 200 $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.service.simulation --seeds 1000

bench: setup ## our ladder beside three other ways to make it; five runs, medians
	$(BIN)/python -m bench.run $(ARGS)

bench-service: setup ## the service: beside the bare engine, first picture, queue, answers under load, memory
	$(BIN)/python -m bench.service $(ARGS)

bench-images: setup ## pictures on the fly: beside thumbor, a worker beside libvips alone, memory
	$(BIN)/python -m bench.images $(ARGS)

# ---------------------------------------------------------------------------------- checks

.PHONY: check
check: setup ## format, lint, types, import contracts, promises
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@$(PROMISES)

# No address and no path goes into a lock; who installs decides where from.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header
.PHONY: lock
lock: setup ## lock the dependencies again (UPGRADE=1: to their newest versions)
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --extra serve -o requirements/runtime.txt >/dev/null
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --extra serve --group dev -c requirements/runtime.txt \
	  -o requirements/dev.txt >/dev/null
	$(LOCK) $(if $(UPGRADE),--upgrade) --group build -o requirements/build.txt >/dev/null
	$(LOCK) $(if $(UPGRADE),--upgrade) --group thumbor -o requirements/thumbor.txt >/dev/null
	@! grep -n '://' requirements/*.txt

.PHONY: clean
clean: ## remove everything that the targets made, .venv included
	rm -rf $(VENV) $(JUNIT) demo out bench/out tests/e2e/node_modules tests/service/tus/node_modules \
	  .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
