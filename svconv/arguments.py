"""The checks of arguments that are tensors. `svconv.checks` has those of all other arguments, and of arrays."""

import torch
from torch import Tensor

from svconv import _C, checks
from svconv.deferred import constant_to_compilers

DTYPES = tuple(getattr(torch, name) for name in checks.DTYPES)
# Sizes, and comparisons of them, are symbolic under torch.compile.
SYMBOLS = (torch.SymInt, torch.SymBool)


def check_svconv2d(function: str, input: Tensor, logits: Tensor, **options: object) -> dict[str, object]:
    """Check the arguments of `svconv2d`, and return its options by name as `checks.options` does. Raises TypeError or
    ValueError for any wrong argument."""
    options = checks.options(function, **options, symbols=SYMBOLS)
    check_devices_and_types(function, input=input, logits=logits)
    checks.check_shapes(function, input, logits, options)
    return options


def check_correlation2d(function: str, query: Tensor, key: Tensor, **options: object) -> dict[str, object]:
    """Check the arguments of `correlation2d`, and return its options by name as `checks.correlation_options` does.
    Raises TypeError or ValueError for any wrong argument."""
    options = checks.correlation_options(function, **options, symbols=SYMBOLS)
    check_devices_and_types(function, query=query, key=key)
    checks.check_pair(function, query, key, options)
    return options


def check_devices_and_types(function: str, *forms: str, **tensors: Tensor) -> None:
    """Raise unless two tensors, given by name, share a device and, except under autocast, a dtype, and have as many
    dimensions as `forms` name, 4 each by default."""
    advice = {"make": "torch.as_tensor", "unsqueeze": "unsqueeze(0)", "convert": "float()"}
    for form, (name, value) in zip(forms or (checks.IMAGES,) * 2, tensors.items(), strict=True):
        known_dtype = isinstance(value, Tensor) and value.dtype in DTYPES
        checks.check_array(function, name, value, Tensor, known_dtype, **advice, form=form)
        if value.layout != torch.strided:
            raise TypeError(
                f"{function}: expected {name} with memory for every element, got {value.layout}; make it dense with "
                f"{name}.to_dense()"
            )
    (first, a), (second, b) = tensors.items()
    if a.device != b.device:
        raise ValueError(
            f"{function}: expected {first} and {second} on one device, got {first}.device={a.device!r} and "
            f"{second}.device={b.device!r}; move one with .to(...)"
        )
    if a.dtype != b.dtype and not cast_by_autocast(a, b):
        checks.refuse_two_dtypes(function, f"to({first}.dtype)", **tensors)


def check_out(function: str, out: Tensor, input: Tensor, logits: Tensor, scale: int) -> None:
    if not isinstance(out, Tensor):
        raise TypeError(
            f"{function}: expected out to be a torch.Tensor, got {type(out).__name__}; make it with "
            "torch.empty_like(input)"
        )
    if input.dtype != logits.dtype:
        checks.refuse_two_dtypes(function, "to(input.dtype)", input=input, logits=logits)
    n, c, h, w = input.shape
    expected, got = ((n, c, scale * h, scale * w), input.dtype, input.device), (tuple(out.shape), out.dtype, out.device)
    if got != expected:
        whose, mend = "as input", "torch.empty_like(input)"
        if scale > 1:
            whose, mend = f"input's at {scale} times its height and width", f"input.new_empty({expected[0]})"
        raise ValueError(
            f"{function}: expected out of shape, dtype and device {expected}, {whose}, got {got}; make it with {mend}"
        )
    # While a graph is traced strides may be symbols and addresses are unknown: the operator looks at both in every run.
    # A compiler may hand it a copy of an expanded tensor, so those are refused here.
    traced = torch.compiler.is_compiling()
    expanded = any(stride == 0 and size > 1 for size, stride in zip(out.shape, out.stride(), strict=True))
    memory = None if traced else _memory(out)
    if expanded or (memory is not None and memory.overlaps_itself()):
        raise ValueError(
            f"{function}: expected out with memory for every element, got {out.stride()=}; don't expand it"
        )
    if memory is None:
        return
    if memory.meets(_memory(input)) or memory.meets(_memory(logits)):
        raise ValueError(
            f"{function}: expected out with memory of its own, got memory of input or logits; make it with "
            "torch.empty_like(input)"
        )


def check_no_gradient(function: str, out: Tensor, input: Tensor, logits: Tensor) -> None:
    if torch.is_grad_enabled() and (input.requires_grad or logits.requires_grad or out.requires_grad):
        raise RuntimeError(
            f"{function}: expected no gradient to be recorded where out is given, got an argument that requires one; "
            "call it under torch.inference_mode(), or without out"
        )


def _memory(t: Tensor) -> "_C.Memory":
    """Return where the elements lie; nowhere for a tensor without memory: meta, fake, or wrapped by torch.func."""
    try:
        address, shape = t.data_ptr(), tuple(t.shape)
    except RuntimeError:
        address = 0
    return _C.Memory(address, t.element_size(), shape if address else (0,), t.stride() if address else (0,))


def brought_together(*tensors: Tensor) -> list[Tensor]:
    """Return the tensors, with all parts on each device of those that are spread over devices (DTensor).

    What reshapes a tensor can't tell how parts of uneven sizes lie.
    """
    if not any(hasattr(tensor, "placements") for tensor in tensors):
        return list(tensors)
    from svconv import sharding

    return [sharding.brought_together(tensor) for tensor in tensors]


def cast_by_autocast(a: Tensor, b: Tensor) -> bool:
    """Whether autocast brings both tensors to its dtype; it leaves float64 as it is."""
    device_type = a.device.type
    enabled = autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    return enabled and torch.float64 not in (a.dtype, b.dtype)


# The compiler of torch 2.10 can't trace the question.
@constant_to_compilers
def autocast_available(device_type: str) -> bool:
    """Whether torch knows autocast on this type of device."""
    return torch.amp.is_autocast_available(device_type)
