"""Launches the three products: chooses kernels, grid and configuration, and measures the latter if nobody has."""

import contextlib
import functools
import threading

import torch
import triton
from torch import Tensor

from svconv.torch_private import is_fake
from svconv.triton import configs
from svconv.triton.band import band_gradient, band_sum
from svconv.triton.configs import Config, ProblemClass
from svconv.triton.taps import taps_gradient, taps_jacobian, taps_sum

# With TRITON_INTERPRET=1 in the environment when Triton was imported: kernels run in Python, on CPU tensors.
INTERPRETED = not isinstance(band_sum, triton.JITFunction)
# The widest kernel for which there are tiles, by bytes of a number; wider ones are summed tap by tap.
WIDEST_BAND = {2: 15, 4: 9}

if INTERPRETED:

    def wrap_triton(kernel):
        return kernel

else:
    from torch.library import wrap_triton

    configs.give_triton_a_folder(triton.knobs)


def _family(input: Tensor, kernel_size: int, tf32: bool) -> str:
    """Return the kernels that compute the product, "band" or "taps"."""
    exact = input.dtype == torch.float64 or (input.dtype == torch.float32 and not tf32)
    widest = WIDEST_BAND[input.dtype.itemsize] if not exact else 0
    return "band" if kernel_size <= widest else "taps"


def _least_dilation(input: Tensor, dilation: int) -> int:
    """Return the dilation, or the least one at which all taps but the centre lie outside the frame, if that is less.

    A launch has a program for each of dilation**2 sub-images, and offsets of 32 bits.
    """
    return min(dilation, max(*input.shape[2:], 1)) if _concrete(input) else dilation


def launch_sum(
    input, logits, lse, out, kernel_size, dilation, groups, normalize, renormalize, tf32, transposed
) -> None:
    """Compute `forward` into `out`, or with `transposed` `grad_input`."""
    n, c, h, w = input.shape
    dilation = _least_dilation(input, dilation)
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


def launch_gradient(
    grad_out, input, logits, lse, result, kernel_size, dilation, groups, normalize, renormalize, tf32
) -> None:
    """Compute `grad_weight` into `result`."""
    dilation = _least_dilation(input, dilation)
    gradient = _band_gradient if _family(input, kernel_size, tf32) == "band" else _taps_gradient
    gradient(grad_out, input, logits, lse, result, kernel_size, dilation, groups, normalize, renormalize)


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
    """Return the channels of one program: fewer if there are not enough tiles for all processors."""
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
    """Return the constants PRECISION and UPCAST; the interpreter can't multiply bfloat16."""
    return "tf32" if input.dtype == torch.float32 else "ieee", INTERPRETED and input.dtype == torch.bfloat16


def _wide(*tensors: Tensor) -> bool:
    """Whether offsets within an image of one of the tensors may pass 32 bits; sizes that are not known may."""
    if not all(map(_concrete, tensors)):
        return True
    # Positions outside the tensor are never read, whatever their offsets come to.
    return any(
        sum((size - 1) * step for size, step in zip(t.shape[1:], t.stride()[1:], strict=True)) >= 2**31 for t in tensors
    )


def _concrete(tensor: Tensor) -> bool:
    """Whether the tensor's sizes are numbers, not symbols of a program that serves any size."""
    return all(type(size) is int for size in tensor.shape)


_tuning = threading.Lock()


def _launch_best(
    product: str, family: str, launch, input: Tensor, kernel_size: int, dilation: int, groups: int
) -> Config:
    """Launch with the best configuration for this class of problems; measure which it is if nobody has."""
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
    """Return the time of one launch on the current stream, in seconds: the least of a few runs of several launches."""
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
    """Return the number of the GPU's multiprocessors; without a GPU a typical one, for programs compiled ahead of
    time."""
    return torch.cuda.get_device_properties(device).multi_processor_count if torch.cuda.is_available() else 128
