"""Builds programs of the simulator and calls functions in them: each program is a process of its own, so that a kernel
that fails a check can't take the tests with it."""

import hashlib
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from filelock import FileLock

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
KERNELS = REPOSITORY / "csrc" / "cuda"
BUILD = REPOSITORY / "build" / "simulator"

# Automatic variables start as a huge number, as registers on a GPU start as anything.
FLAGS = "-std=c++17 -O1 -g1 -DSVCONV_SIMULATE -ftrivial-auto-var-init=pattern -Wall -Wno-unknown-pragmas".split()
SANITIZERS = {
    "none": [],
    "address": ["-Og", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}
RUNTIME = tuple(HERE / f"{name}.cpp" for name in ("scheduler", "barriers", "memory", "instructions", "server"))
ORDERS = {"forward": (0, 0), "reverse": (1, 0), "random": (2, 1)}
# Dynamic shared memory of a block: the smallest of the architectures, sm_120's.
SHARED_LIMIT = 99 * 1024
# A program may take so much CPU time, far beyond what all tests take.
CPU_SECONDS = 1200


class SimulatorError(Exception):
    """The simulated program ended with a report."""


def compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("g++")
    if not found:
        raise RuntimeError("the simulator needs g++ 12 or later: install it or set CXX")
    return found


@cache
def _version(compiler: str) -> bytes:
    return subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout


def once(compiler: str, command: list[str], name: str, inputs: Callable[[], list[bytes]] = list) -> Path:
    """Return the output of a compiler command, from build/ where the same inputs gave it before."""
    before = inputs()
    key = hashlib.sha256(b"\0".join([_version(compiler), *(part.encode() for part in command), *before]))
    output = BUILD / f"{Path(name).stem}-{key.hexdigest()[:20]}{Path(name).suffix}"
    if not output.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        # Another process of the same tests may be making it.
        with FileLock(f"{output}.lock"):
            if not output.exists():
                _make(compiler, command, output, lambda: inputs() == before)
    return output


def _make(compiler: str, command: list[str], output: Path, unchanged: Callable[[], bool]) -> None:
    """Runs the command; `output` appears whole, and only if its inputs are `unchanged()` at the end."""
    with tempfile.TemporaryDirectory(dir=BUILD) as directory:
        made = Path(directory) / "out"
        done = subprocess.run([compiler, *command, "-o", str(made)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
        if not unchanged():
            raise RuntimeError(f"{output.name}: its sources changed during the build; build again")
        made.replace(output)


def compile(source: Path, sanitizer: str = "none", kernels: Path = KERNELS) -> Path:
    """Return the object file of a source, with the headers of `kernels`."""
    flags = [*FLAGS, *SANITIZERS[sanitizer]]
    if source in RUNTIME and sanitizer == "thread":
        flags = [*FLAGS, "-DSVCONV_TSAN"]
    if source in RUNTIME:
        flags.append("-O2")
    directories = (kernels, REPOSITORY / "csrc", HERE)
    command = [*flags, *(f"-I{directory}" for directory in directories), "-x", "c++", "-c", str(source)]

    def inputs() -> list[bytes]:
        text = source.read_text()
        headers = sorted(file for directory in directories for file in directory.glob("*.h"))
        tables = sorted(file for file in source.parent.glob("*.csv") if f'#include "{file.name}"' in text)
        return [text.encode(), *(file.read_bytes() for file in (*headers, *tables))]

    return once(compiler(), command, f"{source.stem}-{sanitizer}.o", inputs)


def link(objects: list[Path], sanitizer: str = "none") -> Path:
    return once(compiler(), [*SANITIZERS[sanitizer], *map(str, objects)], f"program-{sanitizer}")


def build(sources: list[Path], sanitizer: str = "none") -> Path:
    """Return a program of the simulator and these sources."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return link(list(pool.map(lambda source: compile(source, sanitizer), (*RUNTIME, *sources))), sanitizer)


class Program:
    """Calls functions that a program has registered (server.h). Starts at the first call, and again after a failure."""

    def __init__(self, path: Path):
        self._path = path
        self._process = None

    def __call__(self, name: str, numbers=(), buffers=(), order: str = "forward", shared_limit: int = SHARED_LIMIT):
        """Return the buffers as the function leaves them. Raises SimulatorError with the report where a check fails."""
        if self._process is None:
            self._start()
        process, arrays = self._process, [np.ascontiguousarray(buffer) for buffer in buffers]
        header = [name, *ORDERS[order], shared_limit, len(numbers), *map(int, numbers), len(arrays)]
        header += [array.nbytes for array in arrays]
        try:
            process.stdin.write(" ".join(map(str, header)).encode() + b"\n")
            for array in arrays:
                process.stdin.write(memoryview(array).cast("B") if array.nbytes else b"")
            process.stdin.flush()
        except BrokenPipeError:
            self._fail()
        if process.stdout.readline() != b"done\n":
            self._fail()
        answers = [process.stdout.read(array.nbytes) for array in arrays]
        if sum(map(len, answers)) != sum(array.nbytes for array in arrays):
            self._fail()
        return [
            np.frombuffer(answer, array.dtype).reshape(array.shape).copy()
            for answer, array in zip(answers, arrays, strict=True)
        ]

    def _start(self):
        options = "abort_on_error=0:exitcode=3:halt_on_error=1:detect_leaks=0:print_stacktrace=1:report_signal_unsafe=0"
        environment = {name: options for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")}
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **environment},
            # A kernel that never ends is ended.
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS)),
        )

    def _fail(self):
        self.close()
        self._errors.seek(0)
        raise SimulatorError(self._errors.read().decode(errors="replace") or f"exit status {self._status}")

    def close(self):
        """Ends the process."""
        if self._process is not None:
            self._process.stdout.close()
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                pass
            self._status = self._process.wait()
            self._process = None
