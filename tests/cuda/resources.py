"""What the compiler made of the CUDA kernels, read from the built library: registers and memory of each kernel and the
instructions that its design asks for.

    python tests/cuda/resources.py svconv/svconv_ops.so            print the table
    python tests/cuda/resources.py svconv/svconv_ops.so --write    write it to tests/cuda/resources.csv

Needs cuobjdump and nvdisasm, of the CUDA toolkit or of the packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import astuple, dataclass, fields
from pathlib import Path

TABLE = Path(__file__).with_name("resources.csv")
# Tensor-core product, one in tf32, matrix load, asynchronous copy, exact product, local memory.
INSTRUCTIONS = ("HMMA", "TF32", "LDSM", "LDGSTS", "FFMA", "LDL", "STL")


@dataclass(frozen=True)
class Kernel:
    """One kernel on one architecture. `stack` and `local` are bytes a thread; spilled registers show in `stack` and in
    the instructions ldl and stl. Shared memory is dynamic in all kernels (launch.cu)."""

    name: str
    architecture: str
    registers: int
    stack: int
    local: int
    hmma: int
    tf32: int
    ldsm: int
    ldgsts: int
    ffma: int
    ldl: int
    stl: int

    @property
    def specialised(self) -> bool:
        return self.name.startswith(("band_", "fma_"))


def tools() -> Path | None:
    """Return the folder that holds cuobjdump and nvdisasm, or None."""
    packages = [Path(entry) / "nvidia" / "cu13" / "bin" for entry in sys.path]
    toolkit = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"
    found = [Path(p).parent for p in [shutil.which("cuobjdump")] if p]
    for folder in (*found, toolkit, *packages):
        if all(os.access(folder / name, os.X_OK) for name in ("cuobjdump", "nvdisasm")):
            return folder
    return None


def _dump(library: Path, option: str) -> str:
    folder = tools()
    if folder is None:
        raise RuntimeError(
            "resources: expected cuobjdump and nvdisasm on the PATH or in $CUDA_HOME/bin; "
            "install nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm"
        )
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = [folder / "cuobjdump", option, library]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def _readable(mangled: str) -> str:
    """band_sum<bfloat16_t, 9, channels inside> from the mangled name; the template arguments of this library only."""
    names = "band_sum|band_gradient|fma_sum|fma_gradient|log_sum_exp|weighted_sum|weight_gradient"
    name, arguments = re.search(f"({names})I(.*?)EEv", mangled).groups()
    text = ["".join(found) for found in re.findall(r"(bfloat16_t|half_t)|Li(\d+)|(Lb[01])|^([fd])", arguments)]
    words = {"f": "float", "d": "double", "Lb0": "columns inside", "Lb1": "channels inside"}
    return f"{name}<{', '.join(words.get(word, word) for word in text)}>"


def read(library: Path) -> list[Kernel]:
    """All kernels of the library, by name and architecture."""
    usage, architecture = {}, ""
    for line in _dump(library, "--dump-resource-usage").splitlines():
        if found := re.match(r"arch = (sm_\d+)", line.strip()):
            architecture = found[1]
        elif found := re.match(r"Function (\S+):", line.strip()):
            name = found[1]
        elif "REG:" in line:
            numbers = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", line))
            usage[name, architecture] = [int(numbers[key]) for key in ("REG", "STACK", "LOCAL")]
    counts = {key: Counter() for key in usage}
    for line in _dump(library, "--dump-sass").splitlines():
        if found := re.match(r"arch = (sm_\d+)", line.strip()):
            architecture = found[1]
        elif found := re.match(r"Function : (\S+)", line.strip()):
            name = found[1]
        elif found := re.match(r"/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z0-9]+)(\S*)", line.strip()):
            counts[name, architecture][found[1]] += 1
            counts[name, architecture]["TF32"] += found[1] == "HMMA" and found[2].endswith(".TF32")
    kernels = [
        Kernel(_readable(name), architecture, *numbers, *(counts[name, architecture][i] for i in INSTRUCTIONS))
        for (name, architecture), numbers in usage.items()
    ]
    return sorted(kernels, key=lambda kernel: (kernel.name, int(kernel.architecture[3:])))


def format_table(kernels: list[Kernel]) -> str:
    rows = [[field.name for field in fields(Kernel)], *([str(value) for value in astuple(k)] for k in kernels)]
    return "".join(";".join(row) + "\n" for row in rows)


def read_table() -> tuple[str, list[Kernel]]:
    """Return the committed table: the version of nvcc it was made with, and its kernels."""
    compiler, _, *rows = TABLE.read_text().splitlines()
    parsed = (row.split(";") for row in rows)
    return compiler, [Kernel(name, architecture, *map(int, numbers)) for name, architecture, *numbers in parsed]


if __name__ == "__main__":
    table = format_table(read(Path(sys.argv[1])))
    if "--write" in sys.argv[2:]:
        version = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
        TABLE.write_text("nvcc " + re.search(r"V(\d+\.\d+\.\d+)", version)[1] + "\n" + table)
    else:
        print(table, end="")
