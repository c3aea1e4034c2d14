"""The problems that are measured: sizes, random tensors for them, their work, and the presets that group them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

OPERATIONS = ("forward", "backward", "forward+backward")
# svconv has a contender for each backend, and one more each that is given a tensor for its result.
OURS, INTO, BASELINE = "svconv", ", out=", "unfold"
# One contender each, which no name of several stands for.
STEP, UNFOLD_STEP, PLAIN, RAW = "svconv, step", "unfold, mul + sum, step", "svconv, plain call", "svconv, raw operator"
SPECIAL = (STEP, UNFOLD_STEP, PLAIN, RAW)


@dataclass(frozen=True)
class Problem:
    """One size (N, C, H, W), kernel size, type and layout of the operator; the paper's kernel size is 9."""

    name: str
    shape: tuple[int, int, int, int]
    kernel_size: int = 9
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    @property
    def type_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def layout(self) -> str:
        return "NHWC" if self.channels_last else "NCHW"

    @property
    def feature_bytes(self) -> int:
        """Bytes of the input; the output and the gradients of both are as large."""
        n, c, h, w = self.shape
        return n * c * h * w * self.dtype.itemsize

    @property
    def logits_bytes(self) -> int:
        n, _, h, w = self.shape
        return n * self.kernel_size**2 * h * w * self.dtype.itemsize

    def flops(self, operation: str) -> int:
        """Multiplications and additions, without those of the softmax. Backward is two products, forward one."""
        n, c, h, w = self.shape
        products = {"forward": 1, "backward": 2, "forward+backward": 3}[operation]
        return products * 2 * n * c * h * w * self.kernel_size**2

    def bytes(self, operation: str) -> int:
        """Bytes moved where every argument is read once and every result written once.

        Forward: input, logits; output. Backward: grad_out, input, logits; grad_input, grad_logits.
        """
        forward = 2 * self.feature_bytes + self.logits_bytes
        backward = 3 * self.feature_bytes + 2 * self.logits_bytes
        return {"forward": forward, "backward": backward, "forward+backward": forward + backward}[operation]

    def tensors(self, device: str = "cpu", seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Make input, logits and grad_out, normally distributed, in the problem's type and layout."""
        n, _, h, w = self.shape
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        generator = torch.Generator(device).manual_seed(seed)
        shapes = (self.shape, (n, self.kernel_size**2, h, w), self.shape)
        return tuple(
            torch.randn(shape, generator=generator, device=device).to(self.dtype).contiguous(memory_format=layout)
            for shape in shapes
        )

    def cut_down(self) -> "Problem":
        """Return a copy of at most 24 channels and 40 x 56 pixels, small enough for a float64 reference."""
        n, c, h, w = self.shape
        return replace(self, shape=(n, min(c, 24), min(h, 40), min(w, 56)))


@dataclass(frozen=True)
class Task:
    """One contender on one problem.

    Attributes:
        contender: a name, or "svconv" for every backend.
        training: whether backward and forward+backward are timed, rather than forward.
        threads: threads of torch on a CPU.
    """

    problem: Problem
    contender: str
    training: bool
    threads: int

    @property
    def operations(self) -> tuple[str, ...]:
        return OPERATIONS[1:] if self.training else OPERATIONS[:1]


# Tasks that take turns.
Group = list[Task]

PAPER = Problem("paper", (1, 256, 128, 256))
SMALL = Problem("small", (1, 8, 12, 10))
LIVE = [Problem(f"live-{c}", (1, c, 45, 60)) for c in (64, 128, 256)]
CHANNELS = [replace(PAPER, name=f"channels-{c}", shape=(1, c, 128, 256)) for c in (64, 128, 512, 1024, 2048)]
SIZES = [replace(PAPER, name=f"size-{h}x{w}", shape=(1, 256, h, w)) for h, w in ((32, 64), (64, 128), (256, 512))]
KERNELS = [replace(PAPER, name=f"kernel-{k}", kernel_size=k) for k in (3, 5, 7, 11, 13, 15)]


def in_other_forms(problem: Problem) -> list[Problem]:
    """Return the problem in channels-last layout, in bfloat16, and in both."""
    return [
        replace(problem, name=f"{problem.name}-nhwc", channels_last=True),
        replace(problem, name=f"{problem.name}-bf16", dtype=torch.bfloat16),
        replace(problem, name=f"{problem.name}-bf16-nhwc", dtype=torch.bfloat16, channels_last=True),
    ]


# These are the sizes of the figures for GPUs, in every form.
WIDE = [form for c in CHANNELS if c.shape[1] in (512, 2048) for form in (c, *in_other_forms(c))]

FAMILIES = {
    "small": [SMALL],
    "live": LIVE,
    "live-forms": [form for problem in LIVE for form in in_other_forms(problem)],
    "paper": [PAPER],
    "paper-forms": in_other_forms(PAPER),
    "channels": CHANNELS,
    "wide-forms": [problem for problem in WIDE if problem not in CHANNELS],
    "sizes": SIZES,
    "kernels": KERNELS,
}
PROBLEMS = {problem.name: problem for family in FAMILIES.values() for problem in family}
_SWEEPS = [PAPER, *CHANNELS, *SIZES, *KERNELS]


def groups_of(
    problems: list[Problem], contenders: list[str], threads: list[int], operations: tuple[str, ...] = OPERATIONS
) -> list[Group]:
    """Make a group for each problem and pass; in it are all contenders, each with every number of threads."""
    passes = [training for training in (False, True) if set(operations) & set(OPERATIONS[training : 1 + 2 * training])]
    return [
        [Task(problem, contender, training, count) for count in threads for contender in contenders]
        for problem in problems
        for training in passes
    ]


def quick(contenders: list[str], threads: list[int]) -> list[Group]:
    """Return the preset for a first look: the smallest live size."""
    return groups_of(LIVE[:1], contenders, threads)


def table(contenders: list[str], threads: list[int]) -> list[Group]:
    """Return the preset for the acceptance figures: all rows they need, those of one figure in one group."""
    nhwc, bf16, _ = in_other_forms(PAPER)
    most = max(threads)
    contenders = [contender for contender in contenders if contender not in SPECIAL]
    small = [Task(SMALL, contender, False, most) for contender in (PLAIN, RAW)]
    forward = [Task(PAPER, contender, False, most) for contender in contenders]
    forward += [Task(form, OURS, False, most) for form in (nhwc, bf16)]
    forward += [Task(problem, OURS, False, most) for problem in KERNELS if problem.kernel_size in (3, 5)]
    training = [Task(PAPER, STEP, True, most), Task(PAPER, UNFOLD_STEP, True, most)]
    training += [Task(PAPER, BASELINE, True, most), Task(PAPER, OURS, True, most), Task(nhwc, OURS, True, most)]
    if most > 1:
        forward.append(Task(PAPER, OURS, False, 1))
        training.append(Task(PAPER, OURS, True, 1))
    live_forward = [Task(LIVE[0], contender, False, most) for contender in contenders]
    live_training = [Task(LIVE[0], contender, True, most) for contender in (OURS, BASELINE)]
    return [small, live_forward, live_training, forward, training]


def full(contenders: list[str], threads: list[int]) -> list[Group]:
    """Return the preset with every problem in both passes; takes hours on a small CPU."""
    return groups_of(list(PROBLEMS.values()), contenders, threads)


def gpu(contenders: list[str], threads: list[int]) -> list[Group]:
    """Return the preset for GPUs: all rows that their figures need, then the forward sweeps of svconv alone; takes
    minutes."""
    most = max(threads)
    first = next(problem for problem in WIDE if problem.name == "channels-512-bf16-nhwc")
    others = [problem for problem in WIDE if problem != first]
    forward = [Task(first, contender, False, most) for contender in contenders]
    training = [Task(first, contender, True, most) for contender in (OURS, BASELINE)]
    swept = [problem for problem in [*_SWEEPS, *LIVE] if problem not in others]
    return [forward, training, *groups_of(others, [OURS], [most]), *groups_of(swept, [OURS], [most], OPERATIONS[:1])]


def sweeps(contenders: list[str], threads: list[int]) -> list[Group]:
    """Return the preset for the plots: forward over C, H x W and K."""
    return groups_of(_SWEEPS, contenders, threads, OPERATIONS[:1])


PRESETS: dict[str, Callable[[list[str], list[int]], list[Group]]] = {
    preset.__name__: preset for preset in (quick, table, full, gpu, sweeps)
}
