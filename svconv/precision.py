"""Reads torch's setting for float32 products on GPUs, which becomes an argument of the operators."""

import torch

from svconv.deferred import constant_to_compilers


# A compiler can't trace the reading. It takes the answer as a constant, and reads it again when the setting changes:
# torch guards every compiled graph on it.
@constant_to_compilers
def asks_for_tf32() -> bool:
    """Whether float32 may be rounded to tf32 before it is multiplied.

    torch's matrix products go by `torch.backends.cuda.matmul.fp32_precision`. `allow_tf32` and
    `torch.set_float32_matmul_precision` set it too, but torch refuses to read them once it was set by itself.
    """
    return torch.backends.cuda.matmul.fp32_precision == "tf32"
