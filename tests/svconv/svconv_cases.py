"""Problems, their float64 answers and the tolerances, for all tests of the operator."""

from dataclasses import dataclass, field, replace
from functools import cache
from math import inf, nan

import torch

from svconv import backends, ops, reference, svconv2d
from svconv.dispatch import BACKENDS

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
NAMES = ("out", "grad_input", "grad_logits")
# Whose kernels can run on this machine; names of devices and of backends.
DEVICES = ["cpu", *(row.name for row in backends() if row.name == "cuda" and row.cuda is None)]
# With `--backend triton` its kernels stand in for the compiled ones, in the interpreter on small tensors (conftest.py).
# `reach`: rows and columns around a pixel in which what isn't finite may spread on tensor cores.
TESTED = {"backend": None, "products": ops.COMPILED, "interpreted": False, "shape": (2, 20, 11, 19), "reach": (0, 15)}


@dataclass(frozen=True)
class Case:
    """One problem; non-square on purpose, sizes off every tile and vector width."""

    shape: tuple[int, int, int, int] = field(default_factory=lambda: TESTED["shape"])
    kernel_size: int = 9
    dilation: int = 1
    groups: int = 1
    normalize: bool = True
    padding_mode: str = "zeros"
    dtype: torch.dtype = torch.float32
    taps: str = "convolution"
    scale: int = 1
    tap_major: bool = False

    @property
    def options(self) -> dict:
        return {**self.kernel_options, "tap_major": self.tap_major}

    @property
    def kernel_options(self) -> dict:
        """What a backend is told, which sees the groups of logits first."""
        names = ("kernel_size", "dilation", "groups", "normalize", "padding_mode", "taps", "scale")
        return {name: getattr(self, name) for name in names}

    @property
    def correlation_options(self) -> dict:
        return {name: value for name, value in self.options.items() if name != "normalize"}

    @property
    def array_options(self) -> dict:
        return {name: value for name, value in self.kernel_options.items() if name not in ("taps", "scale")}

    def __str__(self) -> str:
        changed = [str(v) for k, v in vars(self).items() if v != getattr(Case(), k)]
        return "-".join(changed).replace(" ", "") or "default"

    def tensors(self, device: str = "cpu") -> list[torch.Tensor]:
        """input, logits, grad_out: seeded, NCHW, the same numbers on every device."""
        n, c, h, w = self.shape
        h, w = self.scale * h, self.scale * w
        generator = torch.Generator().manual_seed(0)
        shapes = (self.shape, (n, self.groups * self.kernel_size**2, h, w), (n, c, h, w))
        return [torch.randn(shape, generator=generator, dtype=torch.float64).to(device, self.dtype) for shape in shapes]


