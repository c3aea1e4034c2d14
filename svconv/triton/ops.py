"""The three products in Triton, registered with PyTorch and launched: `torch.ops.svconv.triton_forward`,
`triton_grad_input`, `triton_grad_weight`. Schemas and semantics are those of the compiled ones (`svconv.ops`), and so
are derivatives, vmap, autocast and FLOPs. Importing this imports Triton.
"""

import contextlib
import functools
import threading

import torch
import triton
from torch import Tensor

from svconv import ops
from svconv.torch_private import is_fake
from svconv.triton import configs
from svconv.triton.band import band_gradient, band_sum
from svconv.triton.configs import Config, ProblemClass
from svconv.triton.taps import taps_gradient, taps_jacobian, taps_sum
from svconv.weights import accumulation_type

# With TRITON_INTERPRET=1 in the environment when Triton was imported: kernels run in Python, on CPU tensors.
INTERPRETED = not isinstance(band_sum, triton.JITFunction)
# The widest kernel for which there are tiles, by bytes of a number; wider ones are summed tap by tap.
WIDEST_BAND = {2: 15, 4: 9}
TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

if not INTERPRETED:
    configs.give_triton_a_folder(triton.knobs)

if INTERPRETED:
    # The interpreter has no kernel for a compiler to see through to.
    _operator = torch.library.custom_op

    def wrap_triton(kernel):
        return kernel

else:
    from torch.library import triton_op as _operator
    from torch.library import wrap_triton


@_operator("svconv::triton_forward", mutates_args=())
def forward(
    input: Tensor,
    logits: Tensor,
    kernel_size: int,
    dilation: int,
    groups: int,
    normalize: bool,
    renormalize: bool,
    tf32: bool = False,
) -> tuple[Tensor, Tensor]:
    _check("triton_forward", input, logits, kernel_size, groups)
    out, lse = ops.fake_forward(input, logits, kernel_size, dilation, groups, normalize, renormalize)
    _sum(input, logits, lse, out, kernel_size, dilation, groups, normalize, renormalize, tf32, False)
    return out, lse


@_operator("svconv::triton_grad_input", mutates_args=())
def grad_input(
    grad_out: Tensor,
    logits: Tensor,
    lse: Tensor,
    kernel_size: int,
    dilation: int,
    groups: int,
    normalize: bool,
    renormalize: bool,
    tf32: bool = False,
) -> Tensor:
    _check("triton_grad_input", grad_out, logits, kernel_size, groups, lse=lse if normalize else None)
    result = torch.empty_like(grad_out)
    _sum(grad_out, logits, lse.contiguous(), result, kernel_size, dilation, groups, normalize, renormalize, tf32, True)
    return result


@_operator("svconv::triton_grad_weight", mutates_args=())
def grad_weight(
    grad_out: Tensor,
    input: Tensor,
    logits: Tensor,
    lse: Tensor,
    kernel_size: int,
    dilation: int,
    groups: int,
    normalize: bool,
    renormalize: bool,
    tf32: bool = False,
) -> Tensor:
    _check("triton_grad_weight", input, logits, kernel_size, groups, grad_out, lse if normalize else None)
    result = torch.empty_like(logits)
    gradient = _band_gradient if _family(input, kernel_size, tf32) == "band" else _taps_gradient
    gradient(grad_out, input, logits, lse.contiguous(), result, kernel_size, dilation, groups, normalize, renormalize)
    return result


forward.register_fake(ops.fake_forward)
grad_input.register_fake(ops.fake_grad_input)
grad_weight.register_fake(ops.fake_grad_weight)
PRODUCTS = ops.Products(
    torch.ops.svconv.triton_forward.default,
    torch.ops.svconv.triton_grad_input.default,
    torch.ops.svconv.triton_grad_weight.default,
)
# Each device's own key goes before "Autograd", which the operators come with.
ops.explain_to_pytorch(PRODUCTS, ("AutogradCPU", "AutogradCUDA", "AutogradMeta"))


