"""Wrong contenders that the benchmark must find out, in a module that the processes of their tasks can import."""

import torch

from benchmarks.contenders import Contender, unfold


def flipped(input, logits, kernel_size):
    """Compute a correlation instead of a convolution."""
    return unfold(input, logits.flip(1), kernel_size)


def wrong_at_size(input, logits, kernel_size):
    """Be right on the gate's problem of 24 channels, and wrong at the last pixel of a larger one."""
    out = unfold(input, logits, kernel_size)
    if input.shape[1] > 24:
        out = out.clone()
        out[..., -1, -1] = 0
    return out


def hungry(input, logits, kernel_size):
    """Ask for more memory than is free, and don't touch it."""
    if input.shape[1] > 24:
        with open("/proc/meminfo") as file:
            free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
        torch.empty(int(0.97 * free) << 10, dtype=torch.uint8)
    return unfold(input, logits, kernel_size)


def picky(input, logits, kernel_size):
    raise NotImplementedError("it wants another problem")


PLANTED = {
    contender.name: contender
    for contender in (
        Contender("unfold", unfold),
        Contender("flipped", flipped),
        Contender("wrong at size", wrong_at_size),
        Contender("hungry", hungry),
        Contender("picky", picky),
        Contender("absent", unfold, requires="a_package_that_is_not_there"),
    )
}
