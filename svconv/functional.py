"""`svconv2d` and `correlation2d`: argument checks, choice of backend, the call. `explain` makes the choice alone."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from svconv import arguments, checks, dispatch, fast, windows
from svconv.layout import like

# What `svconv2d` takes beside tensors.
OPTIONS = ("kernel_size", "dilation", "groups", "normalize", "padding_mode", "taps", "tap_major", "scale", "backend")


def svconv2d(
    input: Tensor,
    logits: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    normalize: bool = True,
    padding_mode: str = "zeros",
    taps: str = "convolution",
    tap_major: bool = False,
    scale: int = 1,
    backend: str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Convolution with a kernel of its own at every pixel, shared over the channels of a group (Eq. 1 of the paper).

        out[n,c,i,j] = sum over u,v in [-r,r] of  w[n,g(c),(u,v),i,j] * input[n,c,i-d*u,j-d*v]

    with r = kernel_size // 2, d = dilation, and w the softmax of the logits over the taps. Taps are row-major: (u, v)
    is logits channel g * K * K + (u + r) * K + (v + r). It is a convolution (minus signs); `taps="correlation"` makes
    it a correlation (plus signs), as other packages count their taps.

    Args:
        input: (N, C, H, W), float32, float64, float16 or bfloat16, any strides; NCHW and channels-last are read as
            they are, without a copy.
        logits: (N, groups * kernel_size**2, scale * H, scale * W), dtype and device of `input`, any strides.
        kernel_size: K, odd; the kernel is K x K.
        dilation: distance between taps, in pixels.
        groups: number of kernels per pixel; channels divide evenly among them.
        normalize: softmax over the taps (default), or the logits as they are.
        padding_mode: what taps outside the frame read. "zeros": zero. "renormalize": nothing, they are excluded from
            the softmax, so that the weights of the taps inside still sum to one (without softmax as "zeros").
            "shift": no tap is outside, for near a border the window is moved inwards (neighborhood attention; Hassani
            et al., CVPR 2023). "reflect", "replicate": the pixel mirrored at the border pixel, or the border pixel.
        taps: "convolution": tap (u, v) reads at (i - d*u, j - d*v). "correlation": at (i + d*u, j + d*v).
        tap_major: channels of the logits count taps first: tap (u, v) of group g is channel
            ((u + r) * K + (v + r)) * groups + g, the memory of (N, K * K, groups, H, W). With one group there is no
            difference; with more, logits are copied once.
        scale: s; logits and result are s times as high and wide as `input`, and pixel (i, j) of the result has the
            window around pixel (i // s, j // s) of `input`: content-aware upsampling. `input` is not repeated.
        backend: None for the best that can run, or the name of one of `svconv.backends()`.
        out: a tensor to write the result to, for inference: shape, dtype and device of the result, memory of its own,
            any strides. Spares a live loop the allocation of a result.

    Returns:
        (N, C, scale * H, scale * W), dtype and memory format of `input`; `out` if it was given. Sums and softmax are
        computed in float32 (float64 for float64); the result is the same bit for bit whatever the number of threads.

    Under autocast the operator runs in the autocast dtype, but for float64 and calls with `out`, which keep their own,
    as torch's operators do. Differentiable any number of times, in `input` and `logits`.

    Raises:
        TypeError: an argument of the wrong type, or `input` and `logits` of different dtypes.
        ValueError: a wrong shape, value or device, a frame smaller than the window for "shift" or than its radius for
            "reflect", or a backend that can't run.
        RuntimeError: `out` where a gradient is recorded.
    """
    if backend is None or (isinstance(backend, str) and backend == "cpu"):
        result = fast.svconv2d(
            input, logits, out, kernel_size, dilation, groups, normalize, padding_mode, taps, tap_major, scale
        )
        if result is not None:
            return result
    options = dict(kernel_size=kernel_size, dilation=dilation, groups=groups, normalize=normalize)
    options.update(padding_mode=padding_mode, taps=taps, tap_major=tap_major, scale=scale)
    if has_torch_function((input, logits, out)):
        # What stands for a tensor, as torch.fx's Proxy does, takes the call as a whole.
        tensors = input, logits, out
        return handle_torch_function(svconv2d, tensors, input, logits, **options, backend=backend, out=out)
    options = arguments.check_svconv2d("svconv2d", input, logits, **options)
    if out is not None:
        arguments.check_out("svconv2d", out, input, logits, options["scale"])
        arguments.check_no_gradient("svconv2d", out, input, logits)
    if options.pop("tap_major"):
        (logits,) = arguments.brought_together(logits)
        logits = windows.groups_first(logits, options["groups"])
    return dispatch.select(backend, input, options)(input, logits, out, options)


