"""Argument checks shared by the PyTorch and the NumPy entry point. Free of torch.

`function` is the name that errors begin with. `symbols` are types that a compiler puts in the place of int and bool.
"""

from numbers import Integral

DTYPES = ("float32", "float64", "float16", "bfloat16")
# Those that every kernel knows, and all.
PLAIN_PADDING_MODES = ("zeros", "renormalize")
PADDING_MODES = (*PLAIN_PADDING_MODES, "shift", "reflect", "replicate")
# A correlation has no softmax to leave taps out of.
CORRELATION_PADDING_MODES = tuple(mode for mode in PADDING_MODES if mode != "renormalize")
TAPS = ("convolution", "correlation")
# The shape of images and of their logits.
IMAGES = "(N, C, H, W)"
# The largest number that the kernels count with.
MOST = 2**63 - 1


def options(
    function: str,
    kernel_size: object,
    dilation: object,
    groups: object,
    normalize: object,
    padding_mode: object,
    taps: object = "convolution",
    tap_major: object = False,
    scale: object = 1,
    symbols: tuple[type, ...] = (),
) -> dict[str, object]:
    """Check the options of svconv2d and return them by name, NumPy's numbers as Python's.

    Raises:
        TypeError: an option of another type.
        ValueError: an option outside its range, or a word that is not known.
    """
    return {
        **sizes(function, kernel_size, dilation, groups, symbols),
        "normalize": flag(function, "normalize", normalize, symbols),
        "padding_mode": word(function, "padding_mode", padding_mode, PADDING_MODES),
        **_order_and_scale(function, taps, tap_major, scale, symbols),
    }


def correlation_options(
    function: str,
    kernel_size: object,
    dilation: object,
    groups: object,
    padding_mode: object,
    taps: object,
    tap_major: object,
    scale: object,
    symbols: tuple[type, ...] = (),
) -> dict[str, object]:
    """Check the options of correlation2d and return them by name, with the errors of `options`."""
    return {
        **sizes(function, kernel_size, dilation, groups, symbols),
        "padding_mode": word(function, "padding_mode", padding_mode, CORRELATION_PADDING_MODES),
        **_order_and_scale(function, taps, tap_major, scale, symbols),
    }


def _order_and_scale(
    function: str, taps: object, tap_major: object, scale: object, symbols: tuple[type, ...]
) -> dict[str, object]:
    return {
        "taps": word(function, "taps", taps, TAPS),
        "tap_major": flag(function, "tap_major", tap_major, symbols),
        "scale": count(function, "scale", scale, symbols),
    }


def sizes(
    function: str, kernel_size: object, dilation: object, groups: object, symbols: tuple[type, ...] = ()
) -> dict[str, int]:
    """Check the options that count something and return them by name, with the errors of `options`."""
    checked = {
        name: count(function, name, value, symbols)
        for name, value in (("kernel_size", kernel_size), ("dilation", dilation), ("groups", groups))
    }
    check_odd(function, checked["kernel_size"])
    return checked


def check_odd(function: str, kernel_size: int) -> None:
    if kernel_size % 2 == 0:
        raise ValueError(
            f"{function}: expected an odd kernel_size, got {kernel_size}; "
            f"use {kernel_size - 1} or {kernel_size + 1}, so that the kernel has a centre"
        )


def shown(value: object) -> str:
    """Return how an error shows a value of a wrong type: with its type, and by that alone where it is long, as a
    tensor is."""
    text, kind = repr(value), type(value).__name__
    return f"{text} ({kind})" if len(text) <= 60 and "\n" not in text else f"a value of type {kind}"


def count(function: str, name: str, value: object, symbols: tuple[type, ...] = (), least: int = 1) -> int:
    """Return the value as Python's int, or as the compiler's symbol that it is.

    Raises:
        TypeError: no whole number.
        ValueError: less than `least` or greater than `MOST`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, *symbols, Integral)):
        raise TypeError(f"{function}: expected {name} to be an int, got {shown(value)}; give a whole number")
    if not isinstance(value, (int, *symbols)):
        # NumPy's integers overflow where Python's grow.
        value = int(value)
    if value < least:
        raise ValueError(f"{function}: expected {name} to be at least {least}, got {value}; give a larger number")
    if value > MOST:
        raise ValueError(f"{function}: expected {name} to be at most {MOST}, got {value}; give a smaller number")
    return value


def odd_root(taps: int) -> int:
    """Return K of a window of K * K taps, as a number even for a symbol; if there is none, the next greater one."""
    size = 1
    while size**2 < taps:
        size += 2
    return size


def flag(function: str, name: str, value: object, symbols: tuple[type, ...] = ()) -> bool:
    """Return the value as Python's bool. Raises TypeError unless it is one, of Python or of NumPy."""
    kind = type(value)
    of_numpy = kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")
    if not isinstance(value, (bool, *symbols)) and not of_numpy:
        raise TypeError(f"{function}: expected {name} to be a bool, got {shown(value)}; give True or False")
    return bool(value)


