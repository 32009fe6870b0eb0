# Two commands do all set-up: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
EXPERIMENT ?= digits
SETTINGS ?= fashion_mnist fashion_mnist_mislabelled cifar2 rotten_tomatoes
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --constraint envs/constraints.txt
BASE := .venv/.base-installed
DEV := .venv/.dev-installed
DOCS := .venv/.docs-installed
FUZZ := .venv/.fuzz-installed
FUZZ_SECONDS ?= 300

# Of one experiment; the second argument, if any, is of --config. What is no longer drawn goes.
define paper_figures
	$(BIN)/snakemake --profile workflow/profiles/local paper_figures --config experiment=$(1) $(2) \
		&& rm -rf docs/figures/$(1) && mkdir -p docs/figures/$(1) \
		&& cp results/$(1)/paper/* docs/figures/$(1)/
endef

.DEFAULT_GOAL := help
.PHONY: help run test fault-test test-report cluster-test storage-test test-slow test-figures figures envs docs benchmark benchmark-parity benchmark-quality scale fuzz lint format clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(BASE): pyproject.toml envs/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trakflow needs Python 3.11 or newer; name one with make PYTHON=python3.12 run")'
	$(PYTHON) -m venv .venv
	@echo "Installing what envs/constraints.txt pins into .venv; this takes a minute or more."
	$(PIP) --editable .
	@touch $@

$(DEV): $(BASE)
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps kronfluence
	@touch $@

$(DOCS): $(BASE)
	$(PIP) --editable '.[docs]'
	@touch $@

$(FUZZ): $(DEV)
	$(PIP) --editable '.[fuzz]'
	@touch $@

run: $(BASE) ## Install, run the default experiment (EXPERIMENT=digits) and write its report
	$(BIN)/snakemake --profile workflow/profiles/local --config experiment=$(EXPERIMENT) --report results/$(EXPERIMENT)/report.html --report-after-run
	@[ ! -f results/$(EXPERIMENT)/evaluation/lds.csv ] || awk -F, '$$1 == "trak" { line = sprintf("LDS with %s checkpoints: %.3f (interval %.3f to %.3f, ceiling %.3f)", $$2, $$7, $$8, $$9, $$10) } END { print line }' results/$(EXPERIMENT)/evaluation/lds.csv
	@echo "Scores: results/$(EXPERIMENT)/scores/trak.npy. Report: results/$(EXPERIMENT)/report.html"

test: $(DEV) ## Install and run the tests, a file on each core
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

fault-test: $(DEV) ## Kill jobs and Snakemake, damage files, fill a disk: the same command again ends with the same bytes
	$(BIN)/python -m pytest -m faults

test-report: $(DEV) ## Open the report in headless Chromium (needs chromium and chromedriver) and check what is shown
	$(BIN)/python -m pytest -m report

cluster-test: $(DEV) ## Start a Slurm cluster on this machine alone, run the workflow on it, and break it (root only to install Slurm)
	tests/cluster/install.sh
	$(BIN)/python -m pytest -m cluster

storage-test: $(DEV) ## Start an S3 server on this machine alone, and run the workflow with its results there
	$(BIN)/python -m pytest -m storage

test-slow: $(DEV) ## The longer checks: full-size LDS of digits and Fashion-MNIST
	$(BIN)/python -m pytest -m slow

test-figures: $(DEV) ## The paper's figures at the size of digits, drawn and checked
	$(BIN)/python -m pytest -m figures

figures: $(DEV) ## The paper's figures of digits (quick) and every larger setting into docs/figures (hours; an idle machine)
	$(call paper_figures,digits,'overrides=["paper=quick"]')
	$(foreach setting,$(SETTINGS),$(call paper_figures,$(setting)) &&) true

docs: $(DOCS) ## Build the site of docs/ into build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file docs/site/mkdocs.yml
	@echo "Open build/site/index.html"

envs: $(DEV) ## Write the conda and container environments from constraints.txt and pyproject.toml
	$(BIN)/python envs/make.py

benchmark: $(DEV) ## Featurizing, scoring, retraining and the workflow into results/benchmarks (an hour; an idle machine)
	$(BIN)/python benchmarks/featurize.py
	$(BIN)/python benchmarks/plot_featurize.py
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/retraining.py
	$(BIN)/python benchmarks/workflow.py

benchmark-parity: $(DEV) ## Scores, LDS and seconds beside traker, into results/benchmarks (an idle machine)
	$(BIN)/python benchmarks/parity.py

benchmark-quality: $(DEV) ## LDS against featurize seconds of every sketch (runs both experiments first)
	$(BIN)/snakemake --profile workflow/profiles/local --config experiment=digits
	$(BIN)/snakemake --profile workflow/profiles/local --config experiment=fashion_mnist
	$(BIN)/python benchmarks/quality.py

scale: $(DEV) ## Plan the DAGs of CIFAR-10 and ImageNet at the paper's sizes: jobs, seconds and memory
	$(BIN)/python benchmarks/scale.py --plan

fuzz: $(FUZZ) ## Nightly: fuzz every reader of files by atheris (FUZZ_SECONDS=300, all together)
	$(BIN)/python tests/fuzzing/fuzz.py --seconds $(FUZZ_SECONDS)

lint: $(DEV) ## Format, style, workflow and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow examples
	$(BIN)/snakemake --lint
	$(BIN)/mypy

format: $(DEV) ## Apply the formatters
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow examples

clean: ## Remove results and caches; the environment stays
	rm -rf .snakemake .mypy_cache .ruff_cache .pytest_cache build
	find results -mindepth 1 -maxdepth 1 -not -name README.md -exec rm -rf {} +
	find . -path ./.venv -prune -o -name __pycache__ -exec rm -rf {} +
