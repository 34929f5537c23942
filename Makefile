# `make help` lists the targets. Two are all that a fresh machine with git, make and Python ≥ 3.11
# needs: `make serve` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JUNIT  := .reports
PYTEST := $(BIN)/python -m pytest

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
# pytest compiles the unit tests itself, with their asserts rewritten: a third of their time otherwise,
# and again at each run where PYTHONDONTWRITEBYTECODE is set.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
               --no-deps --no-build-isolation
$(VENV)/.installed: $(VENV)/.pip requirements/build.txt requirements/dev.txt pyproject.toml
	$(PIP_INSTALL) --only-binary :all: --require-hashes -r requirements/build.txt
	$(PIP_INSTALL) --only-binary :all: --no-binary pyvips --require-hashes -r requirements/dev.txt
	$(PIP_INSTALL) --no-index -e .
	@$(BIN)/python -m compileall -qq -j0 $(VENV)/lib/python3*/site-packages src
	@PYTHONDONTWRITEBYTECODE= $(PYTEST) tests/unit --collect-only -qq -p no:cacheprovider >/dev/null || true
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

PROMISES := $(BIN)/python -m scripts.check_promises

# The longest first, so that none is left to run alone at the end; those of films in two, of about the
# same length, for the same reason. Those of the service apart, because each of them mostly waits for
# its servers, and four at once for that; pictures apart from films, because a child's memory counts
# from the size of the process that starts it, and these hold pictures.
LANES          := media-rest media-content service-rest service-work images service-images
media-rest     := tests/media tests/corpus --ignore=tests/media/content --ignore=tests/media/images
media-content  := tests/media/content
images         := tests/media/images
service-rest   := tests/service --ignore=tests/service/work --ignore=tests/service/images
service-work   := tests/service/work
service-images := tests/service/images
programs       := tests/programs
MEDIA_LANES    := $(filter media-%,$(LANES))
SERVICE_LANES  := $(filter service-%,$(LANES))
AT_ONCE        := $(MAKE) --no-print-directory --output-sync=target --keep-going
# What the longest lane of the service needs is made before any is started: make would go on with the
# next ones while npm is at work. Where npm fails, that lane says so.
TUS_CLIENT     := tests/service/tus/node_modules/.package-lock.json
FIRST          := $(MAKE) --silent --no-print-directory $(TUS_CLIENT)

.PHONY: test test-thorough test-unit unit-examples unit-properties thorough-properties test-programs test-media test-service test-browser
.PHONY: $(LANES:%=test-%) $(LANES:%=thorough-%)
test: setup ## every test that needs no browser and is not thorough, then: did the promised ones run?
	@failed=0; $(MAKE) --no-print-directory test-unit || failed=1; $(FIRST); \
	$(AT_ONCE) --jobs=4 $(LANES:%=test-%) test-programs || failed=1; exit $$failed
	@$(PROMISES) --only quick --ran $(JUNIT)/unit-*.xml $(addprefix $(JUNIT)/,$(LANES:=.xml) programs.xml)

test-thorough: setup ## what repeats them in other forms and at greater length, then the same question
	@$(FIRST); $(AT_ONCE) --jobs=4 $(LANES:%=thorough-%) thorough-properties
	@$(PROMISES) --only thorough --ran $(LANES:%=$(JUNIT)/thorough-%.xml)

test-unit: setup ## the fast ones, without FFmpeg
	@$(AT_ONCE) --jobs=2 unit-examples unit-properties

unit-examples: setup
	@rm -f $(JUNIT)/$@.xml
	@$(PYTEST) tests/unit -m "not hypothesis" --junitxml=$(JUNIT)/$@.xml

# Only from the files that have some: reading all takes a second.
PROPERTIES = $(PYTEST) $(sort $(shell grep -rlw --include='test_*.py' hypothesis tests/unit)) -m hypothesis
unit-properties: setup
	@rm -f $(JUNIT)/$@.xml
	@$(PROPERTIES) --hypothesis-profile=quick --junitxml=$(JUNIT)/$@.xml
thorough-properties: setup
	@mkdir -p $(JUNIT); rm -f $(JUNIT)/$@.xml
	$(PROPERTIES) -o cache_dir=.pytest_cache/$@ --junitxml=$(JUNIT)/$@.xml

test-programs: ## the ones that start small programs and wait for them
test-media: setup ## the ones that run the real FFmpeg
	@$(AT_ONCE) --jobs=2 $(MEDIA_LANES:%=test-%)
test-images: ## the ones that run the real libvips
test-service: setup ## the ones of the service: real servers, workers, databases
	@$(FIRST); $(AT_ONCE) --jobs=2 $(SERVICE_LANES:%=test-%)

report = $(@:test-%=%)
$(LANES:%=test-%) test-programs: MARKED = not thorough
$(LANES:%=thorough-%): MARKED = thorough
$(LANES:%=test-%) $(LANES:%=thorough-%) test-programs: setup
	@mkdir -p $(JUNIT); rm -f $(JUNIT)/$(report).xml
	$(PYTEST) $($(report:thorough-%=%)) -m "$(MARKED)" -o cache_dir=.pytest_cache/$(report) \
	  --junitxml=$(JUNIT)/$(report).xml

# Without npm the tests of tus-js-client say that node is missing.
test-service-rest thorough-service-rest: $(TUS_CLIENT)
$(TUS_CLIENT): tests/service/tus/package.json tests/service/tus/package-lock.json
	@! command -v npm >/dev/null || { cd tests/service/tus && npm ci --no-audit --no-fund --ignore-scripts && touch ../../../$@; }

test-browser: setup tests/e2e/node_modules/.package-lock.json ## the ones that play the output in a real Chromium
	@mkdir -p $(JUNIT); rm -f $(JUNIT)/e2e.xml
	$(PYTEST) tests/e2e --ignore=tests/e2e/test_publish_first.py --junitxml=$(JUNIT)/e2e.xml
	@$(PROMISES) --ran $(JUNIT)/e2e.xml

.PHONY: test-corpus test-image-corpus test-resume test-publish chaos bench bench-quality bench-service bench-images compare-packager
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

bench-quality: setup ## --quality 90 beside the fixed ladder, on eight real clips
	$(BIN)/python -m bench.quality $(ARGS)

bench-service: setup ## the service: beside the bare engine, first picture, queue, answers under load, memory
	$(BIN)/python -m bench.service $(ARGS)

bench-images: setup ## pictures on the fly: beside thumbor, a worker beside libvips alone, memory
	$(BIN)/python -m bench.images $(ARGS)

compare-packager: setup ## our playlists and boxes beside Shaka Packager's, of the same renditions
	$(BIN)/python -m bench.packager

# ---------------------------------------------------------------------------------- checks

.PHONY: check coverage
check: setup ## format, lint, types, import contracts, coverage, promises
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@$(MAKE) --no-print-directory coverage
	@$(PROMISES)

# Watched, tests take twice as long, and properties ten times: Python 3.11 calls the tracer for every
# line of Hypothesis too.
coverage: setup ## the pure modules at 100 % branch coverage, by the examples of test-unit
	@$(BIN)/coverage run -m pytest tests/unit -q -m "not hypothesis" -o cache_dir=.pytest_cache/coverage
	$(BIN)/coverage report

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
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
