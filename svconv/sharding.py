"""How the operators run on tensors that are spread over devices (`torch.distributed.tensor.DTensor`).

If images are spread, each device computes its own. So it does with one group if channels are spread, since the weights
are then the same for all of them. Everything else is brought together first: height and width, because windows reach
across, and the channels of several groups, because the number of groups is one argument for all devices. This module is
imported when an operator first runs on such a tensor.
"""

from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

WHOLE, IMAGES, CHANNELS = Replicate(), Shard(0), Shard(1)
# How an operator's results lie, and its tensors.
Placements = tuple[list, list]


def brought_together(tensor: Tensor) -> Tensor:
    """Return the tensor with all its parts on each device, if it is spread."""
    if not isinstance(tensor, DTensor):
        return tensor
    return tensor.redistribute(placements=[WHOLE] * len(tensor.placements))


def forward(input, logits, *options) -> list[Placements]:
    _, _, groups, normalize, *_ = options
    found = [([WHOLE, WHOLE], [WHOLE, WHOLE]), ([IMAGES, _lse(normalize)], [IMAGES, IMAGES])]
    if groups == 1:
        found.append(([CHANNELS, WHOLE], [CHANNELS, WHOLE]))
    return _with_options(found, options)


def grad_input(grad_out, logits, lse, *options) -> list[Placements]:
    _, _, groups, normalize, *_ = options
    found = [([WHOLE], [WHOLE, WHOLE, WHOLE]), ([IMAGES], [IMAGES, IMAGES, _lse(normalize)])]
    if groups == 1:
        found.append(([CHANNELS], [CHANNELS, WHOLE, WHOLE]))
    return _with_options(found, options)


def grad_weight(grad_out, input, logits, lse, *options) -> list[Placements]:
    _, _, groups, normalize, *_ = options
    found = [([WHOLE], [WHOLE] * 4), ([IMAGES], [IMAGES, IMAGES, IMAGES, _lse(normalize)])]
    if groups == 1:
        # A sum over channels, of which every device has its own; the softmax's derivative is linear in it.
        found.append(([Partial()], [CHANNELS, CHANNELS, WHOLE, WHOLE]))
    return _with_options(found, options)


def _lse(normalize: bool):
    """Return how the log-sum-exp lies where images are spread; without softmax it is empty."""
    return IMAGES if normalize else WHOLE


def _with_options(found: list[Placements], options: tuple) -> list[Placements]:
    return [(results, [*tensors, *[None] * len(options)]) for results, tensors in found]
