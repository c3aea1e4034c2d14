"""The CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer: check_products.cpp and check_windows.cpp, once
for each width of vectors that this machine has."""

import shutil
import subprocess
from pathlib import Path

import pytest

from svconv import _C

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "csrc" / "cpu"
FLAGS = (
    "-std=c++17 -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -ffp-contract=fast -fno-math-errno "
    "-Wno-psabi -Wno-maybe-uninitialized -DSVCONV_ISA=baseline"
).split()
# Each set's bytes of a vector, pixels of a tile and flags are those of CMakeLists.txt.
SETS = {
    "baseline": (16, 6, ""),
    "avx2": (32, 6, "-mavx2 -mfma -mf16c"),
    "avx512": (64, 12, "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c -mprefer-vector-width=512"),
}
HERE_SUPPORTED = [name for name, supported in _C.instruction_sets().items() if supported]


def checked(source: Path, instruction_set: str, folder: Path) -> subprocess.CompletedProcess:
    """What became of the program of `source` and the kernels, compiled for one instruction set."""
    vector, tile, flags = SETS[instruction_set]
    compiler = shutil.which("c++") or "g++"
    command = [compiler, *FLAGS, f"-DSVCONV_VECTOR_BYTES={vector}", f"-DSVCONV_TILE_PIXELS={tile}", *flags.split()]
    sources = [*sorted(KERNELS.glob("*.cpp")), source]
    subprocess.run([*command, f"-I{KERNELS}", *sources, "-o", folder / "program"], check=True)
    return subprocess.run([folder / "program"], capture_output=True, text=True)


@pytest.mark.sample(7)
@pytest.mark.parametrize("program", ["check_products.cpp", "check_windows.cpp"])
@pytest.mark.parametrize("instruction_set", HERE_SUPPORTED)
def test_the_cpu_kernels_stay_within_their_tensors(instruction_set, program, tmp_path):
    done = checked(HERE / program, instruction_set, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.thorough
def test_a_tensor_that_lacks_its_last_number_is_reported(tmp_path):
    text, whole = (HERE / "check_products.cpp").read_text(), "data(N * channels * H * W,"
    assert text.count(whole) == 1
    (tmp_path / "check_short.cpp").write_text(text.replace(whole, "data(N * channels * H * W - 1,"))
    done = checked(tmp_path / "check_short.cpp", "baseline", tmp_path)
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr
    assert "svconv::cpu::baseline" in done.stderr