def correlation2d(
    query: Tensor,
    key: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    taps: str = "convolution",
    tap_major: bool = False,
    scale: int = 1,
    backend: str | None = None,
) -> Tensor:
    """How like every pixel of `query` is to each of the pixels of `key` that `svconv2d` would read there.

        out[n,(g,u,v),i,j] = sum over c of group g of  query[n,c,i,j] * key[n,c,i-d*u,j-d*v]

    with u, v in [-r,r], r = kernel_size // 2, d = dilation; `key` is zero outside the frame. The result is what
    `svconv2d` takes for logits, tap by tap, which makes the pair attention over a neighbourhood. By itself it is the
    correlation layer, or cost volume, of optical flow (Dosovitskiy et al., "FlowNet", ICCV 2015, Section 3), and the
    derivative of `svconv2d(key, weights, normalize=False)` by the weights, for which it shares the kernels.

    Args:
        query, key: (N, C, H, W), of one dtype and device, `query` `scale` times as high and wide as `key`; float32,
            float64, float16 or bfloat16, any strides; NCHW and channels-last are read as they are, without a copy.
        kernel_size: K, odd; a window of K x K pixels.
        dilation: distance between taps, in pixels.
        groups: channels divide evenly among as many correlations.
        padding_mode, taps, scale: as in `svconv2d`; without softmax there is no "renormalize".
        tap_major: channels of the result count taps first, as those of the logits of `svconv2d`.
        backend: None for the best that can run, or the name of one of `svconv.backends()`.

    Returns:
        (N, groups * kernel_size**2, H, W) of `query`, taps as in `svconv2d`; dtype and memory format of `query`. Sums
        are computed in float32 (float64 for float64); the same bit for bit whatever the number of threads.

    Under autocast the operator runs in the autocast dtype. Differentiable any number of times, in `query` and `key`.

    Raises:
        TypeError: an argument of the wrong type, or `query` and `key` of different dtypes.
        ValueError: a wrong shape, value or device, or a backend that can't run.
    """
    options = dict(kernel_size=kernel_size, dilation=dilation, groups=groups)
    options.update(padding_mode=padding_mode, taps=taps, tap_major=tap_major, scale=scale)
    if has_torch_function((query, key)):
        return handle_torch_function(correlation2d, (query, key), query, key, **options, backend=backend)
    options = arguments.check_correlation2d("correlation2d", query, key, **options)
    if arguments.cast_by_autocast(query, key):
        query, key = (t.to(torch.get_autocast_dtype(query.device.type)) for t in (query, key))
    taps_first = options.pop("tap_major")
    out = dispatch.select(backend, query, options, "correlation2d").correlation(query, key, options)
    if not taps_first:
        return out
    (out,) = arguments.brought_together(out)
    return like(query, windows.taps_first(out, options["groups"]))


