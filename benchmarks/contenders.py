"""The contenders: functions (input, logits, kernel_size) -> out, (N, C, H, W) -> (N, C, H, W), float32 or bfloat16."""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import flex_attention as flex

import svconv
import svconv.ops
from benchmarks.problems import BASELINE, INTO, OURS, PLAIN, RAW, STEP, UNFOLD_STEP

Function = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Contender:
    """One way to compute the operator.

    Attributes:
        name: what tables call it.
        function: is checked against float64 on a small problem, and timed unless `compiled` is given.
        compiled: is timed in its place.
        requires: the package it comes from, where that is not a dependency.
        inference: whether it has no gradients, and is timed forward only.
        step: whether it is timed as a plain training step, `function(...).sum().backward()`, and no other way.
    """

    name: str
    function: Function
    compiled: Function | None = None
    requires: str | None = None
    inference: bool = False
    step: bool = False

    @property
    def timed(self) -> Function:
        return self.compiled or self.function

    @property
    def missing(self) -> bool:
        return self.requires is not None and importlib.util.find_spec(self.requires) is None

    def runs(self, training: bool) -> bool:
        return not (self.inference if training else self.step)


def ours(input: Tensor, logits: Tensor, kernel_size: int, backend: str | None = None) -> Tensor:
    return svconv.svconv2d(input, logits, kernel_size=kernel_size, backend=backend)


