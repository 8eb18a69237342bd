# Everything runs in a virtual environment that is made on first use; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
comma := ,

.PHONY: help demo environment test docs torture cluster fuzz asan freeze clean

help:
	@echo "make demo     index the standard library's docstrings and ask questions about them"
	@echo "make test     lint, type-check and run every test (TORCH=1: also those that compare with torch;"
	@echo "              INTEGRATIONS=1: also the suites of LangChain, Haystack and others)"
	@echo "make torture  the full sizes of the reliability tests: a table of test, amount tried, failures (an hour or two)"
	@echo "make cluster  real servers on this machine against a file, DATA=a BEIR folder (half an hour)"
	@echo "make fuzz     coverage-guided fuzzing of blobs, files, filters and requests, SECONDS_EACH=600"
	@echo "make asan     the kernel with address sanitizer and bounds checks against damaged files"
	@echo "make docs     build the documentation site into build/site"
	@echo "make freeze   freeze a program with PyInstaller in an environment of its own, and run it"
	@echo "make clean    remove what these commands made"

# The demo needs what a user gets from pip: no development tools, no torch.
.venv-demo/ready: pyproject.toml setup.py
	@echo "installing into .venv-demo, about a minute"
	@$(PYTHON) -m venv .venv-demo
	@.venv-demo/bin/pip install --quiet --quiet --disable-pip-version-check --editable .
	@touch $@

EXTRAS := dev$(if $(TORCH),$(comma)dev-torch)$(if $(INTEGRATIONS),$(comma)dev-integrations)

$(VENV)/ready-$(EXTRAS): pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	touch $@

demo: .venv-demo/ready
	@.venv-demo/bin/python examples/stdlib_search.py

environment: $(VENV)/ready-$(EXTRAS)

test: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadfile

docs: $(VENV)/ready-$(EXTRAS)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

torture: $(VENV)/ready-$(EXTRAS)
	PYTHONPATH=tests $(BIN)/python -W ignore -m torture

# ClickHouse's Debian packages, unpacked here: nothing is installed.
build/clickhouse:
	mkdir -p build
	scripts/clickhouse_debian.sh $(CURDIR)/build/clickhouse

PASSAGES ?= 20000
QUERIES ?= 1000

cluster: $(VENV)/ready-$(EXTRAS)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[engines]'
	test -d build/clickhouse || $(MAKE) build/clickhouse || true
	PYTHONPATH=tests $(BIN)/python -W ignore -m cluster "$(DATA)" $(PASSAGES) $(QUERIES)

SECONDS_EACH ?= 600

fuzz: $(VENV)/ready-$(EXTRAS)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	for target in blobs file filters server; do \
	    $(BIN)/python fuzz/fuzz.py $$target build/fuzz/$$target -rss_limit_mb=8000 -max_total_time=$(SECONDS_EACH) || exit 1; \
	done

asan: $(VENV)/ready-$(EXTRAS)
	scripts/asan.sh $(BIN)/python 2000

freeze: $(VENV)/ready-$(EXTRAS)
	$(BIN)/python -m pytest -o faulthandler_timeout=3000 -m freeze tests/test_freeze.py

clean:
	rm -rf .venv .venv-demo build *.egg-info
