"""Loads the compiled operators and explains them to PyTorch: fake kernels, vmap, autocast, FLOPs; derivatives
(`svconv.derivatives`), sharding (`svconv.sharding`) and ONNX (`svconv.slices`) by what has a file of its own.

Three products, each with raw schema arguments `(kernel_size, dilation, groups, normalize, renormalize, tf32=False,
border=0, correlation=False, scale=1, cells=False)`, Triton's without the last four, which only the CPU's kernels know:
`torch.ops.svconv.forward`, `grad_input`, `grad_weight`; `svconv.triton.ops` has Triton's, explained alike. With
`normalize=False` the logits are the weights. `forward_into` is forward into a given tensor, without derivatives.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from svconv import arguments, checks, derivatives, slices, torch_private
from svconv.deferred import when_imported
from svconv.info import library_path
from svconv.precision import asks_for_tf32
from svconv.weights import accumulation_type

torch.ops.load_library(str(library_path()))
_library = torch.library.Library("svconv", "FRAGMENT")


@dataclass(frozen=True)
class Products:
    """The raw operators of one backend, as overloads: `torch.ops.svconv.forward.default`."""

    forward: Callable
    grad_input: Callable
    grad_weight: Callable


COMPILED = Products(*(getattr(torch.ops.svconv, name).default for name in ("forward", "grad_input", "grad_weight")))


def forward(
    input: Tensor,
    logits: Tensor,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    normalize: bool = True,
    renormalize: bool = False,
    out: Tensor | None = None,
    window: tuple[int, ...] = (),
) -> Tensor:
    """The operator without choice of backend, for inference code in a hot loop.

    Options, shapes, dtypes and torch's setting for tf32 as in `svconv.svconv2d`. Under `torch.inference_mode()` the
    call reaches the kernel without passing through autograd. With `out` nothing is recorded for a derivative. `window`
    is what `raw_window` makes of the other options.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a wrong shape, value or device, or an `out` that does not fit.
        RuntimeError: a window that no kernel knows.
    """
    # torch takes anything for a bool, and a bool for a number.
    flags = ("normalize", normalize), ("renormalize", renormalize)
    flags = [checks.flag("svconv.ops.forward", name, value) for name, value in flags]
    sizes = ("kernel_size", kernel_size), ("dilation", dilation), ("groups", groups)
    sizes = [checks.count("svconv.ops.forward", name, value, (torch.SymInt,)) for name, value in sizes]
    if window:
        _check_window(window)
    options = *sizes, *flags, asks_for_tf32(), *window
    if torch.compiler.is_compiling():
        return run(input, logits, out, options)
    given = (input, logits) if out is None else (input, logits, out)
    if not all(isinstance(tensor, Tensor) and tensor.device == input.device for tensor in given):
        # A tensor without memory ("meta") would make the whole call one that computes nothing.
        _check(input, logits, out, *sizes, *flags, window)
    try:
        return run(input, logits, out, options)
    except RuntimeError:
        # The operator says what is wrong, but not how that is mended.
        _check(input, logits, out, *sizes, *flags, window)
        raise


def run(input: Tensor, logits: Tensor, out: Tensor | None, options: tuple) -> Tensor:
    """Do what `forward` does, on the operator's own arguments, which it checks itself."""
    if out is None:
        return COMPILED.forward(input, logits, *options)[0]
    torch.ops.svconv.forward_into.default(input, logits, out, *options)
    return out


# The numbers of csrc/problem.h.
BORDERS = {"zeros": 0, "renormalize": 0, "shift": 1, "reflect": 2, "replicate": 3}
_PADDING_MODES = ("zeros", "shift", "reflect", "replicate")


def reads(*, dilation: int, padding_mode: str, scale: int, **_) -> bool:
    """Whether the CPU's kernels read these windows: all that stay within one residue class of the dilation."""
    return dilation == 1 or (scale == 1 and padding_mode not in ("reflect", "replicate"))


def raw_window(padding_mode: str, taps: str, scale: int, cells: bool = False) -> tuple[int, ...]:
    """The raw arguments of a window; none for a plain one, which every backend's operators take."""
    window = BORDERS[padding_mode], taps == "correlation", scale
    if cells:
        return *window, True
    return () if window == (0, False, 1) else window


def _check_window(window: object) -> None:
    """Raise unless a window is one that `raw_window` makes; torch would take a number for a bool."""
    kinds = tuple(map(type, window)) if isinstance(window, tuple) else ()
    known = kinds in ((int, bool, int), (int, bool, int, bool))
    if not known or window[0] not in BORDERS.values() or window[2] < 1:
        raise (ValueError if known else TypeError)(
            f"svconv.ops.forward: expected window to be a tuple that raw_window makes, got {checks.shown(window)}; "
            "call svconv.ops.raw_window"
        )


