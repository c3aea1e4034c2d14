"""What the compiler made of the CUDA kernels: the table in resources.csv, and what the design asks for."""

from pathlib import Path

import pytest
import resources

import svconv


@pytest.fixture(scope="module")
def kernels():
    """The kernels of the installed library."""
    built = svconv.build_info()["cuda"]
    if built.startswith("none"):
        pytest.skip(f"no CUDA kernels to look at: {built}")
    return resources.read(Path(svconv.__file__).with_name("svconv_ops.so"))


def test_every_architecture_has_every_kernel(kernels):
    built = svconv.build_info()["cuda"]
    architectures = {kernel.architecture for kernel in kernels}
    assert all(architecture in built for architecture in architectures)
    names = {kernel.name for kernel in kernels}
    assert {(k.name, k.architecture) for k in kernels} == {(name, arch) for name in names for arch in architectures}


def test_resources_are_those_of_the_table(kernels):
    compiler, table = resources.read_table()
    if compiler not in svconv.build_info()["cuda"]:
        pytest.skip(f"the table was made with {compiler}, this build with another: {svconv.build_info()['cuda']}")
    architectures = {kernel.architecture for kernel in kernels}
    expected = [kernel for kernel in table if kernel.architecture in architectures]
    # After a change: python tests/cuda/resources.py svconv/svconv_ops.so --write
    assert resources.format_table(kernels) == resources.format_table(expected)


def test_specialised_kernels_use_no_local_memory(kernels):
    spilled = [k for k in kernels if k.specialised and (k.stack, k.local, k.ldl, k.stl) != (0, 0, 0, 0)]
    assert spilled == []


def test_band_kernels_run_on_tensor_cores_from_matrix_loads_and_asynchronous_copies(kernels):
    for kernel in kernels:
        if kernel.name.startswith("band_") and "<float," not in kernel.name:
            K = int(kernel.name.split(", ")[1])
            gradient = "gradient" in kernel.name
            if K <= 9:
                # 4 rows x K tap rows; a window row each for 4 + K - 1 lines, and grad_out's two.
                products, loads = 4 * K, 4 + K - 1 + 2 * gradient
            else:
                # A window row in two loads. 16 and 8 columns for each of 4 rows and tap rows; in the gradient 3 x 8 for
                # each of the lines of 2 rows.
                products, loads = (3 * (K + 1), 2 * (K + 1) + 1) if gradient else (2 * 4 * K, 2 * (4 + K - 1))
            assert (kernel.hmma, kernel.tf32, kernel.ldsm) == (products, 0, loads), kernel
            assert kernel.ldgsts > 0, kernel


def test_band_kernels_of_float32_run_on_tensor_cores_in_tf32(kernels):
    for kernel in kernels:
        if kernel.name.startswith(("band_sum<float,", "band_gradient<float,")):
            K = int(kernel.name.split(", ")[1])
            # 4 rows x K tap rows; a weighted sum takes 2 steps of 8 columns, channels inside for 2 x 16 channels.
            products = 1 if "gradient" in kernel.name else 4 if "channels inside" in kernel.name else 2
            assert kernel.hmma == kernel.tf32 == 4 * K * products, kernel
            assert kernel.ldgsts > 0, kernel


def test_float32_kernels_multiply_exactly(kernels):
    for kernel in kernels:
        if kernel.name.startswith("fma_"):
            assert kernel.hmma == 0 and kernel.ffma >= 8 * int(kernel.name[:-1].split("<")[1]), kernel
