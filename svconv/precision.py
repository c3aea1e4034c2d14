"""torch's setting for float32 products on GPUs, which the CUDA kernels ask for at every call, as torch's own do."""

import atexit
import ctypes

import torch


def asks_for_tf32() -> bool:
    """Whether float32 may be rounded to tf32 before it is multiplied.

    `torch.backends.cuda.matmul.fp32_precision` is what torch's matrix products look at; `allow_tf32` and
    `torch.set_float32_matmul_precision` set it too, but can't be read any more once it was set by itself.
    """
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


# The stable ABI has no way to read the setting. A library that is used without Python has nobody to ask: exact.
_QUESTION = ctypes.CFUNCTYPE(ctypes.c_int)(asks_for_tf32)


def connect(library: str) -> None:
    """Answers the library of operators, which torch has loaded, for as long as Python runs."""
    connect = getattr(ctypes.CDLL(library), "svconv_ask_for_tf32", None)  # None without CUDA kernels
    if connect is not None:
        connect(_QUESTION)
        atexit.register(connect, None)