def _check(input, logits, out, kernel_size, dilation, groups, normalize, renormalize, window) -> None:
    """Raise what `svconv.svconv2d` raises for these arguments, if anything."""
    border, correlation, scale, *cells = window or (BORDERS["zeros"], False, 1)
    padding_mode = "renormalize" if renormalize else _PADDING_MODES[border]
    options = dict(kernel_size=kernel_size, dilation=dilation, groups=groups, normalize=normalize)
    options.update(padding_mode=padding_mode, taps=checks.TAPS[correlation], scale=scale)
    if any(cells):
        arguments.check_devices_and_types("svconv.ops.forward", input=input, logits=logits)
    else:
        arguments.check_svconv2d("svconv.ops.forward", input, logits, **options)
    if out is not None:
        arguments.check_out("svconv.ops.forward", out, input, logits, scale)


def correlation(
    query: Tensor,
    key: Tensor,
    *,
    kernel_size: int,
    dilation: int,
    groups: int,
    window: tuple[int, ...] = (),
    products: Products = COMPILED,
) -> Tensor:
    """Compute `svconv.correlation2d` without argument checks: as the weights' gradient, where the weights play no
    part."""
    n, _, h, w = query.shape
    channels_last = query.stride(1) == 1 and query.shape[1] > 1
    taps = groups * kernel_size**2
    # The result takes shape and layout from this tensor, whose numbers are never read.
    result_like = (
        query.new_empty((n, h, w, taps)).permute(0, 3, 1, 2) if channels_last else query.new_empty((n, taps, h, w))
    )
    none = query.new_empty(0, dtype=accumulation_type(query.dtype))
    options = kernel_size, dilation, groups, False, False, asks_for_tf32(), *window
    return products.grad_weight(query, key, result_like, none, *options)


# Fake kernels: shapes, types and strides of the results.


def _empty_of_size(like: Tensor, height: int, width: int) -> Tensor:
    n, c = like.shape[:2]
    if like.stride(1) != 1 or c == 1:
        return like.new_empty((n, c, height, width))
    return like.new_empty((n, height, width, c)).permute(0, 3, 1, 2)


def fake_forward(input, logits, kernel_size, dilation, groups, normalize, renormalize, tf32=False, *window):
    n, h, w, scale = input.shape[0], *logits.shape[2:], _scale(window)
    cells = scale if _has_cells(window) else 1
    shape = (n, groups * cells**2, h, w) if normalize else (0,)
    out = torch.empty_like(input) if scale == 1 else _empty_of_size(input, cells * h, cells * w)
    return out, input.new_empty(shape, dtype=accumulation_type(input.dtype))