def _check(
    name: str,
    input: Tensor,
    logits: Tensor,
    kernel_size: int,
    groups: int,
    grad_out: Tensor | None = None,
    lse: Tensor | None = None,
) -> None:
    """The backstop for calls that did not come through svconv2d: wrong shapes must not become wrong addresses."""
    n, c, h, w = input.shape
    if input.dtype not in TYPES:
        raise RuntimeError(f"svconv::{name}: expected one of {TYPES}, got {input.dtype=}")
    if kernel_size % 2 == 0 or c % groups:
        raise RuntimeError(
            f"svconv::{name}: expected an odd kernel_size and channels divisible by groups, "
            f"got {kernel_size=}, {groups=}, {input.shape=}"
        )
    for what, tensor, shape, dtype in (
        ("logits", logits, (n, groups * kernel_size**2, h, w), input.dtype),
        ("grad_out", grad_out, (n, c, h, w), input.dtype),
        ("lse", lse, (n, groups, h, w), accumulation_type(input.dtype)),
    ):
        if tensor is not None and (tuple(tensor.shape) != shape or tensor.dtype != dtype):
            raise RuntimeError(
                f"svconv::{name}: expected {what} of shape {shape} and {dtype}, "
                f"got {tuple(tensor.shape)} and {tensor.dtype}"
            )


def _family(input: Tensor, kernel_size: int, tf32: bool) -> str:
    """The kernels that compute the product: "band" or "taps"."""
    exact = input.dtype == torch.float64 or (input.dtype == torch.float32 and not tf32)
    widest = WIDEST_BAND[input.dtype.itemsize] if not exact else 0
    return "band" if kernel_size <= widest else "taps"


