# make run   set up .venv, then the main job: measure, fit and run CWMP on this machine
# make test  set up .venv, then every test
# make profile-gpu   record what an NVIDIA GPU spends, into out/gpu or $OUT, in at most 25 minutes;
#                    installs nothing: needs a Python with torch (CUDA) and NumPy (docs/gpu-session.md)
#
# make TORCH='torch==2.8.0' ...            another torch than the pinned one
# make TORCH_INDEX=URL ...                 a package index with CPU builds of torch, asked first
# make VENV_FLAGS=--system-site-packages   keep the torch that this machine already has
# make run DEMO='--quick'                  arguments for the demo (--force: out/ is made anew)
# make profile-gpu GPU='--minutes 10'      arguments for the session (--stages, --device, --meter)
# make test TESTS='tests/profiler -x'      arguments for pytest
# make test JOBS=1                         tests in one process; otherwise in two, each with one torch thread
# make test EXTRAS=dev,report,flower       what is installed besides; Flower's tests need flower

PYTHON ?= python3
VENV ?= .venv
VENV_FLAGS ?=
TORCH ?=
TORCH_INDEX ?=
DEMO ?=
TESTS ?=
JOBS ?= 2
EXTRAS ?= dev,report
GPU ?=
OUT ?= out/gpu

PIP = $(VENV)/bin/python -m pip install --disable-pip-version-check --constraint $(VENV)/constraints.txt
INDEX = $(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)')
PINNED = $(shell grep '^torch==' constraints.txt)
MODERN = import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ": make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)
# Tests of a file stay together, in the order in which they are collected.
SHARED = $(if $(filter-out 0 1,$(JOBS)),-n $(JOBS) --dist loadgroup --no-loadscope-reorder)
STAMP = $(VENV)/.installed-$(subst /,_,$(subst $() ,_,$(TORCH)-$(EXTRAS)))

.PHONY: run test setup clean profile-gpu
run: $(STAMP)
	@$(VENV)/bin/cwmp demo --force $(DEMO)

test: $(STAMP)
	@$(if $(SHARED),OMP_NUM_THREADS=1) $(VENV)/bin/python -m pytest $(SHARED) $(TESTS)

# Whatever Python the machine has: no environment is made, and nothing is downloaded.
profile-gpu:
	@$(PYTHON) -c '$(MODERN)'
	@PYTHONPATH=. $(PYTHON) -u -m cwmp.gpu_session --out '$(OUT)' $(GPU)

setup: $(STAMP)

# torch goes first and alone: nothing that comes later can then pull in another build of it.
# A CPU build is asked for by name; an index without one has only builds that bring CUDA along.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(MODERN)'
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	@grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	@if [ -n '$(TORCH)' ]; then $(PIP) $(INDEX) '$(TORCH)'; \
	elif $(VENV)/bin/python -c 'import torch' 2>/dev/null; then echo 'keeping the torch that is there'; \
	elif $(PIP) $(INDEX) '$(PINNED)+cpu' 2>/dev/null; then :; \
	else echo 'no CPU build of $(PINNED) on this package index: taking its default build, which may be large (make TORCH_INDEX=URL names an index with CPU builds)'; \
	$(PIP) $(INDEX) '$(PINNED)'; fi
	$(PIP) --editable '.[$(EXTRAS)]'
	@$(VENV)/bin/python -m cwmp.compile_kernels
	@rm -f $(VENV)/.installed-* && touch '$@'

clean:
	rm -rf $(VENV) out
