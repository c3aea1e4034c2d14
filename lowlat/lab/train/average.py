"""The exponential moving average of weights and statistics, which is validated and kept in place of the last step's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averages of a module's parameters and buffers (batch norms' statistics too); integers are copied.

    The decay warms up as ``(1 + n) / (10 + n)`` after n updates, so that the start is soon forgotten.

    Args:
        modules: the modules to average; inside :meth:`applied` they hold the averages.
        decay: the share of the average that a step keeps, at most; 0 to follow the modules exactly.
    """

    def __init__(self, modules: nn.Module, decay: float):
        self.decay = decay
        self.current = modules.state_dict()  # the modules' own tensors
        self.state = {name: tensor.clone() for name, tensor in self.current.items()}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Take in the modules' present values; ``updates``: how many updates came before."""
        weight = 1 - min(self.decay, (1 + updates) / (10 + updates))
        for name, kept in self.state.items():
            if kept.is_floating_point():
                kept.lerp_(self.current[name], weight)
            else:
                kept.copy_(self.current[name])

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint's averages."""
        for name, kept in self.state.items():
            kept.copy_(state[name])

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, kept in self.state.items():
            mine = kept.clone()
            kept.copy_(self.current[name])
            self.current[name].copy_(mine)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the modules hold the averages."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()
