"""Problems, their float64 answers and the tolerances, for all tests of the operator."""

from dataclasses import dataclass, replace
from functools import cache

import torch

from svconv import backends, ops, reference, svconv2d

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
NAMES = ("out", "grad_input", "grad_logits")
# Whose kernels can run on this machine; names of devices and of backends.
DEVICES = ["cpu", *(row.name for row in backends() if row.name == "cuda" and row.cuda is None)]
# With `--backend triton` its kernels stand in for the compiled ones (conftest.py).
TESTED = {"backend": None, "products": ops.COMPILED}


@dataclass(frozen=True)
class Case:
    """One problem; non-square on purpose, sizes off every tile and vector width."""

    shape: tuple[int, int, int, int] = (2, 20, 11, 19)
    kernel_size: int = 9
    dilation: int = 1
    groups: int = 1
    normalize: bool = True
    padding_mode: str = "zeros"
    dtype: torch.dtype = torch.float32

    @property
    def options(self) -> dict:
        names = ("kernel_size", "dilation", "groups", "normalize", "padding_mode")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        changed = [str(v) for k, v in vars(self).items() if v != getattr(Case(), k)]
        return "-".join(changed).replace(" ", "") or "default"

    def tensors(self, device: str = "cpu") -> list[torch.Tensor]:
        """input, logits, grad_out: seeded, NCHW, the same numbers on every device."""
        n, c, h, w = self.shape
        generator = torch.Generator().manual_seed(0)
        shapes = (self.shape, (n, self.groups * self.kernel_size**2, h, w), self.shape)
        return [torch.randn(shape, generator=generator, dtype=torch.float64).to(device, self.dtype) for shape in shapes]


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
        assert_close(case, name, got, want, name != "grad_logits" and on_tensor_cores(case, got.device))


def on_tensor_cores(case: Case, device: torch.device) -> bool:
    """Whether a kernel multiplies 16-bit weights (docs/cuda.md, docs/triton.md)."""
    if TESTED["backend"] == "triton":
        return case.dtype.itemsize == 2
    return device.type == "cuda" and case.dtype.itemsize == 2 and 3 <= case.kernel_size <= 9


def assert_close(case: Case, name: str, got: torch.Tensor, want: torch.Tensor, rounded_weights: bool = False) -> None:
    """The one place of tolerances: one rounding to the result's type, and sums of `terms` products that round in the
    accumulation type, as a random walk of eight steps' width; on tensor cores, of 16-bit weights that round too."""
    assert got.dtype == case.dtype and got.shape == want.shape, name
    terms = case.kernel_size**2
    if name == "grad_logits":
        terms *= case.shape[1] // case.groups
    accumulation = torch.finfo(torch.float64 if case.dtype == torch.float64 else torch.float32)
    storage = torch.finfo(case.dtype)
    absolute = 8 * accumulation.eps * terms**0.5 * want.abs().max().item() + storage.smallest_normal * storage.eps
    if rounded_weights:
        absolute += storage.eps / 2 * want.abs().max().item()
    torch.testing.assert_close(
        got.cpu().double(), want, rtol=storage.eps, atol=absolute, msg=lambda text: f"{name} of {case}: {text}"
    )
