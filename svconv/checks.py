"""Argument checks shared by the PyTorch and the NumPy entry point. Free of torch.

`function` is the name that errors begin with.
"""

DTYPES = ("float32", "float64", "float16", "bfloat16")
PADDING_MODES = ("zeros", "renormalize")


def check_options(
    function: str, integers: tuple[type, ...], kernel_size: int, dilation: int, groups: int, padding_mode: str
) -> None:
    """Raises TypeError and ValueError for options of a wrong type or value; `integers` are the types taken as int."""
    for name, value in (("kernel_size", kernel_size), ("dilation", dilation), ("groups", groups)):
        check_positive(function, integers, name, value)
    if kernel_size % 2 == 0:
        raise ValueError(
            f"{function}: expected an odd kernel_size, got {kernel_size}; "
            f"use {kernel_size - 1} or {kernel_size + 1}, so that the kernel has a centre"
        )
    if padding_mode not in PADDING_MODES:
        raise ValueError(f"{function}: expected padding_mode to be one of {PADDING_MODES}, got {padding_mode!r}")


def check_positive(function: str, integers: tuple[type, ...], name: str, value: int) -> None:
    if not isinstance(value, integers) or isinstance(value, bool):
        raise TypeError(f"{function}: expected {name} to be an int, got {value!r} ({type(value).__name__})")
    if value < 1:
        raise ValueError(f"{function}: expected {name} to be at least 1, got {value}")


def check_array(function: str, name: str, array, kind: type, known_dtype: bool, unsqueeze: str, convert: str) -> None:
    """Raises TypeError for another type or dtype, ValueError for a wrong number of dimensions.

    `unsqueeze` and `convert` are how an array of this kind gets a batch dimension and another dtype.
    """
    if not isinstance(array, kind):
        raise TypeError(
            f"{function}: expected {name} to be a {kind.__module__}.{kind.__name__}, got {type(array).__name__}"
        )
    if array.ndim != 4:
        raise ValueError(
            f"{function}: expected {name} of 4 dimensions (N, C, H, W), got shape {tuple(array.shape)}"
            + (f"; add the batch with {unsqueeze}" if array.ndim == 3 else "")
        )
    if not known_dtype:
        raise TypeError(
            f"{function}: expected {name} of dtype {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, got {array.dtype}; "
            f"convert it, for example with {name}.{convert}"
        )


def refuse_two_dtypes(function: str, input, logits, convert: str) -> None:
    raise TypeError(
        f"{function}: expected input and logits of one dtype, got {input.dtype=} and {logits.dtype=}; "
        f"convert one, for example logits.{convert}"
    )


def check_shapes(function: str, input, logits, kernel_size: int, groups: int) -> None:
    """Raises ValueError unless two arrays of 4 dimensions fit each other and the options."""
    n, c, h, w = input.shape
    if c % groups != 0:
        raise ValueError(
            f"{function}: expected the channels of input to be divisible by groups, got {c} channels and {groups=}"
        )
    expected = (n, groups * kernel_size * kernel_size, h, w)
    if tuple(logits.shape) != expected:
        raise ValueError(
            f"{function}: expected logits of shape (N, groups * kernel_size**2, H, W) = {expected} for input of shape "
            f"{tuple(input.shape)}, got {tuple(logits.shape)}; "
            f"predict {expected[1]} channels at the height and width of input"
        )
