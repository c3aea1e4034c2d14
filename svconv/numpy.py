"""The operator on NumPy arrays: forward only, on the CPU kernels, without torch."""

import os

import numpy as np

from svconv import _C, checks

FUNCTION = "svconv.numpy.svconv2d"


def svconv2d(
    input: np.ndarray,
    logits: np.ndarray,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    normalize: bool = True,
    padding_mode: str = "zeros",
    threads: int | None = None,
) -> np.ndarray:
    """`svconv.svconv2d` on arrays, with the same results bit for bit, with the taps of a convolution and at scale 1.

    Args:
        input: (N, C, H, W), float32, float64, float16 or bfloat16 (the dtype of the package ml_dtypes), any strides.
        logits: (N, groups * kernel_size**2, H, W), dtype of `input`, any strides.
        kernel_size, dilation, groups, normalize, padding_mode: as in `svconv.svconv2d`; the padding mode is "zeros" or
            "renormalize".
        threads: the most threads; None for one per core that the process may use. The result is the same for any
            number.

    Returns:
        (N, C, H, W), dtype of `input`, with its axes in memory in the order of `input`'s. Python's lock is released
            during the computation.

    Raises:
        TypeError: an argument of the wrong type, or `input` and `logits` of different dtypes.
        ValueError: a wrong shape or value.
        MemoryError: no memory for the result or the kernels' scratch space.
    """
    padding_mode = checks.word(FUNCTION, "padding_mode", padding_mode, checks.PLAIN_PADDING_MODES)
    options = checks.options(FUNCTION, kernel_size, dilation, groups, normalize, padding_mode)
    for name, array in (("input", input), ("logits", logits)):
        known_dtype = isinstance(array, np.ndarray) and array.dtype.isnative and array.dtype.name in checks.DTYPES
        advice = {"make": "numpy.asarray", "unsqueeze": f"{name}[None]", "convert": 'astype("float32")'}
        checks.check_array(FUNCTION, name, array, np.ndarray, known_dtype, **advice)
    if input.dtype != logits.dtype:
        checks.refuse_two_dtypes(FUNCTION, "astype(input.dtype)", input=input, logits=logits)
    checks.check_shapes(FUNCTION, input, logits, options)
    threads = _cores_at_hand() if threads is None else checks.count(FUNCTION, "threads", threads)
    out = np.empty_like(input, order="K", subok=False)
    _C.forward(
        input.dtype.name,
        _whole_strides(input),
        _whole_strides(logits),
        out,
        **{name: options[name] for name in ("kernel_size", "dilation", "groups", "normalize")},
        renormalize=padding_mode == "renormalize",
        threads=threads,
    )
    return out


def _cores_at_hand() -> int:
    # macOS and Windows have no affinity to ask for.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _whole_strides(array: np.ndarray) -> np.ndarray:
    """Return the array, or a copy if its elements are unaligned, as fields of packed records are."""
    aligned = array.flags.aligned and all(stride % array.itemsize == 0 for stride in array.strides)
    return array if aligned else array.copy(order="K")
