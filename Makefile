# Everything runs in a .venv of this clone. TORCH is what gets installed where torch is missing; PYTHON makes the .venv.
PYTHON ?= python3
TORCH  ?= torch==2.13.0
STEPS  ?= 40000

bin := .venv/bin
frameworks := .venv-frameworks/bin

.PHONY: demo board test browser test-frameworks check bench clean
demo: .venv/installed ## train a DQN on Breakout with the monitor on
	$(bin)/python -m agents.dqn --game breakout --steps $(STEPS)

board: .venv/installed ## TensorBoard over runs/
	$(bin)/tensorboard --logdir runs --samples_per_plugin images=1000

test: .venv/tested browser ## the whole test suite
	@if command -v chromedriver; then $(bin)/python -m pytest -n 2 --dist worksteal; else $(bin)/python -m pytest -n 2 --dist worksteal -m "not browser"; fi

browser: # for the tests of the RLWATCH tab, where it can be had
	@{ command -v chromium && command -v chromedriver; } || { apt-get update -q && apt-get install -qy chromium chromium-driver; } >/dev/null 2>&1 || \
		echo "no Chromium: what the RLWATCH tab shows is not tested here; apt-get install chromium chromium-driver"

test-frameworks: .venv-frameworks/installed ## the adapters, by short trainings of the frameworks themselves
	OMP_NUM_THREADS=1 $(frameworks)/python -m pytest -n 2 -o addopts=--strict-markers -p no:warnings tests/frameworks

check: .venv/developed ## linters, types, import floors
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports

bench: .venv/tested ## attribution and training against their peers
	$(bin)/python -m pip install -q "stable-baselines3>=2.6" matplotlib tqdm  # the latter two for captum
	$(bin)/python -m pip install -q --no-deps captum==0.9.0 zennit==0.5.1
	$(bin)/python -m tests.benchmarks.attribution
	$(bin)/python -m tests.benchmarks.training

clean:
	rm -rf .venv .venv-frameworks

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(bin)/python -c "import torch" 2>/dev/null || $(bin)/python -m pip install -q "$(TORCH)"

.venv/installed: pyproject.toml | .venv/bin/python
	$(bin)/python -m pip install -q -e . && touch $@

.venv/tested: pyproject.toml | .venv/bin/python
	$(bin)/python -m pip install -q -e ".[test]" && touch $@

.venv/developed: pyproject.toml | .venv/bin/python
	$(bin)/python -m pip install -q -e ".[dev]" && touch $@

# torch first, and pinned for all that follows: a framework must not bring another build of it
.venv-frameworks/installed: pyproject.toml tests/frameworks/requirements.txt
	$(PYTHON) -m venv .venv-frameworks
	$(frameworks)/python -c "import torch" 2>/dev/null || $(frameworks)/python -m pip install -q "$(TORCH)"
	$(frameworks)/python -m pip freeze | grep -i "^torch==" | sed "s/ .*//" > .venv-frameworks/constraints.txt
	$(frameworks)/python -m pip install -q -c .venv-frameworks/constraints.txt -e ".[test]" -r tests/frameworks/requirements.txt
	$(frameworks)/python -m pip install -q --no-deps "d3rlpy==2.8.1" && touch $@
