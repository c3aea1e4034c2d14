"""The backends in one table. A backend's predicate both selects it and explains why it can't run."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from svconv import ops, reference


@dataclass(frozen=True)
class Backend:
    """One way to compute the operator.

    `obstacle(input, logits)` is why it can't run on these tensors, or None if it can; `run(input, logits, kernel_size,
    dilation, groups, normalize, padding_mode)` computes it on checked arguments.
    """

    name: str
    obstacle: Callable[[Tensor, Tensor], str | None]
    run: Callable[..., Tensor]


def _needs_cpu(input: Tensor, logits: Tensor) -> str | None:
    return None if input.device.type == "cpu" else f"it runs on CPU tensors, got {input.device=}"


def _run_cpu(input, logits, kernel_size, dilation, groups, normalize, padding_mode) -> Tensor:
    return ops.forward(input, logits, kernel_size, dilation, groups, normalize, padding_mode == "renormalize")


def _run_reference(input, logits, kernel_size, dilation, groups, normalize, padding_mode) -> Tensor:
    return reference.svconv2d(
        input,
        logits,
        kernel_size=kernel_size,
        dilation=dilation,
        groups=groups,
        normalize=normalize,
        padding_mode=padding_mode,
    )


# In the order of preference.
BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("cpu", _needs_cpu, _run_cpu),
        Backend("reference", lambda input, logits: None, _run_reference),
    )
}


def select(name: str | None, input: Tensor, logits: Tensor) -> Backend:
    """The backend called `name`, or for None the first that can run.

    Raises:
        ValueError: no such backend, or the one asked for can't run on these tensors; the message says why.
    """
    if name is None:
        return next(backend for backend in BACKENDS.values() if backend.obstacle(input, logits) is None)
    if name not in BACKENDS:
        raise ValueError(f"svconv2d: expected backend to be None or one of {list(BACKENDS)}, got {name!r}")
    backend = BACKENDS[name]
    obstacle = backend.obstacle(input, logits)
    if obstacle is not None:
        raise ValueError(f"svconv2d: backend {name!r} can't run: {obstacle}; use backend=None to choose one that can")
    return backend
