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


def refuse_two_dtypes(function: str, convert: str, **arrays) -> None:
    """Raises TypeError about two arrays, given by name; `convert` is how the second gets the other's dtype."""
    (first, a), (second, b) = arrays.items()
    raise TypeError(
        f"{function}: expected {first} and {second} of one dtype, got {first}.dtype={a.dtype!r} and "
        f"{second}.dtype={b.dtype!r}; convert one, for example {second}.{convert}"
    )


def check_shapes(function: str, input, logits, kernel_size: int, groups: int) -> None:
    """Raises ValueError unless two arrays of 4 dimensions fit each other and the options."""
    n, c, h, w = input.shape
    check_groups(function, "input", c, groups)
    expected = (n, groups * kernel_size * kernel_size, h, w)
    if tuple(logits.shape) != expected:
        raise ValueError(
            f"{function}: expected logits of shape (N, groups * kernel_size**2, H, W) = {expected} for input of shape "
            f"{tuple(input.shape)}, got {tuple(logits.shape)}; "
            f"predict {expected[1]} channels at the height and width of input"
        )


def check_same_shape(function: str, query, key, groups: int) -> None:
    """Raises ValueError unless two arrays of 4 dimensions have one shape, and channels for the groups."""
    if tuple(query.shape) != tuple(key.shape):
        raise ValueError(
            f"{function}: expected query and key of one shape (N, C, H, W), got {tuple(query.shape)} and "
            f"{tuple(key.shape)}; resize one"
        )
    check_groups(function, "query", query.shape[1], groups)


def check_groups(function: str, name: str, channels: int, groups: int) -> None:
    if channels % groups != 0:
        raise ValueError(
            f"{function}: expected the channels of {name} to be divisible by groups, got {channels} channels and "
            f"{groups=}"
        )