def fake_grad_input(grad_out, logits, lse, *options):
    scale = _scale(options[6:])
    h, w = grad_out.shape[2:]
    return torch.empty_like(grad_out) if scale == 1 else _empty_of_size(grad_out, h // scale, w // scale)


def _scale(window: tuple[int, ...]) -> int:
    return window[2] if len(window) > 2 else 1


def _has_cells(window: tuple[int, ...]) -> bool:
    return len(window) > 3 and window[3]


def fake_grad_weight(grad_out, input, logits, lse, *options):
    return torch.empty_like(logits)


torch.library.register_fake("svconv::forward", fake_forward)
torch.library.register_fake("svconv::forward_into", lambda input, logits, out, *options: None)
torch.library.register_fake("svconv::grad_input", fake_grad_input)
torch.library.register_fake("svconv::grad_weight", fake_grad_weight)


# Autograd: derivatives are registered below.


def _forward_into(keyset, input, logits, out, *options):
    """Tell autograd that `out` changes, since an earlier operation may have saved it."""
    torch.autograd.graph.increment_version(out)
    below = keyset & torch_private.after_inplace
    torch.ops.svconv.forward_into.default.redispatch(below, input, logits, out, *options)


_library.impl("forward_into", _forward_into, "ADInplaceOrView", with_keyset=True)


# vmap: the mapped dimension folds into N.


def _fold(info, tensor: Tensor, dim: int | None) -> Tensor:
    tensor = tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return tensor.flatten(0, 1)


def _unfold(info, tensor: Tensor) -> Tensor:
    return tensor.unflatten(0, (info.batch_size, tensor.shape[0] // info.batch_size))


def _fold_lse(info, lse: Tensor, dim: int | None, normalize: bool) -> Tensor:
    return _fold(info, lse, dim) if normalize else lse.new_empty(0)


def _register_vmap(products: Products) -> None:
    def forward(info, in_dims, input, logits, *options):
        out, lse = products.forward(_fold(info, input, in_dims[0]), _fold(info, logits, in_dims[1]), *options)
        normalize = options[3]
        return (_unfold(info, out), _unfold(info, lse) if normalize else lse), (0, 0 if normalize else None)

    def grad_input(info, in_dims, grad_out, logits, lse, *options):
        folded = [_fold(info, t, dim) for t, dim in zip((grad_out, logits), in_dims, strict=False)]
        lse = _fold_lse(info, lse, in_dims[2], options[3])
        return _unfold(info, products.grad_input(*folded, lse, *options)), 0

    def grad_weight(info, in_dims, grad_out, input, logits, lse, *options):
        folded = [_fold(info, t, dim) for t, dim in zip((grad_out, input, logits), in_dims, strict=False)]
        lse = _fold_lse(info, lse, in_dims[3], options[3])
        return _unfold(info, products.grad_weight(*folded, lse, *options)), 0

    torch.library.register_vmap(products.forward, forward)
    torch.library.register_vmap(products.grad_input, grad_input)
    torch.library.register_vmap(products.grad_weight, grad_weight)


# Each product multiplies and adds every channel of every pixel with every tap.


def _flops(shape, other, *args, out_shape=None, **kwargs) -> int:
    # At a scale one of the two may be smaller than the result of forward, to which each tap contributes.
    result = out_shape[0] if out_shape and isinstance(out_shape[0], (tuple, list, torch.Size)) else shape
    n, c, (h, w) = *shape[:2], max(shape[2:], other[2:], result[2:])
    kernel_size = next(arg for arg in args if isinstance(arg, (int, torch.SymInt)))
    return 2 * n * c * h * w * kernel_size**2


def _register_flops(*operators: Callable) -> None:
    def register() -> None:
        from torch.utils.flop_counter import register_flop_formula

        register_flop_formula([operator.overloadpacket for operator in operators])(_flops)

    when_imported("torch.utils.flop_counter", register)


def _register_decompositions(products: Products) -> None:
    """Register what the operators of an exported program are in ONNX; nothing else asks for it."""
    decompositions = {
        products.forward: slices.forward,
        products.grad_input: slices.grad_input,
        products.grad_weight: slices.grad_weight,
    }
    when_imported(torch_private.ONNX_TABLE, lambda: torch_private.decompose_for_onnx(decompositions))


def _shard(products: Products) -> None:
    """Register how the operators run on spread tensors; called when DTensor has been imported.

    `svconv.sharding` imports DTensor itself and may be half imported then, so that its rules are looked up when they
    are asked for.
    """
    from torch.distributed.tensor.experimental import register_sharding

    for name in ("forward", "grad_input", "grad_weight"):
        register_sharding(getattr(products, name))(partial(_placements, name))


def _placements(name: str, *arguments: Any) -> list:
    from svconv import sharding

    return getattr(sharding, name)(*arguments)


def _register_autocast(op: Callable, device_type: str, dispatch_key: str) -> None:
    """Have a `forward` run in the autocast dtype; it always accumulates and takes its softmax in float32."""

    def autocast_forward(input, logits, *options):
        dtype = torch.get_autocast_dtype(device_type)
        cast = [t.to(dtype) if t.is_floating_point() and t.dtype != torch.float64 else t for t in (input, logits)]
        with torch_private.without_autocast_key(dispatch_key):
            return op(*cast, *options)

    _library.impl(op.overloadpacket.__name__, autocast_forward, dispatch_key)


def explain_to_pytorch(products: Products, keys: tuple[str, ...] = ("Autograd",)) -> None:
    """Register what PyTorch knows of one backend's products beside the kernels: derivatives (under the dispatch keys
    `keys`), vmap, FLOPs, autocast, sharding, what they are in ONNX."""
    derivatives.register(_library, products, keys)
    _register_vmap(products)
    _register_flops(products.forward, products.grad_input, products.grad_weight)
    _register_decompositions(products)
    when_imported("torch.distributed.tensor", lambda: _shard(products))
    _register_autocast(products.forward, "cpu", "AutocastCPU")
    _register_autocast(products.forward, "cuda", "AutocastCUDA")


explain_to_pytorch(COMPILED)
_register_flops(torch.ops.svconv.forward_into.default)
