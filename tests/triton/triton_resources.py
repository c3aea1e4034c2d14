"""What Triton made of its kernels, compiled ahead of time: registers, memory and the instructions that their design
asks for. No GPU needed.

    python tests/triton/triton_resources.py            print the table
    python tests/triton/triton_resources.py --write    write this version's rows to tests/triton/resources.csv
"""

import re
import subprocess
import sys
import tempfile
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import triton

from svconv.triton.compile import TARGETS, Specialisation, compile, specialisations

TABLE = Path(__file__).with_name("resources.csv")
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
# Bytes that a block may have.
SHARED_LIMITS = {"sm_80": 163 << 10, "sm_90": 227 << 10, "sm_100": 227 << 10, "sm_120": 99 << 10, "gfx942": 64 << 10}
# Products on tensor cores, by what they are called on each GPU.
TENSOR_CORES = r"wgmma\.mma_async|mma\.sync|tcgen05\.mma\.|v_mfma_"


@dataclass(frozen=True)
class Row:
    """One kernel on one GPU. `stack` is bytes a thread on NVIDIA, where spilled registers are kept, and the number of
    spilled registers on AMD; `shared` is bytes a block; `products` are instructions of tensor cores."""

    triton: str
    kernel: str
    target: str
    registers: int
    stack: int
    shared: int
    products: int


def read(specialisation: Specialisation, target: str) -> Row:
    kernel = compile(specialisation, TARGETS[target])
    if "cubin" in kernel.asm:
        registers, stack = _usage(kernel.asm["cubin"])
        code = kernel.asm["ptx"]
    else:
        code = kernel.asm["amdgcn"]
        registers, stack = (
            int(re.search(rf"\.{name}:\s*(\d+)", code)[1]) for name in ("vgpr_count", "vgpr_spill_count")
        )
    products = len(re.findall(TENSOR_CORES, code))
    return Row(triton.__version__, str(specialisation), target, registers, stack, kernel.metadata.shared, products)


def _usage(cubin: bytes) -> tuple[int, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [CUOBJDUMP, "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(int(re.search(rf"{name}:(\d+)", text)[1]) for name in ("REG", "STACK"))


def format_rows(rows: list[Row]) -> str:
    return "".join(";".join(map(str, astuple(row))) + "\n" for row in rows)


def read_table() -> list[Row]:
    """Return the committed rows, of one or more versions of Triton."""
    _, *rows = TABLE.read_text().splitlines()
    return [Row(*words[:3], *map(int, words[3:])) for words in (row.split(";") for row in rows)]


if __name__ == "__main__":
    rows = [read(each, target) for target in TARGETS for each in specialisations(target)]
    if "--write" in sys.argv[1:]:
        others = [row for row in read_table() if row.triton != triton.__version__] if TABLE.exists() else []
        header = ";".join(field.name for field in fields(Row)) + "\n"
        TABLE.write_text(header + format_rows(sorted(others + rows, key=lambda row: (row.triton, row.target))))
    else:
        print(format_rows(rows), end="")
