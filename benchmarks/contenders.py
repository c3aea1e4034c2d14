"""Who is measured: a name and a function (input, logits, kernel_size) -> out."""

from svconv import reference, svconv2d

BASELINE = "unfold"


def ours(input, logits, kernel_size):
    return svconv2d(input, logits, kernel_size=kernel_size)


def unfold(input, logits, kernel_size):
    return reference.svconv2d(input, logits, kernel_size=kernel_size)


CONTENDERS = {"svconv": ours, BASELINE: unfold}
