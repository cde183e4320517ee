# setup is a no-op when nothing changed; every other verb runs it first.
#   make setup [PYTHON=python3.12] [TORCH=cpu|cuda]
#   make demo  [BAG=path]
#   make fuzz  [SECONDS=60]    for each kind of message
#   make soak  [MINUTES=10]    ten times the input rate

PYTHON ?= python3
SECONDS ?= 60
MINUTES ?= 10
RUN := .venv/bin/python
CHECKED := $(wildcard lemumo_core lemumo_ros export training interfaces)
# compare_reference.py and few_labels.py need what only their user can give; the others take long.
APART := $(addprefix benchmarks/,compare_reference.py few_labels.py soak.py study.py)
BENCHMARKS := $(filter-out $(APART),$(wildcard benchmarks/[a-z]*.py))

.PHONY: setup demo test fuzz soak bench lint

setup:
	@TORCH="$(TORCH)" $(PYTHON) tools/setup.py

demo: setup
	$(RUN) -m lemumo_ros.demo $(if $(BAG),--bag "$(BAG)")

test: setup
	$(RUN) -m pytest

fuzz: setup
	$(RUN) tests/fuzz.py $(SECONDS)

soak: setup
	$(RUN) benchmarks/soak.py --minutes $(MINUTES)

bench: setup
	@set -e; for program in $(BENCHMARKS); do echo "== $$program"; $(RUN) $$program; done

lint: setup
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m codespell_lib $$(git ls-files ":!models" ":!LICENSE")
	$(RUN) -m mypy $(CHECKED)
