"""Checks whether a contender is right: in full on a small problem, by samples on the real one, against float64."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contenders import Function, unfold
from benchmarks.problems import Problem


def tolerance(dtype: torch.dtype) -> float:
    """Return the largest error allowed, as :func:`error` gives it; a contender may round its weights and sums to the
    type."""
    return 16 * torch.finfo(dtype).eps


def gate(function: Function, problem: Problem, training: bool, device: str = "cpu") -> float:
    """Return the error on a smaller copy of the problem: of the output, and in training of both gradients too."""
    small = problem.cut_down()
    tensors = small.tensors(device)
    got = run(function, small, tensors, training)
    want = run(unfold, small, [tensor.double() for tensor in tensors], training)
    return max(error(g, w) for g, w in zip(got, want, strict=True))


def run(function: Function, problem: Problem, tensors: Sequence[Tensor], training: bool) -> tuple[Tensor, ...]:
    """Call the function and return (out,), or in training (out, grad_input, grad_logits)."""
    input, logits, grad_out = tensors
    if not training:
        with torch.inference_mode():
            return (function(input, logits, problem.kernel_size),)
    input, logits = (tensor.detach().requires_grad_() for tensor in (input, logits))
    out = function(input, logits, problem.kernel_size)
    return out.detach(), *torch.autograd.grad(out, (input, logits), grad_out)


def error(got: Tensor, want: Tensor) -> float:
    """Return the largest difference over the largest value wanted; infinite if a shape is wrong or a value isn't
    finite."""
    if got.shape != want.shape or not torch.isfinite(got).all():
        return float("inf")
    return ((got.double() - want).abs().max() / want.abs().max()).item()


def sampled_error(problem: Problem, tensors: Sequence[Tensor], results: Sequence[Tensor], samples: int = 60) -> float:
    """Return the error of (out,) or (out, grad_input, grad_logits) at the corners and at random pixels.

    The error is infinite if any value of a result isn't finite. The three products are written out from the definition,
    tap by tap, in float64.
    """
    if not all(torch.isfinite(result).all() for result in results):
        return float("inf")
    input, logits, grad_out = tensors
    h, w = input.shape[2:]
    generator = torch.Generator().manual_seed(1)
    i = torch.cat([torch.tensor([0, 0, h - 1, h - 1]), torch.randint(h, (samples,), generator=generator)])
    j = torch.cat([torch.tensor([0, w - 1, 0, w - 1]), torch.randint(w, (samples,), generator=generator)])
    i, j = i.to(input.device), j.to(input.device)
    # [N, C, P, T] at (i - u, j - v), and [N, T, P]
    patches = _neighbours(input, i, j, problem.kernel_size, sign=-1)
    weights = logits[:, :, i, j].double().softmax(1)
    want = [torch.einsum("ncpt,ntp->ncp", patches, weights)]
    if len(results) > 1:
        grads = _neighbours(grad_out, i, j, problem.kernel_size, sign=1)
        # The weight with which pixel (i + u, j + v) took this one: its own tap (u, v).
        taken = _neighbours(logits, i, j, problem.kernel_size, sign=1).softmax(1).diagonal(dim1=1, dim2=3)
        want.append(torch.einsum("ncpt,npt->ncp", grads, taken))
        grad_weights = torch.einsum("ncpt,ncp->ntp", patches, grad_out[:, :, i, j].double())
        want.append(weights * (grad_weights - (weights * grad_weights).sum(1, keepdim=True)))
    return max(error(result[:, :, i, j], value) for result, value in zip(results, want, strict=True))


def _neighbours(tensor: Tensor, i: Tensor, j: Tensor, kernel_size: int, sign: int) -> Tensor:
    """Gather (N, C, H, W) -> (N, C, P, K*K), float64: values at (i + sign * u, j + sign * v), outside the frame 0."""
    radius = kernel_size // 2
    offsets = torch.arange(-radius, radius + 1, device=tensor.device)
    u, v = (grid.flatten() for grid in torch.meshgrid(offsets, offsets, indexing="ij"))
    padded = F.pad(tensor, (radius,) * 4)
    return padded[:, :, i[:, None] + radius + sign * u, j[:, None] + radius + sign * v].double()