def explain(
    input: Tensor,
    logits: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    normalize: bool = True,
    padding_mode: str = "zeros",
    taps: str = "convolution",
    tap_major: bool = False,
    scale: int = 1,
    backend: str | None = None,
) -> dispatch.Explanation:
    """Which backend `svconv2d` runs on the same arguments, and why the others can't; print it.

    Returns:
        `chosen`, a backend's name, and `verdicts`, one a backend with its `obstacle` (None if it can run).

    Raises:
        TypeError, ValueError: the arguments are wrong for `svconv2d`.
    """
    options = dict(kernel_size=kernel_size, dilation=dilation, groups=groups, normalize=normalize)
    options.update(padding_mode=padding_mode, taps=taps, tap_major=tap_major, scale=scale)
    options = arguments.check_svconv2d("explain", input, logits, **options)
    del options["tap_major"]
    return dispatch.explain(backend, input, options)


def warmup(
    *shapes: tuple[int, int, int, int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cuda",
    memory_format: torch.memory_format = torch.contiguous_format,
    gradients: bool = False,
    **options: Any,
) -> None:
    """Get everything ready that the first calls on inputs of these shapes would wait for.

    It makes each call once, on random numbers. This loads kernels; Triton's are compiled, and the fastest configuration
    of each class of problems is measured, which later processes read from a file (docs/triton.md). Nothing can be
    measured while a CUDA graph is captured, so warm up before.

    Args:
        shapes: (N, C, H, W) of each input.
        dtype, device, memory_format: those of the inputs and logits.
        gradients: whether the backward pass is made ready too.
        options: those of `svconv2d`, `backend` among them.

    Raises:
        TypeError: an argument of the wrong type, or an unknown option.
        ValueError: a wrong shape, dtype, memory format or value, a device that torch can't use here, or a backend that
            can't run.
    """
    shapes = tuple(_shape(shape) for shape in shapes)
    if not isinstance(dtype, torch.dtype) or dtype not in arguments.DTYPES:
        raise TypeError(
            f"warmup: expected dtype to be one of {arguments.DTYPES}, got {dtype!r}; give that of the inputs to come"
        )
    if not isinstance(device, (str, torch.device)):
        raise TypeError(f'warmup: expected device to be a torch.device or its name, got {device!r}; give "cuda"')
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f'warmup: expected device to be the name of one, got {device!r}; give "cuda"') from error
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        raise ValueError(
            f'warmup: expected device to be one that torch can use here, got {str(device)!r}; give device="cpu"'
        ) from error
    formats = torch.contiguous_format, torch.channels_last
    if not isinstance(memory_format, torch.memory_format) or memory_format not in formats:
        raise ValueError(
            "warmup: expected memory_format to be torch.contiguous_format or torch.channels_last, "
            f"got {memory_format!r}; give that of the inputs to come"
        )
    gradients = checks.flag("warmup", "gradients", gradients)
    unknown = options.keys() - OPTIONS
    if unknown:
        raise TypeError(f"warmup: expected options among {OPTIONS}, got {sorted(unknown)}; leave them out")
    backend = options.pop("backend", None)
    defaults = {"kernel_size": 9, "dilation": 1, "groups": 1, "normalize": True, "padding_mode": "zeros"}
    options = checks.options("warmup", **defaults | options)
    taps, scale = options["groups"] * options["kernel_size"] ** 2, options["scale"]
    for n, c, h, w in shapes:
        checks.check_groups("warmup", "a shape", c, options["groups"])
        checks.check_frame("warmup", "a shape", h, w, options)
        input, logits = (
            torch.randn(shape, dtype=dtype, device=device).to(memory_format=memory_format).requires_grad_(gradients)
            for shape in ((n, c, h, w), (n, taps, scale * h, scale * w))
        )
        dispatch.select(backend, input, options, "warmup")
        out = svconv2d(input, logits, **options, backend=backend)
        if gradients:
            out.backward(torch.ones_like(out))


def _shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, (tuple, list)) or len(shape) != 4:
        raise TypeError(f"warmup: expected shapes (N, C, H, W), a tuple of 4 ints each, got {shape!r}; give tuples")
    return tuple(checks.count("warmup", "a size of a shape", size, least=0) for size in shape)
