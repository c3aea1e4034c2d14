"""`svconv2d` and `correlation2d`: argument checks, choice of backend, the call; `explain`, the choice without it."""

import torch
from torch import Tensor

from svconv import _C, checks, dispatch

DTYPES = tuple(getattr(torch, name) for name in checks.DTYPES)
# Sizes are symbolic under torch.compile.
INTEGERS = (int, torch.SymInt)


def svconv2d(
    input: Tensor,
    logits: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    normalize: bool = True,
    padding_mode: str = "zeros",
    backend: str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Convolution with a kernel of its own at every pixel, shared over the channels of a group (Eq. 1 of the paper).

        out[n,c,i,j] = sum over u,v in [-r,r] of  w[n,g(c),(u,v),i,j] * input[n,c,i-d*u,j-d*v]

    with r = kernel_size // 2, d = dilation, and w the softmax of the logits over the taps. Taps are row-major: (u, v)
    is logits channel g * K * K + (u + r) * K + (v + r). It is a convolution (minus signs), not a correlation.

    Args:
        input: (N, C, H, W), float32, float64, float16 or bfloat16, any strides; NCHW and channels-last are read as
            they are, without a copy.
        logits: (N, groups * kernel_size**2, H, W), dtype and device of `input`, any strides.
        kernel_size: K, odd; the kernel is K x K.
        dilation: distance between taps, in pixels.
        groups: number of kernels per pixel; channels divide evenly among them.
        normalize: softmax over the taps (default), or the logits as they are.
        padding_mode: "zeros": positions outside the frame count as zero. "renormalize": they are excluded from the
            softmax, so that the weights of the taps inside still sum to one (no effect without softmax).
        backend: None for the best that can run, or the name of one of `svconv.backends()`.
        out: a tensor to write the result to, for inference: shape, dtype and device of `input`, memory of its own, any
            strides. Spares a live loop the allocation of a result.

    Returns:
        (N, C, H, W), dtype and memory format of `input`; `out` if it was given. Sums and softmax are computed in
        float32 (float64 for float64); the result is the same bit for bit whatever the number of threads.

    Under autocast the operator runs in the autocast dtype, but for float64 and calls with `out`, which keep their own,
    as torch's operators do. Differentiable any number of times, in `input` and `logits`.

    Raises:
        TypeError: an argument of the wrong type, or `input` and `logits` of different dtypes.
        ValueError: a wrong shape, value or device, or a backend that can't run.
        RuntimeError: `out` where a gradient is recorded.
    """
    _check_options(kernel_size, dilation, groups, padding_mode)
    _check_tensors(input, logits, kernel_size, groups)
    if out is not None:
        _check_out(out, input, logits)
    options = _options(kernel_size, dilation, groups, normalize, padding_mode)
    return dispatch.select(backend, input, options)(input, logits, out, options)


def correlation2d(
    query: Tensor,
    key: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    backend: str | None = None,
) -> Tensor:
    """How like every pixel of `query` is to each of the pixels of `key` that `svconv2d` would read there.

        out[n,(g,u,v),i,j] = sum over c of group g of  query[n,c,i,j] * key[n,c,i-d*u,j-d*v]

    with u, v in [-r,r], r = kernel_size // 2, d = dilation; `key` is zero outside the frame. The result is what
    `svconv2d` takes for logits, tap by tap, which makes the pair attention over a neighbourhood. By itself it is the
    correlation layer, or cost volume, of optical flow (Dosovitskiy et al., "FlowNet", ICCV 2015, Section 3), and the
    derivative of `svconv2d(key, weights, normalize=False)` by the weights, for which it shares the kernels.

    Args:
        query, key: (N, C, H, W), of one shape, dtype and device; float32, float64, float16 or bfloat16, any strides;
            NCHW and channels-last are read as they are, without a copy.
        kernel_size: K, odd; a window of K x K pixels.
        dilation: distance between taps, in pixels.
        groups: channels divide evenly among as many correlations.
        backend: None for the best that can run, or the name of one of `svconv.backends()`.

    Returns:
        (N, groups * kernel_size**2, H, W), taps as in `svconv2d`; dtype and memory format of `query`. Sums are computed
        in float32 (float64 for float64); the result is the same bit for bit whatever the number of threads.

    Under autocast the operator runs in the autocast dtype. Differentiable any number of times, in `query` and `key`.

    Raises:
        TypeError: an argument of the wrong type, or `query` and `key` of different dtypes.
        ValueError: a wrong shape, value or device, or a backend that can't run.
    """
    checks.check_options("correlation2d", INTEGERS, kernel_size, dilation, groups, "zeros")
    _check_devices_and_types("correlation2d", query=query, key=key)
    checks.check_same_shape("correlation2d", query, key, groups)
    if _cast_by_autocast(query, key):
        query, key = (t.to(torch.get_autocast_dtype(query.device.type)) for t in (query, key))
    options = {"kernel_size": kernel_size, "dilation": dilation, "groups": groups}
    return dispatch.select(backend, query, options, "correlation2d").correlate(query, key, **options)


def explain(
    input: Tensor,
    logits: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    normalize: bool = True,
    padding_mode: str = "zeros",
    backend: str | None = None,
) -> dispatch.Explanation:
    """Which backend `svconv2d` runs on the same arguments, and why the others can't; print it.

    Returns:
        `chosen`, a backend's name, and `verdicts`, one a backend with its `obstacle` (None if it can run).

    Raises:
        The errors of `svconv2d` on the same arguments.
    """
    _check_options(kernel_size, dilation, groups, padding_mode)
    _check_tensors(input, logits, kernel_size, groups)
    return dispatch.explain(backend, input, _options(kernel_size, dilation, groups, normalize, padding_mode))


def warmup(
    *shapes: tuple[int, int, int, int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cuda",
    memory_format: torch.memory_format = torch.contiguous_format,
    gradients: bool = False,
    **options,
) -> None:
    """Makes everything ready that the first calls on inputs of these shapes would wait for.

    It runs each once, on random numbers: kernels are loaded; Triton's are compiled and the fastest configuration of
    each class of problems is measured, which later processes read from a file (docs/triton.md). Nothing is measured
    while a CUDA graph is captured: warm up before.

    Args:
        shapes: (N, C, H, W) of each input.
        dtype, device, memory_format: of the inputs and logits.
        gradients: the backward pass too.
        options: of `svconv2d`, `backend` among them.

    Raises:
        The errors of `svconv2d` on the same arguments.
    """
    kernel_size, groups = options.get("kernel_size", 9), options.get("groups", 1)
    for n, c, h, w in shapes:
        input, logits = (
            torch.randn(n, channels, h, w, dtype=dtype, device=device)
            .to(memory_format=memory_format)
            .requires_grad_(gradients)
            for channels in (c, groups * kernel_size**2)
        )
        out = svconv2d(input, logits, **options)
        if gradients:
            out.backward(torch.ones_like(out))


def _options(kernel_size: int, dilation: int, groups: int, normalize: bool, padding_mode: str) -> dict[str, object]:
    return {
        "kernel_size": kernel_size,
        "dilation": dilation,
        "groups": groups,
        "normalize": bool(normalize),
        "padding_mode": padding_mode,
    }


def _check_options(kernel_size: int, dilation: int, groups: int, padding_mode: str) -> None:
    checks.check_options("svconv2d", INTEGERS, kernel_size, dilation, groups, padding_mode)


def _check_tensors(input: Tensor, logits: Tensor, kernel_size: int, groups: int) -> None:
    _check_devices_and_types("svconv2d", input=input, logits=logits)
    checks.check_shapes("svconv2d", input, logits, kernel_size, groups)


def _check_devices_and_types(function: str, **tensors: Tensor) -> None:
    """Raises unless two tensors of 4 dimensions, given by name, share a device and, but for autocast, a dtype."""
    for name, value in tensors.items():
        known_dtype = isinstance(value, Tensor) and value.dtype in DTYPES
        checks.check_array(function, name, value, Tensor, known_dtype, "unsqueeze(0)", "float()")
    (first, a), (second, b) = tensors.items()
    if a.device != b.device:
        raise ValueError(
            f"{function}: expected {first} and {second} on one device, got {first}.device={a.device!r} and "
            f"{second}.device={b.device!r}; move one with .to(...)"
        )
    if a.dtype != b.dtype and not _cast_by_autocast(a, b):
        checks.refuse_two_dtypes(function, f"to({first}.dtype)", **tensors)


def _check_out(out: Tensor, input: Tensor, logits: Tensor) -> None:
    if not isinstance(out, Tensor):
        raise TypeError(f"svconv2d: expected out to be a torch.Tensor, got {type(out).__name__}")
    if input.dtype != logits.dtype:
        checks.refuse_two_dtypes("svconv2d", "to(input.dtype)", input=input, logits=logits)
    expected, got = ((tuple(t.shape), t.dtype, t.device) for t in (input, out))
    if got != expected:
        raise ValueError(
            f"svconv2d: expected out of shape, dtype and device {expected}, as input, got {got}; "
            "make it with torch.empty_like(input)"
        )
    if torch.is_grad_enabled() and (input.requires_grad or logits.requires_grad or out.requires_grad):
        raise RuntimeError(
            "svconv2d: expected no gradient to be recorded where out is given, got an argument that requires one; "
            "call it under torch.inference_mode(), or without out"
        )
    # While a graph is traced strides may be symbols and addresses are unknown: the operator looks at both in every run.
    # A compiler may hand it a copy of an expanded tensor, so those are refused here.
    traced = torch.compiler.is_compiling()
    expanded = any(stride == 0 and size > 1 for size, stride in zip(out.shape, out.stride(), strict=True))
    memory = None if traced else _memory(out)
    if expanded or (memory is not None and memory.overlaps_itself()):
        raise ValueError(f"svconv2d: expected out with memory for every element, got {out.stride()=}; don't expand it")
    if memory is None:
        return
    if memory.meets(_memory(input)) or memory.meets(_memory(logits)):
        raise ValueError("svconv2d: expected out with memory of its own, got memory of input or logits")


def _memory(t: Tensor) -> "_C.Memory":
    """Where the elements lie; nowhere for a tensor without memory: meta, fake, or wrapped by torch.func."""
    try:
        address, shape = t.data_ptr(), tuple(t.shape)
    except RuntimeError:
        address = 0
    return _C.Memory(address, t.element_size(), shape if address else (0,), t.stride() if address else (0,))


def _cast_by_autocast(a: Tensor, b: Tensor) -> bool:
    """True if autocast brings both tensors to its dtype; it leaves float64 as it is."""
    device_type = a.device.type
    enabled = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    return enabled and torch.float64 not in (a.dtype, b.dtype)
