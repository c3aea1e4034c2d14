"""The operators in Triton, for GPUs that the compiled kernels don't run on; docs/triton.md. Triton is imported when a
call first asks for it.

A saved program that calls `torch.ops.svconv.triton_forward` wants it registered before it is loaded:
`import svconv.triton.ops`.
"""

import os
from functools import cache

from torch import Tensor

from svconv.deferred import constant_to_compilers
from svconv.precision import asks_for_tf32

# The kernels are written for this version of Triton and later ones.
OLDEST = (3, 4)


def obstacle(*, device_type: str, **_) -> str | None:
    """Why the operator can't run in Triton on tensors of this type of device; None if it can."""
    return _obstacle_on(device_type)


def run(input: Tensor, logits: Tensor, *, padding_mode: str, taps: str, scale: int, **options) -> Tensor:
    """Do the operator on checked arguments, on windows that are plain (`svconv.windows`)."""
    from svconv.triton import ops

    return ops.PRODUCTS.forward(input, logits, *_raw(**options), padding_mode == "renormalize", asks_for_tf32())[0]


def correlation(query: Tensor, key: Tensor, *, padding_mode: str, taps: str, scale: int, **options) -> Tensor:
    """Do `svconv.correlation2d` on checked arguments, on windows that are plain."""
    from svconv import ops as explained
    from svconv.triton import ops

    return explained.correlation(query, key, **options, products=ops.PRODUCTS)


def _raw(kernel_size: int, dilation: int, groups: int, normalize: bool) -> tuple:
    return kernel_size, dilation, groups, normalize


# Looks at the machine, which a compiler can take as it is.
@constant_to_compilers
def _obstacle_on(device_type: str) -> str | None:
    if device_type not in ("cpu", "cuda"):
        return f"it runs on CUDA tensors, got tensors on {device_type!r}"
    if device_type == "cuda" or _interpreter_asked_for():
        return _import_error()
    return f"it runs on CUDA tensors, got tensors on {device_type!r} (Triton's interpreter is off)"


def _interpreter_asked_for() -> bool:
    """Whether Triton's own setting asks for its interpreter; Triton keeps the setting that it was imported with."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


@cache
def _import_error() -> str | None:
    oldest = ".".join(map(str, OLDEST))
    try:
        import triton
    except Exception as error:  # a package without its libraries fails in more ways than ImportError
        return f"it needs Triton {oldest} or newer, which can't be imported ({error}); pip install triton"
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST:
        return f"it needs Triton {oldest} or newer, got {triton.__version__}; pip install --upgrade triton"
    return None
