"""Argument checks shared by the PyTorch and the NumPy entry point. Free of torch.

`function` is the name that errors begin with. `symbols` are types that a compiler puts in the place of int and bool.
"""

from numbers import Integral

DTYPES = ("float32", "float64", "float16", "bfloat16")
PADDING_MODES = ("zeros", "renormalize")


def options(
    function: str,
    kernel_size: object,
    dilation: object,
    groups: object,
    normalize: object,
    padding_mode: object,
    symbols: tuple[type, ...] = (),
) -> dict[str, object]:
    """The options of svconv2d by name, NumPy's numbers as Python's. Raises TypeError or ValueError for a wrong one."""
    return {
        **sizes(function, kernel_size, dilation, groups, symbols),
        "normalize": flag(function, "normalize", normalize, symbols),
        "padding_mode": word(function, "padding_mode", padding_mode, PADDING_MODES),
    }


def sizes(
    function: str, kernel_size: object, dilation: object, groups: object, symbols: tuple[type, ...] = ()
) -> dict[str, int]:
    """The options that count something, as `options` has them; those of correlation2d."""
    checked = {
        name: count(function, name, value, symbols)
        for name, value in (("kernel_size", kernel_size), ("dilation", dilation), ("groups", groups))
    }
    size = checked["kernel_size"]
    if size % 2 == 0:
        raise ValueError(
            f"{function}: expected an odd kernel_size, got {size}; "
            f"use {size - 1} or {size + 1}, so that the kernel has a centre"
        )
    return checked


def count(function: str, name: str, value: object, symbols: tuple[type, ...] = (), least: int = 1) -> int:
    """The value as Python's int, or as the compiler's symbol. Raises TypeError, or ValueError below `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, *symbols, Integral)):
        raise TypeError(
            f"{function}: expected {name} to be an int, got {value!r} ({type(value).__name__}); give a whole number"
        )
    if not isinstance(value, (int, *symbols)):
        # NumPy's integers overflow where Python's grow.
        value = int(value)
    if value < least:
        raise ValueError(f"{function}: expected {name} to be at least {least}, got {value}")
    return value


def flag(function: str, name: str, value: object, symbols: tuple[type, ...] = ()) -> bool:
    """The value as Python's bool. Raises TypeError for what is neither that nor NumPy's."""
    kind = type(value)
    of_numpy = kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")
    if not isinstance(value, (bool, *symbols)) and not of_numpy:
        raise TypeError(
            f"{function}: expected {name} to be a bool, got {value!r} ({kind.__name__}); give True or False"
        )
    return bool(value)


def word(function: str, name: str, value: object, words: tuple[str, ...]) -> str:
    """The value. Raises TypeError for what is no str, ValueError for one that is not among the words."""
    if not isinstance(value, str):
        raise TypeError(
            f"{function}: expected {name} to be a str, one of {words}, got {value!r} ({type(value).__name__})"
        )
    if value not in words:
        raise ValueError(f"{function}: expected {name} to be one of {words}, got {value!r}")
    return value


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
