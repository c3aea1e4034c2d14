"""Compiles the kernels ahead of time, for GPUs that are not at hand; tests look at the result."""

from collections.abc import Iterator
from dataclasses import dataclass

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from svconv.triton import configs
from svconv.triton.band import band_gradient, band_sum
from svconv.triton.configs import Config
from svconv.triton.taps import taps_gradient, taps_jacobian, taps_sum

KERNELS = {kernel.fn.__name__: kernel for kernel in (band_sum, band_gradient, taps_sum, taps_gradient, taps_jacobian)}
TARGETS = {f"sm_{capability}": GPUTarget("cuda", capability, 32) for capability in (80, 90, 100, 120)}
TARGETS["gfx942"] = GPUTarget("hip", "gfx942", 64)
# Strides of 1, by memory layout.
UNIT_STRIDES = {"channels_last": "_c", "nchw": "_x"}


@dataclass(frozen=True)
class Specialisation:
    """A kernel as it is compiled for one class of problems: sizes and strides are multiples of 16, pointers aligned."""

    kernel: str
    dtype: str  # Triton's name: "bf16", "fp32"
    kernel_size: int
    layout: str
    config: Config
    reversed: bool = False

    def __str__(self) -> str:
        reversed = "reversed " if self.reversed else ""
        tile = f"{self.config.rows}x{self.config.columns}x{self.config.channels}"
        launch = f"{self.config.warps} warps, {self.config.stages} stages"
        return f"{self.kernel} {reversed}{self.dtype} K={self.kernel_size} {self.layout} {tile}, {launch}"

    def constants(self) -> dict[str, object]:
        config = self.config
        values = {
            "K": self.kernel_size,
            "REVERSED": self.reversed,
            "NORMALIZE": True,
            "RENORMALIZE": False,
            "PRECISION": "tf32" if self.dtype == "fp32" else "ieee",
            "UPCAST": False,
            "WIDE": False,
            "ROWS": config.rows,
            "COLUMNS": config.columns,
            "WINDOW_ROWS": configs.window_rows(self.kernel_size, config.rows),
            "CHANNELS": config.channels,
            "TAPS": config.taps,
        }
        return {name: value for name, value in values.items() if name in KERNELS[self.kernel].arg_names}


def compile(specialisation: Specialisation, target: GPUTarget) -> triton.compiler.CompiledKernel:
    """Compile the kernel for this target, which need not be here; `asm` and `metadata` of the result say what came of
    it."""
    kernel = KERNELS[specialisation.kernel]
    constants = specialisation.constants()
    accumulation = "fp64" if specialisation.dtype == "fp64" else "fp32"
    signature, attributes, values = {}, {}, {}
    for index, name in enumerate(kernel.arg_names):
        unit = name.endswith(UNIT_STRIDES[specialisation.layout]) or name in ("groups", "dilation")
        if name in constants or unit:
            signature[name], values[(index,)] = "constexpr", constants.get(name, 1)
            continue
        full = name in ("lse_ptr", "weights_grad_ptr") or (name, specialisation.kernel) == ("out_ptr", "taps_gradient")
        pointer = "*" + (accumulation if full else specialisation.dtype)
        signature[name] = pointer if name.endswith("_ptr") else "i32"
        attributes[(index,)] = [["tt.divisibility", 16]]
    options = {"num_warps": specialisation.config.warps, "num_stages": specialisation.config.stages}
    return triton.compile(ASTSource(kernel, signature, values, attributes), target=target, options=options)


def specialisations(target: str) -> Iterator[Specialisation]:
    """Return the kernels of a target that run unmeasured: the products in bfloat16 and float32, and for Hopper and
    AMD's GPU more types, layouts and kernel sizes."""
    amd = TARGETS[target].backend == "hip"

    def band(dtype: str, kernel_size: int, layout: str) -> Iterator[Specialisation]:
        itemsize = 4 if dtype == "fp32" else 2
        config = configs.candidates("sum", "band", kernel_size, itemsize, amd)[0]
        for transposed in (False, True):
            yield Specialisation("band_sum", dtype, kernel_size, layout, config, transposed)
        config = configs.candidates("gradient", "band", kernel_size, itemsize, amd)[0]
        yield Specialisation("band_gradient", dtype, kernel_size, layout, config)

    def taps(dtype: str) -> Iterator[Specialisation]:
        config = configs.candidates("sum", "taps", 9, 4)[0]
        for transposed in (False, True):
            yield Specialisation("taps_sum", dtype, 9, "channels_last", config, transposed)
        config = configs.candidates("gradient", "taps", 9, 4)[0]
        for kernel in ("taps_gradient", "taps_jacobian"):
            yield Specialisation(kernel, dtype, 9, "channels_last", config)

    yield from band("bf16", 9, "channels_last")
    yield from band("fp32", 9, "channels_last")
    yield from taps("fp32")
    if target == "sm_90" or amd:
        yield from band("bf16", 9, "nchw")
        yield from band("fp16", 3, "channels_last")
        yield from band("bf16", 15, "channels_last")
        yield from taps("fp64")
