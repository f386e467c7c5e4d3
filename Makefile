# Needs Python >= 3.11, make, a C compiler (for learn2learn alone) and a package index. Everything goes into .venv.
PYTHON ?= python3
# Optional: an index to take torch and torchvision from, e.g. the one with the small CPU builds (see README).
TORCH_INDEX ?=
PYTEST_ARGS ?= -n 2 --dist worksteal

BIN := .venv/bin
PIP := $(BIN)/python -m pip

.PHONY: setup learn2learn demo test lint tables

setup: .venv/.installed

.venv/.installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11: make setup PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet -c constraints.txt pip setuptools wheel Cython
	$(if $(TORCH_INDEX),$(PIP) install -i $(TORCH_INDEX) $$(grep -E '^torch(vision)?==' constraints.txt))
	@echo 'Installing into .venv; the first time this takes some minutes, most of them for torch.'
	$(PIP) install -c constraints.txt --no-build-isolation -e ".[pretrained,sentence,chinese,opencv,notebooks,test]"
	@$(MAKE) --no-print-directory learn2learn || printf '%s\n' \
	  'learn2learn could not be built; all but the learn2learn engine of MAML works without it.' \
	  'It needs a C compiler and the headers of Python (Debian: apt install build-essential python3-dev;' \
	  'macOS: xcode-select --install). Then: make learn2learn'
	@touch $@

# Its bundled C files do not compile on Python >= 3.11, so Cython makes new ones (build_ext); its dependency qpth,
# which only its SVM heads need, would pull numpy < 2 (--no-deps).
learn2learn:
	$(PIP) install --quiet -c constraints.txt gym
	$(PIP) install --quiet -c constraints.txt --no-deps --no-build-isolation --use-pep517 \
	  --config-settings="--global-option=build_ext" learn2learn

demo: setup
	$(BIN)/python experiments/demo.py

test: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

tables: setup
	$(BIN)/python -m fewshot_prod.pages
