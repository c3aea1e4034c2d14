"""`make gpu`: everything that needs an NVIDIA GPU, in stages; what must be right comes before what is fast.

    python tests/gpu/run.py                     on the GPU at hand; builds for its architecture alone
    python tests/gpu/run.py --simulate          each stage's stand-in on a machine without one, a short part of it
    python tests/gpu/run.py kernels operator    these stages

Each stage's log and `status.json` are written when it ends, even if others fail: in benchmarks/results/<gpu>, or where
--out says. The exit status is 1 if a stage failed. Nothing is downloaded or installed.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 560  # of all stages
SANITIZERS = {"memcheck": ["--report-api-errors", "no"], "racecheck": [], "initcheck": [], "synccheck": []}
PYTHON = sys.executable
BENCHMARKS = (PYTHON, "-m", "benchmarks")
LATENCY = (PYTHON, "-m", "lowlat", "latency")
PROGRAMS = ("nvcc", "cmake", "ninja", "compute-sanitizer")


@dataclass(frozen=True)
class Gpu:
    name: str
    architecture: str  # "90"
    megabytes: int

    @property
    def folder(self) -> Path:
        return ROOT / "benchmarks" / "results" / re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class Stage:
    """Commands that run in order, or `why_not`, the reason why they can't."""

    commands: tuple[tuple[str, ...], ...] = ()
    seconds: float = 60
    needs: tuple[str, ...] = ()  # of PROGRAMS, or packages of this Python
    why_not: str = ""


@dataclass
class Outcome:
    stage: str
    status: str  # "passed", "failed", "not run"
    why: str = ""
    seconds: float = 0.0
    last_line: str = ""


ENGINE = ("tests/runtime/test_segmenter.py", "tests/runtime/test_on_device.py")


def find_gpu() -> Gpu | str:
    """Return the first GPU, or the reason why there is none."""
    query = ["nvidia-smi", "--query-gpu=compute_cap,memory.total,name", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True)
    except FileNotFoundError:
        return "no nvidia-smi"
    found = re.match(r"(\d+)\.(\d+), (\d+), (.+)", answer.stdout)
    if not found:
        return f"nvidia-smi says: {(answer.stdout or answer.stderr).strip()}"
    return Gpu(found[4].strip(), found[1] + found[2], int(found[3]))


def pytest(*arguments: str) -> tuple[str, ...]:
    return (PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)


def stages_on(gpu: Gpu, out: Path) -> dict[str, Stage]:
    """Return the stages on a GPU."""
    # Thorough tests too, in any case.
    marked = "memory or not memory" if gpu.megabytes > 20_000 else "not memory"
    short_set = (PYTHON, "tests/gpu/short_set.py", "cuda")
    triton = "cuda and (sizes and nchw or opcheck and float32 or compiled_package or captured_graph and bfloat16)"
    # A minute of 30 frames a second at the paper's size.
    live = ("--size", "2048x1024", "--dtype", "bfloat16", "--out", str(out / "latency"))
    return {
        "build": Stage(
            ((PYTHON, "setup.py", "--quiet", "build_ext", "--inplace"),),
            200,
            ("nvcc", "cmake", "ninja", "setuptools", "pybind11", "torch"),
        ),
        "kernels": Stage(((PYTHON, "tests/simulator/on_gpu.py", "-q"),), 150, ("nvcc", "pytest", "hypothesis")),
        "operator": Stage((pytest("tests/svconv", "-k", "cuda", "-m", marked),), 200, ("pytest", "onnxruntime")),
        "sanitizers": Stage(
            tuple(
                ("compute-sanitizer", "--tool", tool, "--error-exitcode", "1", *options, *short_set)
                for tool, options in SANITIZERS.items()
            ),
            120,
            ("compute-sanitizer",),
        ),
        # The door's own tests, and those of the engine behind it.
        "engine": Stage((pytest(*ENGINE, "-k", "cuda", "-m", marked),), 240, ("pytest", "hypothesis")),
        "latency": Stage(
            ((*LATENCY, "--network", "resnet101", *live, "--device", "cuda", "--frames", "1800", "--fps", "30"),),
            140,
            ("typer", "rich", "matplotlib"),
        ),
        "benchmarks": Stage(
            ((*BENCHMARKS, "--preset", "gpu", "--device", "cuda", "--budget", "2", "--out", str(out), "--plots"),),
            200,
            ("typer", "rich", "matplotlib"),
        ),
        # Each problem has kernels of its own, which take seconds to compile: a part of the operator's tests.
        "triton": Stage(
            (pytest("tests/svconv", "--backend", "triton", "-k", triton, "-m", "not memory"),),
            200,
            ("pytest", "onnxruntime", "triton"),
        ),
    }


