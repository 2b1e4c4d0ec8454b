# One word per chore, the same here and in CI.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint validate evidence fit agreement bench conformance clean

demo: $(VENV)/.demo ## Llama-3.1-405B training and GPT-OSS-120B serving on Trainium3, against Trainium2 and Nvidia
	$(BIN)/trainshed demo --out build/demo

test: $(VENV)/.dev lint ## everything but the validation tables and the benchmarks
	$(BIN)/pytest -n 2

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports

validate: $(VENV)/.dev ## predictions beside every published measurement; rewrites docs/accuracy.md
	$(BIN)/trainshed validate --page docs/accuracy.md --plot build/validate.svg

fit: $(VENV)/.dev ## fit the constants in hardware/fitted.toml and software/fitted.toml again
	$(BIN)/python -m trainshed.validate.fit

evidence: $(VENV)/.dev ## the table behind every answer's evidence, each group left out of its own fit
	$(BIN)/trainshed validate --write-evidence

agreement: $(VENV)/.dev ## operator formulas beside simulated kernels; rewrites docs/kernels-agreement.md
	$(BIN)/python -m trainshed.kernels.agreement

bench: $(VENV)/.dev ## speed, each figure with a ratio
	$(BIN)/python bench/plan.py
	$(BIN)/python bench/kernel.py
	$(BIN)/python bench/fabric.py

conformance: $(VENV)/.conformance ## AWS's kernel library's own suite (NKI_LIBRARY=path) on us (TIME=1: timed, too); rewrites docs/conformance.md
	$(BIN)/python -m trainshed.nki.conformance $(NKI_LIBRARY) $(if $(TIME),--time) --page docs/conformance.md

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[plots]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.conformance: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[conformance]'
	touch $@ $(VENV)/.dev $(VENV)/.demo

clean:
	rm -rf build $(VENV)
