# setup is a no-op when nothing changed; every other verb runs it first.
#   make setup [PYTHON=python3.12] [TORCH=cpu|cuda]
#   make demo  [BAG=path] [MODEL=lemumo-tiny-thermal]
#   make fuzz  [SECONDS=60]    for each kind of message
#   make docs                  the manual as a site, in out/docs
#   make soak  [MINUTES=10]    ten times the input rate

PYTHON ?= python3
SECONDS ?= 60
MINUTES ?= 10
RUN := .venv/bin/python
CHECKED := $(wildcard lemumo_core lemumo_ros export training interfaces benchmarks)
# The first five need what only their user can give; the others take long.
APART := compare_cmcr compare_decur compare_reference few_labels gpu auto_choice calibration fleet label_choice label_points
APART += cmcr_street decur_street soak study thermal
BENCHMARKS := $(filter-out $(APART),$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[a-z]*.py)))

.PHONY: setup demo test fuzz soak bench lint docs

setup:
	@TORCH="$(TORCH)" $(PYTHON) tools/setup.py

demo: setup
	$(RUN) -m lemumo_ros.demo $(if $(BAG),--bag "$(BAG)") $(if $(MODEL),--model "$(MODEL)")

test: setup
	$(RUN) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

fuzz: setup
	$(RUN) -m tests.fuzz $(SECONDS)

soak: setup
	$(RUN) -m benchmarks.soak --minutes $(MINUTES)

bench: setup
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(RUN) -m benchmarks.$$name; done

docs: setup
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build

lint: setup
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m codespell_lib $$(git ls-files ":!models" ":!LICENSE")
	$(RUN) -m mypy $(CHECKED)