def stages_off(out: Path) -> dict[str, Stage]:
    """Return the stages that stand for them without a GPU: a short part of what `make check` runs in full."""
    simulator = ("tests/simulator/test_primitives.py", "tests/simulator/test_products.py")
    kernels = "none and mma_m16n8k16 or generic_kernel and float32"
    operator = ("tests/svconv/test_svconv_out.py", "tests/svconv/test_svconv_transforms.py")
    benchmark = ("live-64", "--directions", "forward", "--contender", "svconv", "--device", "cpu")
    live = ("--size", "64x48", "--frames", "10", "--fps", "20", "--baseline-frames", "3", "--table-frames", "3")
    return {
        "build": Stage(why_not="the library at hand is tested; tests/cuda looks at its kernels"),
        "kernels": Stage((pytest(*simulator, "-k", kernels),), SECONDS),
        "operator": Stage((pytest(*operator, "-k", "cpu and (opcheck or vmap_in_vmap)"),), SECONDS),
        "sanitizers": Stage(((PYTHON, "tests/gpu/short_set.py", "cpu"),), SECONDS),
        "engine": Stage((pytest("tests/runtime/test_on_device.py", "-k", "fake and memory"),), SECONDS),
        "latency": Stage(((*LATENCY, *live, "--out", str(out / "latency")),), SECONDS),
        "benchmarks": Stage(
            ((*BENCHMARKS, *benchmark, "--budget", "0.2", "--repetitions", "3", "--out", str(out), "--plots"),), SECONDS
        ),
        "triton": Stage(
            (pytest("tests/triton/test_triton_cache.py", "-k", "fastest or window"),), SECONDS, ("triton",)
        ),
    }


def missing(needs: tuple[str, ...]) -> list[str]:
    def found(name: str) -> object:
        return shutil.which(name, path=search_path()) if name in PROGRAMS else importlib.util.find_spec(name)

    return [name for name in needs if not found(name)]


def search_path() -> str:
    """Return where programs are looked for: first those that came with this Python's packages, then the machine's."""
    return os.pathsep.join([str(Path(PYTHON).parent), os.environ.get("PATH", ""), "/usr/local/cuda/bin"])


def run(name: str, stage: Stage, log: Path, seconds: float, settings: dict[str, str]) -> Outcome:
    """Run a stage within ``seconds`` seconds."""
    if stage.why_not:
        return Outcome(name, "not run", stage.why_not)
    if absent := missing(stage.needs):
        return Outcome(name, "not run", f"not on this machine: {', '.join(absent)}")
    if seconds <= 0:
        return Outcome(name, "not run", f"the {SECONDS} s of all stages are spent")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PATH": search_path(), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **settings}
    start, failures = time.monotonic(), []
    with log.open("w") as file:
        for command in stage.commands:
            print(">", *command, file=file, flush=True)
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                if status := process.wait(max(start + seconds - time.monotonic(), 0)):
                    failures.append(f"exit status {status} of {' '.join(command)}")
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                failures.append(f"stopped after {seconds:.0f} s: {' '.join(command)}")
                break
    status, spent = "failed" if failures else "passed", round(time.monotonic() - start, 1)
    return Outcome(name, status, "; ".join(failures), spent, log.read_text(errors="replace").strip().splitlines()[-1])


def built_for(architecture: str) -> bool:
    """Whether svconv in this repository has kernels for the architecture."""
    program = f"from svconv.info import built_for; raise SystemExit(not built_for({architecture}))"
    return subprocess.run([PYTHON, "-c", program], cwd=ROOT, capture_output=True).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help=f"by default all: {', '.join(stages_off(ROOT))}")
    parser.add_argument("--simulate", action="store_true", help="without a GPU")
    parser.add_argument("--out", type=Path, help="folder of the results")
    options = parser.parse_args()
    if unknown := set(options.stages) - set(stages_off(ROOT)):
        parser.error(f"expected stages of {', '.join(stages_off(ROOT))}, got {', '.join(unknown)}")
    gpu = None if options.simulate else find_gpu()
    if isinstance(gpu, str):
        print(f"make gpu: no NVIDIA GPU here ({gpu}); python tests/gpu/run.py --simulate runs what can run without one")
        return 1
    out = (options.out or (gpu.folder if gpu else ROOT / "build" / "gpu")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    stages = stages_on(gpu, out) if gpu else stages_off(out)
    settings = {"SVCONV_CUDA": "ON", "SVCONV_CUDA_ARCHS": gpu.architecture} if gpu else {}
    device = f"{gpu.name}, sm_{gpu.architecture}" if gpu else "no GPU"
    print(f"{device}; results in {out}", flush=True)
    end = time.monotonic() + SECONDS
    outcomes = []
    for name, stage in stages.items():
        if options.stages and name not in options.stages:
            continue
        if gpu and name != "build" and not built_for(gpu.architecture):
            stage = Stage(why_not=f"svconv here has no kernels for sm_{gpu.architecture}; see build.log")
        left = end - time.monotonic()
        outcomes.append(run(name, stage, out / f"{name}.log", min(stage.seconds, left), settings))
        report = {"device": device, "stages": [asdict(outcome) for outcome in outcomes]}
        (out / "status.json").write_text(json.dumps(report, indent=1) + "\n")
        done = outcomes[-1]
        print(f"{name}: {done.status}, {done.seconds} s; {done.why or done.last_line}", flush=True)
    return int(any(outcome.status == "failed" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
