"""Activation checkpointing: what the backward pass needs of a per-frame network is computed again in place of kept.

Chen et al., "Training deep nets with sublinear memory cost", 2016; the mechanism is `torch.utils.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lowlat.networks.backbone import Backbone, Link
from lowlat.networks.video_network import VideoNetwork


def scores_of(network: VideoNetwork, frames: Tensor, *, recompute: bool) -> Tensor:
    """Frame by frame: normalised ``(N, 3, H, W)`` -> scores ``(N, classes, h, w)``.

    Args:
        recompute: keep what goes from one link of the network's chain to the next, and compute what is between them
            again when the backward pass comes to it. Gradients and batch norms' statistics are the same.
    """
    if not recompute:
        return network(frames)

    def again(run, *inputs):
        return checkpoint(run, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _counted_once(network)))

    lower, higher = links_of(network)
    low = frames
    for run in lower:
        low = again(run, low, frames)
    high = low
    for run in higher:
        high = again(run, high, low)
    return network.classify(high)


def links_of(network: VideoNetwork) -> tuple[list[Link], list[Link]]:
    """S_l and S_h as chains; S_l as one link where it is not the plain chain of its backbone."""
    backbone = getattr(network, "backbone", None)
    if type(network).lower is VideoNetwork.lower and type(backbone).lower is Backbone.lower:
        return backbone.chain(backbone.lower_names), network.higher_chain()
    return [lambda frames, _: network.lower(frames)], network.higher_chain()


@contextmanager
def _counted_once(network: nn.Module) -> Iterator[None]:
    """Inside the block batch norms leave their statistics as the first pass has made them."""
    norms = [module for module in network.modules() if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm))]
    kept = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, batches in kept:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)