def raw_operator(input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    return torch.ops.svconv.forward.default(input, logits, kernel_size, 1, 1, True, False)[0]


class OursInto:
    """svconv with `out=`: memory for results of one size is allocated by the first call and reused by later ones."""

    def __init__(self, backend: str) -> None:
        self.backend, self.out = backend, None

    def __call__(self, input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
        if self.out is None or (self.out.shape, self.out.dtype) != (input.shape, input.dtype):
            self.out = torch.empty_like(input)
        return svconv.svconv2d(input, logits, kernel_size=kernel_size, backend=self.backend, out=self.out)


def unfold(input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    return svconv.reference.svconv2d(input, logits, kernel_size=kernel_size)


def unfold_mul_sum(input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """Multiply the unfolded input by the weights and sum, without einsum."""
    n, c, h, w = input.shape
    weights = logits.flip(1).softmax(1).unsqueeze(1)
    patches = F.unfold(input, kernel_size, padding=kernel_size // 2).reshape(n, c, -1, h, w)
    return (patches * weights).sum(2)


def loop(input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """Pad the input once, then multiply and accumulate each tap in place."""
    padded, weights, out = _padded(input, kernel_size), logits.softmax(1), torch.zeros_like(input)
    for tap, shifted in enumerate(_shifted(padded, kernel_size)):
        out.addcmul_(shifted, weights[:, tap : tap + 1])
    return out


def loop_compiled(input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """Run the loop under torch.compile, padding included: Inductor fuses softmax and all taps into one kernel."""
    return _compile(padded_sum_of_taps)(input, logits, kernel_size)


def loop_compiled_after_padding(input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """Run the loop under torch.compile after the padding, which in a compiled part is a mask on each of the K*K
    loads."""
    return _compile(sum_of_taps)(_padded(input, kernel_size), logits, kernel_size)


def padded_sum_of_taps(input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    return sum_of_taps(_padded(input, kernel_size), logits, kernel_size)


def sum_of_taps(padded: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    weights = logits.softmax(1)
    return sum(shifted * weights[:, tap : tap + 1] for tap, shifted in enumerate(_shifted(padded, kernel_size)))


def _padded(input: Tensor, kernel_size: int) -> Tensor:
    return F.pad(input, (kernel_size // 2,) * 4)


def _shifted(padded: Tensor, kernel_size: int):
    """Return the padded input at (i - u, j - v) for each tap (u, v) in row-major order, as views (N, C, H, W)."""
    h, w = (size - kernel_size + 1 for size in padded.shape[2:])
    for u in reversed(range(kernel_size)):
        for v in reversed(range(kernel_size)):
            yield padded[:, :, u : u + h, v : v + w]


@cache
def _compile(function: Callable) -> Callable:
    return torch.compile(function, fullgraph=True, dynamic=False)


def flex_eager(input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        return _attend(flex.flex_attention, input, logits, kernel_size)


def flex_compiled(input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    return _attend(_compile(flex.flex_attention), input, logits, kernel_size)


def _attend(attention: Callable, input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """Run FlexAttention from each pixel to its window of the zero-padded frame, with the tap's logit as the score.

    Queries and keys carry no information (zeros of 16 channels, the least the kernels take); values are the pixels of
    the padded frame as rows of C channels.
    """
    n, c, h, w = input.shape
    padded = _padded(input, kernel_size)
    width = padded.shape[3]
    # The scores are float32, since the CPU kernel misreads captured ones of 16 bits.
    score = logits.flatten(2).float()
    last = kernel_size - 1

    def score_mod(_, batch, head, query, key):
        row, column = key // width - query // w, key % width - query % w
        # A convolution takes its taps in reverse. Outside the window the mask decides, the index has to be valid.
        tap = ((last - row) * kernel_size + last - column).clamp(0, last * kernel_size + last)
        return score[batch, tap, query]

    values = padded.flatten(2).transpose(1, 2).unsqueeze(1)
    queries, keys = (input.new_zeros(n, 1, pixels, 16) for pixels in (h * w, values.shape[2]))
    out = attention(
        queries, keys, values, score_mod=score_mod, block_mask=_window_mask(h, w, kernel_size, input.device)
    )
    return out.squeeze(1).transpose(1, 2).reshape(n, c, h, w)


@cache
def _window_mask(h: int, w: int, kernel_size: int, device: torch.device, block: int = 128) -> flex.BlockMask:
    """Return the block mask of the K x K window, made from the first and last key of each row of the window.

    `create_block_mask` would build the dense mask first: (H*W)**2 entries.
    """
    width, last = w + kernel_size - 1, kernel_size - 1
    pixels = torch.arange(h * w, device=device)
    rows = pixels[:, None] // w + torch.arange(kernel_size, device=device)
    first = rows * width + (pixels % w)[:, None]
    blocks = [-(-size // block) for size in (h * w, (h + last) * width)]
    needed = torch.zeros(blocks, dtype=torch.int32, device=device)
    for key in range(0, last + block, block):
        needed[(pixels // block)[:, None], (first + min(key, last)) // block] = 1

    def inside(batch, head, query, key):
        row, column = key // width - query // w, key % width - query % w
        return (row >= 0) & (row <= last) & (column >= 0) & (column <= last)

    counts = needed.sum(1, dtype=torch.int32)[None, None]
    indices = needed.argsort(dim=1, descending=True, stable=True).to(torch.int32)[None, None]
    return flex.BlockMask.from_kv_blocks(
        counts, indices, BLOCK_SIZE=block, mask_mod=inside, seq_lengths=(h * w, (h + last) * width)
    )


def natten(input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """Run NATTEN's product of attention weights and values on the padded frame, where no window meets a border."""
    try:
        from natten.functional import na2d_av
    except ImportError:
        raise NotImplementedError("this version of natten has no na2d_av") from None
    radius = kernel_size // 2
    weights = _padded(logits.flip(1).softmax(1), kernel_size).permute(0, 2, 3, 1).unsqueeze(1).contiguous()
    values = _padded(input, kernel_size).permute(0, 2, 3, 1).unsqueeze(1).contiguous()
    out = na2d_av(weights, values, kernel_size, 1).squeeze(1).permute(0, 3, 1, 2)
    return out[:, :, radius:-radius, radius:-radius]


def carafe(input: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """Run mmcv's CARAFE without upsampling, which has CUDA kernels only."""
    from mmcv.ops import carafe as operator

    if input.device.type != "cuda":
        raise NotImplementedError("its kernels run on CUDA tensors")
    return operator(input.contiguous(), logits.flip(1).softmax(1).contiguous(), kernel_size, 1, 1)


# The backends that may run here; svconv.backends() would say, but it looks at the GPU, which processes that are forked
# from this one could then no longer use.
_BACKENDS = ["cuda", "cpu", "triton"] if torch.cuda.device_count() else ["cpu"]

_ALL = [
    *(Contender(f"{OURS} ({name})", partial(ours, backend=name)) for name in _BACKENDS),
    *(Contender(f"{OURS} ({name}){INTO}", OursInto(name), inference=True) for name in _BACKENDS),
    # No backend is named, as users do.
    Contender(STEP, ours, step=True),
    Contender(PLAIN, ours, inference=True),
    Contender(RAW, raw_operator, inference=True),
    Contender(BASELINE, unfold),
    Contender("unfold, mul + sum", unfold_mul_sum),
    Contender(UNFOLD_STEP, unfold_mul_sum, step=True),
    Contender("loop", loop),
    Contender("loop, compiled", loop, loop_compiled),
    Contender("loop, compiled after padding", loop, loop_compiled_after_padding),
    Contender("FlexAttention", flex_eager, flex_compiled),
    Contender("NATTEN", natten, requires="natten"),
    Contender("CARAFE (mmcv)", carafe, requires="mmcv"),
]
CONTENDERS = {contender.name: contender for contender in _ALL}