def _sum(input, logits, lse, out, kernel_size, dilation, groups, normalize, renormalize, tf32, transposed) -> None:
    """`forward`, or with `transposed` `grad_input`, written to `out`."""
    n, c, h, w = input.shape
    family = _family(input, kernel_size, tf32)

    def launch(config: Config) -> None:
        part = _part(config, input, dilation, groups)
        grid = (_tiles(config, h, w, dilation) * max(-(-(c // groups) // part), 1) * groups * n,)
        arguments = (
            *(input, logits, lse, out, *input.stride(), *logits.stride(), *out.stride()),
            *(groups, c // groups, h, w, dilation, part, kernel_size, transposed, normalize, renormalize),
        )
        wide = _wide(input, logits, out)
        if family == "band":
            wrap_triton(band_sum)[grid](
                *arguments, *_band_options(input), wide, TAPS=config.taps, **_band_tile(config, kernel_size)
            )
        else:
            wrap_triton(taps_sum)[grid](*arguments, wide, TAPS=config.taps, **_tile(config))

    _launch_best("sum", family, launch, input, kernel_size, dilation, groups)


def _band_gradient(grad_out, input, logits, lse, result, kernel_size, dilation, groups, normalize, renormalize) -> None:
    n, c, h, w = input.shape

    def launch(config: Config) -> None:
        grid = (_tiles(config, h, w, dilation) * groups * n,)
        wrap_triton(band_gradient)[grid](
            *(grad_out, input, logits, lse, result),
            *(*grad_out.stride(), *input.stride(), *logits.stride(), *result.stride()),
            *(groups, c // groups, h, w, dilation, kernel_size, normalize, renormalize),
            *_band_options(input),
            _wide(grad_out, input, logits, result),
            **_band_tile(config, kernel_size),
        )

    _launch_best("gradient", "band", launch, input, kernel_size, dilation, groups)


def _taps_gradient(grad_out, input, logits, lse, result, kernel_size, dilation, groups, normalize, renormalize) -> None:
    n, c, h, w = input.shape
    # Sums of 16-bit types are kept in full until the softmax's derivative has taken them.
    sums = result if result.dtype == lse.dtype else torch.empty_like(result, dtype=lse.dtype)

    def launch(config: Config) -> None:
        grid = (_tiles(config, h, w, dilation) * groups * n,)
        wrap_triton(taps_gradient)[grid](
            *(grad_out, input, sums, *grad_out.stride(), *input.stride(), *sums.stride()),
            *(groups, c // groups, h, w, dilation, kernel_size, _wide(grad_out, input, sums)),
            TAPS=config.taps,
            **_tile(config),
        )

    config = _launch_best("gradient", "taps", launch, input, kernel_size, dilation, groups)
    if normalize:
        wrap_triton(taps_jacobian)[(_tiles(config, h, w, dilation) * groups * n,)](
            *(sums, logits, lse, result, *sums.stride(), *logits.stride(), *result.stride()),
            *(groups, h, w, dilation, kernel_size, renormalize, _wide(sums, logits, result)),
            *(config.rows, config.columns, config.taps),
            num_warps=config.warps,
        )
    elif sums is not result:
        result.copy_(sums)


def _tiles(config: Config, height: int, width: int, dilation: int) -> int:
    rows, columns = (-(-size // dilation) for size in (height, width))
    return -(-rows // config.rows) * -(-columns // config.columns) * dilation**2


def _part(config: Config, input: Tensor, dilation: int, groups: int) -> int:
    """Channels of one program: fewer where there are not enough tiles for all processors."""
    n, c, h, w = input.shape
    channels = c // groups
    parts = 1
    if _concrete(input):
        tiles = _tiles(config, h, w, dilation) * groups * n
        parts = max(1, -(-2 * _processors(input.device) // max(tiles, 1)))
    return max(-(-channels // (parts * config.channels)), 1) * config.channels


def _tile(config: Config) -> dict[str, int]:
    return {
        "ROWS": config.rows,
        "COLUMNS": config.columns,
        "CHANNELS": config.channels,
        "num_warps": config.warps,
        "num_stages": config.stages,
    }


def _band_tile(config: Config, kernel_size: int) -> dict[str, int]:
    return {**_tile(config), "WINDOW_ROWS": configs.window_rows(kernel_size, config.rows)}


def _band_options(input: Tensor) -> tuple[str, bool]:
    """The constants PRECISION and UPCAST; the interpreter can't multiply bfloat16."""
    return "tf32" if input.dtype == torch.float32 else "ieee", INTERPRETED and input.dtype == torch.bfloat16


def _wide(*tensors: Tensor) -> bool:
    """True if offsets within an image of one of the tensors may pass 32 bits, or if sizes are unknown."""
    if not all(map(_concrete, tensors)):
        return True
    # Positions outside the tensor are never read, whatever their offsets come to.
    return any(
        sum((size - 1) * step for size, step in zip(t.shape[1:], t.stride()[1:], strict=True)) >= 2**31 for t in tensors
    )


def _concrete(tensor: Tensor) -> bool:
    """True if the tensor's sizes are numbers, not symbols of a program that serves any size."""
    return all(type(size) is int for size in tensor.shape)


_tuning = threading.Lock()


def _launch_best(
    product: str, family: str, launch, input: Tensor, kernel_size: int, dilation: int, groups: int
) -> Config:
    """Launches with the configuration of this class of problems, and measures which it is if nobody has."""
    if INTERPRETED:
        c, h, w = input.shape[1:]
        config = configs.interpreted(family, kernel_size, c // groups, -(-h // dilation), -(-w // dilation))
        launch(config)
        return config
    candidates = configs.candidates(product, family, kernel_size, input.dtype.itemsize, torch.version.hip is not None)
    config = None
    traced = type(input) is not Tensor or is_fake(input)
    on_device = contextlib.nullcontext() if traced else torch.cuda.device(input.device)
    with on_device:
        if torch.cuda.is_available() and _concrete(input):
            problem = _class_of(product, family, input, kernel_size, groups)
            known = configs.cache_of(torch.cuda.get_device_name(input.device), triton.__version__)
            config = known.get(problem)
            if config is None and not traced and not torch.cuda.is_current_stream_capturing():
                with _tuning:
                    config = known.get(problem) or configs.fastest(candidates, lambda each: _seconds(launch, each))
                    known.put(problem, config)
        config = config or candidates[0]
        launch(config)
    return config


def _class_of(product: str, family: str, input: Tensor, kernel_size: int, groups: int) -> ProblemClass:
    n, c, h, w = input.shape
    exponents = [(size - 1).bit_length() for size in (max(c // groups, 1), max(n * h * w, 1))]
    dtype = str(input.dtype).removeprefix("torch.")
    return ProblemClass(product, family, dtype, kernel_size, input.stride(1) == 1, *exponents)


def _seconds(launch, config: Config) -> float:
    """The time of one launch on the current stream, in seconds: the least of a few runs of several launches."""
    launch(config)
    times = []
    for _ in range(3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(10):
            launch(config)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e4)
    return min(times)


@functools.cache
def _processors(device: torch.device) -> int:
    """The number of the GPU's multiprocessors; a typical one without a GPU, for programs compiled ahead of time."""
    return torch.cuda.get_device_properties(device).multi_processor_count if torch.cuda.is_available() else 128
