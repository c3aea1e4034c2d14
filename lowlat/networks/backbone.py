"""A backbone that can be cut at a named point into S_l (cheap) and the start of S_h (expensive)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

Step = Callable[[Any], Any]
Link = Callable[[Any, Tensor], Any]
"""One link of a chain. It takes the result of the link before it and the input of the whole chain, and returns what the
next link takes; the last link returns a tensor."""


class Backbone(nn.Module):
    """A chain of named steps. Subclasses define ``steps`` and their channels; parameters keep their public names.

    Attributes:
        split: name of the last step of S_l.
        channels: ``{step name: output channels}``.
        unused: prefixes of weights in a public state dict that segmentation doesn't need (the ImageNet classifier).
        added: prefixes of weights that a public state dict lacks.
    """

    split: str
    channels: dict[str, int]
    unused: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def steps(self) -> Iterator[tuple[str, Step]]:
        """Yield the name and the module or function of each step, in order."""
        raise NotImplementedError

    @property
    def low_channels(self) -> int:
        """The number of channels of F_l."""
        return self.channels[self.split]

    def set_split(self, name: str) -> None:
        """Cut after the step called ``name``; ValueError, which lists the steps, if there is none or it is the last."""
        names = [step for step, _ in self.steps()]
        if name not in names[:-1]:
            raise ValueError(f"{type(self).__name__}: expected a split among {', '.join(names[:-1])}, got {name!r}")
        self.split = name
        cut = names.index(name) + 1
        self.lower_names, self.higher_names = names[:cut], names[cut:]

    def chain(self, names: Sequence[str]) -> list[Link]:
        """Return the steps called ``names`` as a chain, one link each."""
        steps = dict(self.steps())
        return [link(steps[name]) for name in names]

    def run(self, x: Tensor, names: Sequence[str]) -> Tensor:
        """Run the steps called ``names`` on ``x``, in order."""
        return run_chain(self.chain(names), x)

    def lower(self, x: Tensor) -> Tensor:
        """S_l's part: ``(N, 3, H, W)`` -> F_l ``(N, low_channels, h, w)``."""
        return self.run(x, self.lower_names)

    def higher_chain(self) -> list[Link]:
        """Return the backbone's part of S_h, as a chain that starts from F_l."""
        return self.chain(self.higher_names)


def link(*steps: Step) -> Link:
    """Join steps to one link of a chain, which reads the result before it and not the chain's input."""

    def run(x: Tensor, _start: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return run


def first_of(low: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return F_l: where several tensors cross the cut, it is the first of them."""
    return low if isinstance(low, Tensor) else low[0]


def run_chain(links: Sequence[Link], start: Tensor) -> Tensor:
    """Run a chain on ``start`` and return the result of its last link."""
    x = start
    for run in links:
        x = run(x, start)
    return x
