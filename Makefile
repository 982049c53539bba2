# Everything a new machine needs is set up here; uv is fetched with pip where it is missing.
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .venv/uv/bin/uv)
RUN := $(UV) run --no-sync
# Two at a time: many tests wait for a server to time out. A file's tests stay together, since they share servers and models.
TEST := $(RUN) pytest -n 2 --dist loadfile

.PHONY: demo test check format setup wheel

demo: setup
	$(RUN) evalsuite demo

test: setup
	$(TEST)

check: setup
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(TEST)

format: setup
	$(RUN) ruff format
	$(RUN) ruff check --fix

wheel: setup
	$(RUN) python -m build --no-isolation

setup: .venv/ready

# The stamp keeps a second `make demo` from asking the package index anything.
.venv/ready: pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen
	touch $@

.venv/uv/bin/uv:
	$(PYTHON) -m venv .venv/uv
	.venv/uv/bin/pip install --quiet uv