class NotFinite(Case):
    """With infinities and NaN in a few pixels and channels of input and grad_out."""

    def tensors(self, device: str = "cpu") -> list[torch.Tensor]:
        input, logits, grad_out = super().tensors()
        c, h, w = self.shape[1:]
        for data in (input, grad_out):
            # One NaN as the ordinary cores make it, one whose bits are all ones.
            data[0, 0, h // 2, w // 2] = nan
            data[0, c - 1, 1, w - 1] = torch.tensor(-1).view(torch.float64).to(self.dtype)
            data[0, 1, h - 1, 7] = inf
            data[0, 1, h - 1, 9] = -inf
            data[0, 2, 0, 0] = -inf
        return [t.to(device) for t in (input, logits, grad_out)]


@cache
def expected(case: Case) -> tuple[torch.Tensor, ...]:
    """out, grad_input, grad_logits of the reference, in float64 on the same rounded numbers."""
    return run(reference.svconv2d, *(t.double() for t in case.tensors()), **replace(case).options)


def run(function, input, logits, grad_out, **options) -> tuple[torch.Tensor, ...]:
    """out, grad_input, grad_logits of `function`."""
    input, logits = input.detach().requires_grad_(), logits.detach().requires_grad_()
    out = function(input, logits, **options)
    return (out.detach(), *torch.autograd.grad(out, (input, logits), grad_out))


def check(case: Case, *tensors: torch.Tensor) -> None:
    """svconv2d on these tensors, which hold the numbers of `case` in any strides, gives the reference's answers."""
    for name, got, want in zip(NAMES, run(svconv2d, *tensors, **case.options), expected(case), strict=True):
        assert_close(case, name, got, want, path_on(case, got.device))


def path_on(case: Case, device: torch.device) -> str:
    """The kernels that svconv2d runs, in the words of csrc/cuda/kernels.h, as far as numbers depend on it."""
    tf32 = device.type == "cuda" and torch.backends.cuda.matmul.fp32_precision == "tf32"
    if TESTED["backend"] == "triton":
        if tf32 and case.dtype == torch.float32 and 3 <= case.kernel_size <= 9:
            return "tf32 cut off"
        return "band" if case.dtype.itemsize == 2 else "generic"
    if device.type == "cuda" and case.dtype.itemsize == 2 and 3 <= case.kernel_size <= 13:
        return "band"
    return "tf32" if tf32 and case.dtype == torch.float32 and 5 <= case.kernel_size <= 9 else "generic"


def reads_natively(case: Case, device: torch.device) -> bool:
    """True if the kernels read the windows of the case; others are put together of plain ones."""
    return BACKENDS[TESTED["backend"] or device.type].reads(**case.options)


def operand_rounding(case: Case, name: str, path: str) -> float:
    """The relative rounding of a product's two operands (docs/cuda.md): on tensor cores 16-bit weights are rounded to
    their type; tf32 has 10 bits of mantissa, to which both are rounded, or cut off by the Triton kernels."""
    if path.startswith("tf32"):
        return 2 * (2**-11 if path == "tf32" else 2**-10)
    return torch.finfo(case.dtype).eps / 2 if path == "band" and name != "grad_logits" else 0


def assert_close(case: Case, name: str, got: torch.Tensor, want: torch.Tensor, path: str = "generic") -> None:
    """The one place of tolerances: one rounding to the result's type, sums of `terms` products that round in the
    accumulation type, as a random walk of eight steps' width, and the rounding of their operands on this path."""
    assert got.dtype == case.dtype and got.shape == want.shape, name
    if want.numel() == 0:
        return
    terms = case.kernel_size**2
    if name == "grad_input":
        # A pixel at a shifted or repeated border is read by up to twice as many rows and columns.
        terms *= case.scale**2 * (4 if case.padding_mode in ("shift", "replicate") else 1)
    if name == "grad_logits":
        terms *= case.shape[1] // case.groups
    accumulation = torch.finfo(torch.float64 if case.dtype == torch.float64 else torch.float32)
    storage = torch.finfo(case.dtype)
    if path != "generic" and name != "grad_logits":
        # What isn't finite reaches neighbours too, as far as a window, and infinity may become NaN; it is never lost.
        reach = TESTED["reach"]
        size = [2 * distance + 1 for distance in reach]
        reached = torch.nn.functional.max_pool2d((~want.isfinite()).float(), size, 1, reach) > 0
        want = want.where(got.cpu().isfinite() | ~reached, got.cpu().double())
    largest = want.masked_fill(~want.isfinite(), 0).abs().max().item()
    absolute = (8 * accumulation.eps * terms**0.5 + operand_rounding(case, name, path)) * largest
    absolute += storage.smallest_normal * storage.eps
    if name == "grad_logits" and case.normalize:
        # The gradient of a softmax is a difference, of which rounding alone is left where all taps read one pixel.
        input, _, grad_out = (tensor.double().masked_fill(~tensor.isfinite(), 0) for tensor in case.tensors())
        absolute += accumulation.eps * input.abs().max().item() * grad_out.abs().max().item()
    if name != "out" and not reads_natively(case, got.device):
        # The gradients of the parts that it is put together of are rounded, then summed.
        absolute += 2 * storage.eps * largest
    torch.testing.assert_close(
        got.cpu().double(),
        want,
        rtol=storage.eps,
        atol=absolute,
        equal_nan=True,
        msg=lambda text: f"{name} of {case}: {text}",
    )
