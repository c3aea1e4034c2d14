"""Who is measured: a name and a function (input, logits, kernel_size) -> out."""

import torch.nn.functional as F

from svconv import reference, svconv2d

BASELINE = "unfold"


def ours(input, logits, kernel_size):
    return svconv2d(input, logits, kernel_size=kernel_size)


def unfold(input, logits, kernel_size):
    return reference.svconv2d(input, logits, kernel_size=kernel_size)


def unfold_mul_sum(input, logits, kernel_size):
    """The same unfolded input, multiplied and summed in place of einsum."""
    n, c, h, w = input.shape
    weights = logits.flip(1).softmax(1).unsqueeze(1)
    patches = F.unfold(input, kernel_size, padding=kernel_size // 2).reshape(n, c, -1, h, w)
    return (patches * weights).sum(2)


CONTENDERS = {"svconv": ours, BASELINE: unfold, "unfold, mul + sum": unfold_mul_sum}
