"""Training by several processes, as `torchrun` starts them; alone, everything here does nothing.

The collectives are PyTorch's own: gloo on CPUs, NCCL on GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from lowlat.runtime.options import find_device

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others before it gives up: the longest that one may work without the rest."""


def rank() -> int:
    """This process's number; the one numbered 0 writes every file."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined(device: str, timeout: timedelta = TIMEOUT) -> Iterator[str]:
    """Join the processes that `torchrun` started; gives this one's device.

    Args:
        device: ``"cuda"`` becomes the GPU of the process's local rank.

    Raises:
        ValueError: no such kind of device.
        RuntimeError: there is no such GPU; another process failed, or did not answer within ``timeout``.
    """
    find_device("train", device)
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        yield device
        return
    gpu = torch.device(device).type == "cuda"
    if gpu:
        device = f"cuda:{dist.get_node_local_rank()}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo", timeout=timeout)
    try:
        yield device
    except RuntimeError as error:
        # Gloo has no type of error of its own.
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise RuntimeError(
                f"train: expected every process to answer process {rank()} of {world()} within "
                f"{timeout.total_seconds():.0f} s, lost one; its own message says why"
            ) from error
        raise
    dist.barrier()
    dist.destroy_process_group()


def wait() -> None:
    """Until every process has come here."""
    if world() > 1:
        dist.barrier()


def add(tensor: Tensor) -> Tensor:
    """Add up ``tensor`` over all processes, in place, and return it."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


class BatchNorm(nn.BatchNorm2d):
    """Batch norm over the batch of all processes, shares of one size: what `torch.nn.SyncBatchNorm` is on GPUs.

    PyTorch has none for CPUs. The two sums over the processes are differentiable.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = values.numel() // values.shape[1] * world()
        mean = all_reduce(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def _over_all(norm: nn.BatchNorm2d) -> nn.Module:
    """Return a norm over the batch of all processes with the parameters and statistics of ``norm``, the same
    tensors."""
    if norm.weight.is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    whole = BatchNorm(norm.num_features, norm.eps, norm.momentum)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(whole, name, getattr(norm, name))
    return whole


@contextmanager
def whole_batch_norms(modules: nn.Module) -> Iterator[None]:
    """Inside the block, batch norms in training take their statistics from the batch of all processes."""
    replaced = []
    if world() > 1:
        for module in list(modules.modules()):
            for name, child in module.named_children():
                if type(child) is nn.BatchNorm2d and child.training:
                    replaced.append((module, name, child))
    for module, name, child in replaced:
        setattr(module, name, _over_all(child))
    try:
        yield
    finally:
        for module, name, child in replaced:
            setattr(module, name, child)