def word(function: str, name: str, value: object, words: tuple[str, ...]) -> str:
    """Return the value. Raises TypeError unless it is a str, ValueError unless it is one of the words."""
    if not isinstance(value, str):
        raise TypeError(f"{function}: expected {name} to be a str, one of {words}, got {shown(value)}; give its name")
    if value not in words:
        raise ValueError(f"{function}: expected {name} to be one of {words}, got {value!r}; give one of them")
    return value


def check_array(
    function: str,
    name: str,
    array,
    kind: type,
    known_dtype: bool,
    *,
    make: str,
    unsqueeze: str,
    convert: str,
    form: str = IMAGES,
) -> None:
    """Raise TypeError for another type or dtype than is taken, ValueError for other dimensions than those of `form`.

    `make`, `unsqueeze` and `convert` are the code by which an error advises to make an array, to add a batch dimension
    and to convert the dtype.
    """
    if not isinstance(array, kind):
        raise TypeError(
            f"{function}: expected {name} to be a {kind.__module__}.{kind.__name__}, got {type(array).__name__}; make "
            f"one, for example with {make}"
        )
    dimensions = form.count(",") + 1
    if array.ndim != dimensions:
        raise ValueError(
            f"{function}: expected {name} of {dimensions} dimensions {form}, got shape {tuple(array.shape)}; "
            + (f"add the batch with {unsqueeze}" if array.ndim == dimensions - 1 else "reshape it")
        )
    if not known_dtype:
        raise TypeError(
            f"{function}: expected {name} of dtype {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, got {array.dtype}; "
            f"convert it, for example with {name}.{convert}"
        )


def refuse_two_dtypes(function: str, convert: str, **arrays) -> None:
    """Raise TypeError about two arrays, given by name, of different dtypes.

    `convert` is the code by which the error advises to give the second the dtype of the first.
    """
    (first, a), (second, b) = arrays.items()
    raise TypeError(
        f"{function}: expected {first} and {second} of one dtype, got {first}.dtype={a.dtype!r} and "
        f"{second}.dtype={b.dtype!r}; convert one, for example {second}.{convert}"
    )


def check_shapes(function: str, input, logits, options: dict[str, object]) -> None:
    """Raise ValueError unless two arrays of 4 dimensions fit each other and the options of svconv2d."""
    n, c, h, w = input.shape
    kernel_size, groups, scale = options["kernel_size"], options["groups"], options["scale"]
    check_groups(function, "input", c, groups)
    expected = (n, groups * kernel_size * kernel_size, scale * h, scale * w)
    if tuple(logits.shape) != expected:
        times = "" if scale == 1 else "scale * "
        height_and_width = "the height and width" if scale == 1 else f"{scale} times the height and width"
        raise ValueError(
            f"{function}: expected logits of shape (N, groups * kernel_size**2, {times}H, {times}W) = {expected} for "
            f"input of shape {tuple(input.shape)}, got {tuple(logits.shape)}; "
            f"predict {expected[1]} channels at {height_and_width} of input, or give the kernel_size, groups and scale "
            "of these logits"
        )
    check_frame(function, "input", h, w, options)


def check_pair(function: str, query, key, options: dict[str, object]) -> None:
    """Raise ValueError unless two arrays of 4 dimensions fit each other and the options of correlation2d."""
    n, c, h, w = key.shape
    scale = options["scale"]
    if tuple(query.shape) != (n, c, scale * h, scale * w):
        fine = f"(N, C, {scale} * H, {scale} * W)"
        expected = "of one shape (N, C, H, W)" if scale == 1 else f"of shapes {fine} and (N, C, H, W)"
        got = f"{tuple(query.shape)} and {tuple(key.shape)}"
        raise ValueError(f"{function}: expected query and key {expected}, got {got}; resize one")
    check_groups(function, "query", c, options["groups"])
    check_frame(function, "key", h, w, options)


def check_frame(function: str, name: str, height: int, width: int, options: dict[str, object]) -> None:
    """Raise ValueError if a frame is too small for the padding mode to name a pixel for every tap."""
    kernel_size, dilation, padding_mode = options["kernel_size"], options["dilation"], options["padding_mode"]
    radius, smaller = dilation * (kernel_size // 2), "take a smaller kernel_size or dilation"
    needs = {
        "shift": (dilation * kernel_size, "dilation * kernel_size: the window", smaller),
        "reflect": (radius + 1, "dilation * (kernel_size // 2) + 1: more than its radius", smaller),
        "replicate": (1, "a pixel to repeat", "leave empty frames out"),
    }
    least, meaning, mend = needs.get(padding_mode, (0, "", ""))
    if height < least or width < least:
        raise ValueError(
            f"{function}: expected {name} of at least {least} rows and columns ({meaning}) for {padding_mode=}, got "
            f'{height} x {width}; {mend}, or padding_mode="zeros"'
        )


def check_groups(function: str, name: str, channels: int, groups: int) -> None:
    if channels % groups != 0:
        raise ValueError(
            f"{function}: expected the channels of {name} to be divisible by groups, got {channels} channels and "
            f"{groups=}; take a divisor of {channels}"
        )
