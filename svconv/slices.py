"""The operator in PyTorch's own operators, one shifted slice of the input a tap: what ONNX can express.

Unlike `svconv.reference` it never unfolds the input, so an exported model runs in a few times the memory of its input.
"""

import torch.nn.functional as F
from torch import Tensor

from svconv.weights import accumulation_type, by_tap, softmax


def svconv2d(
    input: Tensor,
    logits: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    normalize: bool = True,
    padding_mode: str = "zeros",
) -> Tensor:
    """Same contract as `svconv.svconv2d`, without its checks. Any device, differentiable any number of times."""
    c = input.shape[1]
    if normalize:
        weights = softmax(logits, kernel_size, dilation, groups, padding_mode == "renormalize")
    else:
        weights = by_tap(logits, groups)
    margin = dilation * (kernel_size // 2)
    padded = F.pad(input.to(accumulation_type(input.dtype)), (margin,) * 4).unflatten(1, (groups, c // groups))
    out = 0
    for tap in range(kernel_size * kernel_size):
        # At (i - d*u, j - d*v) in the frame: a convolution counts its offsets backwards. Padding by less than nothing
        # crops, and unlike slicing leaves no arithmetic on sizes in an exported graph.
        top, left = (2 * margin - dilation * offset for offset in divmod(tap, kernel_size))
        read = F.pad(padded, (-left, left - 2 * margin, -top, top - 2 * margin))
        out = out + weights[:, :, tap, None] * read
    return out.flatten(1, 2).to(input.dtype)
